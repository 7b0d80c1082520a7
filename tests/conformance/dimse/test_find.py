"""C-FIND SCP (PS3.4 C.4.1) as real SCUs see it. Every rule of the DIMSE rows C-FIND, charset and times has a test."""

import io
import time
from collections.abc import Iterator

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pacs.app import open_archive
from pacs.config import Settings, StorageSettings
from pacs.dimse import identifiers
from pacs.dimse.find import FindService
from pacs.dimse.peers import Peer, Peers
from pacs.dimse.server import create_server
from pacs.errors import Unavailable
from pacs.ingest.importer import Entry, import_entry
from pacs.model import Door, Origin
from tests.builders import as_part10, build_ct, build_dataset, build_mr
from tests.conformance.dimse.finder import (
    PATIENT_ROOT,
    PATIENT_STUDY_ONLY,
    STUDY_ROOT,
    build_identifier,
    finding,
    findscu,
)
from tests.conformance.dimse.orthanc import run_orthanc

RELATIONAL = b"\1"
DATE_TIME = b"\0\1"
FRENCH, ARABIC = "Bénali^Éléonore", "قباني^نزار"
LATIN_ONLY = Peer("LATIN", answer_character_set="ISO_IR 100", is_latin_only=True)
KIOSK = Peer("KIOSK", answer_character_set="ISO_IR 127")
PEERS = Peers((LATIN_ONLY, KIOSK), Peer(""))


def keep(archive, *datasets: Dataset) -> None:
    for dataset in datasets:
        data = as_part10(dataset)
        entry = Entry("file", len(data), lambda data=data: io.BytesIO(data))
        assert import_entry(archive.ingest, entry, Origin(Door.IMPORT)).outcome.is_stored


def build_item(**values: str) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


FRENCH_CT = {
    "SpecificCharacterSet": "ISO_IR 100",
    "PatientName": FRENCH,
    "PatientID": "F1",
    "StudyInstanceUID": "1.2.1",
    "StudyDate": "20240110",
    "StudyTime": "093000",
    "StudyDescription": "Étude du thorax",
    "AccessionNumber": "ACC-F",
    "SeriesInstanceUID": "1.2.1.1",
}
ARABIC_MR = {
    "SpecificCharacterSet": "ISO_IR 192",
    "PatientName": ARABIC,
    "PatientID": "A1",
    "StudyInstanceUID": "1.2.2",
    "StudyDate": "20240112",
    "StudyTime": "183000",
    "StudyDescription": "سينية",
    "AccessionNumber": "ACC-A",
    "SeriesInstanceUID": "1.2.2.1",
}


def build_stored() -> list[Dataset]:
    """Return two patients: a CT study of two series in French, an MR study in Arabic with a request."""
    request = build_item(ScheduledProcedureStepID="SPS1", RequestedProcedureID="RP1")
    other = build_item(ScheduledProcedureStepID="SPS2", RequestedProcedureID="RP2")
    report = {"SeriesInstanceUID": "1.2.1.2", "Modality": "SR", "SeriesNumber": 2}
    return [
        build_ct(**FRENCH_CT, SOPInstanceUID="1.2.1.1.1", InstanceNumber=1),
        build_ct(**FRENCH_CT, SOPInstanceUID="1.2.1.1.2", InstanceNumber=2),
        build_dataset(**FRENCH_CT | report, SOPInstanceUID="1.2.1.2.1"),
        build_mr(**ARABIC_MR, SOPInstanceUID="1.2.2.1.1", RequestAttributesSequence=Sequence([request, other])),
    ]


@pytest.fixture(scope="module")
def port(tmp_path_factory) -> Iterator[int]:
    """The port of an archive that holds what ``build_stored`` returns, and that no test adds to."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("archive"), storage=StorageSettings(url="memory:"))
    with open_archive(settings) as parts:
        keep(parts.archive, *build_stored())
        services = [FindService(parts.archive.search, "PACS")]
        server = create_server(parts.archive, port=0, services=services, peers=PEERS)
        server.start()
        yield server.port
        server.stop(grace_seconds=2)


@pytest.fixture
def serve(start_server, archive):
    """Serve a searcher's C-FIND and return the port."""

    def start(searcher):
        services = [FindService(searcher, "PACS")]
        return start_server(archive.ingest, services=services, peers=PEERS).port

    return start


