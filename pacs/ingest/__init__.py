"""The only way into the archive."""
