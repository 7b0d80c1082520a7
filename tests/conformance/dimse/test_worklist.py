"""Modality Worklist as SCP (PS3.4 Annex K): pynetdicom and DCMTK ask, and DCMTK's wlmscpfs answers the same files."""

import copy
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import build_context

from pacs.access import LOCAL
from pacs.app import build_entry_parser
from pacs.config import Settings
from pacs.dimse.association import Acceptor
from pacs.dimse.peers import Peer, Peers
from pacs.dimse.server import create_server
from pacs.dimse.worklist import MODALITY_WORKLIST_FIND, WorklistService
from pacs.worklist import StepState, Worklist
from pacs.worklist.folder import WatchedFolder
from tests.builders import as_part10
from tests.conformance.dimse.orthanc import run_orthanc
from tests.conformance.dimse.scu import IMPLICIT, associate
from tests.scenarios.process import free_port
from tests.worklist_entries import build_entry, build_entry_json, build_key

PENDING, PENDING_UNSUPPORTED, CANCELLED, SUCCESS, BAD_IDENTIFIER = 0xFF00, 0xFF01, 0xFE00, 0x0000, 0xA900

ARABIC = "الفاسي^فاطمة"


@pytest.fixture
def worklist(parts) -> Worklist:
    return parts.archive.worklist


@pytest.fixture
def port(parts) -> int:
    with serving(parts.archive.worklist, parts.archive) as number:
        yield number


@contextmanager
def serving(worklist, archive, peers=None):
    server = create_server(archive, port=0, services=[WorklistService(worklist)], peers=peers)
    server.start()
    yield server.port
    server.stop(grace_seconds=2)


def ask(port, identifier, syntax=IMPLICIT, calling="CT1"):
    """Return the statuses and the identifiers of the answers."""
    with associate(port, [build_context(MODALITY_WORKLIST_FIND, syntax)], calling=calling) as association:
        answers = list(association.send_c_find(identifier, MODALITY_WORKLIST_FIND))
    return [status.Status for status, _ in answers], [answer for _, answer in answers if answer is not None]


def add_many(worklist, count) -> None:
    """Keep ``count`` steps that all begin at the same time, a hundred an entry."""
    for first in range(0, count, 100):
        entry = build_entry(RequestedProcedureID=f"R{first}")
        steps = [copy.deepcopy(entry.ScheduledProcedureStepSequence[0]) for _ in range(min(100, count - first))]
        for number, step in enumerate(steps):
            step.ScheduledProcedureStepID = f"S{first + number}"
        entry.ScheduledProcedureStepSequence = steps
        worklist.add(LOCAL, entry.to_json_dict())


def ids(port, **keys) -> set[str]:
    statuses, answers = ask(port, build_key(**keys))
    assert statuses[-1] == SUCCESS, statuses
    return {answer.PatientID for answer in answers}


def test_each_scheduled_step_is_one_response(worklist, port):
    entry = build_entry(PatientID="TWO")
    second = copy.deepcopy(entry.ScheduledProcedureStepSequence[0])
    second.ScheduledProcedureStepID = "S2"
    entry.ScheduledProcedureStepSequence.append(second)
    worklist.add(LOCAL, entry.to_json_dict())
    statuses, answers = ask(port, build_key(ScheduledProcedureStepID=""))
    assert statuses == [PENDING, PENDING, SUCCESS]
    assert [len(answer.ScheduledProcedureStepSequence) for answer in answers] == [1, 1]
    steps = {answer.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID for answer in answers}
    assert steps == {"S1", "S2"}


