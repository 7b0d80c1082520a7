"""What a DIMSE service is to the port: SOP Classes it answers for, and one method that answers."""

from typing import TYPE_CHECKING, Any, Protocol

from pynetdicom.presentation import PresentationContext

if TYPE_CHECKING:
    from pacs.dimse.association import Acceptor


class Service(Protocol):
    """One service as SCP, for any number of associations at once."""

    @property
    def sop_class_uids(self) -> frozenset[str]:
        """The abstract syntaxes whose requests come here."""
        ...

    def serve(self, association: "Acceptor", request: Any, context: PresentationContext) -> None:
        """Answer one request, a primitive of ``pynetdicom.dimse_primitives``, with ``association.respond``.

        Runs on the association's own thread. What it raises is logged and answered with 0x0110, Processing Failure.
        """
        ...

    def negotiate(self, sop_class_uid: str, application_information: bytes) -> bytes | None:
        """Return the answer to a SOP Class Extended Negotiation (PS3.7 D.3.3.5), or None for none.

        What was answered stands in ``association.extended[sop_class_uid]`` while requests are served.
        """
        ...
