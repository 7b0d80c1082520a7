"""The audit log: who did what, written in the transaction that does it, and chained so that no entry can be changed.

An entry names what it was done to by UIDs, accounts and projects. It holds no pixel and no name of a patient.
"""

from pacs.audit.entries import Entry, Outcome, record

__all__ = ["Entry", "Outcome", "record"]