@pytest.fixture
def three(worklist):
    """Three patients, each on a device, a day and a time of its own."""
    for number, (station, modality, day, hour, physician) in enumerate(
        [
            ("CT1", "CT", "20260705", "100000", "DUPONT^ANNE"),
            ("CT1", "CT", "20260706", "080000", "BENALI^OMAR"),
            ("MR1", "MR", "20260707", "180000", "BENALI^OMAR"),
        ]
    ):
        worklist.add(
            LOCAL,
            build_entry_json(
                PatientID=f"P{number}",
                AccessionNumber=f"A{number}",
                RequestedProcedureID=f"R{number}",
                ScheduledStationAETitle=station,
                Modality=modality,
                ScheduledProcedureStepStartDate=day,
                ScheduledProcedureStepStartTime=hour,
                ScheduledPerformingPhysicianName=physician,
            ),
        )


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({"ScheduledStationAETitle": "CT1"}, {"P0", "P1"}),
        ({"ScheduledStationAETitle": "CT1", "Modality": "MR"}, set()),
        ({"Modality": "ct"}, {"P0", "P1"}),
        ({"Modality": ["CT", "MR"]}, {"P0", "P1", "P2"}),
        ({"ScheduledStationAETitle": "?R1"}, {"P2"}),
        ({"ScheduledProcedureStepStartDate": "20260706"}, {"P1"}),
        ({"ScheduledProcedureStepStartDate": "20260706-"}, {"P1", "P2"}),
        ({"ScheduledProcedureStepStartDate": "-20260705"}, {"P0"}),
        ({"ScheduledPerformingPhysicianName": "benali*"}, {"P1", "P2"}),
        ({"ScheduledPerformingPhysicianName": "Benali^Omar", "ScheduledStationAETitle": "CT1"}, {"P1"}),
        ({"AccessionNumber": "A2"}, {"P2"}),
        ({"AccessionNumber": "A*", "Modality": "CT"}, {"P0", "P1"}),
        ({"RequestedProcedureID": "R1"}, {"P1"}),
        ({"PatientID": "P0"}, {"P0"}),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),
)
def test_keys_match_inside_the_sequence_item_and_at_the_top(three, port, keys, found):
    assert ids(port, **keys) == found


def test_keys_of_one_item_must_hold_of_the_same_step(worklist, port):
    entry = build_entry(PatientID="BOTH")
    second = copy.deepcopy(entry.ScheduledProcedureStepSequence[0])
    second.ScheduledProcedureStepID, second.Modality, second.ScheduledStationAETitle = "S2", "MR", "MR1"
    entry.ScheduledProcedureStepSequence.append(second)
    worklist.add(LOCAL, entry.to_json_dict())
    assert ids(port, Modality="MR", ScheduledStationAETitle="CT1") == set()
    assert ids(port, Modality="MR", ScheduledStationAETitle="MR1") == {"BOTH"}


def test_start_date_and_time_combine_into_one_range(three, port):
    # PS3.4 Table K.6-1: July 5, 10 h, until July 7, 18 h; July 6 at 8 h lies within it.
    window = {
        "ScheduledProcedureStepStartDate": "20260705-20260707",
        "ScheduledProcedureStepStartTime": "100000-180000",
    }
    assert ids(port, **window) == {"P0", "P1", "P2"}
    late = {"ScheduledProcedureStepStartDate": "20260705-20260707", "ScheduledProcedureStepStartTime": "100001-175959"}
    assert ids(port, **late) == {"P1"}
    open_end = {"ScheduledProcedureStepStartDate": "20260706-", "ScheduledProcedureStepStartTime": "0801-"}
    assert ids(port, **open_end) == {"P2"}


def test_time_alone_matches_on_every_day(three, port):
    assert ids(port, ScheduledProcedureStepStartTime="0700-1000") == {"P0", "P1"}
    assert ids(port, ScheduledProcedureStepStartTime="180000", ScheduledProcedureStepStartDate="20260705-") == {"P2"}


def test_absent_or_empty_sequence_is_universal(three, port):
    absent = build_key()
    empty = build_key()
    empty.ScheduledProcedureStepSequence = []
    empty_item = build_key()
    empty_item.ScheduledProcedureStepSequence = [Dataset()]
    for identifier in (absent, empty, empty_item):
        statuses, answers = ask(port, identifier)
        assert statuses == [PENDING] * 3 + [SUCCESS]
        assert len(answers) == 3
    # Asked for as a whole, the step comes as a whole.
    assert all(answer.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID == "S1" for answer in answers)


