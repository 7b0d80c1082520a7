"""Where instances are sent. A destination is handed down by an edge: ``pacs.dimse`` and ``dicomweb`` make one each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pacs.errors import PacsError
from pacs.model import InstanceRecord


class Unreachable(PacsError):
    """The destination does not answer; it will be tried again."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one instance at a destination; one that was there already is delivered.

    ``problem`` is the answer in words, without a patient value. ``is_final``: sending the same again will not help.
    """

    sop_instance_uid: str
    is_delivered: bool
    problem: str = ""
    is_final: bool = False


class Destination(Protocol):
    """Something that takes instances."""

    @property
    def name(self) -> str:
        """The AE title, or the name in the settings."""
        ...

    def send(self, records: Sequence[InstanceRecord]) -> Iterator[Sent]:
        """Send instances and yield what became of each, in any order, as it happens.

        Raises Unreachable, before or after some results, when nothing more can be sent now.
        """
        ...
