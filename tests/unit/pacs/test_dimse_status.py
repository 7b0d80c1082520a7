import pytest

from pacs.dimse.status import build_code, build_refusal, build_status
from pacs.ingest.outcome import Disposition, Outcome, Reason


def test_plain_success_says_nothing_else():
    status = build_status(Outcome(Disposition.STORED, warnings=("StudyDate is odd",)))
    assert [(element.keyword, element.value) for element in status] == [("Status", 0x0000)]


def test_known_duplicate_is_a_success():
    assert build_status(Outcome(Disposition.DUPLICATE)).Status == 0x0000


@pytest.mark.parametrize("reason", Reason)
def test_reason_gives_its_code_and_a_comment_that_fits(reason):
    status = build_refusal(reason)
    assert status.Status == reason.code
    assert status.ErrorComment == reason.comment
    assert len(status.ErrorComment) <= 64


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason.is_warning])
def test_warnings_are_those_of_c_store_only(reason):
    assert build_status(Outcome(Disposition.STORED, reason)).Status in (0xB000, 0xB006, 0xB007)


def test_mismatch_names_the_element():
    assert build_refusal(Reason.SOP_INSTANCE_MISMATCH).OffendingElement == 0x00080018


def test_long_comment_is_cut():
    assert build_code(0x0110, "x" * 100).ErrorComment == "x" * 64
