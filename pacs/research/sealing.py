"""Boxes that a server can close and not open: sealed to a public key whose private half is elsewhere.

A box is made with a key pair of its own, thrown away at once: X25519 with the public key, HKDF-SHA-256 over what comes
of it, AES-256-GCM under that. All boxes of messages of about one length are of one length, so that it tells nothing.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pacs.errors import InvalidValue

KEY_BYTES = 32
_VERSION = b"\x01"
_PADDED_TO = 256
_NONCE = bytes(12)
"""The key of a box encrypts one message and never another, so that its nonce need not be a new one."""


def generate_key_pair() -> tuple[bytes, bytes]:
    """Return a new private key as PEM, and its public key as PEM."""
    private = X25519PrivateKey.generate()
    formats = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private.private_bytes(*formats), private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def parse_public_key(text: bytes) -> bytes:
    """Return the 32 bytes of a public key given as PEM; raise InvalidValue for anything else, a private key too."""
    try:
        key = serialization.load_pem_public_key(text)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, X25519PublicKey):
        raise InvalidValue("This is no public key for an escrow; `pacs research keygen` makes one.")
    return key.public_bytes_raw()


def seal(public_key: bytes, message: bytes, context: str) -> bytes:
    """Return a box that only the private key opens, and only for the same ``context``."""
    ephemeral = X25519PrivateKey.generate()
    own = ephemeral.public_key().public_bytes_raw()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public_key))
    padded = message + b"\x80"
    padded += bytes(-len(padded) % _PADDED_TO)
    return _VERSION + own + _cipher(shared, own, public_key, context).encrypt(_NONCE, padded, _VERSION)


def open_box(private_key: bytes, box: bytes, context: str) -> bytes:
    """Return what was sealed; ``private_key`` is PEM. Raises InvalidValue for another key, context or box."""
    try:
        key = serialization.load_pem_private_key(private_key, None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, X25519PrivateKey):
        raise InvalidValue("This is no private key of an escrow.")
    own = box[1 : 1 + KEY_BYTES]
    if box[:1] != _VERSION or len(own) != KEY_BYTES:
        raise InvalidValue("This is nothing that was sealed.")
    try:
        shared = key.exchange(X25519PublicKey.from_public_bytes(own))
        cipher = _cipher(shared, own, key.public_key().public_bytes_raw(), context)
        padded = cipher.decrypt(_NONCE, box[1 + KEY_BYTES :], _VERSION)
    except (InvalidTag, ValueError):
        raise InvalidValue("This was sealed for another key or another project, or it was altered.") from None
    return padded[: padded.rindex(b"\x80")]


def _cipher(shared: bytes, own: bytes, public_key: bytes, context: str) -> AESGCM:
    info = b"pacs escrow\0" + context.encode()
    return AESGCM(HKDF(hashes.SHA256(), KEY_BYTES, own + public_key, info).derive(shared))