def test_type_2_keys_without_a_value_return_empty(worklist, port):
    worklist.add(LOCAL, build_entry_json(AccessionNumber=None))
    identifier = build_key(
        ScheduledStationName="", AccessionNumber="", PregnancyStatus=None, ReferencedStudySequence=[]
    )
    statuses, (answer,) = ask(port, identifier)
    assert statuses == [PENDING, SUCCESS]
    assert answer.AccessionNumber == ""
    assert answer["PregnancyStatus"].is_empty
    assert len(answer.ReferencedStudySequence) == 0
    assert answer.ScheduledProcedureStepSequence[0].ScheduledStationName == ""
    # No more than was asked for: five keys, and the character set of the answer.
    assert "PatientBirthDate" not in answer
    assert "Modality" not in answer.ScheduledProcedureStepSequence[0]


def test_unsupported_optional_keys_are_left_out_and_said_so(worklist, port):
    worklist.add(LOCAL, build_entry_json())
    identifier = build_key(ProtocolName="NOT A KEY")
    identifier.add_new(0x00091001, "LO", "PRIVATE")
    statuses, (answer,) = ask(port, identifier)
    assert statuses == [PENDING_UNSUPPORTED, SUCCESS]
    assert "ProtocolName" not in answer
    assert 0x00091001 not in answer


def test_offset_from_utc_is_no_key_and_never_answered_without_a_value(worklist, port):
    """PS3.4 K.4.1.1.3.1 and K.4.1.1.3.2: it describes times, and many a device sends the one of its own clock."""
    worklist.add(LOCAL, build_entry_json(PatientID="NONE", RequestedProcedureID="R1"))
    worklist.add(LOCAL, build_entry_json(PatientID="HAS", RequestedProcedureID="R2", TimezoneOffsetFromUTC="+0100"))
    for value in ("+0000", None):
        statuses, answers = ask(port, build_key(TimezoneOffsetFromUTC=value))
        assert statuses == [PENDING, PENDING, SUCCESS]
        offsets = {answer.PatientID: answer.get("TimezoneOffsetFromUTC", "left out") for answer in answers}
        assert offsets == {"NONE": "left out", "HAS": "+0100"}


def test_specimens_and_documents_stand_beside_the_step(worklist, port):
    """PS3.4 Table K.6-1 has them at the top of the identifier."""
    specimen, document = Dataset(), Dataset()
    specimen.ContainerIdentifier = "BOX-1"
    document.ReferencedSOPClassUID, document.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.104.1", "2.25.7"
    entry = build_entry_json(ScheduledSpecimenSequence=[specimen], PertinentDocumentsSequence=[document])
    worklist.add(LOCAL, entry)
    key = build_key(ScheduledSpecimenSequence=[specimen], PertinentDocumentsSequence=[])
    statuses, (answer,) = ask(port, key)
    assert statuses == [PENDING, SUCCESS]
    assert answer.ScheduledSpecimenSequence[0].ContainerIdentifier == "BOX-1"
    assert answer.PertinentDocumentsSequence[0].ReferencedSOPInstanceUID == "2.25.7"


@pytest.mark.parametrize("state", [StepState.COMPLETED, StepState.DISCONTINUED])
def test_ended_step_leaves_the_list(worklist, port, state):
    (step,) = worklist.add(LOCAL, build_entry_json())
    assert ids(port) == {"W-1"}
    worklist.set_state(LOCAL, step.id, state)
    assert ids(port) == set()


@pytest.mark.parametrize(("lists_in_progress", "found"), [(True, {"W-1"}), (False, set())])
def test_step_in_progress_is_listed_as_the_setting_says(parts, lists_in_progress, found):
    worklist = Worklist(parts.database, 0, lists_in_progress=lists_in_progress)
    (step,) = worklist.add(LOCAL, build_entry_json())
    worklist.set_state(LOCAL, step.id, StepState.IN_PROGRESS)
    with serving(worklist, parts.archive) as port:
        assert ids(port) == found


