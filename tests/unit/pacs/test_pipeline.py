"""What becomes of an object: stored, known already, in conflict, or refused."""

import hashlib

import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGExtended12Bit
from sqlalchemy import select, update

from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.config import IngestSettings, Settings, StorageSettings
from pacs.database.tables import conflict, instance
from pacs.index import changes, conflicts
from pacs.index.rows import digest_of
from pacs.ingest.incoming import Expected, Incoming, IncomingSpool, encode_file_meta
from pacs.ingest.outcome import Disposition, Reason
from pacs.model import CLINICAL_PARTITION, ChangeKind, Cursor, Door, DuplicatePolicy, Level, Origin
from pacs.query import Query
from pacs.tags import text_of, values_of
from tests.builders import as_dataset_bytes, as_part10, build_ct

ORIGIN = Origin(Door.IMPORT)


def store(archive, data, origin=ORIGIN, expected=None):
    with archive.ingest.open_spool() as spool:
        spool.write(data)
        return archive.ingest.store(Incoming(spool, origin, expected or Expected()))


def all_blobs(parts):
    return [parts.store.open(key).read() for key in parts.store.iter_keys()]


def kinds(parts):
    with parts.database.read() as connection:
        return [change.kind for change in changes.read_after(connection, CLINICAL_PARTITION, Cursor(), 100)]


def open_conflicts(parts):
    with parts.database.read() as connection:
        return list(conflicts.iter_conflicts(connection, CLINICAL_PARTITION))


def test_stored_bytes_are_the_received_bytes(parts):
    data = as_part10(build_ct())
    assert store(parts.archive, data).disposition is Disposition.STORED
    assert all_blobs(parts) == [data]


def test_stored_object_is_one_change(parts):
    store(parts.archive, as_part10(build_ct()))
    assert kinds(parts) == [ChangeKind.INSTANCE_STORED]


def test_same_object_again_is_a_success_that_changes_nothing(parts):
    data = as_part10(build_ct())
    store(parts.archive, data)
    outcome = store(parts.archive, data)
    assert (outcome.disposition, outcome.reason) == (Disposition.DUPLICATE, None)
    assert kinds(parts) == [ChangeKind.INSTANCE_STORED]


@pytest.mark.parametrize(("url", "begun"), [("", 1), ("memory:", 0)])
def test_bytes_go_to_the_disk_early_only_for_a_store_that_takes_the_file_and_never_again(
    tmp_path, monkeypatch, url, begun
):
    files = []
    begin_sync = IncomingSpool.begin_sync
    monkeypatch.setattr(IncomingSpool, "begin_sync", lambda spool: files.append(begin_sync(spool)))
    settings = Settings(data_dir=tmp_path / "archive", storage=StorageSettings(url=url))
    with open_archive(settings) as parts:
        data = as_part10(build_ct())
        assert store(parts.archive, data).disposition is Disposition.STORED
        assert store(parts.archive, data).disposition is Disposition.DUPLICATE
        assert not store(parts.archive, data[:-1000]).is_stored
        (key,) = parts.store.iter_keys()
        assert parts.store.read_range(key, 0, len(data) + 1) == data
    assert len(files) == begun
    assert not list((tmp_path / "archive").rglob("*.spool"))


def test_same_data_set_behind_another_file_meta_is_the_same_object(parts):
    dataset = build_ct()
    data = as_part10(dataset)
    store(parts.archive, data)
    other = b"II*\0".ljust(128, b"\0") + data[128:]
    assert store(parts.archive, other).disposition is Disposition.DUPLICATE


def as_c_stored(dataset):
    meta = encode_file_meta(dataset.SOPClassUID, dataset.SOPInstanceUID, ExplicitVRLittleEndian)
    return meta + as_dataset_bytes(dataset)


@pytest.mark.parametrize(("first", "second"), [(as_c_stored, as_part10), (as_part10, as_c_stored)])
def test_data_set_by_c_store_and_in_a_file_is_the_same_object(parts, first, second):
    dataset = build_ct()
    assert first(dataset) != second(dataset)
    store(parts.archive, first(dataset))
    assert store(parts.archive, second(dataset)).disposition is Disposition.DUPLICATE
    assert all_blobs(parts) == [first(dataset)]


def test_file_meta_that_is_a_part_of_every_digest_kept_is_what_it_always_was():
    meta = encode_file_meta("1.2.3", "1.2.4", ExplicitVRLittleEndian)
    assert hashlib.sha256(meta).hexdigest() == "dc5817859fd27e562b02373105dc8bf7c43cb148c5eb6d9200d709d9f13159ff"


def test_same_bytes_in_another_transfer_syntax_are_another_object(parts):
    dataset = build_ct()
    store(parts.archive, as_part10(dataset, JPEGBaseline8Bit))
    assert store(parts.archive, as_part10(dataset, JPEGExtended12Bit)).disposition is Disposition.CONFLICT


