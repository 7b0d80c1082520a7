"""The queue over HTTP: what is listed, and which orders are understood."""

from datetime import UTC, datetime, timedelta

import pytest

from pacs.jobs import queue
from pacs.jobs.queue import NewJob

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.fixture
def dead(parts):
    """Two dead letters to A, one to B, and a waiting job; their ids by key."""

    def fill(connection):
        jobs = [NewJob("send", lane, key, {"secret": "CANARY"}) for lane, key in (("A", "x"), ("A", "y"), ("B", "z"))]
        queue.enqueue(connection, jobs, NOW)
        for lane in "AB":
            for job in queue.claim(connection, "send", lane, limit=9, now=NOW, leased_until=NOW + timedelta(hours=1)):
                queue.bury(connection, job, "0xA900", NOW)
        queue.enqueue(connection, [NewJob("send", "A", "w")], NOW)
        return {job.key: job.id for job in queue.list_jobs(connection)}

    return parts.database.write(fill)


def keys(response):
    assert response.status_code == 200, response.text
    return [job["key"] for job in response.json()]


def test_jobs_are_listed_by_state_and_lane_in_pages(root, dead):
    assert keys(root.get("/queue", params={"state": "dead"})) == ["x", "y", "z"]
    assert keys(root.get("/queue", params={"state": "dead", "lane": "A", "limit": 1, "offset": 1})) == ["y"]
    assert keys(root.get("/queue", params={"state": "waiting"})) == ["w"]
    assert sorted(keys(root.get("/queue"))) == ["w", "x", "y", "z"]
    assert keys(root.get("/queue", params={"state": "finished"})) == []


def test_a_job_says_what_became_of_it_and_not_what_it_holds(root, dead):
    (job,) = root.get("/queue", params={"lane": "B"}).json()
    assert job == {
        "id": dead["z"],
        "kind": "send",
        "lane": "B",
        "key": "z",
        "state": "dead",
        "due_at": "2024-05-06T07:08:09+00:00",
        "attempts": 1,
        "problem": "0xA900",
        "created_at": "2024-05-06T07:08:09+00:00",
        "finished_at": "2024-05-06T07:08:09+00:00",
    }


def test_dead_letters_are_requeued_by_id_or_lane(root, dead):
    assert root.post("/queue/requeue", json={"ids": [dead["x"]]}).json() == {"count": 1}
    assert root.post("/queue/requeue", json={"lane": "B"}).json() == {"count": 1}
    assert keys(root.get("/queue", params={"state": "dead"})) == ["y"]


def test_jobs_are_dropped_by_id_or_lane(root, dead):
    assert root.post("/queue/drop", json={"ids": [dead["w"]]}).json() == {"count": 1}
    assert root.post("/queue/drop", json={"lane": "A"}).json() == {"count": 2}
    assert keys(root.get("/queue")) == ["z"]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"ids": []}', b'{"ids": ["1"]}', b'{"ids": [true]}', b'{"ids": [99999999999999999999]}',
     b'{"lane": ""}', b'{"lane": "A", "ids": [1]}', b'{"lane": 1}'],
)  # fmt: skip
def test_an_order_that_is_not_clear_does_nothing(root, dead, body):
    response = root.post("/queue/drop", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert len(keys(root.get("/queue"))) == 4


@pytest.mark.parametrize("query", ["state=lost", "limit=-1", "limit=x", "offset=9999999", "colour=red"])
def test_a_filter_that_makes_no_sense_is_refused(root, query):
    assert root.get("/queue", params=query).status_code == 400
