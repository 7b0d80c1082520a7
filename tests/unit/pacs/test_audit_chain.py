"""The chain of the audit log: what was changed, moved, removed or cut off after it was sealed is found out."""

import hashlib
import json
import threading
import time

import orjson
import pytest
from sqlalchemy import delete, insert, select, text, update

from pacs.access import LOCAL, Principal
from pacs.audit import Entry, Outcome, record
from pacs.audit.chain import BATCH, Head, parse_head
from pacs.audit.log import AuditLog, Chosen
from pacs.audit.sealer import Sealer
from pacs.database.identity_tables import audit, audit_head
from pacs.database.opener import open_database
from pacs.errors import NotPermitted

WHO = Principal("amine")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'index.sqlite'}"
    template = request.getfixturevalue("postgres_template")
    return request.getfixturevalue("postgres").create_database(template=template)


@pytest.fixture
def database(url):
    opened = open_database(url)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def log(database, tmp_path):
    return AuditLog(database, tmp_path / "audit-head")


def write(database, count, **fields):
    for number in range(count):
        entry = Entry(**({"kind": "study.read", "principal": WHO, "subject": f"1.2.{number}"} | fields))
        database.write(lambda connection, entry=entry: record(connection, entry))


def tamper(database, *statements):
    """Do what the database refuses to do as long as its triggers are there."""

    def work(connection):
        for name in ("audit_keeps", "audit_loses_nothing"):
            on = " ON audit" if connection.dialect.name == "postgresql" else ""
            connection.execute(text(f"DROP TRIGGER {name}{on}"))
        for statement in statements:
            connection.execute(statement)

    database.write(work)


@pytest.fixture
def sealed(database, log):
    """A log of nine entries."""
    write(database, 9)
    assert log.seal() == 9
    return log


def test_a_log_that_nobody_touched_is_whole(database, sealed):
    write(database, 3)
    found = sealed.verify()
    assert (found.entries, found.unsealed, found.problems, found.head.position) == (9, 3, (), 9)
    assert sealed.seal() == 3
    assert sealed.verify(found.head).problems == ()


def test_an_empty_log_is_whole(log):
    assert log.seal() == 0
    assert log.verify().problems == ()


@pytest.mark.parametrize(
    "change",
    [
        {"principal": "another"},
        {"subject": "1.2.99"},
        {"facts": '{"a":1}'},
        {"facts": "no JSON"},
        {"outcome": "refused"},
        {"project": "thorax"},
        {"address": "192.0.2.1"},
        {"session": "1"},
        {"kind": "study.search"},
        {"digest": bytes(32)},
        {"digest": None},
    ],
    ids=str,
)
def test_an_entry_that_was_changed_is_found(database, sealed, change):
    tamper(database, update(audit).where(audit.c.position == 4).values(change))
    assert "Entry 4 has been changed, or what was before it." in sealed.verify().problems


def test_an_entry_that_was_changed_with_its_digest_is_found_by_the_next(database, sealed):
    with database.read() as connection:
        before, row = connection.execute(select(audit).where(audit.c.position.in_([3, 4])).order_by(audit.c.id)).all()
    forged = {"principal": "another", "digest": hashlib.sha256(before.digest + b"forged").digest()}
    tamper(database, update(audit).where(audit.c.id == row.id).values(forged))
    assert "Entry 5 has been changed, or what was before it." in sealed.verify().problems


def test_an_entry_that_was_removed_is_found(database, sealed):
    tamper(database, delete(audit).where(audit.c.position == 4))
    assert sealed.verify().problems == ("Entry 4 is missing.",)


def test_entries_that_were_removed_at_the_beginning_are_found(database, sealed):
    tamper(database, delete(audit).where(audit.c.position <= 3))
    assert sealed.verify().problems == ("Entries 1 to 3 are missing.",)


def test_a_gap_that_was_closed_is_found(database, sealed):
    tamper(
        database,
        delete(audit).where(audit.c.position == 4),
        *(update(audit).where(audit.c.position == place).values(position=place - 1) for place in range(5, 10)),
    )
    assert "Entry 4 has been changed, or what was before it." in sealed.verify().problems


def test_entries_that_changed_places_are_found(database, sealed):
    moves = ((4, 100), (5, 4), (100, 5))
    tamper(database, *(update(audit).where(audit.c.position == old).values(position=new) for old, new in moves))
    problems = sealed.verify().problems
    assert "Entry 4 has been changed, or what was before it." in problems
    assert "Entry 5 has been changed, or what was before it." in problems


def test_an_entry_that_was_slipped_in_is_found(database, sealed):
    row = {"kind": "study.read", "outcome": "success", "principal": "x", "address": "", "session": "", "project": ""}
    row |= {"subject": "", "facts": "{}", "position": 10, "digest": bytes(32), "at": _any_time(database)}
    tamper(database, insert(audit).values(row))
    assert "There are entries after 9, where the log ends." in sealed.verify().problems


def test_a_log_that_was_cut_off_is_found(database, sealed):
    tamper(database, delete(audit).where(audit.c.position > 6))
    assert sealed.verify().problems == ("The log has no entry 9 any more, and had one.",)


