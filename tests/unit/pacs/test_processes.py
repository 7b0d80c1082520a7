"""Processes beside another: when they begin, when they are started again, and that they never outlive it."""

import subprocess
import sys

HEAD = """
import os, sys, time
from pacs.app import processes
from pacs.app.processes import Companions
processes.FIRST_PAUSE_SECONDS, processes.LONGEST_PAUSE_SECONDS = 0.01, 0.08
processes._GRACE_MARGIN_SECONDS = 0.0

def say(what):
    os.write(1, f"{what}\\n".encode())

def wait_for_the_end(place, pipe):
    say("begun")
    while os.read(pipe, 1):
        pass
    say("ended")
"""


def run(script):
    """Run a program that starts processes, and return what all of them have said."""
    command = [sys.executable, "-c", HEAD + script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout.split("\n")[:-1], done.stderr


def test_none_begins_before_it_is_told_to():
    script = """
with Companions(2, wait_for_the_end, 5.0):
    say("not yet")
"""
    assert run(script)[:2] == (0, ["not yet"])


def test_as_many_run_as_are_asked_for_and_all_end_with_the_block():
    script = """
with Companions(3, wait_for_the_end, 5.0) as companions:
    companions.start()
    time.sleep(0.5)
say("over")
"""
    assert run(script)[:2] == (0, ["begun"] * 3 + ["ended"] * 3 + ["over"])


def test_all_end_when_the_first_process_is_killed():
    script = """
companions = Companions(2, wait_for_the_end, 5.0).__enter__()
companions.start()
time.sleep(0.5)
os.kill(os.getpid(), 9)
"""
    assert run(script)[:2] == (-9, ["begun"] * 2 + ["ended"] * 2)


def test_without_companions_nothing_is_forked():
    script = """
def fail():
    raise AssertionError
os.fork = fail
with Companions(0, wait_for_the_end, 5.0) as companions:
    companions.start()
    companions.stop()
"""
    assert run(script) == (0, [], "")


def test_one_that_breaks_off_is_started_again_later_and_later():
    script = """
processes.FIRST_PAUSE_SECONDS, processes.LONGEST_PAUSE_SECONDS = 0.05, 0.4  # which none lives for, however busy it is
def break_off(place, pipe):
    say("begun")
    raise LookupError("what broke it")
with Companions(1, break_off, 5.0) as companions:
    companions.start()
    time.sleep(3)
"""
    code, said, log = run(script)
    assert code == 0
    assert len(said) > 4
    pauses = [line.rsplit(" in ", 1)[1] for line in log.splitlines() if "before its time" in line]
    assert pauses[:5] == ["0.05 s", "0.1 s", "0.2 s", "0.4 s", "0.4 s"]
    assert "what broke it" in log


def test_one_that_does_not_stop_is_killed_when_its_time_is_over():
    script = """
def hang(place, pipe):
    say("begun")
    time.sleep(600)
with Companions(1, hang, 0.1) as companions:
    companions.start()
    time.sleep(0.5)
say("over")
"""
    code, said, log = run(script)
    assert (code, said) == (0, ["begun", "over"])
    assert "still busy" in log
