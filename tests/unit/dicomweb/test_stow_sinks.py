"""Parts of one body that are stored at the same time: what is told of them, and what is not left to chance."""

import threading
import time
from collections.abc import Callable

import pytest

from dicomweb.multipart import MultipartParser
from dicomweb.stow_sinks import Aside, MultipartSink, Receiver
from pacs.ingest.incoming import Expected, Incoming
from pacs.ingest.outcome import Disposition, Outcome, Reason
from pacs.model import Door, Origin
from tests.builders import as_part10, build_ct, build_series
from tests.conformance.dicomweb.service import BOUNDARY, multipart_body

ORIGIN = Origin(Door.STOW)
PATIENCE_SECONDS = 20


class Gate:
    """The real pipeline behind something that may make a part wait; notes how many are stored at once."""

    def __init__(self, ingest, before: Callable[[int], None]) -> None:
        self._ingest, self._before = ingest, before
        self._lock = threading.Lock()
        self.begun = 0
        self.busy = 0
        self.most = 0
        self.finished: list[int] = []

    def open_spool(self):
        return self._ingest.open_spool()

    def store(self, incoming: Incoming) -> Outcome:
        with self._lock:
            number, self.begun = self.begun, self.begun + 1
            self.busy += 1
            self.most = max(self.most, self.busy)
        try:
            self._before(number)
            return self._ingest.store(incoming)
        finally:
            with self._lock:
                self.busy -= 1
                self.finished.append(number)


def receive(ingest, body: bytes, threads: int) -> Receiver:
    receiver = Receiver(ingest, ORIGIN, Expected(), Aside(threads))
    sink = MultipartSink(receiver, MultipartParser(BOUNDARY))
    sink.feed(body)
    if not receiver.is_exhausted:
        sink.finish()
    receiver.settle()
    return receiver


def uids_of(receiver: Receiver) -> list[str]:
    return [outcome.sop_instance_uid for outcome in receiver.outcomes]


def test_parts_are_stored_at_the_same_time_and_told_in_their_order(archive):
    series = build_series(4)
    has_second = threading.Event()

    def before(number: int) -> None:
        if number == 1:
            has_second.set()
        assert number or has_second.wait(PATIENCE_SECONDS), "the second part waited for the first"

    gate = Gate(archive.ingest, before)
    receiver = receive(gate, multipart_body(*map(as_part10, series)), 1)
    assert uids_of(receiver) == [dataset.SOPInstanceUID for dataset in series]
    assert all(outcome.is_stored for outcome in receiver.outcomes)


def test_a_part_that_takes_longest_keeps_its_place(archive):
    series = build_series(4)
    gate = Gate(archive.ingest, lambda number: wait_until(lambda: number or len(gate.finished) == 3))
    receiver = receive(gate, multipart_body(*map(as_part10, series)), 1)
    assert gate.finished[-1] == 0
    assert uids_of(receiver) == [dataset.SOPInstanceUID for dataset in series]


def test_no_more_are_stored_at_once_than_there_are_threads_and_the_one_that_receives(archive):
    gate = Gate(archive.ingest, lambda _: time.sleep(0.01))
    receive(gate, multipart_body(*map(as_part10, build_series(9))), 2)
    assert 2 <= gate.most <= 3


def test_a_body_of_one_part_changes_no_thread(archive):
    threads = []
    gate = Gate(archive.ingest, lambda _: threads.append(threading.current_thread()))
    receive(gate, multipart_body(as_part10(build_ct())), 2)
    assert threads == [threading.current_thread()]


@pytest.mark.parametrize("threads", [1, 2])
def test_of_two_parts_with_one_uid_the_first_is_the_first(archive, threads):
    first = build_ct(StudyDescription="First")
    second = build_ct(
        SOPInstanceUID=first.SOPInstanceUID,
        StudyInstanceUID=first.StudyInstanceUID,
        SeriesInstanceUID=first.SeriesInstanceUID,
        StudyDescription="Second",
    )
    gate = Gate(archive.ingest, lambda number: time.sleep(0 if number else 0.1))
    receiver = receive(gate, multipart_body(*map(as_part10, (first, second, build_ct()))), threads)
    dispositions = [outcome.disposition for outcome in receiver.outcomes]
    assert dispositions == [Disposition.STORED, Disposition.CONFLICT, Disposition.STORED]


def test_the_last_part_waits_for_one_with_its_uid(archive):
    file = as_part10(build_ct())
    gate = Gate(archive.ingest, lambda number: time.sleep(0 if number else 0.1))
    receiver = receive(gate, multipart_body(file, file), 2)
    assert [outcome.disposition for outcome in receiver.outcomes] == [Disposition.STORED, Disposition.DUPLICATE]


def test_a_part_that_does_not_show_its_uid_waits_for_those_before_it(archive):
    files = [as_part10(build_ct()), b"no DICOM" * 100, as_part10(build_ct())]
    gate = Gate(archive.ingest, lambda number: time.sleep(0 if number else 0.1))
    receiver = receive(gate, multipart_body(*files), 2)
    assert gate.finished == [0, 1, 2]
    assert [outcome.is_stored for outcome in receiver.outcomes] == [True, False, True]


def test_once_there_is_no_room_the_rest_is_not_taken(archive):
    class Full(Gate):
        def store(self, incoming: Incoming) -> Outcome:
            super().store(incoming)
            return Outcome(Disposition.REJECTED, Reason.OUT_OF_RESOURCES)

    full = Full(archive.ingest, lambda _: None)
    receiver = receive(full, multipart_body(*map(as_part10, build_series(30))), 2)
    assert receiver.is_exhausted
    assert full.begun == len(receiver.outcomes) < 30


def test_what_goes_wrong_aside_is_raised(archive):
    def fail(number: int) -> None:
        if number == 0:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        receive(Gate(archive.ingest, fail), multipart_body(*map(as_part10, build_series(5))), 2)


def test_what_was_handed_over_is_stored_though_the_sender_is_gone(archive, tmp_path):
    is_gone = threading.Event()
    gate = Gate(archive.ingest, lambda _: is_gone.wait(PATIENCE_SECONDS))
    receiver = Receiver(gate, ORIGIN, Expected(), Aside(2))
    body = multipart_body(*map(as_part10, build_series(2)))
    MultipartSink(receiver, MultipartParser(BOUNDARY)).feed(body[:-300])
    receiver.close()
    assert receiver.is_busy
    is_gone.set()
    receiver.settle()
    assert [outcome.is_stored for outcome in receiver.outcomes] == [True]
    assert list(tmp_path.rglob("*.spool")) == []


def wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)
