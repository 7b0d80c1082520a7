"""Attackers of every kind at once, from another address: memory stays bounded and a good peer is served."""

import itertools
import re
import socket
import struct
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.sop_class import CTImageStorage

from tests.builders import as_dataset_bytes, build_ct
from tests.conformance.dimse.scu import (
    ASSOCIATE_ACCEPT,
    ASSOCIATE_REJECT,
    EXPLICIT,
    IMPLICIT,
    P_DATA,
    BareSocket,
    associate,
    encode_association_request,
    encode_data,
    encode_store_command,
    send_bytes,
)
from tests.scenarios.process import serving

pytestmark = pytest.mark.scenario

ATTACKERS = 200
MAX_GROWTH_MB = 300
PER_PEER = 32
ELSEWHERE = ("127.0.0.2", 0)
AT_ONCE = 25
HALF_A_PDU = struct.pack(">BBL", P_DATA, 0, 200_000) + b"x" * 1000
HALF_A_COMMAND = encode_data(1, encode_store_command(), is_command=True, is_last=False)


class Attacker(BareSocket):
    """A bare socket that comes from another address than the good peer."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=ELSEWHERE)


def resident_mb(archive) -> int:
    status = Path(f"/proc/{archive.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024


def store(archive) -> int:
    dataset = build_ct()
    with associate(archive.dicom_port, [build_context(CTImageStorage, ExplicitVRLittleEndian)]) as association:
        (context,) = association.accepted_contexts
        return send_bytes(association, context, dataset.SOPInstanceUID, as_dataset_bytes(dataset)).Status


def test_attackers_cost_a_bounded_amount_and_a_good_peer_is_served(tmp_path):
    many = encode_association_request([f"2.25.{number}" for number in range(128)], [EXPLICIT, IMPLICIT])
    with serving(tmp_path / "data") as archive, ExitStack() as stack:
        assert store(archive) == 0x0000
        before = resident_mb(archive)
        kinds = []
        for _ in range(0, ATTACKERS, AT_ONCE):
            attackers = [stack.enter_context(Attacker(archive.dicom_port)) for _ in range(AT_ONCE)]
            for attacker in attackers:
                attacker.socket.sendall(many)
            kinds += [attacker.receive()[0] for attacker in attackers]
            for attacker, unfinished in zip(attackers, itertools.cycle((HALF_A_PDU, HALF_A_COMMAND)), strict=False):
                with suppress(OSError):  # most have been rejected
                    attacker.socket.sendall(unfinished)
            stack.enter_context(Attacker(archive.dicom_port)).socket.sendall(b"\xff" * 1000)
            stack.enter_context(Attacker(archive.dicom_port))
        assert kinds.count(ASSOCIATE_ACCEPT) == PER_PEER
        assert set(kinds) == {ASSOCIATE_ACCEPT, ASSOCIATE_REJECT}
        assert [store(archive) for _ in range(5)] == [0x0000] * 5
        assert resident_mb(archive) - before < MAX_GROWTH_MB
        assert "Traceback" not in archive.log.read_text()
