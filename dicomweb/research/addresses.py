"""Addresses of research, and how they are read."""

from dicomweb.plain_json import parse_id
from pacs.errors import ReleaseNotFound

ROOT = "/research"
API = f"{ROOT}/api"

_MAX_VERSION = 2**31 - 1
_NO_VERSION = 0


def address_of_release(slug: str, version: int) -> str:
    """Return the address of a release's page."""
    return f"{ROOT}/{slug}/releases/{version}"


def parse_version(text: str) -> int:
    """Return the version in an address; raise ReleaseNotFound if it is no number."""
    version = parse_id(text, ReleaseNotFound)
    return version if version <= _MAX_VERSION else _NO_VERSION
