"""The DICOM JSON model (PS3.18 F.2) on its way out: elements, arrays, and addresses made absolute."""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from pacs.model import Attributes
from pacs.retrieve.encoded import with_bulk_base, with_transfer_syntax
from pacs.tags import tag_of, vr_of

__all__ = ["element", "encode", "item", "join_array", "with_bulk_base", "with_transfer_syntax"]


def element(keyword: str, *values: Any) -> Attributes:
    """Return one attribute, ready to be merged into a data set; no values make it empty."""
    body: dict[str, Any] = {"vr": vr_of(keyword)}
    if values:
        body["Value"] = list(values)
    return {tag_of(keyword): body}


def item(*elements: Attributes) -> Attributes:
    """Return a data set of these elements in the order of their tags; a later one replaces an earlier one."""
    merged: Attributes = {}
    for one in elements:
        merged.update(one)
    return dict(sorted(merged.items()))


def encode(content: Attributes | list[Attributes]) -> bytes:
    """Return a data set or an array of them as JSON in UTF-8."""
    return orjson.dumps(content)


def join_array(items: Iterable[bytes]) -> Iterator[bytes]:
    """Yield one JSON array of items that are JSON already."""
    opening = b"["
    for one in items:
        yield opening + one
        opening = b","
    yield b"[]" if opening == b"[" else b"]"
