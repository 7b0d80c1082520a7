"""Known AEs: who a calling AE title and an address belong to, and what its settings supply when an object does not say.

DICOM on a hospital network identifies a device by its title and its address, over TLS by its certificate too. Whoever
is not known is not admitted, unless there is a default peer that stands for everybody else.
"""

import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pacs.model import Door, DuplicatePolicy, Origin

DEFAULT_MAX_PDU_BYTES = 256 * 1024
DEFAULT_MAX_ASSOCIATIONS = 32
DEFAULT_IDLE_SECONDS = 600.0
NAME_SECONDS = 60.0
"""How long the addresses of a host name are taken for true."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One device. ``address`` is an IP address or a host name, empty for any; ``max_pdu_bytes`` is offered to it.

    With a ``port`` it can be called. With a ``certificate_sha256`` it must show exactly that certificate, so that it
    can come over TLS only. ``answer_character_set`` is that of answers, empty for the request's;
    ``is_latin_only``: what that set cannot hold is transliterated for it. The other fields are as in
    ``pacs.config.PeerSettings``.
    """

    ae_title: str
    address: str = ""
    port: int = 0
    tls: bool = False
    certificate_sha256: str = ""
    issuer_of_patient_id: str = ""
    character_set: str = "ISO_IR 100"
    answer_character_set: str = ""
    is_latin_only: bool = False
    duplicate_policy: DuplicatePolicy = DuplicatePolicy.KEEP_FIRST
    max_pdu_bytes: int = DEFAULT_MAX_PDU_BYTES
    max_associations: int = DEFAULT_MAX_ASSOCIATIONS
    idle_seconds: float = DEFAULT_IDLE_SECONDS
    may_reject: bool = False
    request_commitment: bool = False
    notify_availability: bool = False
    forward_mpps: bool = False

    def is_shown_by(self, certificate_sha256: str) -> bool:
        """Whether a certificate of this digest, empty for none, is what this peer has to show."""
        return not self.certificate_sha256 or _plain_digest(self.certificate_sha256) == certificate_sha256

    def name_holder(self, address: str) -> str:
        """Return whose associations one from ``address`` is counted among: this peer's, for strangers the address's."""
        return f"{self.ae_title}\\{self.address}" if self.ae_title else address

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
            may_reject=self.may_reject,
        )


class HostNames:
    """The addresses of host names, looked up on the thread that asks and remembered for a minute.

    A name service that fails changes nothing: what it said last goes on to hold.
    """

    def __init__(self, look_up: Callable[[str], frozenset[str]] | None = None) -> None:
        self._look_up = look_up or _look_up
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, frozenset[str]]] = {}

    def find_addresses(self, name: str) -> frozenset[str]:
        """Return the addresses of a host name in plain form; none if nobody ever knew it."""
        with self._lock:
            looked_up_at, addresses = self._known.get(name, (-NAME_SECONDS, frozenset()))
            if time.monotonic() < looked_up_at + NAME_SECONDS:
                return addresses
            # Who asks meanwhile gets the last answer: one name service that hangs must not stop everybody.
            self._known[name] = time.monotonic(), addresses
        try:
            addresses = self._look_up(name)
        except (OSError, UnicodeError):
            return addresses
        with self._lock:
            self._known[name] = time.monotonic(), addresses
        return addresses


class Peers:
    """The known peers, and the one that stands for everybody else: without a ``default`` nobody else is admitted."""

    def __init__(
        self, peers: tuple[Peer, ...] = (), default: Peer | None = None, names: HostNames | None = None
    ) -> None:
        self._peers = {(peer.ae_title.strip(), plain_address(peer.address)): peer for peer in peers}
        self._default = default
        self._names = names or HostNames()

    def find_callable(self, ae_title: str) -> Peer | None:
        """Return the peer of this title that can be called, for it has an address and a port; None if there is none."""
        title = ae_title.strip()
        return next((peer for (known, _), peer in self._peers.items() if known == title and peer.port), None)

    def lookup(self, ae_title: str, address: str) -> Peer | None:
        """Return the peer of this title and address, else the one of this title at any address, else the default.

        None is somebody who is not admitted. May ask a name service, and take as long as that takes.
        """
        title, address = ae_title.strip(), plain_address(address)
        return (
            self._peers.get((title, address))
            or self._find_by_name(title, address)
            or self._peers.get((title, ""))
            or self._default
        )

    def _find_by_name(self, title: str, address: str) -> Peer | None:
        for (known, host), peer in self._peers.items():
            if known == title and host and not _is_address(host) and address in self._names.find_addresses(host):
                return peer
        return None


def plain_address(address: str) -> str:
    """Return an address in one spelling: an IPv4 one is the same when a socket for both families reports it as IPv6.

    What is no address, a host name, comes back in lower case.
    """
    text = address.strip().lower()
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    return str(getattr(found, "ipv4_mapped", None) or found)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a port that listens on ``host``."""
    text = plain_address(host)
    return text == "localhost" or (_is_address(text) and ipaddress.ip_address(text).is_loopback)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _look_up(name: str) -> frozenset[str]:
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return frozenset(plain_address(str(address[0])) for *_, address in found)


def _plain_digest(digest: str) -> str:
    return digest.replace(":", "").lower()
