"""JSON is compressed while it is made: what has come is not held back until the end."""

import asyncio
import os
import zlib

import brotli
import pytest

from dicomweb.middleware import CompressJson

CHUNK = 256 * 1024


def send_through(chunks, content_type=b"application/dicom+json", *, extra=(), coding="gzip"):
    """Return the messages that leave, and how many bytes were out when each chunk was handed in."""
    out, seen = [], []

    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", content_type), *extra]})
        for chunk in chunks:
            seen.append(sum(len(message.get("body", b"")) for message in out))
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def keep(message):
        out.append(message)

    scope = {"type": "http", "headers": [(b"accept-encoding", coding.encode())]}
    asyncio.run(CompressJson(app)(scope, None, keep))
    return out, seen


@pytest.mark.parametrize(
    ("coding", "decompress", "held_bytes"),
    [("gzip", lambda body: zlib.decompress(body, 31), 128 * 1024), ("br", brotli.decompress, 512 * 1024)],
)
def test_a_long_answer_leaves_as_it_is_made(coding, decompress, held_bytes):
    chunks = [os.urandom(CHUNK) for _ in range(16)]
    out, seen = send_through(chunks, coding=coding)
    body = b"".join(message.get("body", b"") for message in out)
    assert (b"content-encoding", coding.encode()) in out[0]["headers"]
    assert decompress(body) == b"".join(chunks)
    for handed_in, left in enumerate(seen):
        assert handed_in * CHUNK - left < held_bytes


@pytest.mark.parametrize(
    ("content_type", "extra"),
    [
        (b"application/octet-stream", ()),
        (b"application/dicom", ()),
        (b'multipart/related; type="application/dicom"', ()),
        (b'multipart/related; type="application/octet-stream"', ()),
        (b"nonsense", ()),
        (b"application/zip", ()),
        (b"application/json", ((b"content-encoding", b"gzip"),)),
        (b"application/json", ((b"vary", b"Accept-Encoding"),)),
    ],
)
def test_everything_else_passes_untouched(content_type, extra):
    out, _ = send_through([b"x" * 1000], content_type, extra=extra)
    assert out[0]["headers"] == [(b"content-type", content_type), *extra]
    assert b"".join(message.get("body", b"") for message in out) == b"x" * 1000
