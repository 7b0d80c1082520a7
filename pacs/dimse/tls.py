"""DICOM over TLS: the BCP 195 RFC 8996, 9325 Secure Transport Connection Profile (PS3.15 B.12) for both sides.

TLS 1.2 or newer, forward secrecy and authenticated ciphers only, and both sides show a certificate that an authority of
the settings has signed. Names in certificates are not compared with addresses, for devices are addressed by number and
moved: who has to be one certain device gets the digest of its certificate into the settings.
"""

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

from pacs.errors import InvalidSetting

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2 (RFC 9325 4.2); all of TLS 1.3's are good."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """PEM files: our certificate with what leads to its authority, its key, and the authorities of our peers."""

    certificate_file: Path | None = None
    key_file: Path | None = None
    authority_file: Path | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all three are given."""
        return None not in (self.certificate_file, self.key_file, self.authority_file)


def build_server_context(credentials: Credentials) -> ssl.SSLContext:
    """Return what the DICOM port for TLS accepts; raise InvalidSetting if a file is missing or makes no sense."""
    context = _build_context(ssl.PROTOCOL_TLS_SERVER, credentials)
    context.verify_mode = ssl.CERT_REQUIRED
    # Nobody resumes: a ticket would only be bytes that arrive when a peer expects none.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
    return context


def build_client_context(credentials: Credentials) -> ssl.SSLContext:
    """Return what peers are called with; raise InvalidSetting if a file is missing or makes no sense."""
    return _build_context(ssl.PROTOCOL_TLS_CLIENT, credentials)


def read_certificate_sha256(connection: ssl.SSLSocket) -> str:
    """Return the digest of what the other side has shown, in lower-case hex."""
    return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()


def _build_context(protocol: int, credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.check_hostname = False
    certificate = _require(credentials.certificate_file, "certificate_file")
    key = _require(credentials.key_file, "key_file")
    authority = _require(credentials.authority_file, "authority_file")
    try:
        # A password would be asked for on the terminal, where nobody sits.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise InvalidSetting(
            "The setting dimse.tls.certificate_file or dimse.tls.key_file is wrong: "
            f"{certificate} and {key} are no certificate and its key: {_explain(error)}."
        ) from None
    try:
        context.load_verify_locations(authority)
    except (OSError, ValueError) as error:
        raise InvalidSetting(
            f"The setting dimse.tls.authority_file is wrong: {authority} holds no certificate: {_explain(error)}."
        ) from None
    return context


def _require(file: Path | None, name: str) -> Path:
    variable = f"PACS_DIMSE__TLS__{name.upper()}"
    if file is None:
        raise InvalidSetting(f"The setting dimse.tls.{name} ({variable}) is missing: TLS needs it.")
    if not file.is_file():
        raise InvalidSetting(f"The setting dimse.tls.{name} ({variable}) is wrong: there is no file {file}.")
    return file


def _explain(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "it cannot be read"
    return str(reason).replace("_", " ").lower()
