"""The three doors, seen from outside: give each the bytes of a file, get told whether it was stored, and the code."""

import io
from contextlib import closing
from dataclasses import dataclass

import httpx
import pydicom
from pynetdicom import build_context

from dicomweb.app import create_app
from pacs.dimse.server import create_server
from pacs.ingest.importer import Entry, import_entry
from pacs.model import Door, Origin
from tests.conformance.dicomweb.service import MULTIPART_DICOM, multipart_body, serving
from tests.conformance.dimse.scu import associate, send_bytes

FAILURE_REASON = "00081197"


@dataclass(frozen=True)
class Answer:
    is_stored: bool
    code: int = 0


def by_import(archive, data: bytes) -> Answer:
    imported = import_entry(archive.ingest, Entry("file", len(data), lambda: io.BytesIO(data)), Origin(Door.IMPORT))
    outcome = imported.outcome
    return Answer(outcome.is_stored, outcome.reason.code if outcome.reason else 0)


def by_stow(archive, data: bytes) -> Answer:
    with serving(create_app(archive, is_ready=dict)) as address:
        headers = {"Content-Type": MULTIPART_DICOM}
        response = httpx.post(f"{address}/dicom-web/studies", content=multipart_body(data), headers=headers, timeout=60)
    module = response.json()
    failures = [*module.get("00081198", {}).get("Value", []), *module.get("0008119A", {}).get("Value", [])]
    assert (response.status_code == 409) == bool(failures), response.text
    return Answer(not failures, failures[0][FAILURE_REASON]["Value"][0] if failures else 0)


def by_store(archive, data: bytes) -> Answer:
    """C-STORE carries what follows the file meta, in the transfer syntax that the file meta names."""
    meta, data_set = split(data)
    readable = pydicom.dcmread(io.BytesIO(data), force=True, stop_before_pixels=True)
    sop_class_uid = str(readable.get("SOPClassUID", "") or "1.2.840.10008.5.1.4.1.1.7")
    sop_instance_uid = str(readable.get("SOPInstanceUID", "") or "2.25.1")
    context = build_context(sop_class_uid, [str(meta.get("TransferSyntaxUID", "1.2.840.10008.1.2.1"))])
    server = create_server(archive, port=0)
    server.start()
    try:
        with associate(server.port, [context]) as association:
            (accepted,) = association.accepted_contexts
            response = send_bytes(association, accepted, sop_instance_uid, data_set)
            assert association.is_established, "one bad object ended the association"
    finally:
        server.stop(grace_seconds=2)
    return Answer(response.Status in (0x0000, 0xB000, 0xB006, 0xB007), response.Status)


def split(data: bytes) -> tuple[pydicom.Dataset, bytes]:
    """Return a file's meta and the bytes of its data set."""
    with closing(io.BytesIO(data)) as stream:
        readable = pydicom.dcmread(stream, force=True, stop_before_pixels=True)
        meta = readable.file_meta
        length = meta.get("FileMetaInformationGroupLength")
    if length is None:
        start = 0 if "TransferSyntaxUID" not in meta else _find_data_set(data)
    else:
        start = 132 + 12 + length if data[128:132] == b"DICM" else 12 + length
    return meta, data[start:]


def _find_data_set(data: bytes) -> int:
    """Walk over a file meta that does not say how long it is."""
    stream = io.BytesIO(data)
    pydicom.filereader.read_preamble(stream, force=True)
    pydicom.filereader._read_file_meta_info(stream)
    return stream.tell()


DOORS = {"import": by_import, "stow": by_stow, "store": by_store}
