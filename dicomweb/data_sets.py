"""Data sets on their way out, as metadata or matches: one JSON array, or XML documents as parts (PS3.18 8.7.3.2)."""

from collections.abc import Iterable, Iterator
from functools import partial

import orjson

from dicomweb import dicom_json, dicom_xml, media_types, multipart
from dicomweb.multipart import Part


def write(items: Iterable[bytes], media_type: str, boundary: str) -> tuple[str, Iterator[bytes]]:
    """Return the Content-Type and the body of data sets that are JSON already, in JSON or XML as chosen.

    Each is taken when its turn comes; ``boundary`` parts those in XML.
    """
    if media_type != media_types.DICOM_XML:
        return media_type, dicom_json.join_array(items)
    return media_types.multipart_type(media_type, boundary), multipart.write(boundary, map(_as_part, items))


def _as_part(item: bytes) -> Part:
    document = dicom_xml.encode(orjson.loads(item))
    return Part(media_types.DICOM_XML, "", len(document), partial(iter, (document,)))
