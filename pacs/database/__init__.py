"""Transactions on SQLite and PostgreSQL, and the one schema."""
