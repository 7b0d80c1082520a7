"""A stored header on its way out, as the JSON text that it is: what has to be another is changed in the text."""

import orjson

from pacs.imaging.video import VIDEO_SYNTAXES
from pacs.tags import tag_of, vr_of

_BULK_KEY = b'"BulkDataURI":"'


def with_bulk_base(encoded: bytes, base: str) -> bytes:
    """Return JSON data sets whose relative bulk data addresses start with ``base``.

    The key is looked for as bytes, which is safe: inside a JSON string every quotation mark is escaped, so that no text
    contains it, and our own encoder puts no space after the colon.
    """
    if _BULK_KEY not in encoded:
        return encoded
    return encoded.replace(_BULK_KEY, _BULK_KEY + orjson.dumps(base)[1:-1])


def with_transfer_syntax(encoded: bytes, transfer_syntax_uid: str) -> bytes:
    """Return a JSON data set with Available Transfer Syntax UID (0008,3002) in its place among the tags."""
    keyword = "AvailableTransferSyntaxUID"
    added = {tag_of(keyword): {"vr": vr_of(keyword), "Value": [transfer_syntax_uid]}}
    return orjson.dumps(dict(sorted((orjson.loads(encoded) | added).items())))


def naming_video(encoded: bytes, transfer_syntax_uid: str) -> bytes:
    """Return metadata that says which syntax a video is in: by nothing else does a viewer know that it is one."""
    return with_transfer_syntax(encoded, transfer_syntax_uid) if transfer_syntax_uid in VIDEO_SYNTAXES else encoded
