"""The commands that call other devices, as an administrator types them."""

from types import SimpleNamespace

import pytest

from pacs.cli import main, terminal
from pacs.dimse.find import FindService
from pacs.dimse.peers import Peer, Peers
from pacs.dimse.server import create_server
from tests.builders import as_part10
from tests.conformance.dimse.holding import build_study, destination, serve, store
from tests.conformance.dimse.receivers import data_set_of, run_receiver
from tests.scenarios.process import free_port
from tests.scenarios.test_cli import pacs

pytestmark = pytest.mark.scenario

US = Peer("PACS")


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """Run a command in this process, with settings that know ORTHANC without a port, and DEST at ``dest_port``."""
    monkeypatch.setattr(main, "configure_logging", lambda _: None)
    monkeypatch.setattr(terminal._PROGRESS, "quiet", True)

    def run_command(*arguments, dest_port=9):
        settings = tmp_path / "pacs.toml"
        settings.write_text(
            f"[dimse]\npeers = [{{ae_title = 'DEST', address = '127.0.0.1', port = {dest_port}}}, "
            "{ae_title = 'ORTHANC', address = '127.0.0.1'}]\n"
        )
        code = main.main([*arguments, "--config", str(settings), "--data-dir", str(tmp_path / "cli")])
        printed = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=printed.out, stderr=printed.err)

    return run_command


def write_files(folder, study):
    folder.mkdir()
    for number, one in enumerate(study):
        (folder / f"{number}.dcm").write_bytes(as_part10(one))
    return folder


def test_echo_says_who_answered(run):
    with run_receiver(classes=["1.2.840.10008.1.1"]) as receiver:
        by_title = run("echo", "DEST", dest_port=receiver.port)
        by_place = run("echo", f"ANY@127.0.0.1:{receiver.port}")
    assert (by_title.returncode, by_place.returncode) == (0, 0)
    assert f"DEST (127.0.0.1:{receiver.port}) answered in" in by_title.stdout
    assert f"ANY (127.0.0.1:{receiver.port}) answered in" in by_place.stdout