class WatchedSearcher:
    """A searcher that lets a test do something before a page, counted from 0."""

    def __init__(self, searcher, before_page) -> None:
        self._searcher, self._before_page, self.pages = searcher, before_page, 0

    def search(self, principal, query, *, with_header=False, behind=None):
        self._before_page(self.pages)
        self.pages += 1
        return self._searcher.search(principal, query, with_header=with_header, behind=behind)


# Models and levels.


@pytest.mark.parametrize(
    ("model", "keys", "expected"),
    [
        ("-P", ["QueryRetrieveLevel=PATIENT", "PatientID"], {"F1", "A1"}),
        ("-P", ["QueryRetrieveLevel=STUDY", "PatientID=F1", "StudyInstanceUID"], {"1.2.1"}),
        (
            "-P",
            ["QueryRetrieveLevel=SERIES", "PatientID=F1", "StudyInstanceUID=1.2.1", "SeriesInstanceUID"],
            {"1.2.1.1", "1.2.1.2"},
        ),
        (
            "-P",
            [
                "QueryRetrieveLevel=IMAGE",
                "PatientID=F1",
                "StudyInstanceUID=1.2.1",
                "SeriesInstanceUID=1.2.1.1",
                "SOPInstanceUID",
            ],
            {"1.2.1.1.1", "1.2.1.1.2"},
        ),
        ("-S", ["QueryRetrieveLevel=STUDY", "StudyInstanceUID"], {"1.2.1", "1.2.2"}),
        ("-S", ["QueryRetrieveLevel=SERIES", "StudyInstanceUID=1.2.1", "SeriesInstanceUID"], {"1.2.1.1", "1.2.1.2"}),
        (
            "-S",
            ["QueryRetrieveLevel=IMAGE", "StudyInstanceUID=1.2.1", "SeriesInstanceUID=1.2.1.2", "SOPInstanceUID"],
            {"1.2.1.2.1"},
        ),
        ("-O", ["QueryRetrieveLevel=PATIENT", "PatientID"], {"F1", "A1"}),
        ("-O", ["QueryRetrieveLevel=STUDY", "PatientID=A1", "StudyInstanceUID"], {"1.2.2"}),
    ],
)
def test_findscu_finds_at_every_level_of_every_model(dcmtk, port, tmp_path, model, keys, expected) -> None:
    answers = findscu(dcmtk, port, tmp_path / "answers", model, *keys)
    unique = {"PATIENT": "PatientID", "STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID"}
    level = keys[0].partition("=")[2]
    assert {str(answer[unique.get(level, "SOPInstanceUID")].value) for answer in answers} == expected
    assert {answer.QueryRetrieveLevel for answer in answers} == {level}
    assert {answer.RetrieveAETitle for answer in answers} == {"PACS"}


def test_orthanc_finds_a_name_in_arabic(port, tmp_path) -> None:
    peers = {"pacs": ("PACS", "127.0.0.1", port)}
    with run_orthanc(tmp_path, peers, DefaultEncoding="Utf8") as orthanc:
        keys = {"PatientName": "قبان*", "StudyInstanceUID": "", "StudyDescription": ""}
        asked = orthanc.post("/modalities/pacs/query", {"Level": "Study", "Query": keys})
        answers = orthanc.http.get(f"/queries/{asked['ID']}/answers?expand&simplify").json()
    assert [(one["PatientName"], one["StudyInstanceUID"], one["StudyDescription"]) for one in answers] == [
        (ARABIC, "1.2.2", "سينية"),
    ]


