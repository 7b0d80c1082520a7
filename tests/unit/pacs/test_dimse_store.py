import logging
from types import SimpleNamespace

import pytest
from pynetdicom import build_context

from pacs.dimse.commands import StoreCommand
from pacs.dimse.store import StoreService
from pacs.errors import OutOfResources
from pacs.ingest.incoming import IncomingSpool, encode_file_meta
from pacs.ingest.outcome import Disposition, Outcome, Reason
from pacs.model import Door, Origin

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"


class Ingest:
    def __init__(self, directory, spool=None) -> None:
        self.spool = spool or IncomingSpool(directory)
        self.incoming = None
        self.bytes = b""

    def open_spool(self):
        return self.spool

    def store(self, incoming):
        self.incoming, self.bytes = incoming, b"".join(incoming.spool.iter_chunks())
        return Outcome(Disposition.STORED)


def begin(ingest):
    service = StoreService(ingest)
    command = StoreCommand(5, CT, "2.25.1", has_data_set=True)
    return service, service.begin(command, build_context(CT, IMPLICIT), Origin(Door.DIMSE))


def test_data_set_is_stored_behind_its_file_meta_and_the_spool_is_closed(tmp_path):
    ingest = Ingest(tmp_path)
    service, request = begin(ingest)
    for piece in (b"abc", memoryview(b"def"), bytearray(b"ghi")):
        assert request.write(piece) == 3
    assert service.serve(request).Status == 0x0000
    assert ingest.bytes == encode_file_meta(CT, "2.25.1", IMPLICIT) + b"abcdefghi"
    assert ingest.spool.read_range(0, 10) == b""


def test_spool_is_closed_when_storing_fails(tmp_path, monkeypatch, caplog):
    ingest = Ingest(tmp_path)
    monkeypatch.setattr(ingest, "store", lambda _: 1 / 0)
    service, request = begin(ingest)
    request.write(b"abc")
    with caplog.at_level(logging.ERROR):
        assert service.serve(request).Status == 0x0110
    assert "2.25.1" in caplog.text
    assert ingest.spool.read_range(0, 10) == b""


@pytest.mark.parametrize("error", [OutOfResources(), RuntimeError("CANARY^PHI")])
def test_what_cannot_be_spooled_is_swallowed_and_answered(tmp_path, monkeypatch, error):
    ingest = Ingest(tmp_path)
    service, request = begin(ingest)
    closed = []

    def fail(_):
        raise error

    monkeypatch.setattr(ingest, "spool", SimpleNamespace(write=fail, close=lambda: closed.append(True)))
    request.spool = ingest.spool
    assert request.write(b"abc") == 3
    assert closed
    assert request.write(b"def") == 3
    status = service.serve(request)
    assert status.Status == Reason.OUT_OF_RESOURCES.code
    assert "CANARY" not in status.ErrorComment
    assert ingest.incoming is None
