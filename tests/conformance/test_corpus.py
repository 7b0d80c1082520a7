"""Every file of the corpus through every door: what is a DICOM object is stored and comes back, the rest is answered.

The corpus is the developers'; where it is absent these tests have nothing to run on, and the built data and
``sample_data`` stand for it.
"""

import hashlib
import io
import re

import pydicom
import pytest

from pacs.app import open_archive
from pacs.config import Settings, StorageSettings
from pacs.ingest.outcome import Reason
from pacs.ingest.rules import NON_PATIENT_CLASSES
from storage.errors import BlobNotFound
from storage.keys import blob_key
from tests.conformance.doors import open_doors
from tests.conftest import CORPUS

FILES = sorted(str(path.relative_to(CORPUS)) for path in CORPUS.glob("*/*")) if CORPUS.exists() else []
UNPARSABLE = {
    "broken-made/empty.dcm": Reason.NOT_DICOM,
    "broken-made/garbage_with_magic.dcm": Reason.NOT_DICOM,
    "broken-made/not_dicom.txt.dcm": Reason.NOT_DICOM,
    "broken-made/truncated_in_header.dcm": Reason.INVALID_UID,  # cut between two elements, before the UIDs
    "broken-made/truncated_in_pixels.dcm": Reason.TRUNCATED,
    "broken/MR_truncated.dcm": Reason.TRUNCATED,
    "broken/rtplan_truncated.dcm": Reason.TRUNCATED,
    "broken/no_meta.dcm": Reason.NOT_DICOM,
}
# Files whose data set another file has too, behind another file meta: a duplicate, and nothing more is kept.
SAME_DATA_SET_AS_ANOTHER = {"pydicom/CT_small.dcm"}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom has a word to say of most broken files


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


def read(store, kept):
    """Return the blob whose key is the digest of these bytes, if there is one."""
    try:
        with store.open(blob_key(hashlib.sha256(kept).hexdigest())) as stored:
            return stored.read()
    except BlobNotFound:
        return None


@pytest.fixture(scope="module", params=["import", "stow", "store"])
def served(request, tmp_path_factory):
    """One archive for every file that comes in by one door; the same file by another would be a duplicate."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("archive"), storage=StorageSettings(url="memory:"))
    with open_archive(settings) as parts, open_doors(parts.archive) as doors:
        yield parts.store, doors[request.param], request.param


@pytest.mark.parametrize("name", FILES)
def test_every_object_is_stored_by_every_door_and_comes_back_unchanged(served, name):
    store, send, door = served
    data = (CORPUS / name).read_bytes()
    if door == "store" and not data:
        return  # nothing can be sent of nothing
    before = set(store.iter_keys())
    answer = send(data)
    reason = expected_reason(name, data)
    assert answer.is_stored == (reason is None), answer.code
    if reason is None:
        assert answer.kept == read(store, answer.kept) or name in SAME_DATA_SET_AS_ANOTHER
    else:
        # A C-STORE announces UIDs that these files do not have, and is refused for that first.
        assert answer.code in ((reason.code,) if door != "store" else (0xA900, 0xC000))
        assert set(store.iter_keys()) == before
