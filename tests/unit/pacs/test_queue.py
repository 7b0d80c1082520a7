"""What the queue promises, on both engines."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event

from pacs.database.opener import open_database
from pacs.jobs import queue
from pacs.jobs.queue import JobState, NewJob

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
LEASE = timedelta(seconds=15)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request, tmp_path):
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    else:
        url = f"sqlite:///{tmp_path / 'index.sqlite'}"
    opened = open_database(url)
    opened.migrate()
    yield opened
    opened.close()


def add(database, *keys, lane="A", now=NOW, kind="send", **payload):
    database.write(lambda one: queue.enqueue(one, [NewJob(kind, lane, key, payload) for key in keys], now))


def claim(database, now=NOW, lane="A", limit=10, kind="send"):
    return database.write(lambda one: queue.claim(one, kind, lane, limit=limit, now=now, leased_until=now + LEASE))


def listed(database, **filters):
    with database.read() as connection:
        return queue.list_jobs(connection, **filters)


def keys(jobs):
    return [job.key for job in jobs]


def write(database, function, *arguments, **options):
    return database.write(lambda one: function(one, *arguments, **options))


def test_a_job_comes_back_as_it_was_listed(database):
    add(database, "x", study="1.2", count=3)
    (job,) = claim(database)
    assert (job.kind, job.lane, job.key, job.payload) == ("send", "A", "x", {"study": "1.2", "count": 3})
    assert (job.state, job.attempts, job.created_at, job.due_at) == (JobState.WAITING, 1, NOW, NOW + LEASE)
    assert listed(database) == [job]


def test_nothing_is_listed_if_the_transaction_fails(database):
    def fail(connection):
        queue.enqueue(connection, [NewJob("send", "A", "x")], NOW)
        raise LookupError

    with pytest.raises(LookupError):
        database.write(fail)
    assert listed(database) == []


def test_a_job_is_listed_once_and_starts_anew(database):
    add(database, "x", version=1)
    (job,) = claim(database)
    write(database, queue.bury, job, "no", NOW)
    add(database, "x", version=2, now=NOW + LEASE)
    (again,) = listed(database)
    assert (again.id, again.state, again.attempts, again.problem) == (job.id, JobState.WAITING, 0, "")
    assert (again.payload, again.finished_at) == ({"version": 2}, None)


def test_a_claimed_job_is_nobody_elses_until_its_lease_runs_out(database):
    add(database, "x")
    claim(database)
    assert claim(database, now=NOW + LEASE - timedelta(microseconds=1)) == []
    (again,) = claim(database, now=NOW + LEASE)
    assert again.attempts == 2


def test_a_renewed_lease_holds(database):
    add(database, "x", "y")
    jobs = claim(database)
    held = write(database, queue.renew, jobs, NOW + 2 * LEASE)
    assert claim(database, now=NOW + LEASE) == []
    write(database, queue.finish, held, NOW)
    assert {job.state for job in listed(database)} == {JobState.FINISHED}


def test_who_lost_the_lease_can_say_nothing_of_the_job(database):
    add(database, "x")
    late = claim(database)
    claim(database, now=NOW + LEASE)
    write(database, queue.finish, late, NOW)
    write(database, queue.bury, late[0], "no", NOW)
    write(database, queue.retry_later, late[0], "no", NOW)
    write(database, queue.release, late, "no")
    assert write(database, queue.renew, late, NOW + 9 * LEASE) == []
    (job,) = listed(database)
    assert (job.state, job.problem, job.due_at) == (JobState.WAITING, "", NOW + 2 * LEASE)


def test_a_forgotten_job_leaves_nothing_and_can_be_listed_again(database):
    add(database, "x")
    write(database, queue.forget, *claim(database))
    assert listed(database) == []
    add(database, "x")
    assert keys(claim(database)) == ["x"]


def test_a_job_listed_anew_or_claimed_by_another_is_not_forgotten(database):
    add(database, "x", "y", version=1)
    jobs = claim(database)
    add(database, "x", version=2, now=NOW + timedelta(seconds=1))
    claim(database, now=NOW + LEASE, limit=2)
    for held in jobs:
        write(database, queue.forget, held)
    assert sorted(job.key for job in listed(database)) == ["x", "y"]


def test_a_job_listed_anew_while_it_is_done_is_done_again(database):
    add(database, "x", version=1)
    jobs = claim(database)
    add(database, "x", version=2, now=NOW + timedelta(seconds=1))
    write(database, queue.finish, jobs, NOW + timedelta(seconds=2))
    (again,) = claim(database, now=NOW + timedelta(seconds=3))
    assert again.payload == {"version": 2}


def test_those_that_waited_longest_are_claimed_first(database):
    for second, key in enumerate("cab"):
        add(database, key, now=NOW + timedelta(seconds=second))
    assert keys(claim(database, now=NOW + LEASE, limit=2)) == ["c", "a"]


def test_a_job_is_not_claimed_before_it_is_due(database):
    database.write(lambda one: queue.enqueue(one, [NewJob("send", "A", "x", due_at=NOW + LEASE)], NOW))
    assert claim(database) == []
    with database.read() as connection:
        assert queue.find_lanes(connection, ["send"]) == {("send", "A"): NOW + LEASE}
    assert keys(claim(database, now=NOW + LEASE)) == ["x"]


def test_lanes_with_waiting_jobs_of_the_kinds_asked_for_are_found_with_what_is_due_first(database):
    add(database, "x", lane="A")
    add(database, "y", lane="B", now=NOW + LEASE)
    add(database, "x", lane="B")
    add(database, "x", lane="C", now=NOW + LEASE)
    add(database, "x", lane="D", kind="other")
    write(database, queue.finish, claim(database, lane="A"), NOW)
    with database.read() as connection:
        assert queue.find_lanes(connection, ["send"]) == {("send", "B"): NOW, ("send", "C"): NOW + LEASE}
        assert queue.find_lanes(connection, ["other"]) == {("other", "D"): NOW}


def test_a_failed_job_waits_and_says_why(database):
    add(database, "x")
    (job,) = claim(database)
    write(database, queue.retry_later, job, "refused" * 100, NOW + 3 * LEASE)
    assert claim(database, now=NOW + 3 * LEASE - timedelta(microseconds=1)) == []
    (again,) = claim(database, now=NOW + 3 * LEASE)
    assert again.attempts == 2
    assert again.problem.startswith("refusedrefused")
    assert len(again.problem) == queue.MAX_PROBLEM_LENGTH


def test_released_jobs_keep_their_place(database):
    add(database, "x")
    add(database, "y", now=NOW + timedelta(seconds=1))
    jobs = claim(database, now=NOW + timedelta(seconds=2), limit=1)
    write(database, queue.release, jobs, "away")
    assert [(job.key, job.problem, job.attempts) for job in claim(database, now=NOW + LEASE)] == [
        ("x", "away", 2),
        ("y", "", 1),
    ]


def test_release_without_a_problem_is_no_attempt(database):
    add(database, "x")
    write(database, queue.release, claim(database))
    (job,) = listed(database)
    assert (job.attempts, job.problem, job.due_at) == (0, "", NOW)


def test_dead_letters_are_listed_and_requeued_by_id_or_lane(database):
    add(database, "x", "y")
    add(database, "z", lane="B")
    for job in (*claim(database), *claim(database, lane="B")):
        write(database, queue.bury, job, "no", NOW)
    assert claim(database, now=NOW + LEASE) == []
    dead = listed(database, state=JobState.DEAD, lane="A")
    assert [(job.key, job.problem, job.finished_at) for job in dead] == [("x", "no", NOW), ("y", "no", NOW)]
    later = NOW + LEASE
    assert write(database, queue.requeue, later, ids=[dead[0].id]) == 1
    assert [(job.key, job.attempts, job.created_at) for job in claim(database, now=later)] == [("x", 1, later)]
    assert write(database, queue.requeue, later, lane="A") == 1
    assert keys(listed(database, state=JobState.DEAD)) == ["z"]


def test_jobs_are_dropped_by_id_or_lane_and_receipts_stay(database):
    add(database, "done", "dead", "waiting")
    done, dead = sorted(claim(database, limit=3), key=lambda job: job.key)[1::-1]
    write(database, queue.finish, [done], NOW)
    write(database, queue.bury, dead, "no", NOW)
    everything = [job.id for job in listed(database)]
    assert write(database, queue.drop, lane="A") == 1
    assert write(database, queue.drop, ids=everything) == 1
    assert write(database, queue.requeue, NOW, ids=everything) == 0
    assert [(job.key, job.state) for job in listed(database)] == [(done.key, JobState.FINISHED)]


def test_what_was_due_for_too_long_is_given_up_at_once(database):
    add(database, "old")
    add(database, "held")
    add(database, "new", now=NOW + LEASE)
    held = next(job for job in claim(database) if job.key == "held")
    write(database, queue.release, [job for job in listed(database) if job.key == "old"], "away")
    write(database, queue.renew, [held], NOW + 3 * LEASE)
    assert write(database, queue.bury_overdue, "send", "A", before=NOW + LEASE, problem="away", now=NOW + LEASE) == 1
    assert keys(listed(database, state=JobState.DEAD)) == ["old"]


def test_pages_follow_each_other_and_receipts_are_newest_first(database):
    for second, key in enumerate("abc"):
        add(database, key, now=NOW + timedelta(seconds=second))
    assert keys(listed(database, limit=2)) == ["a", "b"]
    assert keys(listed(database, limit=2, offset=2)) == ["c"]
    for second, job in enumerate(claim(database, now=NOW + LEASE)):
        write(database, queue.finish, [job], NOW + timedelta(seconds=second))
    assert keys(listed(database, state=JobState.FINISHED)) == ["c", "b", "a"]


def test_only_old_receipts_are_pruned(database):
    add(database, "x", "y", "z")
    first, second, third = claim(database)
    write(database, queue.finish, [first], NOW)
    write(database, queue.finish, [second], NOW + LEASE)
    write(database, queue.bury, third, "no", NOW)
    assert write(database, queue.prune, NOW + LEASE) == 1
    assert write(database, queue.prune, NOW + LEASE) == 0
    assert {job.key for job in listed(database)} == {second.key, third.key}


def test_only_what_is_due_implausibly_late_is_hastened(database):
    add(database, "soon", now=NOW + LEASE)
    add(database, "years", now=NOW + timedelta(days=3650))
    assert write(database, queue.hasten, beyond=NOW + timedelta(days=2), now=NOW) == 1
    assert keys(claim(database)) == ["years"]


def test_a_long_queue_is_read_by_its_indexes(tmp_path):
    database = open_database(f"sqlite:///{tmp_path / 'index.sqlite'}")
    database.migrate()
    add(database, "x")
    seen = []

    def work(connection):
        event.listen(connection, "before_cursor_execute", lambda *arguments: seen.append((arguments[2], arguments[3])))
        (held,) = queue.claim(connection, "send", "A", limit=50, now=NOW, leased_until=NOW + LEASE)
        queue.find_lanes(connection, ["send"])
        queue.renew(connection, [held], NOW + LEASE)
        queue.finish(connection, [held], NOW)
        queue.enqueue(connection, [NewJob("send", "A", "x")], NOW)
        queue.find_job(connection, "send", "A", "x")
        queue.find_lanes_of(connection, "send", ["x", "y"])
        queue.list_jobs(connection, state=JobState.WAITING)
        queue.list_jobs(connection, state=JobState.FINISHED)
        queue.list_jobs(connection, state=JobState.DEAD, lane="A")
        queue.list_jobs(connection)
        queue.bury_overdue(connection, "send", "A", before=NOW, problem="", now=NOW)
        queue.hasten(connection, beyond=NOW, now=NOW)
        queue.prune(connection, NOW)
        statements = list(seen)
        plans = [
            (sql, str(row.detail))
            for sql, parameters in statements
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters)
        ]
        return [(detail, sql) for sql, detail in plans if "SCAN job" in detail and "USING INDEX" not in detail]

    assert database.write(work) == []
    database.close()
