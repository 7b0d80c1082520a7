"""Commands only; no logic."""