@pytest.mark.parametrize("model", [PATIENT_ROOT, STUDY_ROOT, PATIENT_STUDY_ONLY])
@pytest.mark.parametrize("level", [None, "", "WORLD", "PATIENT", "SERIES"])
def test_no_level_or_one_the_model_has_not_is_refused(port, model, level) -> None:
    allowed = {
        PATIENT_ROOT: {"PATIENT", "SERIES"},
        STUDY_ROOT: {"SERIES"},
        PATIENT_STUDY_ONLY: {"PATIENT"},
    }[model]
    with finding(port, model, RELATIONAL) as finder:
        *matches, final = finder.find(build_identifier(level, PatientID=None))
        if level in allowed:
            assert (bool(matches), final.status) == (True, 0x0000)
        else:
            assert (matches, final.status, final.offending) == ([], 0xA900, (0x00080052,))
            assert final.comment.startswith(("There is no Query/Retrieve Level", "The Query/Retrieve Level is not one"))


@pytest.mark.parametrize(
    ("model", "level", "keys", "missing"),
    [
        (PATIENT_ROOT, "STUDY", {}, 0x00100020),
        (PATIENT_ROOT, "STUDY", {"PatientID": "F*"}, 0x00100020),
        (PATIENT_ROOT, "SERIES", {"PatientID": "F1"}, 0x0020000D),
        (STUDY_ROOT, "SERIES", {"PatientID": "F1"}, 0x0020000D),
        (STUDY_ROOT, "SERIES", {"StudyInstanceUID": ["1.2.1", "1.2.2"]}, 0x0020000D),
        (STUDY_ROOT, "IMAGE", {"StudyInstanceUID": "1.2.1"}, 0x0020000E),
        (PATIENT_STUDY_ONLY, "STUDY", {}, 0x00100020),
    ],
)
def test_a_missing_higher_unique_key_needs_relational_negotiation(port, model, level, keys, missing) -> None:
    with finding(port, model) as finder:
        (final,) = finder.find(level=level, **keys)
        assert (final.status, final.offending) == (0xA900, (missing,))
        assert final.comment.endswith("needs a single value at this level.")
        assert len(final.comment) <= 64
    with finding(port, model, RELATIONAL) as finder:
        assert finder.agreed == {model: RELATIONAL}
        assert finder.found(level=level, **keys)


def test_relational_queries_search_across_studies(port) -> None:
    with finding(port, STUDY_ROOT, RELATIONAL) as finder:
        assert {found.SOPInstanceUID for found in finder.found(level="IMAGE", PatientID="*1", SOPInstanceUID=None)} == {
            "1.2.1.1.1", "1.2.1.1.2", "1.2.1.2.1", "1.2.2.1.1",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("offered", "answered"),
    [
        (b"\1", b"\1"),
        (b"\0", b"\0"),
        (b"\2", b"\0"),
        (b"\1\1\1", b"\1\1\1"),
        (b"\1\1\0", b"\1\1\0"),
        (b"\1\1\1\1\1\1\1", b"\1\1\1\0\0\1\1"),
        (b"\1" * 500, b"\1\1\1\0\0\1\1"),
    ],
)
def test_only_what_is_supported_of_the_offered_options_is_agreed(port, offered, answered) -> None:
    """PS3.4 C.5.1.1: relational, date and time, fuzzy names, empty and multiple values; not zones, multi-frame."""
    with finding(port, STUDY_ROOT, offered) as finder:
        assert finder.agreed == {STUDY_ROOT: answered}


