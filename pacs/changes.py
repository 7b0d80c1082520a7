"""The change feed: what happened in the archive, in the order in which it became visible."""
