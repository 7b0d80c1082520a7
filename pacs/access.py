"""Who is asking. Every use case takes a Principal first, so that no edge can forget to say on whose behalf it acts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody or something known to the archive, by the name its record carries."""

    name: str


LOCAL = Principal("local")
"""Whoever reaches the loopback interface; nothing else is served before an administrator binds another address."""