# Matching.


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, {"1.2.1", "1.2.2"}),
        ({"PatientID": "*"}, {"1.2.1", "1.2.2"}),
        ({"PatientID": "F1"}, {"1.2.1"}),
        ({"PatientID": "f1"}, set()),
        ({"AccessionNumber": "ACC-?"}, {"1.2.1", "1.2.2"}),
        ({"AccessionNumber": "*-A"}, {"1.2.2"}),
        ({"StudyInstanceUID": ["1.2.1", "1.2.9"]}, {"1.2.1"}),
        ({"StudyDate": "20240110"}, {"1.2.1"}),
        ({"StudyDate": "20240111-"}, {"1.2.2"}),
        ({"StudyDate": "-20240111"}, {"1.2.1"}),
        ({"StudyDate": "20240101-20240131", "StudyTime": "09-10"}, {"1.2.1"}),
        ({"ModalitiesInStudy": "SR"}, {"1.2.1"}),
        ({"ModalitiesInStudy": ["MR", "SR"]}, {"1.2.1", "1.2.2"}),
        ({"Modality": "MR"}, {"1.2.2"}),
        ({"StudyDescription": "Étude*"}, {"1.2.1"}),
    ],
)
def test_studies_match_by_value_wildcard_list_and_range(port, keys, expected) -> None:
    """Times match as recorded, in local time."""
    with finding(port) as finder:
        identifier = build_identifier("STUDY", **{"StudyInstanceUID": None, **keys})
        identifier.SpecificCharacterSet = "ISO_IR 192"
        *matches, final = finder.find(identifier)
        assert final.status == 0x0000
        assert {match.identifier.StudyInstanceUID for match in matches} == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("benali^eleonore", {"1.2.1"}),
        ("BÉNALI*", {"1.2.1"}),
        ("*éléonore", {"1.2.1"}),
        ("قباني^نزار", {"1.2.2"}),
        ("قبان?*", {"1.2.2"}),
        ("قبانى*", {"1.2.2"}),
        ("qabbani*", set()),
    ],
)
def test_names_match_without_accents_case_or_letter_forms(port, name, expected) -> None:
    """PN case and accent folding always; transliteration only with fuzzy matching."""
    with finding(port) as finder:
        identifier = build_identifier("STUDY", PatientName=name, StudyInstanceUID=None)
        identifier.SpecificCharacterSet = "ISO_IR 192"
        assert {match.identifier.StudyInstanceUID for match in finder.find(identifier)[:-1]} == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [(b"", {"1.2.1", "1.2.2"}), (DATE_TIME, {"1.2.1"}), (b"\0\0", {"1.2.1", "1.2.2"})],
)
def test_date_and_time_are_one_range_only_if_that_was_negotiated(archive, serve, options, expected) -> None:
    """PS3.4 C.2.2.2.5: apart, each day from 9 to 19 o'clock; combined, from one moment to the other."""
    keep(archive, *build_stored(), build_ct(**FRENCH_CT | {"StudyInstanceUID": "1.2.3", "StudyTime": "080000"}))
    with finding(serve(archive.search), STUDY_ROOT, options) as finder:
        keys = {"StudyDate": "20240110-20240112", "StudyTime": "0900-1900", "PatientID": None}
        if options == DATE_TIME:
            keys["StudyTime"] = "0900-1800"
        found = finder.found(level="STUDY", StudyInstanceUID=None, **keys)
        assert {match.StudyInstanceUID for match in found} == expected


def test_keys_in_a_sequence_match_the_same_item(port) -> None:
    def find(*items: Dataset) -> set[str]:
        with finding(port, STUDY_ROOT, RELATIONAL) as finder:
            keys = {"SeriesInstanceUID": None, "RequestAttributesSequence": Sequence(items)}
            return {match.SeriesInstanceUID for match in finder.found(level="SERIES", **keys)}

    assert find(build_item(ScheduledProcedureStepID="SPS1", RequestedProcedureID="RP1")) == {"1.2.2.1"}
    assert find(build_item(ScheduledProcedureStepID="SPS1", RequestedProcedureID="RP2")) == set()
    everything = {"1.2.1.1", "1.2.1.2", "1.2.2.1"}
    assert find() == find(Dataset()) == find(build_item(ScheduledProcedureStepID="")) == everything


def test_a_sequence_is_answered_with_the_keys_that_were_asked_for(port) -> None:
    with finding(port, STUDY_ROOT, RELATIONAL) as finder:
        item = build_item(ScheduledProcedureStepID="", ScheduledProcedureStepDescription="")
        keys = {"SeriesInstanceUID": None, "RequestAttributesSequence": Sequence([item])}
        answers = {match.SeriesInstanceUID: match for match in finder.found(level="SERIES", **keys)}
    items = answers["1.2.2.1"].RequestAttributesSequence
    assert [(one.ScheduledProcedureStepID, one.ScheduledProcedureStepDescription) for one in items] == [
        ("SPS1", ""), ("SPS2", ""),
    ]  # fmt: skip
    assert "RequestedProcedureID" not in items[0]
    assert len(answers["1.2.1.1"].RequestAttributesSequence) == 0


