"""What every database engine promises to the index, as one suite. An engine passes by giving its ``url``."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, select, text

from pacs.access import LOCAL
from pacs.database.base import Database
from pacs.database.opener import open_database
from pacs.database.tables import metadata, patient, person_name, series, study
from pacs.errors import InvalidQuery, SchemaMismatch
from pacs.index import changes, conflicts, reader, rows, writer
from pacs.index.metadata import iter_metadata, read_header
from pacs.model import (
    CLINICAL_PARTITION,
    BulkValue,
    ByteRange,
    ChangeKind,
    Cursor,
    Door,
    Header,
    Level,
    Location,
    Origin,
    PixelElement,
)
from pacs.query import AnyOf, Condition, Equals, InRange, IsEmpty, Query, Wildcard
from pacs.search import Page, Searcher
from pacs.tags import tag_of, text_of, values_of, vr_of

STORED_AT = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
CT = "1.2.840.10008.5.1.4.1.1.2"
PET = "1.2.840.10008.5.1.4.1.1.128"


def build_attributes(**values: Any) -> dict[str, Any]:
    """Return a data set in DICOM JSON from keywords; a value of None leaves the attribute out."""
    attributes = {}
    for keyword, value in values.items():
        if value is None:
            continue
        vr, listed = vr_of(keyword), value if isinstance(value, list) else [value]
        if vr == "PN":
            listed = [{"Alphabetic": name} if isinstance(name, str) else name for name in listed]
        attributes[tag_of(keyword)] = {"vr": vr, "Value": listed}
    return attributes


def build_instance(
    number: int = 1, study_number: int = 1, series_number: int = 1, partition_id: int = 0, **values: Any
) -> rows.PreparedInstance:
    """Return one CT slice ready to be published; its UIDs tell its place."""
    defaults = {
        "SOPClassUID": CT,
        "SOPInstanceUID": f"1.2.{study_number}.{series_number}.{number}",
        "StudyInstanceUID": f"1.2.{study_number}",
        "SeriesInstanceUID": f"1.2.{study_number}.{series_number}",
        "PatientName": "Bénali^Amine",
        "PatientID": "P1",
        "StudyDate": "20240101",
        "StudyTime": "101112",
        "Modality": "CT",
        "SeriesNumber": series_number,
        "InstanceNumber": number,
    }
    origin = values.pop("origin", Origin(Door.DIMSE))
    payload = values.pop("payload", "first")
    attributes = build_attributes(**(defaults | values))
    digest = hashlib.sha256(repr((text_of(attributes, "SOPInstanceUID"), payload)).encode()).hexdigest()
    header = Header(
        "1.2.840.10008.1.2.1",
        dataset_offset=332,
        attributes=attributes,
        bulk=(BulkValue("7FE00010", "OW", ByteRange(1000, 1200)),),
        pixels=PixelElement("7FE00010", "OW", ByteRange(1000, 1200), is_encapsulated=False),
    )
    location = Location(f"sha256/{digest[:2]}/{digest}", 0, 1200)
    return rows.prepare(rows.NewInstance(partition_id, header, b"layout", location, digest, origin, STORED_AT))


def store(database: Database, *prepared: rows.PreparedInstance) -> list[int | None]:
    """Publish instances, each in a transaction of its own."""
    return [database.write(lambda connection, one=one: writer.insert_instance(connection, one)) for one in prepared]


def append(connection: Connection, one: rows.PreparedInstance, **facts: Any) -> None:
    """Append the change that an instance was stored."""
    changes.append(
        connection,
        one.partition_id,
        ChangeKind.INSTANCE_STORED,
        at=STORED_AT,
        study_instance_uid=one.study_instance_uid,
        series_instance_uid=one.series_instance_uid,
        sop_instance_uid=one.sop_instance_uid,
        facts=facts,
    )


def record_content(connection: Connection, new: rows.PreparedInstance, hidden: rows.PreparedInstance) -> bool:
    """List the conflict that ``new`` made, with the copy that does not answer."""
    return conflicts.record_conflict(
        connection,
        partition_id=new.partition_id,
        kind=conflicts.ConflictKind.CONTENT,
        study_instance_uid=hidden.study_instance_uid,
        series_instance_uid=hidden.series_instance_uid,
        sop_instance_uid=hidden.sop_instance_uid,
        origin=new.origin,
        found_at=STORED_AT,
        location=hidden.new.location,
        dataset_digest=hidden.new.dataset_digest,
        transfer_syntax_uid=hidden.new.header.transfer_syntax_uid,
    )


def count(database: Database, table: str) -> int:
    """Return how many rows a table has."""
    with database.read() as connection:
        return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()


def run_in_threads(how_many: int, work: Callable[[int], Any]) -> list[Any]:
    """Run ``work`` with 0, 1, 2, ... at the same time; return results or exceptions in that order."""
    results: list[Any] = [None] * how_many
    start = threading.Barrier(how_many)

    def run(number: int) -> None:
        start.wait()
        try:
            results[number] = work(number)
        except Exception as error:  # noqa: BLE001 - the test decides what it may be
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(how_many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class DatabaseContract:
    """Subclass with two fixtures: ``empty_url`` of a database without a schema, ``url`` of one that is migrated."""

    @pytest.fixture
    def database(self, url: str) -> Iterator[Database]:
        opened = open_database(url)
        yield opened
        opened.close()

    @pytest.fixture
    def find(self, database: Database) -> Callable[..., list[str]]:
        """Return a search that answers with the last UID of every match, in order."""

        def run(level: Level, *conditions: Condition, **options: Any) -> list[str]:
            page = Searcher(database, CLINICAL_PARTITION).search(LOCAL, Query(level, conditions, **options))
            return [
                match.sop_instance_uid or match.series_instance_uid or match.study_instance_uid
                or text_of(match.attributes, "PatientID")
                for match in page.matches
            ]  # fmt: skip

        return run

    # Schema

    def test_the_migrated_schema_is_the_one_in_tables(self, database: Database) -> None:
        with database.read() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []

    def test_migrating_again_changes_nothing(self, database: Database) -> None:
        store(database, build_instance())
        database.migrate()
        assert count(database, "instance") == 1

    def test_a_newer_schema_is_refused_with_what_to_do(self, database: Database) -> None:
        database.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
        with pytest.raises(SchemaMismatch, match="upgrade the archive"):
            database.migrate()

    def test_two_that_migrate_at_once_migrate_once(self, empty_url: str) -> None:
        databases = [open_database(empty_url) for _ in range(3)]
        assert run_in_threads(3, lambda number: databases[number].migrate()) == [None] * 3
        assert store(databases[0], build_instance()) == [1]
        for database in databases:
            database.close()

    # Transactions

    def test_whoever_watches_is_woken_by_every_commit_of_this_and_of_any_other_process(
        self, database: Database, url: str
    ) -> None:
        other = open_database(url)
        awake = threading.Event()
        with database.watch(awake.set):
            assert awake.is_set()
            for number, written in enumerate((database, other, database)):
                awake.clear()
                written.write(lambda connection, name=str(number): changes.begin(connection, name, Cursor()))  # type: ignore[misc]
                assert awake.wait(20)
        other.close()

    def test_a_failed_write_leaves_nothing(self, database: Database) -> None:
        def fail(connection: Any) -> None:
            writer.insert_instance(connection, build_instance())
            raise LookupError

        with pytest.raises(LookupError):
            database.write(fail)
        assert [count(database, table) for table in ("patient", "study", "series", "instance")] == [0] * 4

    def test_a_failing_write_does_no_harm_to_those_beside_it(self, database: Database) -> None:
        def work(number: int) -> int:
            def write(connection: Any) -> int:
                writer.insert_instance(connection, build_instance(number))
                if number % 4 == 0:
                    raise LookupError
                return number

            return database.write(write)

        results = run_in_threads(16, work)
        assert sum(isinstance(result, LookupError) for result in results) == 4
        assert count(database, "instance") == 12
        with database.read() as connection:
            assert connection.execute(select(series.c.instance_count)).scalar_one() == 12

    def test_a_statement_that_is_wrong_is_not_called_a_failure_of_the_database(self, database: Database) -> None:
        with pytest.raises(Exception, match="no_such_table"):
            database.write(lambda connection: connection.execute(text("SELECT * FROM no_such_table")))
        store(database, build_instance())

    # The four levels

    def test_parallel_stores_of_one_new_series_make_one_patient_one_study_and_one_series(
        self, database: Database
    ) -> None:
        prepared = [build_instance(number) for number in range(40)]

        def work(thread: int) -> None:
            store(database, *prepared[thread::8])

        assert run_in_threads(8, work) == [None] * 8
        assert [count(database, table) for table in ("patient", "study", "series", "instance")] == [1, 1, 1, 40]
        with database.read() as connection:
            assert connection.execute(select(series.c.instance_count)).scalar_one() == 40

    def test_parallel_stores_of_many_studies_of_one_patient_make_one_patient(self, database: Database) -> None:
        def work(thread: int) -> None:
            for number in range(4):
                store(database, build_instance(number, study_number=thread % 4 + 1, series_number=number % 2 + 1))

        results = run_in_threads(8, work)
        assert results == [None] * 8
        assert [count(database, table) for table in ("patient", "study", "series", "instance")] == [1, 4, 8, 16]

    def test_a_sop_instance_uid_sent_by_many_at_once_becomes_one_instance(self, database: Database) -> None:
        results = run_in_threads(8, lambda thread: store(database, build_instance(study_number=thread % 2 + 1,
                                                                                 SOPInstanceUID="1.2.3")))  # fmt: skip
        assert sum(result != [None] for result in results) == 1
        assert [count(database, table) for table in ("patient", "study", "series", "instance")] == [1] * 4
        with database.read() as connection:
            assert connection.execute(select(series.c.instance_count)).scalar_one() == 1

    def test_a_series_uid_in_two_studies_is_two_series(self, database: Database) -> None:
        store(database, build_instance(1, 1, SeriesInstanceUID="1.9"), build_instance(1, 2, SeriesInstanceUID="1.9"))
        assert count(database, "series") == 2

    def test_partitions_never_see_each_other(self, database: Database, find: Callable[..., list[str]]) -> None:
        store(database, build_instance(1), build_instance(1, partition_id=1), build_instance(2, partition_id=1))
        assert [count(database, table) for table in ("patient", "study", "series", "instance")] == [2, 2, 2, 3]
        assert find(Level.INSTANCE) == ["1.2.1.1.1"]
        with database.read() as connection:
            assert len(reader.find_instances(connection, 1, "1.2.1")) == 2
            assert writer.find_existing(connection, 2, "1.2.1.1.1") is None

    def test_patients_without_an_id_are_never_joined(self, database: Database) -> None:
        store(database, *(build_instance(1, number, PatientID=None) for number in (1, 2)))
        assert count(database, "patient") == 2

    def test_the_same_id_of_two_issuers_is_two_patients(self, database: Database) -> None:
        store(
            database,
            build_instance(1, 1, IssuerOfPatientID="A"),
            build_instance(1, 2, origin=Origin(Door.DIMSE, issuer_of_patient_id="B")),
            build_instance(1, 3, IssuerOfPatientID="A", origin=Origin(Door.DIMSE, issuer_of_patient_id="B")),
        )
        with database.read() as connection:
            issuers = connection.execute(select(patient.c.issuer_of_patient_id)).scalars().all()
        assert sorted(issuers) == ["A", "B"]

    def test_later_instances_fill_in_what_is_missing_and_overwrite_nothing(
        self, database: Database, find: Callable[..., list[str]]
    ) -> None:
        request = [build_attributes(RequestedProcedureID="RP1", ScheduledProcedureStepID="SPS1")]
        store(
            database,
            build_instance(1, StudyDescription="first", StudyDate=None, ReferringPhysicianName=None),
            build_instance(
                2,
                StudyDescription="second",
                ReferringPhysicianName="Doctor^Who",
                PatientSex="F",
                SeriesDescription="later",
                RequestAttributesSequence=request,
            ),
        )
        [match] = _search(database, Level.SERIES).matches
        texts = [
            text_of(match.attributes, keyword)
            for keyword in ("StudyDescription", "StudyDate", "PatientSex", "SeriesDescription")
        ]
        assert texts == ["first", "20240101", "F", "later"]
        assert find(Level.STUDY, InRange("StudyDate", "20240101", "20240101")) == ["1.2.1"]
        assert find(Level.STUDY, Wildcard("ReferringPhysicianName", "doctor*")) == ["1.2.1"]
        assert find(Level.PATIENT, Equals("PatientSex", "F")) == ["P1"]
        assert find(Level.SERIES, Equals("RequestedProcedureID", "RP1")) == ["1.2.1.1"]

    def test_values_no_database_likes_are_stored_all_the_same(self, database: Database) -> None:
        odd = "a\0b\ud800c"
        prepared = build_instance(PatientID=odd, PatientName=odd, StudyDescription="x" * 100_000, StudyDate="2024131",
                                  SeriesNumber="9" * 30, AccessionNumber=odd, PatientComments=[2**70])  # fmt: skip
        store(database, prepared)
        [match] = _search(database, Level.INSTANCE).matches
        assert len(text_of(match.attributes, "StudyDescription")) == 100_000

    # Duplicates and conflicts

    def test_an_existing_instance_is_found_with_its_place_and_bytes(self, database: Database) -> None:
        new = build_instance()
        [row_id] = store(database, new)
        with database.read() as connection:
            existing = writer.find_existing(connection, 0, "1.2.1.1.1")
        assert existing is not None
        assert (existing.row_id, existing.study_instance_uid, existing.series_instance_uid) == (
            row_id,
            "1.2.1",
            "1.2.1.1",
        )
        assert (existing.location, existing.dataset_digest) == (new.new.location, new.new.dataset_digest)
        assert store(database, new) == [None]

    def test_a_refused_second_copy_changes_nothing_of_the_first(self, database: Database) -> None:
        store(database, build_instance())
        assert store(database, build_instance(payload="second", PatientName="Other^One", PatientSex="F")) == [None]
        [match] = _search(database, Level.STUDY).matches
        assert not values_of(match.attributes, "PatientSex")
        assert _list_conflicts(database) == []

    def test_a_replaced_instance_moves_to_its_new_series_and_nothing_empty_stays(self, database: Database) -> None:
        store(database, build_instance(1), build_instance(2, SOPClassUID=PET))
        new = build_instance(2, 7, PatientID="P2", SOPInstanceUID="1.2.1.1.2", payload="second")
        _replace(database, new)
        rows = _counts(database)
        assert rows == {"1.2.1.1": (1, CT), "1.2.7.1": (1, CT)}
        _replace(database, build_instance(1, 7, PatientID="P2", SOPInstanceUID="1.2.1.1.1", payload="second"))
        assert _counts(database) == {"1.2.7.1": (2, CT)}
        assert [count(database, table) for table in ("patient", "study", "series", "instance")] == [1, 1, 1, 2]
        with database.read() as connection:
            [record] = reader.find_instances(connection, 0, "1.2.7", "1.2.7.1", "1.2.1.1.2")
            assert record.location == new.new.location
            assert connection.execute(select(person_name.c.study_row_id).distinct()).all() == (
                connection.execute(select(study.c.id)).all()
            )

    def test_an_instance_replaced_in_its_place_is_counted_once(self, database: Database) -> None:
        store(database, build_instance(1))
        _replace(database, build_instance(1, payload="second"))
        assert _counts(database) == {"1.2.1.1": (1, CT)}

    def test_parallel_replacements_keep_the_counts(self, database: Database) -> None:
        store(database, *(build_instance(number) for number in range(4)))

        def work(thread: int) -> None:
            for number in range(4):
                _replace(database, build_instance(number, thread % 3 + 1, SOPInstanceUID=f"1.2.1.1.{number}"))

        assert run_in_threads(6, work) == [None] * 6
        with database.read() as connection:
            stated = dict(connection.execute(select(series.c.id, series.c.instance_count)).all())
            counted = connection.execute(text("SELECT series_row_id, count(*) FROM instance GROUP BY series_row_id"))
            assert stated == dict(counted.all())

    def test_both_copies_of_a_conflict_stay_known_until_somebody_decides(self, database: Database) -> None:
        first, second = build_instance(), build_instance(payload="second", origin=Origin(Door.STOW, "10.0.0.9"))
        store(database, first)

        def conflict(connection: Any) -> bool:
            return record_content(connection, second, second)

        assert [database.write(conflict), database.write(conflict)] == [True, False]
        [listed] = _list_conflicts(database)
        assert (listed.kind, listed.location, listed.dataset_digest, listed.origin, listed.found_at) == (
            conflicts.ConflictKind.CONTENT,
            second.new.location,
            second.new.dataset_digest,
            second.new.origin,
            STORED_AT,
        )

        def resolve(connection: Any) -> bool:
            return conflicts.resolve_conflict(connection, 0, listed.id, "first is right", STORED_AT)

        assert [database.write(resolve), database.write(resolve)] == [True, False]
        with database.read() as connection:
            [resolved] = conflicts.iter_conflicts(connection, 0, is_resolved=True)
        assert (resolved.resolution, resolved.resolved_at) == ("first is right", STORED_AT)

    def test_a_replaced_copy_is_listed_with_its_bytes(self, database: Database) -> None:
        first, second = build_instance(), build_instance(payload="second")
        store(database, first)

        def work(connection: Any) -> None:
            existing = writer.find_existing(connection, 0, first.sop_instance_uid)
            assert existing is not None
            assert record_content(connection, second, first)
            writer.replace_instance(connection, existing, second)

        database.write(work)
        [listed] = _list_conflicts(database)
        assert listed.location == first.new.location

    def test_another_name_under_a_patient_is_stored_and_flagged_once(self, database: Database) -> None:
        store(database, build_instance(1, 1, PatientName="Benali^Amine"))
        store(database, *(build_instance(number, 2, PatientName="Other^One") for number in range(3)))
        store(database, build_instance(1, 3, PatientName="BÉNALI^AMINE^^"))
        [listed] = _list_conflicts(database)
        assert (listed.kind, listed.study_instance_uid) == (conflicts.ConflictKind.PATIENT_NAME, "1.2.2")
        names = [values_of(match.attributes, "PatientName")[0]["Alphabetic"]
                 for match in _search(database, Level.STUDY).matches]  # fmt: skip
        assert names == ["BÉNALI^AMINE^^", "Other^One", "Benali^Amine"]

    def test_another_patient_in_a_study_is_stored_and_flagged_once(self, database: Database) -> None:
        store(database, build_instance(1))
        store(database, *(build_instance(number, PatientID="P2", PatientSex="F") for number in (2, 3)))
        [listed] = _list_conflicts(database)
        assert listed.kind == conflicts.ConflictKind.STUDY_PATIENT
        assert _counts(database) == {"1.2.1.1": (3, CT)}
        [match] = _search(database, Level.STUDY).matches
        assert text_of(match.attributes, "PatientID") == "P1"
        assert not values_of(match.attributes, "PatientSex")

    # Changes

    def test_changes_are_read_in_the_order_of_their_commits(self, database: Database) -> None:
        prepared = [build_instance(number) for number in range(5)]
        for one in prepared:
            database.write(lambda connection, one=one: append(connection, one, n=1))
        elsewhere = build_instance(partition_id=1)
        database.write(lambda connection: append(connection, elsewhere))
        with database.read() as connection:
            first = changes.read_after(connection, 0, Cursor(), 3)
            rest = changes.read_after(connection, 0, first[-1].cursor, 100)
            assert changes.read_after(connection, 0, rest[-1].cursor, 100) == []
        assert [change.sop_instance_uid for change in first + rest] == [one.sop_instance_uid for one in prepared]
        assert (first[0].kind, first[0].at, first[0].facts) == (ChangeKind.INSTANCE_STORED, STORED_AT, {"n": 1})

    # Headers

    def test_a_header_comes_back_as_it_was_parsed(self, database: Database) -> None:
        new = build_instance()
        [row_id] = store(database, new)
        assert row_id is not None
        with database.read() as connection:
            header = read_header(connection, row_id)
        assert orjson.loads(header.attributes) == new.new.header.attributes
        assert (header.bulk, header.pixels, header.layout) == (new.new.header.bulk, new.new.header.pixels, b"layout")
        assert (header.dataset_offset, header.is_deflated) == (332, False)

    def test_metadata_of_a_series_comes_in_pages_that_hold_no_transaction(self, database: Database) -> None:
        store(database, *(build_instance(number) for number in (3, 1, 2)))
        with database.read() as connection:
            records = reader.find_instances(connection, 0, "1.2.1", "1.2.1.1")
        found = []
        for record, attributes in iter_metadata(database, [record.row_id for record in records], page_size=2):
            found.append((record, values_of(orjson.loads(attributes), "InstanceNumber")))
            store(database, build_instance(50 + len(found)))
        assert [record for record, _ in found] == records
        assert [number for _, number in found] == [[1], [2], [3]]

    def test_instances_are_found_in_reading_order(self, database: Database) -> None:
        store(database, build_instance(1, 1, 2), build_instance(2, 1, 1), build_instance(1, 1, 1),
              build_instance(9, 1, 3, SeriesNumber=None, InstanceNumber=None))  # fmt: skip
        with database.read() as connection:
            uids = [record.sop_instance_uid for record in reader.find_instances(connection, 0, "1.2.1")]
            assert reader.has_study(connection, 0, "1.2.1")
            assert not reader.has_study(connection, 0, "1.2.2")
            assert reader.has_series(connection, 0, "1.2.1", "1.2.1.2")
            assert not reader.has_series(connection, 0, "1.2.1", "1.2.1.4")
            assert reader.find_instances(connection, 0, "1.2.1", "1.2.1.4") == []
        assert uids == ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.2.1", "1.2.1.3.9"]

    # Matching (PS3.4 C.2.2.2)

    def test_an_answer_carries_counts_and_modalities(self, database: Database) -> None:
        store(database, build_instance(1), build_instance(2), build_instance(1, 1, 2, Modality="PT", SOPClassUID=PET))
        [match] = _search(database, Level.STUDY, Equals("Modality", "PT")).matches
        assert values_of(match.attributes, "ModalitiesInStudy") == ["CT", "PT"]
        assert values_of(match.attributes, "SOPClassesInStudy") == [PET, CT]
        assert values_of(match.attributes, "NumberOfStudyRelatedSeries") == [2]
        assert values_of(match.attributes, "NumberOfStudyRelatedInstances") == [3]
        assert values_of(match.attributes, "InstanceAvailability") == ["ONLINE"]
        series_matches = _search(database, Level.SERIES).matches
        assert [values_of(one.attributes, "NumberOfSeriesRelatedInstances") for one in series_matches] == [[2], [1]]
        assert list(match.attributes) == sorted(match.attributes)

    def test_an_instance_carries_its_whole_header_only_when_asked(self, database: Database) -> None:
        store(database, build_instance(Rows=512, WindowCenter=40))
        [short] = _search(database, Level.INSTANCE).matches
        [full] = _search(database, Level.INSTANCE, with_header=True).matches
        assert values_of(short.attributes, "Rows") == [512]
        assert values_of(short.attributes, "WindowCenter") == []
        assert values_of(full.attributes, "WindowCenter") == [40]
        assert values_of(full.attributes, "NumberOfStudyRelatedInstances") == [1]
        assert (full.study_instance_uid, full.series_instance_uid, full.sop_instance_uid) == (
            "1.2.1",
            "1.2.1.1",
            "1.2.1.1.1",
        )

    def test_pages_follow_each_other_newest_first_and_say_whether_more_remain(
        self, database: Database, find: Callable[..., list[str]]
    ) -> None:
        days = {1: "20230101", 2: "20240101", 3: None, 4: "20240101", 5: "garbage"}
        store(database, *(build_instance(1, number, StudyDate=day) for number, day in days.items()))
        order = ["1.2.4", "1.2.2", "1.2.1", "1.2.5", "1.2.3"]
        assert find(Level.STUDY) == order
        assert find(Level.STUDY, limit=2) + find(Level.STUDY, limit=2, offset=2) == order[:4]
        assert [_search(database, Level.STUDY, limit=limit).has_more for limit in (4, 5, 6)] == [True, False, False]
        assert _search(database, Level.STUDY, limit=0) == Page((), has_more=True)

    @pytest.mark.parametrize(
        ("pattern", "found"),
        [
            ("benali*", ["1.2.1"]),
            ("BÉNALI^AMINE", ["1.2.1"]),
            ("Benali^Amine^^", ["1.2.1"]),
            ("benali^*", ["1.2.1"]),
            ("*amine", ["1.2.1"]),
            ("b?nali*", ["1.2.1"]),
            ("benali", []),
            ("محمد*", ["1.2.2"]),
            ("محمّد^علي", ["1.2.2"]),
            ("mohamed*=محمد*", ["1.2.2"]),
            ("mohamed*=أحمد*", []),
            ("أحمد*", ["1.2.3"]),
            ("o'brien*", ["1.2.4"]),
            ("OBrien^John*", ["1.2.4"]),
            ("el amrani*", ["1.2.5"]),
            ("amrani^*", ["1.2.6"]),
            ("100%*", []),
            ("o_brien*", []),
        ],
    )
    def test_a_name_is_found_whatever_its_accents_script_or_group(
        self, database: Database, find: Callable[..., list[str]], pattern: str, found: list[str]
    ) -> None:
        names = [
            "Bénali^Amine",
            {"Alphabetic": "Mohamed^Ali", "Ideographic": "مُحَمَّد^علي"},
            {"Alphabetic": "احمد^سعيد"},
            "O\u2019Brien^John",
            "El-Amrani^Sara",
            "Amrani",
        ]
        store(database, *(build_instance(1, number, PatientID=f"P{number}", PatientName=name)
                          for number, name in enumerate(names, 1)))  # fmt: skip
        condition = (Wildcard if "*" in pattern or "?" in pattern else Equals)("PatientName", pattern)
        assert find(Level.STUDY, condition) == found
        assert find(Level.PATIENT, condition) == [f"P{uid[4:]}" for uid in found]

    @pytest.mark.parametrize(
        ("condition", "found"),
        [
            (Equals("StudyDescription", "50%_ done\\"), ["1.2.2"]),
            (Wildcard("StudyDescription", "50%_*"), ["1.2.2"]),
            (Wildcard("StudyDescription", "*_ done\\"), ["1.2.2"]),
            (Wildcard("StudyDescription", "50?? d*"), ["1.2.2", "1.2.1"]),
            (Wildcard("StudyDescription", "HEAD*"), []),
            (Wildcard("StudyDescription", "*ead"), ["1.2.3"]),
            (Equals("StudyDescription", "head"), []),
            (Wildcard("StudyDescription", "tête?"), []),
            (Wildcard("StudyDescription", "t?te*"), ["1.2.4"]),
            (Equals("PatientSex", "f"), ["1.2.3"]),
            (IsEmpty("PatientSex"), ["1.2.2", "1.2.1", "1.2.4"]),
            (AnyOf("AccessionNumber", ("A1", "A3")), ["1.2.3", "1.2.1"]),
            (AnyOf("AccessionNumber", ("A1", "B*")), ["1.2.1"]),
            (AnyOf("StudyInstanceUID", ("1.2.1", "1.2.4", "9")), ["1.2.1", "1.2.4"]),
            (AnyOf("PatientName", ("x", "p 3*")), ["1.2.3"]),
            (IsEmpty("PatientName"), ["1.2.4"]),
            (Equals("StudyInstanceUID", "1.2.2"), ["1.2.2"]),
            (InRange("StudyDate", "20240102", "20240103"), ["1.2.3", "1.2.2"]),
            (InRange("StudyDate", "", "20240102"), ["1.2.2", "1.2.1"]),
            (InRange("StudyDate", "20240103", ""), ["1.2.3"]),
            (InRange("StudyTime", "10", "10"), ["1.2.2", "1.2.1"]),
            (InRange("StudyTime", "1030", "1031"), ["1.2.2"]),
            (InRange("StudyTime", "103059.5", ""), ["1.2.3", "1.2.2"]),
        ],
    )
    def test_text_dates_and_lists_match_as_the_standard_says(
        self, database: Database, find: Callable[..., list[str]], condition: Condition, found: list[str]
    ) -> None:
        store(
            database,
            build_instance(1, 1, PatientName="P^1", StudyDate="20240101", StudyTime="10", AccessionNumber="A1",
                           StudyDescription="50ab d"),
            build_instance(1, 2, PatientName="P^2", StudyDate="2024.01.02", StudyTime="10:30:59.5",
                           AccessionNumber="A2", StudyDescription="50%_ done\\"),
            build_instance(1, 3, PatientName="P 3", StudyDate="20240103", StudyTime="235960", AccessionNumber="A3",
                           StudyDescription="Head", PatientSex="F"),
            build_instance(1, 4, PatientName=None, StudyDate="20240230", StudyTime="99", StudyDescription="tête"),
        )  # fmt: skip
        assert find(Level.STUDY, condition) == found

    @pytest.mark.parametrize(
        ("level", "conditions", "found"),
        [
            (Level.STUDY, [Equals("Modality", "pt")], ["1.2.1"]),
            (Level.STUDY, [Equals("ModalitiesInStudy", "PT")], ["1.2.1"]),
            (Level.STUDY, [Equals("ModalitiesInStudy", "PT"), Equals("ModalitiesInStudy", "CT")], ["1.2.1"]),
            (Level.STUDY, [Equals("Modality", "PT"), Equals("SeriesNumber", "1")], []),
            (Level.STUDY, [AnyOf("ModalitiesInStudy", ("PT", "MR"))], ["1.2.2", "1.2.1"]),
            (Level.STUDY, [Wildcard("ModalitiesInStudy", "C*")], ["1.2.1"]),
            (Level.STUDY, [IsEmpty("ModalitiesInStudy")], []),
            (Level.STUDY, [Equals("SOPClassUID", PET)], ["1.2.1"]),
            (Level.STUDY, [Equals("SOPInstanceUID", "1.2.2.1.1")], ["1.2.2"]),
            (Level.STUDY, [Equals("ScheduledProcedureStepID", "S1")], ["1.2.2"]),
            (Level.PATIENT, [Equals("Modality", "MR")], ["P2"]),
            (Level.PATIENT, [Equals("PatientID", "P1"), InRange("StudyDate", "20240101", "")], ["P1"]),
            (Level.PATIENT, [], ["P2", "P1"]),
            (Level.SERIES, [Equals("ModalitiesInStudy", "PT")], ["1.2.1.1", "1.2.1.2"]),
            (Level.SERIES, [Equals("StudyInstanceUID", "1.2.1"), Equals("SeriesNumber", "2")], ["1.2.1.2"]),
            (Level.SERIES, [Equals("SOPClassUID", PET)], ["1.2.1.2"]),
            (
                Level.SERIES,
                [Equals("ScheduledProcedureStepID", "S1"), Equals("RequestedProcedureID", "R1")],
                ["1.2.2.1"],
            ),
            (Level.SERIES, [Equals("ScheduledProcedureStepID", "S1"), Equals("RequestedProcedureID", "R2")], []),
            (Level.SERIES, [IsEmpty("RequestedProcedureID")], ["1.2.1.1", "1.2.1.2"]),
            (Level.INSTANCE, [Equals("PatientID", "P1"), Equals("Modality", "PT")], ["1.2.1.2.1"]),
            (Level.INSTANCE, [Equals("InstanceNumber", "02")], ["1.2.1.1.2"]),
            (Level.INSTANCE, [Equals("StudyInstanceUID", "1.2.1")], ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.2.1"]),
            (Level.INSTANCE, [AnyOf("SOPInstanceUID", ("1.2.1.1.2", "1.2.2.1.1"))], ["1.2.2.1.1", "1.2.1.1.2"]),
            (Level.INSTANCE, [Equals("RequestedProcedureID", "R2")], ["1.2.2.1.1"]),
        ],
    )
    def test_conditions_of_every_level_hold_at_every_level(
        self,
        database: Database,
        find: Callable[..., list[str]],
        level: Level,
        conditions: list[Condition],
        found: list[str],
    ) -> None:
        requests = [
            build_attributes(ScheduledProcedureStepID="S1", RequestedProcedureID="R1"),
            build_attributes(ScheduledProcedureStepID="S2", RequestedProcedureID="R2"),
        ]
        store(
            database,
            build_instance(1),
            build_instance(2),
            build_instance(1, 1, 2, Modality="PT", SOPClassUID=PET),
            build_instance(1, 2, PatientID="P2", Modality="MR", RequestAttributesSequence=requests),
        )
        assert find(level, *conditions) == found

    def test_what_is_not_indexed_cannot_be_matched(self, find: Callable[..., list[str]]) -> None:
        for condition in (Equals("Rows", "1"), Equals("NoSuchKeyword", "1"), Equals("RetrieveURL", "1")):
            with pytest.raises(InvalidQuery):
                find(Level.STUDY, condition)

    def test_a_value_cannot_become_sql(self, database: Database, find: Callable[..., list[str]]) -> None:
        store(database, build_instance())
        for value in ("' OR 1=1 --", 'x"; DROP TABLE study; --', "\\", "%"):
            for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "Modality", "AccessionNumber"):
                assert find(Level.STUDY, Equals(keyword, value)) == []
                assert find(Level.STUDY, Wildcard(keyword, f"*{value}?*")) == []
        assert find(Level.STUDY, Equals("PatientName", "\0"), Equals("PatientID", "\0")) == []
        assert count(database, "study") == 1


def _search(
    database: Database, level: Level, *conditions: Condition, with_header: bool = False, **options: Any
) -> Page:
    searcher = Searcher(database, CLINICAL_PARTITION)
    return searcher.search(LOCAL, replace(Query(level, conditions), **options), with_header=with_header)


def _list_conflicts(database: Database) -> list[conflicts.Conflict]:
    with database.read() as connection:
        return list(conflicts.iter_conflicts(connection, CLINICAL_PARTITION))


def _replace(database: Database, new: rows.PreparedInstance) -> None:
    def work(connection: Any) -> None:
        existing = writer.find_existing(connection, new.partition_id, new.sop_instance_uid)
        assert existing is not None
        writer.replace_instance(connection, existing, new)

    database.write(work)


def _counts(database: Database) -> dict[str, tuple[int, str]]:
    columns = (series.c.series_instance_uid, series.c.instance_count, series.c.sop_class_uids)
    with database.read() as connection:
        return {uid: (number, uids) for uid, number, uids in connection.execute(select(*columns))}