@pytest.mark.parametrize("resent", [as_part10, as_c_stored])
@pytest.mark.parametrize("policy", DuplicatePolicy)
def test_data_sets_stored_before_decision_29_are_known_again(parts, policy, resent):
    origin = Origin(Door.DIMSE, duplicate_policy=policy)
    first = build_ct(StudyDescription="First")
    store(parts.archive, as_part10(first))
    use_former_digest(parts, instance, as_dataset_bytes(first))
    second = build_ct(SOPInstanceUID=first.SOPInstanceUID, StudyDescription="Second")
    store(parts.archive, as_part10(second), Origin(Door.DIMSE))
    use_former_digest(parts, conflict, as_dataset_bytes(second))
    before = kinds(parts)
    assert store(parts.archive, resent(first), origin).disposition is Disposition.DUPLICATE
    if policy is DuplicatePolicy.KEEP_FIRST:
        assert store(parts.archive, resent(second), origin).disposition is Disposition.CONFLICT
    assert kinds(parts) == before
    assert len(open_conflicts(parts)) == 1


def use_former_digest(parts, table, dataset_bytes):
    """Make the one row of a table as it was made before decision 29."""
    digest = hashlib.sha256(dataset_bytes).digest()
    values = {"dataset_digest": digest}
    if table is conflict:
        with parts.database.read() as connection:
            (uid,) = connection.execute(select(conflict.c.sop_instance_uid)).scalars()
        values["distinction"] = digest_of(uid, digest.hex())
    parts.database.write(lambda connection: connection.execute(update(table).values(values)))


def test_resend_heals_an_instance_whose_blob_was_lost(parts):
    data = as_part10(build_ct())
    store(parts.archive, data)
    (key,) = parts.store.iter_keys()
    parts.store.remove(key)
    assert store(parts.archive, data).disposition is Disposition.DUPLICATE
    assert all_blobs(parts) == [data]


def test_resend_behind_another_file_meta_heals_a_lost_blob_too(parts):
    data = as_part10(build_ct())
    outcome = store(parts.archive, data)
    (key,) = parts.store.iter_keys()
    parts.store.remove(key)
    other = b"II*\0".ljust(128, b"\0") + data[128:]
    assert store(parts.archive, other).disposition is Disposition.DUPLICATE
    (record,) = parts.archive.retrieve.find_instances(LOCAL, outcome.study_instance_uid)
    assert parts.store.open(record.location.blob_key).read() == other


@pytest.mark.parametrize(
    ("policy", "answering"), [(DuplicatePolicy.KEEP_FIRST, "First"), (DuplicatePolicy.REPLACE, "Second")]
)
def test_other_data_set_under_the_same_uid_is_kept_beside_the_first(parts, policy, answering):
    origin = Origin(Door.DIMSE, duplicate_policy=policy)
    first = build_ct(StudyDescription="First")
    store(parts.archive, as_part10(first), origin)
    first.StudyDescription = "Second"
    outcome = store(parts.archive, as_part10(first), origin)
    assert (outcome.disposition, outcome.reason) == (Disposition.CONFLICT, Reason.CONFLICT)
    assert len(all_blobs(parts)) == 2
    assert len(open_conflicts(parts)) == 1
    (record,) = parts.archive.retrieve.find_instances(LOCAL, outcome.study_instance_uid)
    assert answering.encode() in parts.store.open(record.location.blob_key).read()


def test_conflicting_copy_sent_again_is_not_listed_twice(parts):
    first = build_ct()
    store(parts.archive, as_part10(first))
    first.StudyDescription = "Other"
    for _ in range(3):
        assert store(parts.archive, as_part10(first)).reason is Reason.CONFLICT
    assert len(open_conflicts(parts)) == 1


def test_policy_reject_refuses_another_data_set_and_keeps_nothing_of_it(parts):
    origin = Origin(Door.DIMSE, duplicate_policy=DuplicatePolicy.REJECT)
    first = build_ct()
    store(parts.archive, as_part10(first), origin)
    first.StudyDescription = "Other"
    outcome = store(parts.archive, as_part10(first), origin)
    assert outcome.disposition is Disposition.REJECTED
    assert outcome.reason.code & 0xF000 == 0xC000
    assert len(all_blobs(parts)) == 1
    assert not open_conflicts(parts)


def test_same_uid_in_another_study_is_a_conflict_like_any_other(parts):
    first = build_ct()
    store(parts.archive, as_part10(first))
    moved = build_ct(SOPInstanceUID=first.SOPInstanceUID)
    assert store(parts.archive, as_part10(moved)).reason is Reason.CONFLICT


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.NOT_DICOM),
        (b"GIF89a" * 100, Reason.NOT_DICOM),
        (as_part10(build_ct())[:-40], Reason.TRUNCATED),
    ],
)
def test_what_is_no_data_set_is_refused_and_nothing_is_stored(parts, data, reason):
    outcome = store(parts.archive, data)
    assert (outcome.disposition, outcome.reason) == (Disposition.REJECTED, reason)
    assert not all_blobs(parts)
    assert not kinds(parts)