@pytest.mark.parametrize(
    ("options", "keys", "expected"),
    [
        (b"", {"StudyDescription": '""'}, set()),
        (b"\0\0\0\0\0\1", {"StudyDescription": '""'}, {"1.2.3"}),
        (b"", {"AccessionNumber": ["ACC-A", "ACC-F"]}, set()),
        (b"\0\0\0\0\0\0\1", {"AccessionNumber": ["ACC-A", "ACC-F"]}, {"1.2.1", "1.2.2"}),
    ],
)
def test_empty_and_multiple_values_match_only_if_that_was_negotiated(archive, serve, options, keys, expected) -> None:
    nameless = FRENCH_CT | {"StudyInstanceUID": "1.2.3", "AccessionNumber": "X", "StudyDescription": None}
    keep(archive, *build_stored(), build_ct(**nameless))
    with finding(serve(archive.search), STUDY_ROOT, options) as finder:
        found = finder.found(level="STUDY", StudyInstanceUID=None, **keys)
        assert {match.StudyInstanceUID for match in found} == expected


# What is answered.


def test_supported_keys_without_a_value_are_empty_and_others_left_out_with_a_warning(port) -> None:
    """Unsupported optional keys: 0xFF01, left out. Supported but unknown values return empty."""
    with finding(port) as finder:
        match, _ = finder.find(level="STUDY", PatientID="F1", PatientAge=None, NameOfPhysiciansReadingStudy=None)
        assert match.status == 0xFF00
        assert (match.identifier.PatientAge, match.identifier.NameOfPhysiciansReadingStudy) == ("054Y", "")
        match, final = finder.find(level="STUDY", PatientID="F1", StudyDescription=None, ImageType=None, Modality=None)
        assert (match.status, final.status) == (0xFF01, 0x0000)
        assert {element.keyword for element in match.identifier} == {
            "SpecificCharacterSet", "QueryRetrieveLevel", "RetrieveAETitle", "PatientID", "StudyDescription",
        }  # fmt: skip


def test_a_key_that_is_answered_but_not_matched_is_a_warning_too(port) -> None:
    with finding(port) as finder:
        match, _ = finder.find(level="STUDY", PatientID="F1", NumberOfStudyRelatedSeries="7")
        assert (match.status, match.identifier.NumberOfStudyRelatedSeries) == (0xFF01, 2)


def test_an_instance_is_answered_with_anything_in_its_header(port) -> None:
    with finding(port) as finder:
        keys = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.1", "SOPInstanceUID": "1.2.1.1.1"}
        match, _ = finder.find(level="IMAGE", **keys, ImageType=None, KVP=None, PixelSpacing=None, EchoTime=None)
        found = match.identifier
        assert match.status == 0xFF00
        assert (list(found.ImageType), found.KVP, list(found.PixelSpacing)) == (
            ["ORIGINAL", "PRIMARY", "AXIAL"], 120, [0.5, 0.5],
        )  # fmt: skip
        assert found["EchoTime"].is_empty


def test_counts_and_availability_are_derived(port) -> None:
    with finding(port, PATIENT_ROOT) as finder:
        (found,) = finder.found(
            level="PATIENT",
            PatientID="F1",
            NumberOfPatientRelatedStudies=None,
            NumberOfPatientRelatedSeries=None,
            NumberOfPatientRelatedInstances=None,
            InstanceAvailability=None,
        )
        assert found.NumberOfPatientRelatedStudies == 1
        assert found.NumberOfPatientRelatedSeries == 2
        assert found.NumberOfPatientRelatedInstances == 3
        assert found.InstanceAvailability == "ONLINE"
    with finding(port) as finder:
        (found,) = finder.found(
            level="STUDY",
            PatientID="F1",
            ModalitiesInStudy=None,
            SOPClassesInStudy=None,
            NumberOfStudyRelatedSeries=None,
            NumberOfStudyRelatedInstances=None,
            InstanceAvailability=None,
        )
        assert list(found.ModalitiesInStudy) == ["CT", "SR"]
        assert list(found.SOPClassesInStudy) == ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7"]
        assert (found.NumberOfStudyRelatedSeries, found.NumberOfStudyRelatedInstances) == (2, 3)
        assert found.InstanceAvailability == "ONLINE"
        keys = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.1"}
        (found,) = finder.found(level="SERIES", **keys, NumberOfSeriesRelatedInstances=None)
        assert found.NumberOfSeriesRelatedInstances == 2