@pytest.mark.parametrize("pattern", ["BENÂLI^FÁTIMA", "benali*", "Benali^Fatima", "BENALI^?ATIMA"])
def test_french_names_match_without_accents_and_case(worklist, port, pattern):
    worklist.add(LOCAL, build_entry_json(PatientName="Bénali^Fâtima"))
    identifier = build_key(PatientName=pattern)
    identifier.SpecificCharacterSet = "ISO_IR 100"
    _, (answer,) = ask(port, identifier)
    assert str(answer.PatientName) == "Bénali^Fâtima"


@pytest.mark.parametrize("pattern", [ARABIC, "الفاسى^*", "*فاطمه"])
def test_arabic_names_match_by_letter_and_come_back_in_the_requests_character_set(worklist, port, pattern):
    worklist.add(LOCAL, build_entry_json(PatientName=ARABIC))
    identifier = build_key(PatientName=pattern)
    identifier.SpecificCharacterSet = "ISO_IR 127"
    _, (answer,) = ask(port, identifier)
    assert answer.SpecificCharacterSet == "ISO_IR 127"
    assert str(answer.PatientName) == ARABIC


def test_charset_of_answers_is_the_peers_then_the_requests_then_unicode(parts, worklist):
    worklist.add(LOCAL, build_entry_json(PatientName="Bénali^Fâtima"))
    peers = Peers((Peer("CT1"), Peer("OLD", answer_character_set="ISO_IR 100")))
    with serving(worklist, parts.archive, peers) as port:
        plain, latin_2 = build_key(), build_key()
        latin_2.SpecificCharacterSet = "ISO_IR 101"
        for calling, identifier, expected in [
            ("OLD", latin_2, "ISO_IR 100"),
            ("CT1", latin_2, "ISO_IR 101"),
            ("CT1", plain, "ISO_IR 192"),
        ]:
            _, (answer,) = ask(port, identifier, calling=calling)
            assert answer.SpecificCharacterSet == expected
            assert str(answer.PatientName) == "Bénali^Fâtima"


def test_name_that_the_character_set_cannot_hold_goes_out_in_unicode_or_transliterated(parts, worklist):
    worklist.add(LOCAL, build_entry_json(PatientName=ARABIC))
    peers = Peers(
        (
            Peer("CT1"),
            Peer("LATIN", answer_character_set="ISO_IR 100", is_latin_only=True),
        )
    )
    identifier = build_key()
    identifier.SpecificCharacterSet = "ISO_IR 100"
    with serving(worklist, parts.archive, peers) as port:
        _, (answer,) = ask(port, identifier)
        assert (answer.SpecificCharacterSet, str(answer.PatientName)) == ("ISO_IR 192", ARABIC)
        _, (answer,) = ask(port, identifier, calling="LATIN")
        assert answer.SpecificCharacterSet == "ISO_IR 100"
        assert str(answer.PatientName).isascii()
        assert "?" not in str(answer.PatientName)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Bénali^Fâtima", "Bénali^Fâtima"),
        (ARABIC, "alfasi^fatma"),
        (f"El Fassi^Fatima={ARABIC}", "El Fassi^Fatima=alfasi^fatma"),
    ],
)
@pytest.mark.parametrize("declared", [None, "ISO_IR 100", "ISO_IR 127", "ISO_IR 192"])
def test_device_of_latin_letters_is_shown_latin_letters_whatever_it_declares(parts, worklist, name, shown, declared):
    worklist.add(LOCAL, build_entry_json(PatientName=name, ScheduledPerformingPhysicianName=name))
    identifier = build_key(ScheduledPerformingPhysicianName="")
    if declared:
        identifier.SpecificCharacterSet = declared
    peers = Peers((Peer("LATIN", answer_character_set="ISO_IR 100", is_latin_only=True),))
    with serving(worklist, parts.archive, peers) as port:
        _, (answer,) = ask(port, identifier, calling="LATIN")
    assert answer.SpecificCharacterSet == "ISO_IR 100"
    assert str(answer.PatientName) == shown
    assert str(answer.ScheduledProcedureStepSequence[0].ScheduledPerformingPhysicianName) == shown