def test_a_log_that_was_cut_off_with_its_head_is_found_by_the_head_outside(database, sealed):
    cut_off(database, 6)
    assert sealed.verify().problems == ("The log has no entry 9 any more, and had one.",)


def test_a_log_that_was_cut_off_and_has_grown_again_is_found_by_the_head_outside(database, sealed, caplog):
    cut_off(database, 6)
    for _ in range(5):
        write(database, 1)
        assert sealed.seal() == 1
    assert len(caplog.records) == 1
    assert sealed.verify().problems == ("Entry 9 is another one than it was when its digest was noted.",)


def test_a_log_that_was_rewritten_without_a_trace_is_found_by_a_head_that_somebody_wrote_down(
    database, sealed, tmp_path
):
    noted = parse_head(str(sealed.verify().head))
    cut_off(database, 6)
    (tmp_path / "audit-head").unlink()
    write(database, 5)
    sealed.seal()
    assert sealed.verify().problems == ()
    assert sealed.verify(noted).problems == ("Entry 9 is another one than it was when its digest was noted.",)


def test_a_head_outside_that_cannot_be_read_is_found(sealed, tmp_path):
    (tmp_path / "audit-head").write_text("nonsense")
    assert sealed.verify().problems == ("The file with the noted head of the log cannot be read.",)


def test_a_log_longer_than_a_batch_is_sealed_and_checked_whole(database, log):
    count = BATCH + 3
    rows = [Entry("study.read", WHO, str(number)) for number in range(count)]
    database.write(lambda connection: [record(connection, row) for row in rows])
    assert log.seal() == count
    assert (log.verify().entries, log.verify().problems) == (count, ())


def test_processes_that_seal_at_once_make_one_chain(url, database, log):
    others = [open_database(url) for _ in range(3)]

    def work(other):
        for _ in range(5):
            write(other, 4)
            AuditLog(other).seal()

    threads = [threading.Thread(target=work, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.close()
    found = log.verify()
    assert (found.entries, found.unsealed, found.problems) == (60, 0, ())


def test_the_sealer_seals_what_is_written_while_it_runs_and_what_is_left_at_the_end(database, log):
    with Sealer(database, log):
        write(database, 1)
        deadline = time.monotonic() + 60
        while log.verify().unsealed and time.monotonic() < deadline:
            time.sleep(0.05)
        assert log.verify().entries == 1
        write(database, 2)
    assert (log.verify().entries, log.verify().unsealed) == (3, 0)


def test_what_is_exported_can_be_checked_by_whoever_has_it(sealed):
    digest = bytes(32)
    lines = [orjson.dumps(entry) for entry in sealed.iter_entries(LOCAL, Chosen())]
    for line in lines:
        entry = json.loads(line)
        noted = entry.pop("digest")
        canonical = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest = hashlib.sha256(digest + canonical.encode()).digest()
        assert digest.hex() == noted
    assert len(lines) == 9


def test_a_report_says_who_did_what_how_often(database, log):
    write(database, 3, project="thorax", kind="research.count")
    write(database, 1, project="thorax", kind="research.count", outcome=Outcome.REFUSED)
    write(database, 2, project="thorax", kind="research.release.publish", principal=Principal("ilham"))
    write(database, 2, project="other", kind="researcher")
    found = log.summarise(LOCAL, Chosen(project="thorax"))
    assert [(one.principal, one.kind, one.count, one.unsuccessful) for one in found if one.kind != "audit.report"] == [
        ("amine", "research.count", 4, 1),
        ("ilham", "research.release.publish", 2, 0),
    ]
    found = log.summarise(LOCAL, Chosen(kind="research"), by_subject=True)
    assert [(one.principal, one.subject, one.count) for one in found][:2] == [
        ("amine", "1.2.0", 2),
        ("amine", "1.2.1", 1),
    ]
    assert sum(one.count for one in found) == 6


def test_whoever_reads_the_log_stands_in_it(log):
    list(log.iter_entries(LOCAL, Chosen(project="thorax")))
    log.seal()
    (entry,) = log.iter_entries(LOCAL, Chosen(kind="audit.export"))
    assert (entry["principal"], entry["project"]) == ("local", "thorax")


def test_not_everybody_reads_the_log(log):
    with pytest.raises(NotPermitted):
        log.summarise(WHO, Chosen())
    with pytest.raises(NotPermitted):
        list(log.iter_entries(WHO, Chosen()))


@pytest.mark.parametrize("text", ["", "1", "x:00", "1:00", f"-1:{'0' * 64}", f"1:{'0' * 62}"])
def test_a_head_is_a_place_and_a_digest(text):
    with pytest.raises(ValueError):  # noqa: PT011
        parse_head(text)
    assert parse_head(str(Head())) == Head()


def cut_off(database, end):
    """Remove the entries after ``end``, and set the head back."""
    with database.read() as connection:
        digest = connection.execute(select(audit.c.digest).where(audit.c.position == end)).scalar_one()
    tamper(
        database,
        delete(audit).where(audit.c.position > end),
        update(audit_head).values(position=end, digest=digest),
    )


def _any_time(database):
    with database.read() as connection:
        return connection.execute(select(audit.c.at)).scalars().first()