def test_the_time_zone_of_a_study_is_answered_and_never_matched(archive, serve) -> None:
    keep(archive, *build_stored(), build_ct(**FRENCH_CT | {"StudyInstanceUID": "1.2.4"}, TimezoneOffsetFromUTC="+0100"))
    with finding(serve(archive.search)) as finder:
        keys = {"StudyInstanceUID": "1.2.4", "StudyTime": "0930", "TimezoneOffsetFromUTC": "+0000"}
        match, _ = finder.find(level="STUDY", **keys)
        assert (match.status, match.identifier.TimezoneOffsetFromUTC) == (0xFF00, "+0100")
        # It is never there without a value (PS3.4 C.4.1.1.3.2).
        match, _ = finder.find(level="STUDY", StudyInstanceUID="1.2.1", TimezoneOffsetFromUTC=None)
        assert match.status == 0xFF00
        assert "TimezoneOffsetFromUTC" not in match.identifier


# Character sets.


@pytest.mark.parametrize(
    ("asked", "study", "answered", "name"),
    [
        (None, "1.2.1", "ISO_IR 192", FRENCH),
        (None, "1.2.2", "ISO_IR 192", ARABIC),
        ("ISO_IR 100", "1.2.1", "ISO_IR 100", FRENCH),
        ("ISO_IR 100", "1.2.2", "ISO_IR 192", ARABIC),
        ("ISO_IR 127", "1.2.2", "ISO_IR 127", ARABIC),
        ("ISO_IR 127", "1.2.1", "ISO_IR 192", FRENCH),
        ("ISO_IR 192", "1.2.2", "ISO_IR 192", ARABIC),
        ("ISO_IR 6", "1.2.1", "ISO_IR 192", FRENCH),
        (["", "ISO 2022 IR 100"], "1.2.1", ["", "ISO 2022 IR 100"], FRENCH),
        (["ISO 2022 IR 100", "ISO 2022 IR 127"], "1.2.2", ["ISO 2022 IR 100", "ISO 2022 IR 127"], ARABIC),
        (["ISO 2022 IR 6", "ISO 2022 IR 127"], "1.2.2", ["ISO 2022 IR 6", "ISO 2022 IR 127"], ARABIC),
        ("NO SUCH SET", "1.2.1", "ISO_IR 192", FRENCH),
    ],
)
def test_answers_are_in_the_requests_character_set_or_in_unicode(port, asked, study, answered, name) -> None:
    """Charset of answers: the request's, else ISO_IR 192; a value it cannot hold goes out in ISO_IR 192."""
    identifier = build_identifier("STUDY", StudyInstanceUID=study, PatientName=None, StudyDescription=None)
    with finding(port) as finder:
        if asked == "NO SUCH SET":
            head = b"\x08\x00\x05\x00CS\x0c\x00NO SUCH SET \x08\x00\x52\x00CS\x06\x00STUDY "
            uid = study.encode() + b"\0"
            encoded = head + b"\x10\x00\x10\x00PN\0\0\x20\x00\x0d\x00UI\x06\0" + uid
            match, _ = finder.find(encoded)
        else:
            if asked:
                identifier.SpecificCharacterSet = asked
            match, _ = finder.find(identifier)
    declared = match.identifier.SpecificCharacterSet
    assert (declared if isinstance(declared, str) else list(declared)) == answered
    assert match.identifier.PatientName == name


