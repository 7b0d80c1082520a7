"""What becomes of jobs: done, tried again, given up, and never lost."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from pacs.jobs import queue
from pacs.jobs.queue import JobState, NewJob
from pacs.jobs.turn import LONGEST_PAUSE_SECONDS, Failed, Finished, LaneBlocked, Patience, Postponed, Turn
from pacs.jobs.worker import Worker

QUICK = Patience(timedelta(days=7), first_pause_seconds=0.001)
HOUR = timedelta(hours=1)


@pytest.fixture
def database(parts):
    return parts.database


def add(database, *keys, lane="A", kind="send", now=None):
    jobs = [NewJob(kind, lane, key) for key in keys]
    database.write(lambda one: queue.enqueue(one, jobs, now or datetime.now(UTC)))


def listed(database, state=None):
    with database.read() as connection:
        return {job.key: job for job in queue.list_jobs(connection, state=state, limit=1000)}


def take_turn(database, task, patience=QUICK, lane="A", limit=50):
    now = datetime.now(UTC)
    jobs = database.write(lambda one: queue.claim(one, "send", lane, limit=limit, now=now, leased_until=now + HOUR))
    return Turn(database, task, jobs, patience, threading.Event()).run()


def wait_until(holds):
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def states(database):
    return {key: job.state for key, job in listed(database).items()}


def finish_all(jobs):
    return [Finished(job) for job in jobs]


class Recorder:
    """A task that finishes everything and remembers its batches."""

    def __init__(self):
        self.batches = []

    def __call__(self, jobs):
        self.batches.append([job.key for job in jobs])
        return finish_all(jobs)


def test_what_leaves_no_receipt_is_gone_once_it_is_done(database):
    add(database, "x", "bad")

    def task(jobs):
        for job in jobs:
            yield Failed(job, "no", is_final=True) if job.key == "bad" else Finished(job, leaves_receipt=False)

    assert take_turn(database, task)
    assert states(database) == {"bad": JobState.DEAD}


def test_finished_jobs_leave_a_receipt(database):
    add(database, "x")
    assert take_turn(database, finish_all)
    job = listed(database)["x"]
    assert (job.state, job.problem) == (JobState.FINISHED, "")
    assert job.finished_at is not None


def test_a_failed_job_is_tried_again_and_holds_up_no_other(database):
    add(database, "bad", "good")

    def task(jobs):
        for job in jobs:
            yield Finished(job) if job.key == "good" else Failed(job, "0xA700")

    assert take_turn(database, task)
    jobs = listed(database)
    assert jobs["good"].state is JobState.FINISHED
    assert (jobs["bad"].state, jobs["bad"].problem, jobs["bad"].attempts) == (JobState.WAITING, "0xA700", 1)
    assert jobs["bad"].due_at > jobs["bad"].created_at


def test_a_final_failure_is_a_dead_letter_at_once(database):
    add(database, "x")
    assert take_turn(database, lambda jobs: [Failed(job, "refused", is_final=True) for job in jobs])
    assert (listed(database)["x"].state, listed(database)["x"].problem) == (JobState.DEAD, "refused")


def test_a_failure_after_too_many_days_is_a_dead_letter(database):
    add(database, "old", now=datetime.now(UTC) - timedelta(days=8))
    add(database, "new")
    take_turn(database, lambda jobs: [Failed(job, "no") for job in jobs])
    assert states(database) == {"old": JobState.DEAD, "new": JobState.WAITING}


def test_a_lane_where_everything_fails_does_not_move(database):
    add(database, "x", "y")
    assert not take_turn(database, lambda jobs: [Failed(job, "0xA700") for job in jobs])


def test_jobs_of_a_blocked_lane_keep_their_places(database):
    first = datetime.now(UTC) - HOUR
    add(database, "a", "b", "c", now=first)

    def task(jobs):
        yield Finished(jobs[0])
        raise LaneBlocked

    assert not take_turn(database, task)
    jobs = listed(database, JobState.WAITING)
    assert set(jobs) == {"b", "c"}
    for job in jobs.values():
        assert (job.due_at, job.problem) == (first, "The destination does not answer.")
    assert states(database)["a"] is JobState.FINISHED


def test_a_job_that_blocks_its_lane_alone_lets_the_others_pass(database):
    add(database, "x", now=datetime.now(UTC) - HOUR)

    def task(_):
        raise LaneBlocked("Connection lost.")

    assert not take_turn(database, task, limit=1)
    job = listed(database)["x"]
    assert (job.problem, job.state) == ("Connection lost.", JobState.WAITING)
    assert job.due_at > job.created_at + HOUR


def test_a_job_that_breaks_the_task_takes_no_other_along(database, caplog):
    add(database, "good", "poison", "fine")

    def task(jobs):
        for job in jobs:
            if job.key == "poison":
                raise ZeroDivisionError("CANARY^PHI")
            yield Finished(job)

    assert take_turn(database, task)
    jobs = listed(database)
    assert (jobs["good"].state, jobs["fine"].state) == (JobState.FINISHED, JobState.FINISHED)
    assert (jobs["poison"].state, jobs["poison"].problem) == (
        JobState.WAITING,
        "The task broke off: ZeroDivisionError.",
    )


def test_a_job_that_the_task_forgets_is_tried_again(database):
    add(database, "x")
    take_turn(database, lambda _: [])
    assert (listed(database)["x"].state, listed(database)["x"].attempts) == (JobState.WAITING, 1)


def test_results_count_although_the_lease_was_renewed_meanwhile(database):
    add(database, "x", "y")
    now = datetime.now(UTC)
    jobs = database.write(lambda one: queue.claim(one, "send", "A", limit=9, now=now, leased_until=now + HOUR))

    def task(jobs):
        turn.renew(now + 2 * HOUR)
        yield Finished(jobs[0])
        yield Failed(jobs[1], "no", is_final=True)

    turn = Turn(database, task, jobs, QUICK, threading.Event())
    turn.run()
    assert {job.state for job in listed(database).values()} == {JobState.FINISHED, JobState.DEAD}


def test_pauses_grow_to_a_limit_and_are_never_the_same():
    patience = Patience(timedelta(days=7))
    pauses = [patience.pause_seconds(failures) for failures in range(1, 2000)]
    assert 1.0 <= pauses[0] <= 2.0
    assert 4.0 <= pauses[2] <= 8.0
    assert max(pauses) <= LONGEST_PAUSE_SECONDS
    assert min(pauses[10:]) >= LONGEST_PAUSE_SECONDS / 2
    assert len(set(pauses[10:])) > 1


def test_a_worker_does_what_is_listed_before_and_while_it_runs_in_batches(database):
    task = Recorder()
    add(database, *(f"{number:03}" for number in range(120)))
    with Worker(database, {"send": task}, QUICK) as worker:
        wait_until(lambda: len(listed(database, JobState.FINISHED)) == 120)
        add(database, "later")
        worker.wake()
        wait_until(lambda: "later" in listed(database, JobState.FINISHED))
    assert [len(batch) for batch in task.batches] == [50, 50, 20, 1]


def test_a_worker_leaves_kinds_alone_that_it_has_no_task_for(database):
    add(database, "x", kind="other")
    add(database, "x", kind="send")
    with Worker(database, {"send": finish_all}, QUICK):
        wait_until(lambda: any(job.state is JobState.FINISHED for job in jobs_of(database)))
    assert {(job.kind, job.state) for job in jobs_of(database)} == {
        ("send", JobState.FINISHED),
        ("other", JobState.WAITING),
    }


def jobs_of(database):
    with database.read() as connection:
        return queue.list_jobs(connection)


def test_a_dead_destination_holds_up_no_other_lane(database):
    release = threading.Event()

    def task(jobs):
        if jobs[0].lane == "DEAD":
            release.wait(30)
            raise LaneBlocked
        return finish_all(jobs)

    add(database, "stuck", lane="DEAD")
    with Worker(database, {"send": task}, QUICK):
        add(database, *"abc", lane="ALIVE")
        wait_until(lambda: len(listed(database, JobState.FINISHED)) == 3)
        release.set()


def test_a_blocked_lane_is_tried_with_one_job_until_it_moves(database):
    is_up = threading.Event()
    tried = []

    def task(jobs):
        tried.append(len(jobs))
        if not is_up.is_set():
            raise LaneBlocked
        return finish_all(jobs)

    add(database, *(f"{number}" for number in range(10)))
    with Worker(database, {"send": task}, QUICK):
        wait_until(lambda: len(tried) >= 3)
        is_up.set()
        wait_until(lambda: len(listed(database, JobState.FINISHED)) == 10)
    assert tried[0] == 10
    assert tried[1:3] == [1, 1]


def test_a_job_refused_alone_waits_alone(database):
    refused = threading.Event()

    def task(jobs):
        for job in jobs:
            if job.key == "bad":
                refused.set()
            yield Failed(job, "0xA700") if job.key == "bad" else Finished(job)

    add(database, "bad")
    with Worker(database, {"send": task}, Patience(timedelta(days=1), first_pause_seconds=600.0)) as worker:
        wait_until(refused.is_set)
        wait_until(lambda: listed(database)["bad"].problem)
        add(database, "good")
        worker.wake()
        wait_until(lambda: states(database)["good"] is JobState.FINISHED)


def test_a_lane_blocked_for_too_many_days_is_given_up_as_a_whole(database):
    add(database, *(f"{number:03}" for number in range(60)), now=datetime.now(UTC) - timedelta(days=8))

    def task(_):
        raise LaneBlocked

    with Worker(database, {"send": task}, QUICK):
        wait_until(lambda: len(listed(database, JobState.DEAD)) == 60)


def test_leases_of_what_takes_long_are_renewed(database):
    started, release = threading.Event(), threading.Event()
    seen = []

    def slow(jobs):
        seen.append([job.key for job in jobs])
        started.set()
        release.wait(30)
        return finish_all(jobs)

    add(database, "x")
    with Worker(database, {"send": slow}, QUICK, lease_seconds=2.0):
        assert started.wait(30)
        first = listed(database)["x"].due_at
        wait_until(lambda: listed(database)["x"].due_at > first)
        release.set()
        wait_until(lambda: listed(database)["x"].state is JobState.FINISHED)
    assert seen == [["x"]]


def test_what_is_not_done_at_a_stop_waits_for_the_next_start(database):
    started, release = threading.Event(), threading.Event()
    is_closed = []

    def task(jobs):
        try:
            for job in jobs:
                started.set()
                release.wait(30)
                yield Finished(job)
        finally:
            is_closed.append(True)

    add(database, "a", "b", "c")
    with Worker(database, {"send": task}, QUICK) as worker:
        assert started.wait(30)
        worker._stopping.set()
        release.set()
    assert is_closed == [True]
    left = listed(database, JobState.WAITING)
    assert len(left) == 2
    assert {(job.attempts, job.due_at) for job in left.values()} == {(0, job.created_at) for job in left.values()}
    with Worker(database, {"send": finish_all}, QUICK):
        wait_until(lambda: len(listed(database, JobState.FINISHED)) == 3)


def test_a_stop_does_not_wait_for_a_lane_that_hangs(database):
    started, release = threading.Event(), threading.Event()

    def hang(jobs):
        started.set()
        release.wait(60)
        return finish_all(jobs)

    add(database, "x")
    with Worker(database, {"send": hang}, QUICK, grace_seconds=0.05):
        assert started.wait(30)
    assert listed(database)["x"].state is JobState.WAITING
    release.set()
    wait_until(lambda: listed(database)["x"].state is JobState.FINISHED)


def test_two_workers_share_a_queue_and_do_everything_once(database):
    done = []
    lock = threading.Lock()

    def task(jobs):
        with lock:
            done.extend(job.key for job in jobs)
        return finish_all(jobs)

    add(database, *(f"{number:03}" for number in range(300)))
    with Worker(database, {"send": task}, QUICK), Worker(database, {"send": task}, QUICK):
        wait_until(lambda: len(listed(database, JobState.FINISHED)) == 300)
    assert sorted(done) == [f"{number:03}" for number in range(300)]


def test_a_postponed_job_waits_until_then_and_its_lane_moves(database):
    add(database, "early")
    later = datetime.now(UTC) + HOUR
    assert take_turn(database, lambda jobs: [Postponed(job, later) for job in jobs])
    job = listed(database)["early"]
    assert (job.state, job.due_at, job.problem) == (JobState.WAITING, later, "")


def test_what_was_listed_while_the_clock_was_years_ahead_is_done_after_the_start(database):
    add(database, "x", now=datetime.now(UTC) + timedelta(days=3650))
    with Worker(database, {"send": finish_all}, QUICK):
        wait_until(lambda: states(database) == {"x": JobState.FINISHED})


def test_a_clock_that_goes_back_holds_up_nothing(database, monkeypatch):
    class Clock(datetime):
        ahead = HOUR

        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + cls.ahead

    monkeypatch.setattr("pacs.jobs.worker.datetime", Clock)
    task = Recorder()
    with Worker(database, {"send": task}, QUICK) as worker:
        add(database, "first", now=Clock.now(UTC))
        worker.wake()
        wait_until(lambda: task.batches)
        add(database, "listed before", now=Clock.now(UTC) + timedelta(minutes=5))
        Clock.ahead = timedelta(0)
        worker.wake()
        wait_until(lambda: len(task.batches) == 2)


def test_a_lease_of_a_living_worker_survives_a_small_step_of_the_clock(database, monkeypatch):
    started, go_on = threading.Event(), threading.Event()

    class Clock(datetime):
        ahead = timedelta(seconds=5)

        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + cls.ahead

    def wait(jobs):
        started.set()
        go_on.wait(30)
        return finish_all(jobs)

    monkeypatch.setattr("pacs.jobs.worker.datetime", Clock)
    add(database, "x")
    with Worker(database, {"send": wait}, QUICK) as worker:
        started.wait(30)
        Clock.ahead = timedelta(0)
        worker.wake()
        worker.wake()
        go_on.set()
        wait_until(lambda: states(database) == {"x": JobState.FINISHED})
    assert listed(database)["x"].attempts == 1
