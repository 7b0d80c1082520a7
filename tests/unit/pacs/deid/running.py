"""The engine run on built data sets, and its output read by pydicom."""

import io

import pydicom

from pacs.deid import RELEASE_DEFAULT, Option, Profile, ProjectKey, deidentify
from tests.builders import as_part10

KEY = ProjectKey(bytes(range(32)))
BASIC = Profile("basic")


def with_options(*options: Option) -> Profile:
    return Profile("some", frozenset(options))


def run_bytes(data, profile=RELEASE_DEFAULT, key=KEY, **options):
    target = io.BytesIO()
    report = deidentify(io.BytesIO(data), target, profile, key, **options)
    return target.getvalue(), report


def run(dataset, profile=RELEASE_DEFAULT, syntax=pydicom.uid.ExplicitVRLittleEndian, **options):
    """Return what comes out of a data set, as a data set."""
    data, _ = run_bytes(as_part10(dataset, syntax), profile, **options)
    return pydicom.dcmread(io.BytesIO(data))


def deeds(dataset, profile=RELEASE_DEFAULT):
    """Return what the report says, by path."""
    _, report = run_bytes(as_part10(dataset), profile)
    return {action.path: (action.deed.value, action.rule) for action in report.actions}