@pytest.mark.parametrize(
    ("calling", "study", "answered", "name"),
    [
        ("KIOSK", "1.2.2", "ISO_IR 127", ARABIC),
        ("KIOSK", "1.2.1", "ISO_IR 192", FRENCH),
        ("LATIN", "1.2.1", "ISO_IR 100", FRENCH),
        ("LATIN", "1.2.2", "ISO_IR 100", "qbani^nzar"),
    ],
)
def test_a_peers_own_character_set_goes_first(port, calling, study, answered, name) -> None:
    """Charset of answers: the peer's configured set; for Latin-only devices transliterated; never '?'."""
    identifier = build_identifier("STUDY", StudyInstanceUID=study, PatientName=None, StudyDescription=None)
    identifier.SpecificCharacterSet = "ISO_IR 192"
    with finding(port, calling=calling) as finder:
        match, _ = finder.find(identifier)
    assert match.identifier.SpecificCharacterSet == answered
    assert match.identifier.PatientName == name
    assert "?" not in str(match.identifier)


@pytest.mark.parametrize(
    ("declared", "encoding", "calling"),
    [(b"ISO_IR 127", "iso8859-6", "TESTER"), (b"ISO_IR 192", "utf-8", "TESTER"), (b"", "utf-8", "TESTER")],
)
def test_the_request_is_read_in_its_own_character_set(port, declared, encoding, calling) -> None:
    name = "قباني*".encode(encoding)
    encoded = b""
    if declared:
        encoded += b"\x08\x00\x05\x00CS" + len(declared).to_bytes(2, "little") + declared
    encoded += b"\x08\x00\x52\x00CS\x06\x00STUDY "
    encoded += b"\x10\x00\x10\x00PN" + len(name).to_bytes(2, "little") + name
    encoded += b"\x20\x00\x0d\x00UI\0\0"
    with finding(port, calling=calling) as finder:
        assert [match.identifier.StudyInstanceUID for match in finder.find(encoded)[:-1]] == ["1.2.2"]


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]
)
def test_identifiers_travel_in_every_uncompressed_syntax(port, syntax) -> None:
    with finding(port, STUDY_ROOT, syntaxes=[syntax]) as finder:
        (found,) = finder.found(level="STUDY", PatientID="F1", PatientName=None, NumberOfStudyRelatedInstances=None)
        assert (found.PatientName, found.NumberOfStudyRelatedInstances) == (FRENCH, 3)


# Statuses.


@pytest.mark.parametrize(
    ("keys", "tag"),
    [
        ({"StudyDate": "CANARY"}, 0x00080020),
        ({"StudyDate": "20240230"}, 0x00080020),
        ({"StudyTime": "2500"}, 0x00080030),
        ({"StudyInstanceUID": "CANARY"}, 0x0020000D),
        ({"SeriesNumber": "CANARY"}, 0x00200011),
        ({"PatientID": "CANARY" * 60}, 0x00100020),
        ({"StudyInstanceUID": ["1.2.3"] * 1001}, 0x0020000D),
        ({"StudyInstanceUID": ["1.2.3"] * 20_000}, 0x0020000D),
        ({"RequestAttributesSequence": Sequence([Dataset(), Dataset()])}, 0x00400275),
    ],
)
def test_values_that_cannot_be_are_refused_without_being_repeated(port, keys, tag) -> None:
    """Error Comment: at most 64 characters, never a patient value."""
    identifier = build_identifier("STUDY")
    for keyword, value in keys.items():
        if keyword == "SeriesNumber":
            identifier.add_new(tag, "LO", value)
        else:
            setattr(identifier, keyword, value)
    with finding(port, syntaxes=["1.2.840.10008.1.2"]) as finder:
        (final,) = finder.find(identifier)
        assert (final.status, final.offending) == (0xA900, (tag,))
        assert 0 < len(final.comment) <= 64
        assert "CANARY" not in final.comment
        assert finder.found(level="STUDY"), "the association goes on"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (None, 0xA900),
        (b"\x08\x00", 0xC001),
        (b"\x08\x00\x52\x00CS\xff\x7fSTUDY", 0xC001),
        (b"\xff" * 4000, 0xC001),
        (b"\xfe\xff\x00\xe0\xff\xff\xff\xff" * 4000, 0xC001),
        (b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 4000, 0xC001),
        (b"\x10\x00\x10\x00PN\x04\0AAAA" * 200_000, 0xC001),
    ],
)
def test_what_is_no_identifier_is_refused(port, data, status) -> None:
    with finding(port, syntaxes=["1.2.840.10008.1.2.1"]) as finder:
        (final,) = finder.find(data)
        assert final.status == status
        assert len(final.comment) <= 64
        assert finder.found(level="STUDY"), "the association goes on"