def test_cancel_ends_the_answers(worklist, port, monkeypatch):
    add_many(worklist, 60)
    # The peer's C-CANCEL is on its way while we answer: here it has arrived by the third answer.
    seen = []
    monkeypatch.setattr(Acceptor, "is_cancelled", lambda *_: len(seen) == 3 or seen.append(1) is not None)
    statuses, answers = ask(port, build_key())
    assert statuses == [PENDING] * 3 + [CANCELLED]
    assert len(answers) == 3


def test_real_cancel_is_heard(worklist, port):
    add_many(worklist, 300)
    context = build_context(MODALITY_WORKLIST_FIND, IMPLICIT)
    with associate(port, [context]) as association:
        answers = association.send_c_find(build_key(), MODALITY_WORKLIST_FIND, msg_id=9)
        statuses = [next(answers)[0].Status]
        association.send_c_cancel(9, query_model=MODALITY_WORKLIST_FIND)
        statuses += [status.Status for status, _ in answers]
    assert statuses[0] == PENDING
    assert statuses[-1] in (CANCELLED, SUCCESS)  # the answers may have been quicker
    assert statuses[-1] == CANCELLED or len(statuses) == 301


@pytest.mark.parametrize(
    "keys",
    [
        {"ScheduledProcedureStepStartDate": "tomorrow"},
        {"ScheduledProcedureStepStartTime": "99"},
        {"PatientID": "x" * 300},
    ],
)
def test_key_that_makes_no_sense_is_refused_without_its_value(worklist, port, keys):
    worklist.add(LOCAL, build_entry_json())
    with associate(port, [build_context(MODALITY_WORKLIST_FIND, IMPLICIT)]) as association:
        ((status, _),) = association.send_c_find(build_key(**keys), MODALITY_WORKLIST_FIND)
    assert status.Status == BAD_IDENTIFIER
    assert next(iter(keys)) in status.ErrorComment
    assert next(iter(keys.values())) not in status.ErrorComment


def test_answers_go_on_past_a_page(worklist, port):
    add_many(worklist, 250)
    _, answers = ask(port, build_key(ScheduledProcedureStepID=""))
    found = {answer.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID for answer in answers}
    assert (len(answers), len(found)) == (250, 250)


