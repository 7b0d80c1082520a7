"""``pacs tls``: an authority of one's own for DICOM over TLS, and certificates that it signs.

For a site that has no authority yet, and for tests. Keys are readable by their owner alone, and no file is ever
overwritten: who replaces an authority has to hand out every certificate anew.
"""

import argparse
import datetime as dt
import ipaddress
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pacs.cli.parsing import add_command, add_group
from pacs.config import Settings
from pacs.errors import PacsError

_AUTHORITY, _SERVER = "authority", "server"
_AUTHORITY_DAYS = 3650
_CERTIFICATE_DAYS = 825
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_FORMATS = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def add_commands(parsers: Any, common: argparse.ArgumentParser) -> None:
    """Add the command of this module."""
    orders = add_group(parsers, "tls", "make an authority and certificates for DICOM over TLS")
    init = add_command(orders, common, "init", initialize, "make an authority and the archive's certificate")
    init.add_argument(
        "hosts", nargs="*", metavar="HOST", help="names and addresses of the archive (default: localhost)"
    )
    issue = add_command(orders, common, "issue", issue_certificate, "make a certificate for a device")
    issue.add_argument("name", metavar="NAME", help="the device, its AE title for instance; names its files too")
    issue.add_argument("hosts", nargs="*", metavar="HOST", help="names and addresses of the device")
    for order in (init, issue):
        order.add_argument("--to", type=Path, metavar="DIR", help="where they are (default: tls in the data directory)")


def initialize(settings: Settings, options: argparse.Namespace) -> int:
    """Make an authority and a certificate of the archive; raise PacsError if one of the files is there already."""
    folder = _folder(settings, options)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PacsError(f"The folder {folder} cannot be made: {error.strerror}.") from None
    _refuse_existing(folder, _AUTHORITY, _SERVER)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _build_name("Test authority of the archive")
    authority = _build(name, name, key, _AUTHORITY_DAYS, is_authority=True).sign(key, hashes.SHA256())
    _write(folder, _AUTHORITY, key, authority)
    _issue(folder, _SERVER, options.hosts or ["localhost"], key, authority)
    print(
        f"Made an authority and a certificate in {folder}. For the settings file:\n\n"
        "[dimse.tls]\n"
        "port = 2762\n"
        f'certificate_file = "{folder / _SERVER}.crt"\n'
        f'key_file = "{folder / _SERVER}.key"\n'
        f'authority_file = "{folder / _AUTHORITY}.crt"\n\n'
        f"Keep {folder / _AUTHORITY}.key apart: who has it can be any device."
    )
    return 0


def issue_certificate(settings: Settings, options: argparse.Namespace) -> int:
    """Make a certificate for a device, signed by the authority of ``pacs tls init``; PacsError if there is one."""
    folder = _folder(settings, options)
    if not _NAME.fullmatch(options.name):
        raise PacsError("A name has letters, digits, and _ . - after the first: at most 64.")
    _refuse_existing(folder, options.name)
    key, authority = _read_authority(folder)
    certificate = _issue(folder, options.name, options.hosts, key, authority)
    print(
        f"Made {folder / options.name}.crt and its key. The device also needs {folder / _AUTHORITY}.crt.\n"
        f"To admit it with this certificate only, put into its entry of dimse.peers:\n"
        f'certificate_sha256 = "{certificate.fingerprint(hashes.SHA256()).hex()}"'
    )
    return 0


def _folder(settings: Settings, options: argparse.Namespace) -> Path:
    folder: Path = options.to or settings.data_dir / "tls"
    return folder.absolute()


def _refuse_existing(folder: Path, *names: str) -> None:
    for name in names:
        for file in (folder / f"{name}.key", folder / f"{name}.crt"):
            if file.exists():
                raise PacsError(f"{file} is there already; nothing was made.")


def _read_authority(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    try:
        key = serialization.load_pem_private_key((folder / f"{_AUTHORITY}.key").read_bytes(), None)
        certificate = x509.load_pem_x509_certificate((folder / f"{_AUTHORITY}.crt").read_bytes())
    except (OSError, ValueError, TypeError):
        raise PacsError(f"There is no authority in {folder}; pacs tls init makes one.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PacsError(f"The key of the authority in {folder} is not of our kind.")
    return key, certificate


def _issue(
    folder: Path, name: str, hosts: Sequence[str], key: ec.EllipticCurvePrivateKey, authority: x509.Certificate
) -> x509.Certificate:
    own_key = ec.generate_private_key(ec.SECP256R1())
    builder = _build(_build_name(name), authority.subject, own_key, _CERTIFICATE_DAYS, is_authority=False)
    # A device is server and client in turn: it sends, and is sent what it asked for.
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = builder.add_extension(usages, critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
    )
    if hosts:
        names = x509.SubjectAlternativeName([_build_host(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    _write(folder, name, own_key, certificate)
    return certificate


def _build(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int, *, is_authority: bool
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # The clocks of devices differ.
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _build_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _build_host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise PacsError(f"{host!r} is no name and no address of a host.") from None


def _write(folder: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    _write_new(folder / f"{name}.key", key.private_bytes(*_FORMATS))
    _write_new(folder / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))


def _write_new(file: Path, content: bytes) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise PacsError(f"{file} cannot be made: {error.strerror}.") from None
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