def test_an_index_that_cannot_answer_is_out_of_resources(serve, archive) -> None:
    def fail(_page: int) -> None:
        raise Unavailable

    with finding(serve(WatchedSearcher(archive.search, fail))) as finder:
        (final,) = finder.find(level="STUDY")
        assert final.status == 0xA700
        assert final.comment


def test_what_fails_unexpectedly_is_a_processing_failure(serve, archive) -> None:
    def fail(_page: int) -> None:
        raise ZeroDivisionError

    with finding(serve(WatchedSearcher(archive.search, fail))) as finder:
        assert [response.status for response in finder.find(level="STUDY")] == [0x0110]


def test_no_match_is_a_success(port) -> None:
    with finding(port) as finder:
        assert finder.found(level="STUDY", PatientID="NOBODY") == []


# Pages, and C-CANCEL.


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(identifiers, "PAGE_SIZE", 2)
    monkeypatch.setattr(identifiers, "HEADER_PAGE_SIZE", 1)


def many(count: int) -> list[Dataset]:
    return [build_dataset(StudyInstanceUID=f"1.3.{number}", PatientID=f"M{number}") for number in range(count)]


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("keys", [{}, {"ImageType": None}])
def test_every_match_is_answered_a_page_at_a_time(serve, archive, keys) -> None:
    """Never more than a page in memory: a page is asked for when the one before has been answered."""
    keep(archive, *many(7))
    searcher = WatchedSearcher(archive.search, lambda _page: None)
    with finding(serve(searcher), STUDY_ROOT, RELATIONAL) as finder:
        found = finder.found(level="IMAGE", StudyInstanceUID=None, **keys)
    assert sorted(match.StudyInstanceUID for match in found) == [f"1.3.{number}" for number in range(7)]
    assert searcher.pages == (7 if keys else 4)


@pytest.mark.usefixtures("small_pages")
def test_a_study_that_arrives_between_two_pages_moves_no_match(serve, archive) -> None:
    keep(archive, *many(5))

    def store_newer(page: int) -> None:
        keep(archive, build_dataset(StudyInstanceUID=f"1.4.{page}", StudyDate="20300101"))

    with finding(serve(WatchedSearcher(archive.search, store_newer))) as finder:
        found = [match.StudyInstanceUID for match in finder.found(level="STUDY", StudyInstanceUID=None)]
    assert len(found) == len(set(found))
    assert set(found) == {"1.4.0", *(f"1.3.{number}" for number in range(5))}


@pytest.mark.usefixtures("small_pages")
def test_a_cancelled_search_ends_soon(archive, start_server) -> None:
    """C-CANCEL is answered 0xFE00, and what was not sent yet is not."""
    keep(archive, *many(9))
    served = []

    class NotedFindService(FindService):
        def serve(self, association, request, context) -> None:
            served.append(association)
            super().serve(association, request, context)

    def await_cancel(page: int) -> None:
        deadline = time.monotonic() + 10
        while page == 1 and not served[0].is_cancelled(7):
            assert time.monotonic() < deadline, "the C-CANCEL did not arrive"
            time.sleep(0.005)

    services = [NotedFindService(WatchedSearcher(archive.search, await_cancel), "PACS")]
    with finding(start_server(archive.ingest, services=services, peers=PEERS).port) as finder:
        finder.send(build_identifier("STUDY"), message_id=7)
        statuses = [finder.receive().status, finder.receive().status]
        finder.cancel(7)
        assert [*statuses, finder.receive().status] == [0xFF00, 0xFF00, 0xFE00]
        assert finder.find(level="STUDY", PatientID="M1")[-1].status == 0x0000, "the next search is not cancelled"
