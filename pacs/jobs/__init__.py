"""Work that must be done later, and is not forgotten."""
