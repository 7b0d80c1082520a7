"""No slope: what a selective search, a store and a look-up cost does not grow with the archive; steps are counted."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.bulk_load import check_space, fill
from benchmarks.selective_queries import QUESTIONS, Question, Sample, take_samples
from benchmarks.work import CountingDatabase, count_steps
from pacs.access import LOCAL
from pacs.database.opener import open_database
from pacs.index import changes, reader
from pacs.index.metadata import iter_metadata
from pacs.ingest.incoming import Incoming
from pacs.ingest.outcome import Disposition
from pacs.ingest.pipeline import Ingestor
from pacs.model import CLINICAL_PARTITION, Cursor, Door, Level, Origin
from pacs.query import Query, parse_key
from pacs.search import Searcher
from pacs.tags import BY_KEYWORD
from storage.memory import MemoryStore
from tests.builders import as_part10, build_ct, new_uid

SIZES = (20_000, 100_000)
SLOPE = 1.5
"""How much more may be done in the larger archive; whatever walks over all of it does nearly five times as much."""


@dataclass
class Index:
    """A generated index, and some of what is in it."""

    database: CountingDatabase
    samples: list[Sample]
    series: tuple[str, str]
    """Study and Series Instance UID of the series that has headers."""


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("indexes")
    opened = []
    for size in SIZES:
        path = folder / f"{size}.sqlite"
        fill(f"sqlite:///{path}", size)
        database = CountingDatabase(path)
        with database.read() as connection:
            found = connection.exec_driver_sql(
                "SELECT study_instance_uid, series_instance_uid FROM instance_header"
                " JOIN instance ON instance.id = instance_row_id JOIN series ON series.id = series_row_id"
                " JOIN study ON study.id = study_row_id LIMIT 1"
            )
            opened.append(Index(database, take_samples(connection, 30), tuple(found.one())))
    yield opened
    for index in opened:
        index.database.close()


def search_steps(index: Index, question: Question) -> int:
    searcher = Searcher(index.database, CLINICAL_PARTITION)

    def ask() -> None:
        for sample in index.samples:
            assert searcher.search(LOCAL, question.query(sample)).matches

    return count_steps(index.database, ask)


@pytest.mark.parametrize("question", [one for one in QUESTIONS if one.is_selective], ids=lambda one: one.name)
def test_a_selective_search_does_not_walk_over_the_archive(indexes, question) -> None:
    small, large = (search_steps(index, question) for index in indexes)
    assert 0 < large < SLOPE * small


def test_a_search_that_must_walk_is_seen_to_walk(indexes) -> None:
    """What shows that the counting above can fail."""
    question = next(one for one in QUESTIONS if one.name == "wildcard first")
    small, large = (search_steps(index, question) for index in indexes)
    assert large > SLOPE * small


@pytest.mark.parametrize(("column", "key"), [("study_id", "StudyID"), ("patient_birth_date", "PatientBirthDate")])
def test_a_value_that_every_study_has_is_found_in_the_order_of_studies(tmp_path, column, key) -> None:
    """Devices number every study 1, and nobody's birthday is that of many: such matches are not sorted for one page."""
    steps = []
    for size in SIZES[0] // 4, SIZES[1] // 4:
        path = tmp_path / f"{size}.sqlite"
        fill(f"sqlite:///{path}", size)
        database = CountingDatabase(path)
        database.write(lambda connection: connection.exec_driver_sql(f"UPDATE study SET {column} = '19000101'"))
        condition = parse_key(BY_KEYWORD[key], "19000101", empties=False, multiples=False)
        query = Query(Level.STUDY, (condition,), limit=5)
        steps.append(count_steps(database, lambda: Searcher(database, CLINICAL_PARTITION).search(LOCAL, query)))  # noqa: B023
        database.close()
    assert 0 < steps[1] < SLOPE * steps[0]


def store_steps(index: Index, folder: Path) -> int:
    """Return the steps of storing ten instances of a new study."""
    ingestor = Ingestor(index.database, MemoryStore(), CLINICAL_PARTITION, folder)
    study, series = new_uid(), new_uid()

    def store() -> None:
        for number in range(10):
            dataset = build_ct(StudyInstanceUID=study, SeriesInstanceUID=series, InstanceNumber=number)
            with ingestor.open_spool() as spool:
                spool.write(as_part10(dataset))
                assert ingestor.store(Incoming(spool, Origin(Door.DIMSE))).disposition is Disposition.STORED

    return count_steps(index.database, store)


def test_a_store_costs_the_same_in_a_larger_archive(indexes, tmp_path) -> None:
    small, large = (store_steps(index, tmp_path) for index in indexes)
    assert 0 < large < SLOPE * small


def read_steps(index: Index) -> int:
    """Return the steps for each instance of a series, read with its metadata and the end of the change log."""
    instances = 0

    def read() -> None:
        nonlocal instances
        with index.database.read() as connection:
            found = reader.find_instances(connection, CLINICAL_PARTITION, *index.series)
            end = changes.read_end(connection, CLINICAL_PARTITION)
            assert changes.read_after(connection, CLINICAL_PARTITION, Cursor(0, end.sequence - 10), 100)
        instances = len(list(iter_metadata(index.database, [one.row_id for one in found])))

    return count_steps(index.database, read) // instances


def test_a_series_and_the_end_of_the_log_are_read_without_a_walk(indexes) -> None:
    small, large = (read_steps(index) for index in indexes)
    assert 0 < large < SLOPE * small


def test_a_generated_index_has_what_ingest_would_have_written(indexes) -> None:
    """Counts, sounds, names and the log agree with the instances: else a search on it would prove nothing."""
    with indexes[0].database.read() as connection:

        def count(statement: str) -> int:
            return connection.exec_driver_sql(statement).scalar_one()

        instances = count("SELECT count(*) FROM instance WHERE stored_at < 1767268800000000")
        assert instances == SIZES[0]
        assert count("SELECT count(*) FROM change WHERE at < 1767268800000000") == instances
        instances_of = "(SELECT count(*) FROM instance WHERE series_row_id = series.id)"
        assert count(f"SELECT count(*) FROM series WHERE instance_count != {instances_of}") == 0
        for table, below, key in (
            ("study", "person_name", "study_row_id"),
            ("study", "person_name_sound", "study_row_id"),
            ("study", "series", "study_row_id"),
            ("patient", "study", "patient_row_id"),
        ):
            assert count(f"SELECT count(*) FROM {table} WHERE id NOT IN (SELECT {key} FROM {below})") == 0, table
        assert not connection.exec_driver_sql("PRAGMA foreign_key_check").all()


@pytest.mark.postgres
def test_postgresql_is_filled_alike(postgres_url) -> None:
    fill(postgres_url, 500)
    database = open_database(postgres_url)
    with database.read() as connection:
        samples = take_samples(connection, 3)
    found = Searcher(database, CLINICAL_PARTITION).search(LOCAL, QUESTIONS[0].query(samples[0]))
    assert samples[0].study_instance_uid in {match.study_instance_uid for match in found.matches}
    database.close()


def test_an_index_that_does_not_fit_is_refused_before_it_is_built(tmp_path) -> None:
    with pytest.raises(OSError, match="instances need"):
        check_space(tmp_path, 10**12)
