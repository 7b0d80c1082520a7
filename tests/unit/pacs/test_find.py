"""The C-FIND service beside the wire; what peers see of it is in tests/conformance/dimse/test_find.py."""

from io import BytesIO
from types import SimpleNamespace

import pytest
from pynetdicom.dimse_primitives import C_FIND, C_GET, N_GET

from pacs.dimse.find import MODELS, FindService
from pacs.dimse.peers import Peer


class Line:
    """An association that notes what is answered; ``cancelled_after`` responses the peer wants no more."""

    def __init__(self, cancelled_after: int = 100) -> None:
        self.peer, self.extended, self.principal = Peer("A"), {}, None
        self.responses: list = []
        self._cancelled_after = cancelled_after

    def respond(self, response, context_id: int) -> None:
        self.responses.append((context_id, response))

    def is_cancelled(self, message_id: int) -> bool:
        return len(self.responses) >= self._cancelled_after


def build_context(sop_class_uid: str) -> SimpleNamespace:
    return SimpleNamespace(context_id=5, abstract_syntax=sop_class_uid, transfer_syntax=["1.2.840.10008.1.2"])


@pytest.mark.parametrize("kind", [C_GET, N_GET])
def test_another_operation_on_a_context_of_ours_is_not_recognised(kind) -> None:
    line, request = Line(), kind()
    request.MessageID = 3
    for uid in MODELS:
        FindService(None, "PACS").serve(line, request, build_context(uid))
    assert {response.Status for _, response in line.responses} == {0x0211}


def test_it_serves_the_three_models_and_no_other() -> None:
    assert FindService(None, "PACS").sop_class_uids == {
        f"1.2.840.10008.5.1.4.1.2.{model}.1" for model in (1, 2, 3)
    }  # fmt: skip


def test_a_peer_that_cancelled_before_the_first_match_gets_none(archive) -> None:
    line, request = Line(cancelled_after=0), C_FIND()
    request.MessageID = 3
    request.Identifier = BytesIO(b"\x08\x00\x52\x00\x06\0\0\0STUDY ")
    service = FindService(archive.search, "PACS")
    service.serve(line, request, build_context("1.2.840.10008.5.1.4.1.2.2.1"))
    assert [(number, response.Status) for number, response in line.responses] == [(5, 0xFE00)]
