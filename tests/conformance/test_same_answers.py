"""C-FIND and QIDO-RS answer the same set for the same conditions, over the sample data and names in three scripts.

Fuzzy matching ranks, so there it is the same order too.
"""

import io
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomweb.params import parse_fields, parse_search
from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.config import Settings, StorageSettings
from pacs.dimse.data_sets import parse_data_set
from pacs.dimse.identifiers import Agreement, InvalidIdentifier, parse_find
from pacs.errors import InvalidQuery
from pacs.ingest.importer import Entry, import_entry
from pacs.model import Door, Level, Origin
from pacs.tags import ATTRIBUTES, tag_of, text_of, vr_of
from tests.builders import as_dataset_bytes, as_part10, build_ct

SAMPLE_DATA = Path(__file__).parent.parent.parent / "sample_data"
EXPLICIT = "1.2.840.10008.1.2.1"
LEVELS = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.INSTANCE)

NAMES = (
    "Éléonore^Bénali",
    "BENALI^Eleonore",
    "El-Amrani^Ma'arouf",
    "Châtelain^François^^Dr",
    "قباني^نزار",
    "أحمد^فاطمة الزهراء",
    "Ahmed^Fatima=أحمد^فاطمة",
    "العلوي^محمد=山田^太郎",
)
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The sample data, and a study of a request for every name."""
    opened = Settings(data_dir=tmp_path_factory.mktemp("archive"), storage=StorageSettings(url="memory:"))
    with open_archive(opened) as parts:
        files = [path.read_bytes() for path in sorted(SAMPLE_DATA.rglob("*.dcm"))]
        assert len(files) >= 73
        for data in (*files, *map(as_part10, build_named())):
            entry = Entry("file", len(data), lambda data=data: io.BytesIO(data))
            assert import_entry(parts.archive.ingest, entry, Origin(Door.IMPORT)).outcome.is_stored
        yield parts.archive


def build_named() -> list[Dataset]:
    datasets = []
    for number, name in enumerate(NAMES):
        request = Dataset()
        request.ScheduledProcedureStepID = f"S{number}"
        request.RequestedProcedureID = f"R{number % 2}"
        datasets.append(
            build_ct(
                SpecificCharacterSet="ISO_IR 192",
                PatientName=name,
                PatientID=f"N{number}",
                StudyDate=f"2024010{number + 1}",
                StudyTime=f"{8 + number:02}3000",
                AccessionNumber="" if number % 3 else f"ACC{number}",
                StudyDescription="Étude" if number % 2 else "سينية",
                RequestAttributesSequence=Sequence([request]),
            )
        )
    return datasets


def ask_find(
    archive, level: Level, keys: list[tuple[str, str]], *, fuzzy: bool = False
) -> list[tuple[str, ...]] | None:
    """Return the UIDs that a relational C-FIND answers, None if the identifier is refused."""
    identifier, item = Dataset(), Dataset()
    identifier.SpecificCharacterSet = "ISO_IR 192"
    identifier.QueryRetrieveLevel = str(level)
    for path, value in keys:
        sequence, _, keyword = path.rpartition(".")
        # Text in numbers and dates is what a broken device sends; in implicit VR nothing tells it apart.
        (item if sequence else identifier).add_new(int(tag_of(keyword), 16), "LO", value.split("\\"))
    if item:
        identifier.RequestAttributesSequence = Sequence([item])
    data = as_dataset_bytes(identifier, "1.2.840.10008.1.2")
    try:
        attributes = parse_data_set(io.BytesIO(data), "1.2.840.10008.1.2", "ISO_IR 100")
        agreed = Agreement(relational=True, fuzzy_names=fuzzy, empty_values=True, multiple_values=True)
        find = parse_find(attributes, LEVELS, agreed)
    except InvalidIdentifier:
        return None
    return collect(archive, replace(find.query, limit=7))


def ask_qido(
    archive, level: Level, keys: list[tuple[str, str]], *, fuzzy: bool = False
) -> list[tuple[str, ...]] | None:
    """Return the UIDs that a search with these parameters answers, None if it is a bad request."""
    options = [("emptyvaluematching", "true"), ("multiplevaluematching", "true"), ("fuzzymatching", str(fuzzy))]
    try:
        search = parse_search(level, (), parse_fields(urlencode([*keys, *options])))
    except InvalidQuery:
        return None
    assert search.warnings == ()
    return collect(archive, replace(search.query, limit=5000))


def collect(archive, query) -> list[tuple[str, ...]]:
    """Return the UIDs of all pages in their order, each match seen once."""
    found = []
    while True:
        page = archive.search.search(LOCAL, query)
        found += [tuple(text_of(match.attributes, keyword) for keyword in UIDS) for match in page.matches]
        if not page.has_more:
            break
        query = replace(query, after=page.last)
    assert len(found) == len(set(found))
    return found


PATHS = {
    f"{attribute.sequence}.{attribute.keyword}" if attribute.sequence else attribute.keyword: attribute
    for attribute in ATTRIBUTES
    if attribute.matching is not None
} | {"ModalitiesInStudy": None}
NAME_PATHS = [path for path in PATHS if path in ("PatientName", "ReferringPhysicianName")]


@st.composite
def name_patterns(draw) -> str:
    """Draw what a person types for one of the names: a part of it, in another case, with wildcards."""
    name = draw(st.sampled_from(NAMES))
    start = draw(st.integers(0, len(name) - 1))
    end = draw(st.integers(start + 1, len(name)))
    part = draw(st.sampled_from([str, str.lower, str.upper]))(name[start:end]).strip()
    return draw(st.sampled_from(["{}", "{}*", "*{}", "*{}*", "?{}*"])).format(part)


values = st.one_of(
    name_patterns(),
    st.sampled_from(NAMES),
    st.sampled_from(["*", '""', "", "N1", "N?", "n1", "ACC*", "CT", "ct", "CT\\MR", "S1", "S*", "R0", "1", "Étude"]),
    st.sampled_from(["20240101-20240104", "20240102", "-20240103", "20240105-", "0830-1200", "10", "2024"]),
    st.text(alphabet="*?^=\\-_% '\"aé1.ب", max_size=6),
)
key_lists = st.lists(
    st.tuples(st.sampled_from([*PATHS, *NAME_PATHS * 4]), values), max_size=3, unique_by=lambda key: key[0]
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(level=st.sampled_from(LEVELS[1:]), keys=key_lists)
def test_any_conditions_are_answered_with_the_same_set(archive, level, keys) -> None:
    # QIDO-RS takes a comma for a separator where no value can hold one, C-FIND the backslash only.
    assert ask_find(archive, level, keys) == ask_qido(archive, level, keys)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(level=st.sampled_from(LEVELS[1:]), keys=key_lists)
def test_any_fuzzy_conditions_are_answered_with_the_same_set_in_the_same_order(archive, level, keys) -> None:
    found = ask_find(archive, level, keys, fuzzy=True)
    assert found == ask_qido(archive, level, keys, fuzzy=True)
    assert found is None or set(found) >= set(ask_find(archive, level, keys))


@pytest.mark.parametrize("level", LEVELS[1:])
@pytest.mark.parametrize(
    "name", ["أمراني^معروف", "Benaly Eleonor", "Qabbani", "Fatima Ahmed", "Alaoui^Mohamed", "*chatelin*"]
)
def test_another_spelling_is_found_by_both_if_that_is_agreed(archive, level, name) -> None:
    found = ask_find(archive, level, [("PatientName", name)], fuzzy=True)
    assert found
    assert found == ask_qido(archive, level, [("PatientName", name)], fuzzy=True)
    assert not ask_find(archive, level, [("PatientName", name)])


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_found_by_both_however_it_is_written(archive, name) -> None:
    first = name.split("=")[0]
    for pattern in (name, first, first.lower(), first.upper(), first.split("^")[0] + "*", f"*{first[1:4]}*"):
        found = ask_find(archive, Level.STUDY, [("PatientName", pattern)])
        assert found
        assert found == ask_qido(archive, Level.STUDY, [("PatientName", pattern)])


def test_both_find_everything_without_conditions(archive) -> None:
    for level in LEVELS[1:]:
        found = ask_find(archive, level, [])
        assert found == ask_qido(archive, level, [])
        assert len(found) >= len(NAMES)


@pytest.mark.parametrize("path", sorted(PATHS))
def test_every_attribute_is_matched_by_both(archive, path) -> None:
    """Each value that is there finds the same set, at its own level and at the lowest."""
    attribute = PATHS[path]
    vr = vr_of(path.rpartition(".")[2])
    values_there = {"DA": "20240101-20261231", "TM": "000000-235959"}.get(vr, "*1*" if vr not in ("UI", "IS") else "1")
    level = attribute.level if attribute and attribute.level is not Level.PATIENT else Level.STUDY
    for asked in (level, Level.INSTANCE):
        assert ask_find(archive, asked, [(path, values_there)]) == ask_qido(archive, asked, [(path, values_there)])
