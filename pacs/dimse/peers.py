"""Known AEs: who a calling AE title and an address belong to, and what its settings supply when an object does not say.

DICOM on a hospital network identifies a device by its title and its address; an unknown one gets the defaults.
"""

from dataclasses import dataclass

from pacs.model import Door, DuplicatePolicy, Origin

DEFAULT_MAX_PDU_BYTES = 256 * 1024
_MAPPED_IPV4 = "::ffff:"


@dataclass(frozen=True, slots=True)
class Peer:
    """One device. ``address`` is an IP address, empty for any; ``max_pdu_bytes`` is offered to it, 0 is no limit."""

    ae_title: str
    address: str = ""
    issuer_of_patient_id: str = ""
    character_set: str = "ISO_IR 100"
    duplicate_policy: DuplicatePolicy = DuplicatePolicy.KEEP_FIRST
    max_pdu_bytes: int = DEFAULT_MAX_PDU_BYTES

    def build_origin(self, calling_ae_title: str, called_ae_title: str, address: str) -> Origin:
        """Return the origin of what this peer sends on one association."""
        return Origin(
            Door.DIMSE,
            address=address,
            calling_ae_title=calling_ae_title,
            called_ae_title=called_ae_title,
            issuer_of_patient_id=self.issuer_of_patient_id,
            character_set=self.character_set,
            duplicate_policy=self.duplicate_policy,
        )


class Peers:
    """The known peers, and the one that stands for everybody else."""

    def __init__(self, peers: tuple[Peer, ...] = (), default: Peer | None = None) -> None:
        self._peers = {(peer.ae_title.strip(), _plain(peer.address)): peer for peer in peers}
        self._default = default or Peer("")

    def lookup(self, ae_title: str, address: str) -> Peer:
        """Return the peer of this title and address, else the one of this title at any address, else the default."""
        title = ae_title.strip()
        return self._peers.get((title, _plain(address))) or self._peers.get((title, "")) or self._default


def _plain(address: str) -> str:
    """Return an address so that an IPv4 one is the same when a socket for both families reports it as IPv6."""
    return address.strip().lower().removeprefix(_MAPPED_IPV4)
