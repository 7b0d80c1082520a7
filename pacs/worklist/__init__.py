"""Scheduled procedure steps and what was performed of them (PS3.4 K and F.7), and the folder they may come from."""

from pacs.worklist.entries import Entry, ScheduledStep, StepState, parse_entries
from pacs.worklist.matching import WorklistQuery, build_answer, parse_query
from pacs.worklist.performed import PerformedState, PerformedStep, PerformedSteps
from pacs.worklist.scheduled import Worklist

__all__ = [
    "Entry",
    "PerformedState",
    "PerformedStep",
    "PerformedSteps",
    "ScheduledStep",
    "StepState",
    "Worklist",
    "WorklistQuery",
    "build_answer",
    "parse_entries",
    "parse_query",
]
