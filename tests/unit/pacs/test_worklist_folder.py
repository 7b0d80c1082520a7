"""The watched folder: files come, change and go, and the worklist with them."""

import logging

import orjson
import pytest

from pacs.access import LOCAL
from pacs.app import build_entry_parser
from pacs.config import Settings
from pacs.worklist import StepState, parse_query
from pacs.worklist.folder import MAX_FILE_BYTES, Scan, WatchedFolder
from tests.builders import as_part10
from tests.worklist_entries import build_entry, build_entry_json


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "incoming-orders"
    made.mkdir()
    return made


@pytest.fixture
def open_watch(archive, folder):
    """Watch the folder as after a start."""
    return lambda: WatchedFolder(archive.worklist, folder, build_entry_parser(Settings()))


@pytest.fixture
def watch(open_watch):
    return open_watch()


def listed(archive) -> dict[str, str]:
    """Return Patient ID and step of what is on the list."""
    steps = archive.worklist.find(LOCAL, parse_query({}), tuple(StepState))
    return {step.attributes["00100020"]["Value"][0]: step.step["00400007"]["Value"][0] for step in steps}


def test_file_that_appears_changes_and_vanishes(archive, folder, watch):
    file = folder / "one.wl"
    file.write_bytes(as_part10(build_entry()))
    assert watch.scan() == Scan(changed=1)
    assert watch.scan() == Scan()
    assert listed(archive) == {"W-1": "CT thorax"}
    file.write_bytes(as_part10(build_entry(ScheduledProcedureStepDescription="CT abdomen")))
    assert watch.scan() == Scan(changed=1)
    assert listed(archive) == {"W-1": "CT abdomen"}
    file.unlink()
    assert watch.scan() == Scan(removed=1)
    assert listed(archive) == {}


def test_json_files_and_folders_of_called_titles_are_read_too(archive, folder, watch):
    entries = [build_entry_json(PatientID=f"J{number}", RequestedProcedureID=f"R{number}") for number in range(2)]
    (folder / "both.json").write_bytes(orjson.dumps(entries))
    (folder / "PACS").mkdir()
    (folder / "PACS" / "one.WL").write_bytes(as_part10(build_entry(PatientID="BELOW")))
    (folder / "PACS" / "lockfile").touch()
    (folder / "notes.txt").write_text("not an entry")
    assert watch.scan() == Scan(changed=2)
    assert set(listed(archive)) == {"J0", "J1", "BELOW"}


def test_restart_reads_nothing_anew_and_forgets_what_went_meanwhile(archive, folder, watch, open_watch):
    for name in ("stays", "goes"):
        (folder / f"{name}.wl").write_bytes(as_part10(build_entry(PatientID=name, RequestedProcedureID=name)))
    watch.scan()
    (folder / "goes.wl").unlink()
    assert open_watch().scan() == Scan(removed=1)
    assert set(listed(archive)) == {"stays"}


def test_changed_file_keeps_how_far_its_step_is_and_its_study(archive, folder, watch):
    file = folder / "one.wl"
    file.write_bytes(as_part10(build_entry(StudyInstanceUID=None)))
    watch.scan()
    (before,) = archive.worklist.find(LOCAL, parse_query({}))
    archive.worklist.set_state(LOCAL, before.id, StepState.COMPLETED)
    file.write_bytes(as_part10(build_entry(StudyInstanceUID=None, ScheduledProcedureStepDescription="CT abdomen")))
    watch.scan()
    after = archive.worklist.get(LOCAL, before.id)
    assert after.state is StepState.COMPLETED
    assert after.attributes["0020000D"] == before.attributes["0020000D"]
    assert after.step["00400007"]["Value"] == ["CT abdomen"]


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".wl", b""),
        (".wl", b"\0" * 5000),
        (".wl", as_part10(build_entry())[:-40]),
        (".wl", as_part10(build_entry(PatientID=None))),
        (".json", b"{"),
        (".json", orjson.dumps(build_entry_json(Modality=None))),
        (".json", b" " * (MAX_FILE_BYTES + 1)),
        (".json", b"[" * 5000),
    ],
    ids=lambda part: str(part)[:20],
)
def test_broken_file_changes_nothing_and_its_name_is_not_logged(archive, folder, watch, caplog, suffix, content):
    file = folder / f"CANARY_PHI{suffix}"
    good = build_entry(PatientName="CANARY^PHI")
    file.write_bytes(as_part10(good) if suffix == ".wl" else orjson.dumps(good.to_json_dict()))
    watch.scan()
    file.write_bytes(content)
    with caplog.at_level(logging.DEBUG):
        assert watch.scan() == Scan(broken=1)
        assert watch.scan() == Scan()
    assert listed(archive) == {"W-1": "CT thorax"}
    assert len(caplog.records) == 1
    assert "CANARY" not in caplog.text


def test_second_file_for_a_step_is_passed_over(archive, folder, watch):
    for name in ("first", "second"):
        (folder / f"{name}.wl").write_bytes(as_part10(build_entry(StudyInstanceUID="2.25.1", PatientID=name)))
    assert watch.scan() == Scan(changed=1, broken=1)
    assert set(listed(archive)) == {"first"}


def test_links_are_not_followed(archive, folder, watch, tmp_path):
    outside = tmp_path / "outside.wl"
    outside.write_bytes(as_part10(build_entry()))
    (folder / "link.wl").symlink_to(outside)
    assert watch.scan() == Scan()
    assert listed(archive) == {}


def test_folder_that_cannot_be_read_removes_nothing(archive, folder, watch):
    (folder / "one.wl").write_bytes(as_part10(build_entry()))
    watch.scan()
    folder.rename(folder.with_name("away"))
    with pytest.raises(OSError, match="No such file"):
        watch.scan()
    assert set(listed(archive)) == {"W-1"}


def test_thread_watches_between_with_and_its_end(archive, folder, open_watch):
    (folder / "one.wl").write_bytes(as_part10(build_entry()))
    with open_watch():
        pass  # the end waits for the look that has begun
    assert set(listed(archive)) == {"W-1"}