def test_nobody_there_is_one_sentence_and_exit_code_1(tmp_path):
    port = free_port()
    done = pacs("echo", f"GONE@127.0.0.1:{port}", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == f"pacs: GONE at 127.0.0.1 port {port} cannot be reached: Connection refused."


@pytest.fixture
def finding(archive):
    """The place of an archive that answers queries."""
    store(archive, *build_study(3, PatientName="DOE^JANE", PatientID="J1"), *build_study(1, PatientID="J2"))
    service = FindService(archive.search, "ARCHIVE")
    server = create_server(archive, port=0, ae_title="ARCHIVE", peers=Peers((US,)), services=[service])
    server.start()
    yield f"ARCHIVE@127.0.0.1:{server.port}"
    server.stop(grace_seconds=2)


def test_find_prints_a_table_of_the_answers(run, finding):
    done = run("find", finding, "PatientName=DOE*", "StudyTime=")
    assert done.returncode == 0
    (row,) = [line for line in done.stdout.splitlines() if "J1" in line]
    assert "DOE^JANE" in row
    assert "CT" in row
    assert "StudyTime" in done.stdout
    assert "1 found at ARCHIVE" in done.stderr


def test_find_at_another_level_and_with_a_limit(run, finding):
    done = run("find", finding, "--level", "patient", "--limit", "1")
    assert (done.returncode, "first 1; --limit shows more" in done.stderr) == (0, True)
    assert sum("│ J" in line for line in done.stdout.splitlines()) == 1


def test_find_without_answers_is_exit_code_1(run, finding):
    done = run("find", finding, "PatientID=NOBODY")
    assert (done.returncode, done.stdout, "0 found" in done.stderr) == (1, "", True)


def test_key_that_is_none_is_said(run, finding):
    assert "KEYWORD=VALUE" in run("find", finding, "PatientID").stderr
    assert "There is no attribute Patient." in run("find", finding, "Patient=1").stderr


@pytest.mark.parametrize("command", ["echo", "find", "send", "move"])
@pytest.mark.parametrize("peer", ["NOBODY", "ORTHANC"])
def test_peer_that_cannot_be_called_is_told_how_to_name_one(run, command, peer):
    more = {"send": ["--study", "1.2"], "move": ["--study", "1.2"]}.get(command, [])
    done = run(command, peer, *more)
    assert done.returncode == 1
    assert f"no peer {peer}" in done.stderr
    assert "AE@HOST:PORT" in done.stderr


@pytest.mark.parametrize("text", ["A@host", "A@host:x", "A@:104", "@host:104", "A@host:70000", "SEVENTEENLETTERSX@h:1"])
def test_malformed_place_is_named(run, text):
    done = run("echo", text)
    assert (done.returncode, done.stderr.strip()) == (1, f"pacs: {text} is not AE@HOST:PORT.")


def test_folder_is_sent_and_what_is_no_dicom_is_listed(run, tmp_path, archive):
    study = build_study(3)
    folder = write_files(tmp_path / "in", study)
    (folder / "9.dcm").write_bytes(b"nothing of DICOM")
    with serve(archive, US) as server:
        done = run("send", f"ARCHIVE@127.0.0.1:{server.port}", str(folder))
    assert done.returncode == 1
    assert f"3 of 3 files sent to ARCHIVE (127.0.0.1:{server.port})." in done.stdout
    assert "9.dcm: It is not a DICOM file." in done.stdout


def test_study_of_the_archive_is_sent(run, tmp_path):
    study = build_study(2)
    folder = write_files(tmp_path / "in", study)
    assert run("import", str(folder)).returncode == 0
    with run_receiver() as receiver:
        done = run("send", "DEST", "--study", study[0].StudyInstanceUID, dest_port=receiver.port)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
    assert "2 of 2 instances sent to DEST" in done.stdout
    assert receiver.data_sets == {one.SOPInstanceUID: data_set_of(as_part10(one)) for one in study}


def test_what_the_peer_refuses_is_listed_with_its_answer(run, tmp_path):
    study = build_study(2)
    folder = write_files(tmp_path / "in", study)
    with run_receiver(lambda one: 0xA700 if one.sop_instance_uid == study[0].SOPInstanceUID else 0) as receiver:
        done = run("send", "DEST", str(folder), dest_port=receiver.port)
    assert done.returncode == 1
    assert "1 of 2 files sent" in done.stdout
    assert "0.dcm: The peer answered 0xA700." in done.stdout


def test_unknown_study_and_missing_path_are_said(run, tmp_path):
    done = run("send", "DEST", "--study", "1.2.3")
    assert (done.returncode, done.stderr.strip().splitlines()[-1]) == (1, "pacs: There is no such study.")
    done = run("send", "DEST", str(tmp_path / "absent"))
    assert (done.returncode, "There is no" in done.stderr) == (1, True)
    assert "files or folders, or --study" in run("send", "DEST").stderr


def test_move_follows_the_sub_operations(run, archive):
    study = build_study(3)
    stored = store(archive, *study)
    with run_receiver() as receiver, serve(archive, US, destination(receiver.port)) as server:
        place = f"ARCHIVE@127.0.0.1:{server.port}"
        done = run("move", place, "--to", "DEST", "--study", study[0].StudyInstanceUID)
        nothing = run("move", place, "--to", "DEST", "--study", "1.2.3")
        nobody = run("move", place, "--to", "NOBODY", "--study", "1.2.3")
        unsaid = run("move", place, "--to", "DEST")
    assert (done.returncode, done.stdout.strip()) == (0, "3 moved from ARCHIVE to DEST, 0 failed.")
    assert receiver.data_sets == stored
    assert nothing.returncode == 1
    assert nothing.stdout.startswith("Nothing was moved: ARCHIVE has nothing of this;")
    assert nobody.stderr.strip().splitlines()[-1].startswith("pacs: ARCHIVE answered the C-MOVE with 0xA801")
    assert "--patient, --study, --series or --instance" in unsaid.stderr


def test_level_to_move_is_the_lowest_that_is_named(run, archive):
    study = build_study(3)
    store(archive, *study)
    with run_receiver() as receiver, serve(archive, US, destination(receiver.port)) as server:
        done = run(
            *("move", f"ARCHIVE@127.0.0.1:{server.port}", "--to", "DEST", "--study", study[0].StudyInstanceUID),
            *("--instance", study[1].SOPInstanceUID, "--instance", study[2].SOPInstanceUID),
        )
    assert done.returncode == 0
    assert [one.sop_instance_uid for one in receiver.received] == [one.SOPInstanceUID for one in study[1:]]
