"""The archive: two thin protocol edges over one archive over plain bytes. See docs/architecture.md."""