@contextmanager
def wlmscpfs(dcmtk, folder: Path):
    number = free_port()
    process = subprocess.Popen(
        [dcmtk("wlmscpfs"), "--single-process", "-dfp", str(folder), "-csk", str(number)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", number), timeout=1).close()
                break
            except OSError:
                time.sleep(0.02)
        yield number
    finally:
        process.kill()
        process.wait()


def findscu(dcmtk, port, identifier: Dataset, folder: Path) -> list[Dataset]:
    """Ask with DCMTK's findscu -W and a query file; return the answers it wrote."""
    folder.mkdir()
    query = folder / "query.dcm"
    query.write_bytes(as_part10(identifier))
    command = [dcmtk("findscu"), "-W", "-X", "-od", str(folder), "-aec", "WL", "127.0.0.1", str(port), str(query)]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    return [dcmread(path, force=True) for path in sorted(folder.glob("rsp*.dcm"))]


@pytest.fixture
def wl_files(tmp_path) -> Path:
    """The folder of wlmscpfs: one folder for the called AE title, a lock file, and one entry a file."""
    folder = tmp_path / "worklists" / "WL"
    folder.mkdir(parents=True)
    (folder / "lockfile").touch()
    entries = [
        build_entry(PatientID="D1", PatientName="VIVALDI^ANTONIO", RequestedProcedureID="R1"),
        build_entry(PatientID="D2", PatientName="MOZART^W", RequestedProcedureID="R2", Modality="MR",
                    ScheduledStationAETitle="MR1", ScheduledProcedureStepStartDate="20260707"),
        build_entry(PatientID="D3", PatientName="HAYDN^JOSEPH", RequestedProcedureID="R3", AccessionNumber="A3",
                    ScheduledProcedureStepStartTime="180000"),
        build_entry(PatientID="D4", PatientName="BENALI^OMAR", RequestedProcedureID="R4",
                    ScheduledPerformingPhysicianName="ALAOUI^NADIA"),
        build_entry(PatientID="INCOMPLETE", RequestedProcedureID="R5", ScheduledProcedureStepID=None),
    ]  # fmt: skip
    for number, entry in enumerate(entries):
        entry.SpecificCharacterSet = "ISO_IR 100"
        (folder / f"{number}.wl").write_bytes(as_part10(entry))
    return folder.parent


def test_same_files_are_answered_as_by_wlmscpfs(worklist, port, wl_files, dcmtk, tmp_path):
    scan = WatchedFolder(worklist, wl_files, build_entry_parser(Settings())).scan()
    assert (scan.changed, scan.broken) == (4, 1)
    queries = [
        {},
        {"Modality": "CT"},
        {"Modality": "MR", "ScheduledStationAETitle": "MR1"},
        {"ScheduledStationAETitle": "CT1", "ScheduledProcedureStepStartDate": "20260706"},
        {"ScheduledProcedureStepStartDate": "20260706-20260707"},
        {"ScheduledProcedureStepStartDate": "20260706-20260707", "ScheduledProcedureStepStartTime": "110000-235959"},
        {"PatientName": "VIV*"},
        {"PatientName": "HAYDN^JOSEPH"},
        {"PatientID": "D2"},
        {"AccessionNumber": "A3"},
        {"ScheduledPerformingPhysicianName": "ALAOUI*"},
        {"PatientID": "NOBODY"},
    ]
    returned = {"RequestedProcedureID": "", "ScheduledProcedureStepID": "", "StudyInstanceUID": "", "PatientSex": ""}
    with wlmscpfs(dcmtk, wl_files) as theirs:
        for number, keys in enumerate(queries):
            identifier = build_key(**(returned | keys))
            answers = [
                findscu(dcmtk, port, identifier, tmp_path / f"ours{number}"),
                findscu(dcmtk, theirs, identifier, tmp_path / f"theirs{number}"),
            ]
            ours, others = ({summary(answer) for answer in found} for found in answers)
            assert ours == others, keys
            assert number != 0 or len(ours) == 4
            assert len(ours) == len(answers[0])


def summary(answer: Dataset) -> tuple[str, ...]:
    step = answer.ScheduledProcedureStepSequence[0]
    return (
        *(str(answer.get(keyword)) for keyword in ("PatientID", "PatientName", "RequestedProcedureID", "PatientSex")),
        str(answer.StudyInstanceUID),
        str(step.ScheduledProcedureStepID),
    )


def test_orthanc_queries_the_worklist(three, worklist, port, tmp_path):
    worklist.add(
        LOCAL, build_entry_json(PatientID="NAMES", PatientName=ARABIC, RequestedProcedureID="R9", Modality="US")
    )
    with run_orthanc(tmp_path, {"ours": ("PACS", "127.0.0.1", port)}, DefaultEncoding="Utf8") as orthanc:
        everything = {"PatientID": "", "PatientName": ""}
        sequence = [{"Modality": "", "ScheduledStationAETitle": "", "ScheduledProcedureStepStartDate": ""}]
        answers = orthanc.post(
            "/modalities/ours/find-worklist", everything | {"ScheduledProcedureStepSequence": sequence}
        )
        assert {answer["PatientID"] for answer in answers} == {"P0", "P1", "P2", "NAMES"}
        assert {answer["PatientName"] for answer in answers} == {"TEST^WORKLIST", ARABIC}
        sequence = [{"Modality": "CT", "ScheduledProcedureStepStartDate": "20260706-"}]
        answers = orthanc.post(
            "/modalities/ours/find-worklist", everything | {"ScheduledProcedureStepSequence": sequence}
        )
        assert [answer["PatientID"] for answer in answers] == ["P1"]
