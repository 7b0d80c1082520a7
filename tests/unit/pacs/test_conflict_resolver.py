"""A resend in another transfer syntax is no conflict once both copies are seen to hold the same."""

import io

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from pacs.index import changes, conflicts
from pacs.ingest.incoming import Incoming
from pacs.ingest.outcome import Disposition, Reason
from pacs.maintenance.conflicts import ConflictResolver
from pacs.model import CLINICAL_PARTITION, ChangeKind, Cursor, Door, DuplicatePolicy, Origin
from tests.builders import as_part10, build_ct

ORIGIN = Origin(Door.IMPORT)


@pytest.fixture
def resolver(parts):
    return ConflictResolver(parts.database, parts.comparer, CLINICAL_PARTITION)


def store(parts, data, origin=ORIGIN):
    with parts.archive.ingest.open_spool() as spool:
        spool.write(data)
        return parts.archive.ingest.store(Incoming(spool, origin))


def open_conflicts(parts):
    with parts.database.read() as connection:
        return list(conflicts.iter_conflicts(connection, CLINICAL_PARTITION))


def compressed(data, syntax):
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.compress(syntax, generate_instance_uid=False)
    stream = io.BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_same_content_in_another_native_syntax_is_settled(parts, resolver, syntax):
    dataset = build_ct()
    store(parts, as_part10(dataset, ExplicitVRLittleEndian))
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").byteswap().tobytes()
    assert store(parts, as_part10(dataset, syntax)).reason is Reason.CONFLICT
    assert resolver.resolve_pending() == 1
    assert not open_conflicts(parts)


def test_same_pixels_compressed_without_loss_are_settled_and_the_log_says_so(parts, resolver):
    data = as_part10(build_ct(), ExplicitVRLittleEndian)
    store(parts, data)
    store(parts, compressed(data, RLELossless))
    assert resolver.resolve_pending() == 1
    with parts.database.read() as connection:
        log = changes.read_after(connection, CLINICAL_PARTITION, Cursor(), 10)
    assert log[-1].kind is ChangeKind.CONFLICT_RESOLVED


def test_other_pixels_in_another_syntax_stay_a_conflict(parts, resolver):
    dataset = build_ct()
    store(parts, as_part10(dataset, ExplicitVRLittleEndian))
    dataset.PixelData = bytes(len(dataset.PixelData))
    store(parts, compressed(as_part10(dataset, ExplicitVRLittleEndian), RLELossless))
    assert resolver.resolve_pending() == 0
    assert len(open_conflicts(parts)) == 1


def test_other_values_in_the_same_syntax_stay_a_conflict(parts, resolver):
    dataset = build_ct()
    store(parts, as_part10(dataset))
    dataset.StudyDescription = "Corrected"
    store(parts, as_part10(dataset))
    assert resolver.resolve_pending() == 0
    assert len(open_conflicts(parts)) == 1


def test_settled_copy_sent_again_is_a_plain_success_until_another_data_set_answers(parts, resolver):
    dataset = build_ct()
    implicit = as_part10(dataset, ImplicitVRLittleEndian)
    store(parts, as_part10(dataset, ExplicitVRLittleEndian))
    assert store(parts, implicit).reason is Reason.CONFLICT
    assert store(parts, implicit).reason is Reason.CONFLICT
    assert resolver.resolve_pending() == 1
    again = store(parts, implicit)
    assert (again.disposition, again.reason) == (Disposition.DUPLICATE, None)
    dataset.StudyDescription = "Corrected"
    replacing = Origin(Door.IMPORT, duplicate_policy=DuplicatePolicy.REPLACE)
    assert store(parts, as_part10(dataset), replacing).reason is Reason.CONFLICT
    assert store(parts, implicit).reason is Reason.CONFLICT
