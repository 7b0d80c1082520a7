"""A condition held against one data set means what it means in a query."""

import re
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.config import Settings, StorageSettings
from pacs.errors import InvalidQuery
from pacs.index.metadata import iter_metadata
from pacs.index.reader import find_instances
from pacs.ingest.importer import import_entry, iter_entries
from pacs.model import Door, Level, Origin
from pacs.predicates import matches_pattern, parse_predicate
from pacs.query import Query, parse_condition
from pacs.tags import ATTRIBUTES, BY_KEYWORD, Matching, tag_of, values_of, vr_of

SAMPLE_DATA = Path(__file__).parents[3] / "sample_data"
ORIGIN = Origin(Door.DIMSE, calling_ae_title="CT1", called_ae_title="PACS")
MATCHED = [attribute for attribute in ATTRIBUTES if attribute.matching is not None]


def build(**values):
    return {tag_of(name): {"vr": vr_of(name), "Value": listed(value)} for name, value in values.items()}


def listed(value):
    return value if isinstance(value, list) else [value]


def holds(attributes, origin=ORIGIN, **conditions):
    return parse_predicate(conditions).holds(attributes, origin)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The sample data imported: the archive, and the header of every instance by its UID."""
    data_dir = tmp_path_factory.mktemp("archive")
    with open_archive(Settings(data_dir=data_dir, storage=StorageSettings(url="memory:"))) as parts:
        for entry in iter_entries([SAMPLE_DATA]):
            import_entry(parts.archive.ingest, entry, Origin(Door.IMPORT))
        studies = parts.archive.search.search(LOCAL, Query(Level.STUDY, limit=5000)).matches
        with parts.database.read() as connection:
            records = [
                record for study in studies for record in find_instances(connection, 0, study.study_instance_uid)
            ]
        rows = iter_metadata(parts.database, [record.row_id for record in records])
        yield parts.archive, {record.sop_instance_uid: orjson.loads(text) for record, text in rows}


def conditions_of(attribute, headers):
    """Return texts that ask for what the data hold, and for a little beside it."""
    texts = {'""', "*"}
    for header in headers:
        values = values_of(header, attribute.keyword)
        if attribute.sequence:
            items = values_of(header, attribute.sequence)
            values = [value for item in items for value in values_of(item, attribute.keyword)]
        for value in values[:1]:
            text = "=".join(value.values()) if isinstance(value, dict) else str(value)
            texts |= spellings(attribute.matching, text)
    return sorted(texts)


def spellings(matching, text):
    match matching:
        case Matching.DATE | Matching.TIME:
            return {text, f"{text}-", f"-{text}", f"{text}-{text}"}
        case Matching.UID:
            return {text, f"{text}\\1.2.3"}
        case Matching.NUMBER:
            return {text, f"{text}\\7"}
        case _:
            half = text[: len(text) // 2]
            return {text, text.lower(), f"{half}*", f"*{text[1:]}", f"?{text[1:]}", f"{text}\\OTHER", f"{half}*\\none"}


@pytest.mark.parametrize("attribute", MATCHED, ids=lambda attribute: attribute.keyword)
def test_a_predicate_holds_of_exactly_what_a_search_finds(sample, attribute):
    archive, headers = sample
    asked = 0
    for text in conditions_of(attribute, headers.values()):
        try:
            condition = parse_condition(BY_KEYWORD[attribute.keyword], text)
        except InvalidQuery:
            with pytest.raises(InvalidQuery):
                parse_predicate({attribute.keyword: text})
            continue
        conditions = (condition,) if condition else ()
        page = archive.search.search(LOCAL, Query(Level.INSTANCE, conditions, limit=5000))
        predicate = parse_predicate({attribute.keyword: text})
        held = {uid for uid, header in headers.items() if predicate.holds(header, Origin(Door.IMPORT))}
        assert held == {match.sop_instance_uid for match in page.matches}, text
        asked += 1
    assert asked >= 2


def test_no_condition_holds_of_everything():
    assert holds({})
    assert holds({}, Modality="*", StudyDescription="")


def test_every_condition_has_to_hold():
    ct = build(Modality="CT", BodyPartExamined="CHEST")
    assert holds(ct, Modality="CT", BodyPartExamined="CHEST")
    assert not holds(ct, Modality="CT", BodyPartExamined="HEAD")


def test_the_way_in_is_matched_too():
    assert holds({}, CallingAETitle="CT*", CalledAETitle="PACS", Door="dimse")
    assert not holds({}, CallingAETitle="MR*")
    assert not holds({}, Door="stow")
    assert holds({}, Origin(Door.IMPORT), CallingAETitle='""')


def test_the_issuer_is_the_senders_where_the_data_set_names_none():
    origin = Origin(Door.DIMSE, issuer_of_patient_id="SITE_B")
    assert holds({}, origin, IssuerOfPatientID="SITE_B")
    assert not holds(build(IssuerOfPatientID="SITE_A"), origin, IssuerOfPatientID="SITE_B")


@pytest.mark.parametrize(
    ("values", "keyword", "passing", "failing"),
    [
        ({"KVP": 120.0}, "KVP", ["120", "120.0", "80\\120", "*"], ["12", '""']),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}, "ImageType", ["axial", "AX*", "X\\PRIMARY"], ["LOCALIZER"]),
        ({"NumberOfFrames": 12}, "NumberOfFrames", ["12", "1\\12"], ["1", '""']),
        ({"OperatorsName": {"Alphabetic": "Bénali^Amine"}}, "OperatorsName", ["BENALI*", "benali^amine"], ["amine"]),
        ({"ContentDate": "20240131"}, "ContentDate", ["20240131", "20240101-20240201", "-20250101"], ["20240201-"]),
        (
            {"AcquisitionDateTime": "20240131120000"},
            "AcquisitionDateTime",
            ["20240131*", "20240131", "202401-20240201", "20240131120000"],
            ["20240201-", "2024013113"],
        ),
        ({"Rows": 512}, "Rows", ["512"], ["256"]),
        ({"ImageComments": "a.b"}, "ImageComments", ["a.b", "a?b"], ["aXb", "A.B"]),
    ],
)
def test_any_attribute_matches_by_its_value_representation(values, keyword, passing, failing):
    attributes = build(**values)
    assert [text for text in passing if not holds(attributes, **{keyword: text})] == []
    assert [text for text in failing if holds(attributes, **{keyword: text})] == []
    assert holds({}, **{keyword: '""'})
    assert not any(holds({}, **{keyword: text}) for text in passing if text != "*")


def test_conditions_inside_a_sequence_hold_of_one_item():
    code = "ProcedureCodeSequence.CodeValue"
    scheme = "ProcedureCodeSequence.CodingSchemeDesignator"
    attributes = build(
        ProcedureCodeSequence=[
            build(CodeValue="A", CodingSchemeDesignator="SCT"),
            build(CodeValue="B", CodingSchemeDesignator="LN"),
        ]
    )
    assert holds(attributes, **{code: "A", scheme: "SCT"})
    assert not holds(attributes, **{code: "A", scheme: "LN"})
    assert not holds(attributes, **{code: '""'})
    assert not holds({}, **{code: "A"})
    assert holds({}, **{code: '""'})


def test_sequences_nest():
    attributes = build(RequestAttributesSequence=[build(RequestedProcedureCodeSequence=[build(CodeValue="X")])])
    assert holds(attributes, **{"RequestAttributesSequence.RequestedProcedureCodeSequence.CodeValue": "X"})
    assert not holds(attributes, **{"RequestAttributesSequence.RequestedProcedureCodeSequence.CodeValue": "Y"})


@pytest.mark.parametrize(
    ("conditions", "named"),
    [
        ({"Modalty": "CT"}, "Modalty"),
        ({"ModalitiesInStudy": "CT"}, "ModalitiesInStudy"),
        ({"ProcedureCodeSequence": "X"}, "ProcedureCodeSequence"),
        ({"Modality.CodeValue": "X"}, "Modality"),
        ({"StudyDate": "yesterday"}, "StudyDate"),
        ({"SeriesNumber": "1\\x"}, "SeriesNumber"),
        ({"KVP": "high"}, "KVP"),
        ({"PixelData": "*x"}, "PixelData"),
        ({"TransferSyntaxUID": "1.2"}, "TransferSyntaxUID"),
        ({"Door": "window"}, "Door"),
    ],
)
def test_a_condition_that_makes_no_sense_is_refused_by_name(conditions, named):
    with pytest.raises(InvalidQuery, match=named):
        parse_predicate(conditions)


def test_a_value_that_cannot_be_read_passes_nothing():
    damaged = build(StudyDate="2024", SeriesNumber="one", Modality=None, KVP="much")
    for keyword, text in (("StudyDate", "19000101-"), ("SeriesNumber", "1"), ("Modality", "N*"), ("KVP", "1")):
        assert not holds(damaged, **{keyword: text})


@settings(max_examples=300, deadline=None)
@given(st.text("ab*?", max_size=6), st.text("ab", max_size=6))
def test_patterns_match_as_a_regular_expression_would(pattern, text):
    expression = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)
    assert matches_pattern(text, pattern) == bool(re.fullmatch(expression, text, re.DOTALL))


def test_no_pattern_takes_long():
    assert not matches_pattern("a" * 256, "*a" * 60 + "b")
