import pytest

from pacs.ingest.incoming import Expected
from pacs.ingest.outcome import Reason
from pacs.ingest.rules import check, place
from pacs.model import Header

UIDS = {"00080016": "1.2.840.10008.5.1.4.1.1.2", "00080018": "1.2.3", "0020000D": "1.2.4", "0020000E": "1.2.5"}


def header(**changes: str) -> Header:
    uids = UIDS | {tag.removeprefix("t"): uid for tag, uid in changes.items()}
    return Header("1.2.840.10008.1.2.1", 132, {tag: {"vr": "UI", "Value": [uid]} for tag, uid in uids.items()})


def test_sound_object_is_accepted_without_a_word():
    assert check(header(), Expected()) == (None, ())


@pytest.mark.parametrize("tag", UIDS)
@pytest.mark.parametrize("uid", ["", "1" * 65, "1.2.x", "../../etc/passwd", "1.2/3", "1.2\n3"])
def test_missing_or_malformed_uid_is_refused(tag, uid):
    reason, findings = check(header(**{f"t{tag}": uid}), Expected())
    assert reason is Reason.INVALID_UID
    assert reason.code == 0xA900
    assert not uid or uid not in " ".join(findings)


@pytest.mark.parametrize("uid", ["1.02.3", "01.2", "1.2.", ".1.2", "1..2"])
def test_oddly_built_uid_is_accepted_with_a_note(uid):
    reason, findings = check(header(t00080018=uid), Expected())
    assert reason is None
    assert findings


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        (Expected(sop_class_uid="1.9"), Reason.SOP_CLASS_MISMATCH),
        (Expected(sop_instance_uid="1.9"), Reason.SOP_INSTANCE_MISMATCH),
        (Expected(study_instance_uid="1.9"), Reason.STUDY_MISMATCH),
    ],
)
def test_object_that_is_not_the_announced_one_is_refused_with_a900(expected, reason):
    assert check(header(), expected)[0] is reason
    assert reason.code == 0xA900


def test_file_meta_that_names_another_object_loses_to_the_data_set():
    odd = Header("1.2.840.10008.1.2.1", 132, header().attributes, media_storage_sop_instance_uid="1.9")
    reason, findings = check(odd, Expected())
    assert reason is None
    assert "file meta" in findings[0]


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_fits_an_error_comment(reason):
    assert len(reason.comment) <= 64


def test_warnings_of_c_store_are_only_those_the_standard_has():
    assert {reason.code for reason in Reason if reason.is_warning} <= {0xB000, 0xB006, 0xB007}


def test_object_that_belongs_to_no_patient_gets_a_study_of_its_own():
    palette = header(t00080016="1.2.840.10008.5.1.4.39.1", t0020000D="", t0020000E="")
    placed = place(palette)
    assert check(placed, Expected()) == (None, ())
    assert placed == place(palette)
    other = place(header(t00080016="1.2.840.10008.5.1.4.39.1", t00080018="1.2.9", t0020000D="", t0020000E=""))
    assert other.attributes["0020000D"] != placed.attributes["0020000D"]


def test_image_without_a_study_gets_none():
    assert place(header(t0020000D="")) == header(t0020000D="")