def test_announced_uid_that_differs_is_refused(parts):
    outcome = store(parts.archive, as_part10(build_ct()), expected=Expected(sop_instance_uid="1.2.3"))
    assert outcome.reason is Reason.SOP_INSTANCE_MISMATCH
    assert not all_blobs(parts)


def with_leading_zero():
    return as_part10(build_ct(SOPInstanceUID="2.25.1234567")).replace(b"2.25.1234567", b"2.25.0234567")


def with_other_file_meta():
    dataset = build_ct(SOPInstanceUID="2.25.1234567")
    return as_part10(dataset).replace(b"2.25.1234567", b"2.25.7654321", 1)


@pytest.mark.parametrize(
    ("build", "uid"), [(with_leading_zero, "2.25.0234567"), (with_other_file_meta, "2.25.1234567")]
)
def test_what_a_rule_finds_is_a_warning_each_time_and_the_data_sets_uid_is_the_key(parts, build, uid):
    data = build()
    for disposition in (Disposition.STORED, Disposition.DUPLICATE):
        outcome = store(parts.archive, data)
        assert (outcome.disposition, outcome.reason) == (disposition, Reason.DATA_SET_MISMATCH)
        assert outcome.sop_instance_uid == uid
    assert all_blobs(parts) == [data]


@pytest.mark.parametrize("padding", [b" ", b"\0", b"  ", b"\0\0"])
def test_padding_of_a_uid_is_no_part_of_the_key_and_stays_in_the_bytes(parts, padding):
    dataset = build_ct(SOPInstanceUID="2.25.1234567")
    padded = as_part10(dataset).replace(b"2.25.1234567", b"2.25.1234567"[: -len(padding)] + padding)
    outcome = store(parts.archive, padded)
    assert outcome.is_stored
    assert outcome.sop_instance_uid == "2.25.1234567"[: -len(padding)]
    assert all_blobs(parts) == [padded]


def studies(archive):
    matches = archive.search.search(LOCAL, Query(Level.STUDY)).matches
    return {match.study_instance_uid: match.attributes for match in matches}


@pytest.mark.parametrize(
    ("senders", "sites", "encoded", "text"),
    [
        ("ISO_IR 127", "ISO_IR 100", "محمد".encode(), "محمد"),
        ("ISO_IR 127", "ISO_IR 100", "محمد".encode("iso8859-6"), "محمد"),
        ("Windows-1256", "ISO_IR 100", "گل".encode("cp1256"), "گل"),
        ("ISO_IR 127", "Windows-1256", "ہم".encode("cp1256"), "ہم"),
        ("ISO_IR 127", "ISO_IR 100", "Müller".encode("latin-1"), "Müller"),
    ],
)
def test_undeclared_text_is_utf_8_or_the_senders_set_or_the_sites(tmp_path, senders, sites, encoded, text):
    settings = Settings(
        data_dir=tmp_path, storage=StorageSettings(url="memory:"), ingest=IngestSettings(character_set=sites)
    )
    placeholder = b"#" * (len(encoded) + len(encoded) % 2)
    dataset = build_ct(StudyDescription=placeholder.decode())
    data = as_part10(dataset).replace(placeholder, encoded.ljust(len(placeholder)))
    with open_archive(settings) as parts:
        assert store(parts.archive, data, Origin(Door.DIMSE, character_set=senders)).reason is None
        ((_, attributes),) = studies(parts.archive).items()
        assert text_of(attributes, "StudyDescription") == text
        assert all_blobs(parts) == [data]


def test_issuer_is_the_objects_own_or_else_its_senders(parts):
    issuers = {"A": ["A", ""], "B": ["B", "A"], "C": ["", "C"]}
    for own, senders in issuers.values():
        dataset = build_ct(PatientID="1", PatientName=f"Of^{own or senders}", IssuerOfPatientID=own or None)
        store(parts.archive, as_part10(dataset), Origin(Door.DIMSE, issuer_of_patient_id=senders))
    patients = parts.archive.search.search(LOCAL, Query(Level.PATIENT)).matches
    assert len(patients) == 3
    assert not open_conflicts(parts)
    names = [values_of(attributes, "PatientName")[0]["Alphabetic"] for attributes in studies(parts.archive).values()]
    assert sorted(names) == ["Of^A", "Of^B", "Of^C"]


def test_object_in_an_unknown_syntax_is_kept(parts):
    dataset = build_ct()
    data = as_part10(dataset, "1.2.3.4.5")
    outcome = store(parts.archive, data)
    assert (outcome.disposition, outcome.reason) == (Disposition.STORED, None)
    (record,) = parts.archive.retrieve.find_instances(LOCAL, dataset.StudyInstanceUID)
    assert record.transfer_syntax_uid == "1.2.3.4.5"
    with parts.archive.retrieve.open_instance(LOCAL, record) as representation:
        assert b"".join(representation.iter_chunks()) == data
