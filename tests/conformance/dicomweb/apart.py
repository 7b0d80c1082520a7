"""Metadata and bulk data apart: bodies that carry them (PS3.18 10.5.1), and instances taken apart as a client does."""

from tests.conformance.dicomweb.service import BOUNDARY, parse_parts

JSON, XML = "application/dicom+json", "application/dicom+xml"
CONTENT_TYPES = {content: f'multipart/related; type="{content}"; boundary={BOUNDARY}' for content in (JSON, XML)}
FRAMES = {"Accept": "multipart/related; type=*/*; transfer-syntax=*"}
BULK = {"Accept": "image/*, video/*, */*;q=0.1"}


def apart_body(*parts):
    """Return a body of parts: content type, location if any, bytes."""
    body = b""
    for content_type, location, data in parts:
        head = f"Content-Type: {content_type}\r\n" + (f"Content-Location: {location}\r\n" if location else "")
        body += b"\r\n--%s\r\n%s\r\n%s" % (BOUNDARY.encode(), head.encode(), data)
    return body + b"\r\n--%s--" % BOUNDARY.encode()


def iter_bulk_uris(metadata):
    for tag, element in metadata.items():
        if "BulkDataURI" in element:
            yield tag, element["BulkDataURI"]
        for item in element.get("Value", ()) if element["vr"] == "SQ" else ():
            yield from iter_bulk_uris(item or {})


def take_apart(http, address, content):
    """Return an instance's metadata, and the parts of a body that store it elsewhere."""
    response = http.get(f"{address}/metadata")
    (metadata,) = response.json()
    document = response.content
    if content == XML:
        answer = http.get(f"{address}/metadata", headers={"Accept": f'multipart/related; type="{XML}"'})
        ((_, document),) = parse_parts(answer)
    parts = [(content, "", document)]
    for tag, uri in iter_bulk_uris(metadata):
        bulk = http.get(uri, headers=BULK)
        assert bulk.status_code == 200, uri
        media_type = bulk.headers["content-type"]
        count = _frames(metadata) if tag == "7FE00010" else 1
        if count > 1 and not media_type.startswith(("video", "application/octet-stream")):
            # PS3.18 8.7.3.3.2: each frame of a compressed image is a part of its own.
            frames = http.get(f"{address}/frames/{','.join(map(str, range(1, count + 1)))}", headers=FRAMES)
            assert frames.status_code == 200, frames.text
            parts += [(headers["Content-Type"], uri, body) for headers, body in parse_parts(frames)]
        else:
            parts.append((media_type, uri, bulk.content))
    return metadata, parts


def _frames(metadata):
    value = next(iter(metadata.get("00280008", {}).get("Value", [])), 1)
    return value if isinstance(value, int) else 1
