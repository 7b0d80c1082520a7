"""Every file of the corpus through every door: what is a DICOM object is stored and comes back, the rest is answered.

The corpus is the developers'; where it is absent these tests have nothing to run on, and the built data and
``sample_data`` stand for it.
"""

import io
import re

import pydicom
import pytest

from pacs.ingest.outcome import Reason
from pacs.ingest.rules import NON_PATIENT_CLASSES
from tests.conformance.doors import DOORS, split
from tests.conftest import CORPUS

FILES = sorted(str(path.relative_to(CORPUS)) for path in CORPUS.rglob("*.dcm*")) if CORPUS.exists() else []
UNPARSABLE = {
    "broken-made/empty.dcm": Reason.NOT_DICOM,
    "broken-made/garbage_with_magic.dcm": Reason.NOT_DICOM,
    "broken-made/not_dicom.txt.dcm": Reason.NOT_DICOM,
    "broken-made/truncated_in_header.dcm": Reason.TRUNCATED,
    "broken-made/truncated_in_pixels.dcm": Reason.TRUNCATED,
}


def reads_uids(data):
    dataset = pydicom.dcmread(io.BytesIO(data), force=True, stop_before_pixels=True)
    return [str(dataset.get(keyword, "")).strip(" \0") for keyword in UID_KEYWORDS]


UID_KEYWORDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def expected_reason(name, data):
    if name in UNPARSABLE:
        return UNPARSABLE[name]
    uids = reads_uids(data)
    needed = uids[:2] if uids[0] in NON_PATIENT_CLASSES else uids
    return None if all(re.fullmatch(r"[0-9.]{1,64}", uid) for uid in needed) else Reason.INVALID_UID


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", FILES)
def test_every_object_is_stored_by_every_door_and_comes_back_unchanged(parts, name, door):
    data = (CORPUS / name).read_bytes()
    answer = DOORS[door](parts.archive, data)
    reason = expected_reason(name, data)
    assert answer.is_stored == (reason is None), answer
    if reason is not None:
        assert answer.code == reason.code
        assert not list(parts.store.iter_keys())
        return
    (key,) = parts.store.iter_keys()
    stored = parts.store.open(key).read()
    if door == "store":
        assert split(stored)[1] == split(data)[1]
    else:
        assert stored == data
