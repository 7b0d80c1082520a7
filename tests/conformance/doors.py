"""The three doors, seen from outside: give each the bytes of a file, get told whether it was stored, and the code."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pydicom
from pynetdicom import build_context

from dicomweb.app import create_app
from pacs.archive import Archive
from pacs.dimse.server import create_server
from pacs.ingest.importer import Entry, import_entry
from pacs.ingest.incoming import encode_file_meta
from pacs.model import Door, Origin
from tests.conformance.dicomweb.service import MULTIPART_DICOM, multipart_body, serving
from tests.conformance.dimse.scu import associate, send_bytes

FAILURE_REASON = "00081197"
STORED = (0x0000, 0xB000, 0xB006, 0xB007)


@dataclass(frozen=True)
class Answer:
    """Whether the object was stored, the code if there is one, and the bytes that ought to be in the store."""

    is_stored: bool
    code: int
    kept: bytes


def by_import(archive: Archive, data: bytes) -> Answer:
    entry = Entry("file", len(data), lambda: io.BytesIO(data))
    outcome = import_entry(archive.ingest, entry, Origin(Door.IMPORT)).outcome
    return Answer(outcome.is_stored, outcome.reason.code if outcome.reason else 0, data)


def by_stow(address: str, data: bytes) -> Answer:
    headers = {"Content-Type": MULTIPART_DICOM}
    response = httpx.post(f"{address}/dicom-web/studies", content=multipart_body(data), headers=headers, timeout=60)
    module = response.json()
    failures = [*module.get("00081198", {}).get("Value", []), *module.get("0008119A", {}).get("Value", [])]
    assert (response.status_code == 409) == bool(failures), response.text
    return Answer(not failures, failures[0][FAILURE_REASON]["Value"][0] if failures else 0, data)


def by_store(port: int, data: bytes) -> Answer:
    """C-STORE carries what follows the file meta, in the transfer syntax that the file meta names."""
    readable = pydicom.dcmread(io.BytesIO(data), force=True, stop_before_pixels=True)
    syntax = str(readable.file_meta.get("TransferSyntaxUID") or guess_syntax(readable))
    sop_class_uid = str(readable.get("SOPClassUID", "") or "1.2.840.10008.5.1.4.1.1.7").strip(" \0")
    sop_instance_uid = str(readable.get("SOPInstanceUID", "") or "2.25.1").strip(" \0")
    data_set = split(data, readable.file_meta)
    with associate(port, [build_context(sop_class_uid, [syntax])]) as association:
        (accepted,) = association.accepted_contexts
        response = send_bytes(association, accepted, sop_instance_uid, data_set)
        assert association.is_established, "one bad object ended the association"
    kept = encode_file_meta(sop_class_uid, sop_instance_uid, syntax) + data_set
    return Answer(response.Status in STORED, response.Status, kept)


@contextmanager
def open_doors(archive: Archive) -> Iterator[dict[str, Callable[[bytes], Answer]]]:
    """Serve an archive by every door."""
    server = create_server(archive, port=0)
    server.start()
    try:
        with serving(create_app(archive, is_ready=dict)) as address:
            yield {
                "import": lambda data: by_import(archive, data),
                "stow": lambda data: by_stow(address, data),
                "store": lambda data: by_store(server.port, data),
            }
    finally:
        server.stop(grace_seconds=2)


def guess_syntax(readable: pydicom.Dataset) -> str:
    """Return the syntax that a file without one is in, as pydicom found it."""
    is_implicit_vr, is_little_endian = readable.original_encoding
    if is_implicit_vr:
        return "1.2.840.10008.1.2"
    return "1.2.840.10008.1.2.1" if is_little_endian else "1.2.840.10008.1.2.2"


def split(data: bytes, meta: pydicom.Dataset) -> bytes:
    """Return what follows a file's meta."""
    preamble = 132 if data[128:132] == b"DICM" else 0
    length = meta.get("FileMetaInformationGroupLength")
    if length is not None:
        return data[preamble + 12 + length :]
    if "TransferSyntaxUID" not in meta:
        return data
    stream = io.BytesIO(data)
    stream.seek(preamble)
    pydicom.filereader._read_file_meta_info(stream)
    return data[stream.tell() :]
