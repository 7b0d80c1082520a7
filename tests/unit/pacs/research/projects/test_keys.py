"""The keys of projects: kept under one that the database has not, and gone for good when they are destroyed."""

import sqlite3
import stat
import threading

import pytest
from sqlalchemy import select

from pacs.access import LOCAL
from pacs.database.research_tables import research_project, research_subject, research_subject_key
from pacs.deid import ProjectKey
from pacs.errors import InvalidProject, InvalidValue, KeyDestroyed, KeyUnavailable, NotNow
from pacs.research.keyring import Keyring
from pacs.research.master_key import MasterKey, MasterKeyFile
from pacs.research.projects import NewProject
from pacs.research.sealing import generate_key_pair, open_box, parse_public_key, seal
from pacs.research.subjects import fix_subject
from tests.unit.pacs.research.projects.conftest import (
    ADMINISTRATOR,
    APPROVAL,
    PRIVATE_KEY,
    PUBLIC_KEY,
    RESEARCHER,
    on_both_engines,
)


@pytest.fixture
def key_file(tmp_path):
    return tmp_path / "archive" / "research-master.key"


def key_of(parts, project, key_file):
    with parts.database.read() as connection:
        return Keyring(MasterKeyFile(key_file)).open(connection, project)


def test_the_master_key_is_made_with_the_first_project_and_read_by_nobody_else(research, key_file, make_project):
    assert not key_file.exists()
    make_project()
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    before = key_file.read_bytes()
    make_project("brains")
    assert key_file.read_bytes() == before
    assert [path.name for path in key_file.parent.glob(".research*")] == []


def test_a_lost_master_key_is_not_replaced(parts, project, key_file):
    key_file.rename(key_file.with_suffix(".away"))
    with pytest.raises(KeyUnavailable):
        parts.research.projects.create(ADMINISTRATOR, NewProject("brains", "Brains", "To see.", APPROVAL))
    with pytest.raises(KeyUnavailable):
        key_of(parts, project, key_file)
    assert not key_file.exists()


def test_the_database_holds_no_key_in_the_clear(parts, project, key_file):
    secret = key_of(parts, project, key_file).secret
    with parts.database.read() as connection:
        wrapped = bytes(connection.execute(select(research_project.c.wrapped_key)).scalar())
    assert secret not in wrapped
    assert secret.hex() not in wrapped.hex()


def test_a_wrapped_key_opens_for_its_own_project_and_its_own_master_key_alone():
    master = MasterKey(bytes(32))
    wrapped = master.wrap("lungs", b"secret")
    assert master.unwrap("lungs", wrapped) == b"secret"
    for other, project in ((master, "brains"), (MasterKey(b"1" * 32), "lungs")):
        with pytest.raises(KeyUnavailable):
            other.unwrap(project, wrapped)
    assert master.wrap("lungs", b"secret") != wrapped


