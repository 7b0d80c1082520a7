"""Research as people type it: from a project to who a pseudonym is."""

import re
import stat
from types import SimpleNamespace

import pytest

from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.cli.main import main
from pacs.config import Settings
from pacs.model import Level
from pacs.query import Equals, Query
from pacs.research.keyring import Keyring
from pacs.research.master_key import MasterKeyFile
from pacs.research.subjects import fix_subject
from tests.builders import as_part10, build_dataset

_CREATE = "--title Lungs --purpose See --reference A-1 --authority CNDP --until 2099-12-31"
CREATE = tuple(_CREATE.split())
WHY = ("--reason", "It has to be.")


@pytest.fixture
def pacs(tmp_path, monkeypatch, capsys):
    """Run a command as somebody, in this process; one of its own for each would take longer than what it does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pacs.cli.main.configure_logging", lambda _: None)

    def run(*arguments, by="amina"):
        monkeypatch.setattr("getpass.getuser", lambda: by)
        code = main(arguments)
        said = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=said.out, stderr=said.err)

    return run


@pytest.fixture
def project(pacs, tmp_path):
    for number in range(8):
        dataset = build_dataset(PatientID=f"P{number}", PatientSex="F", Modality="CT")
        (tmp_path / f"{number}.dcm").write_bytes(as_part10(dataset))
    pacs("import", *(f"{number}.dcm" for number in range(8)))
    pacs("research", "keygen", "escrow.key")
    made = pacs("research", "create", "lungs", *CREATE, "--escrow-key", "escrow.key.pub")
    assert "back that file up" in made.stdout
    for name, role in (("rachid", "researcher"), ("salma", "steward")):
        assert pacs("research", "add-member", "lungs", name, "--role", role).returncode == 0


def test_a_cohort_from_a_question_to_its_approval(pacs, project):
    assert pacs("research", "catalogue").stdout == "8 series catalogued.\n"
    assert pacs("research", "catalogue").stdout == "0 series catalogued.\n"
    assert pacs("research", "catalogue", "--all").stdout == "8 series catalogued.\n"
    counted = pacs("research", "count", "lungs", "sex=F", "--facets", by="rachid").stdout
    assert re.search(r"Patients: (5|10|15|20|fewer than 5)\.", counted)
    refused = pacs("research", "count", "lungs", "PatientName=BENALI", by="rachid")
    assert refused.stderr == "pacs: PatientName could tell of one patient; no cohort can ask for it.\n"
    assert pacs("research", "cohort", "lungs", "women", "sex=F", by="rachid").stdout.startswith("Cohort 1 is saved")
    assert pacs("research", "request", "lungs", "1", by="rachid").stdout == "Cohort 1 is requested.\n"
    assert pacs("research", "approve", "lungs", "1", *WHY, by="rachid").returncode == 1
    assert pacs("research", "approve", "lungs", "1", *WHY, by="salma").stdout == "Cohort 1 is approved.\n"
    assert "PatientSex=F" in pacs("research", "cohorts", "lungs", by="rachid").stdout
    assert pacs("research", "refuse", "lungs", "1", *WHY, by="salma").returncode == 1


def test_projects_are_shown_and_members_go(pacs, project):
    shown = pacs("research", "show", "lungs").stdout
    assert "sealed to a public key" in shown
    assert "pseudonymised" in shown
    assert "salma" in shown
    assert "lungs" in pacs("research", "list").stdout
    assert pacs("research", "remove-member", "lungs", "salma").returncode == 0
    assert "salma" not in pacs("research", "show", "lungs").stdout


def test_objections_are_listed_without_telling_whom(pacs, project):
    assert "the project" not in pacs("research", "exclusions").stdout
    assert "all research" in pacs("research", "exclude", "--patient", "P1", *WHY).stdout
    assert pacs("research", "exclude", "--project", "lungs", "--study", "1.2.3", *WHY).returncode == 0
    listed = pacs("research", "exclusions", "--project", "lungs").stdout
    assert "P1" not in listed
    assert "1.2.3" not in listed
    assert pacs("research", "lift", "1", *WHY).stdout == "Exclusion 1 is taken back.\n"
    assert pacs("research", "lift", "1", *WHY).stderr == "pacs: The project has no such exclusion.\n"


def test_it_takes_two_people_and_the_private_key_to_tell_who_somebody_is(pacs, project, tmp_path):
    assert stat.S_IMODE((tmp_path / "escrow.key").stat().st_mode) == 0o600
    assert pacs("research", "keygen", "escrow.key").returncode == 1
    pseudonym = release_one(tmp_path)
    assert pacs("research", "ask", "lungs", pseudonym, *WHY, by="rachid").returncode == 0
    assert "two people" in pacs("research", "decide", "lungs", "1", *WHY, by="rachid").stderr
    assert pacs("research", "decide", "lungs", "1", *WHY, by="salma").stdout == "Question 1 is granted.\n"
    assert pseudonym in pacs("research", "questions", "lungs").stdout
    sealed = pacs("research", "hand-out", "lungs", "1", by="rachid").stdout.strip()
    assert "P3" in pacs("research", "open", "lungs", "escrow.key", sealed).stdout
    assert pacs("research", "open", "brains", "escrow.key", sealed).returncode == 1


def release_one(tmp_path):
    """Return the pseudonym of P3, as a release fixes it."""
    with open_archive(Settings(data_dir=tmp_path / "pacs-data")) as parts:
        (match,) = parts.archive.search.search(LOCAL, Query(Level.STUDY, (Equals("PatientID", "P3"),))).matches
        project = parts.research.projects.get(LOCAL, "lungs")
        with parts.database.read() as connection:
            key = Keyring(MasterKeyFile(tmp_path / "pacs-data" / "research-master.key")).open(connection, project)
        uid = match.study_instance_uid
        return parts.database.write(lambda connection: fix_subject(connection, project, key, uid)).pseudonym


def test_a_key_is_destroyed_by_its_name_said_twice(pacs, project):
    assert pacs("research", "destroy-key", "lungs", "--confirm", "lung", *WHY).returncode == 1
    assert pacs("research", "confirm-backups-gone", "lungs", *WHY).returncode == 1
    assert "pseudonymised" in pacs("research", "destroy-key", "lungs", "--confirm", "lungs", *WHY).stdout
    done = pacs("research", "confirm-backups-gone", "lungs", *WHY).stdout
    assert done == "The data of lungs are anonymised.\n"


def test_what_is_typed_wrong_is_said_so(pacs, project, tmp_path):
    (tmp_path / "profile.json").write_text("{")
    for arguments, said in (
        (("create", "brains", *CREATE, "--profile", "profile.json"), "is no JSON"),
        (("create", "brains", *CREATE, "--escrow-key", "absent"), "cannot be read"),
        (("create", "brains", *CREATE, "--escrow-key", "escrow.key"), "no public key"),
        (("show", "brains"), "There is no such project."),
        (("set-escrow-key", "lungs", "escrow.key.pub"), "cannot be changed"),
        (("open", "lungs", "absent", "x"), "cannot be read"),
        (("count", "lungs", "sex"), "KEYWORD=VALUE"),
    ):
        result = pacs("research", *arguments)
        assert result.returncode == 1
        assert said in result.stderr