def test_many_who_make_the_master_key_at_once_have_the_same(tmp_path):
    file, made = MasterKeyFile(tmp_path / "key"), []
    threads = [threading.Thread(target=lambda: made.append(file.read_or_make().digest("a", "b"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 1
    assert len(made) == 8


@pytest.mark.parametrize("content", ["", "zz", "00" * 31])
def test_a_file_that_is_no_master_key_is_not_used(tmp_path, content):
    (tmp_path / "key").write_text(content)
    with pytest.raises(KeyUnavailable):
        MasterKeyFile(tmp_path / "key").read_or_make()


def test_a_box_opens_with_the_private_key_for_its_project_alone():
    private, public = generate_key_pair()
    key = parse_public_key(public)
    box = seal(key, b"who it is", "lungs")
    assert open_box(private, box, "lungs") == b"who it is"
    assert len(seal(key, b"somebody with a long number", "lungs")) == len(box)
    altered = box[:-1] + bytes([box[-1] ^ 1])
    for wrong in (
        (PRIVATE_KEY, box, "lungs"),
        (private, box, "brains"),
        (private, altered, "lungs"),
        (public, box, "l"),
    ):
        with pytest.raises(InvalidValue):
            open_box(*wrong)
    for damaged in (b"", b"\x01", b"\x02" + box[1:], box[:40]):
        with pytest.raises(InvalidValue):
            open_box(private, damaged, "lungs")


@pytest.mark.parametrize("text", [b"", b"nothing", PRIVATE_KEY])
def test_what_is_no_public_key_is_refused(text):
    with pytest.raises(InvalidValue):
        parse_public_key(text)


def test_a_public_key_is_given_once(research, make_project):
    assert not make_project(escrow_key=b"").has_escrow
    assert research.projects.set_escrow_key(LOCAL, "lungs", PUBLIC_KEY).has_escrow
    with pytest.raises(NotNow):
        research.projects.set_escrow_key(LOCAL, "lungs", PUBLIC_KEY)


@on_both_engines
def test_a_destroyed_key_takes_escrow_and_subjects_with_it(parts, research, project, key_file, store_patients):
    (dataset,) = store_patients([1])
    key = key_of(parts, project, key_file)
    subject = parts.database.write(lambda connection: fix_subject(connection, project, key, dataset.StudyInstanceUID))
    destroyed = research.projects.destroy_key(ADMINISTRATOR, "lungs", reason="The project has ended.")
    assert destroyed.key_destroyed_at is not None
    assert not destroyed.has_escrow
    with parts.database.read() as connection:
        assert connection.execute(select(research_project.c.wrapped_key)).scalar() is None
        assert connection.execute(select(research_subject)).all() == []
        assert connection.execute(select(research_subject_key)).all() == []
    for call in (
        lambda: key_of(parts, project, key_file),
        lambda: research.counting.count(RESEARCHER, "lungs", {}),
        lambda: research.cohorts.create(RESEARCHER, "lungs", "all", {}),
        lambda: research.reidentification.ask(RESEARCHER, "lungs", subject.pseudonym, reason="x"),
    ):
        with pytest.raises(KeyDestroyed):
            call()
    with pytest.raises(NotNow):
        research.projects.set_escrow_key(LOCAL, "lungs", PUBLIC_KEY)


@on_both_engines
def test_data_are_called_anonymised_only_once_no_backup_has_the_key(research, project, audited):
    with pytest.raises(NotNow):
        research.projects.confirm_backups_gone(ADMINISTRATOR, "lungs", reason="x")
    assert project.data_are == "pseudonymised"
    assert research.projects.destroy_key(ADMINISTRATOR, "lungs", reason="It has ended.").data_are == "pseudonymised"
    with pytest.raises(InvalidProject):
        research.projects.confirm_backups_gone(ADMINISTRATOR, "lungs", reason=" ")
    gone = research.projects.confirm_backups_gone(ADMINISTRATOR, "lungs", reason="The last tape was shredded.")
    assert gone.data_are == "anonymised"
    assert gone.is_anonymised
    assert audited()[-2:] == ["research.key.destroy", "research.key.backups-gone"]
    again = research.projects.destroy_key(ADMINISTRATOR, "lungs", reason="Again.")
    assert again.key_destroyed_at == gone.key_destroyed_at


def test_what_is_destroyed_is_not_in_the_file_of_the_database_any_more(
    parts, research, project, tmp_path, store_patients
):
    file = tmp_path / "archive" / "index.sqlite"
    with parts.database.read() as connection:
        wrapped = bytes(connection.execute(select(research_project.c.wrapped_key)).scalar())
    research.projects.destroy_key(ADMINISTRATOR, "lungs", reason="It has ended.")
    with sqlite3.connect(file) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    assert wrapped not in file.read_bytes()


def test_two_keys_share_nothing():
    first, second = ProjectKey.generate(), ProjectKey.generate()
    assert first.secret != second.secret
