"""Damaged work items and updates: an error of ours, or an item that can be kept, shown and reported."""

from contextlib import suppress
from datetime import UTC, datetime

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from pacs.errors import PacsError
from pacs.workitems import State
from pacs.workitems.attributes import find_studies, merge_changes, parse_new, read_transaction_uid, show
from pacs.workitems.events import find_reports, number_report, report_new
from pacs.workitems.requirements import find_unmet
from tests.fuzz.amount import FACTOR
from tests.work_items import build_discontinued, build_performed, build_workitem, code, data_set

NOW = datetime(2026, 7, 6, tzinfo=UTC)
PERFORMER = data_set(
    HumanPerformerCodeSequence=[code("DR1", "99TEST", "Reader")],
    HumanPerformerName="Reader^One",
    HumanPerformerOrganization="Ward",
)
ITEM = build_workitem(ScheduledHumanPerformersSequence=[PERFORMER], ScheduledProcessingParametersSequence=[PERFORMER])
CHANGES = build_performed() | build_discontinued(ProcedureStepProgress="50") | data_set(InputReadinessState="READY")
ODD = st.sampled_from(
    [None, 1, -1, 2**63, 1.5, "", "\0", "x" * 50, [], {}, [None], [[]], True, {"Value": 5}, {"vr": "SQ", "Value": [{}]}]
)


def damage(value, random, odd):
    """Return the value with one in thirty of its parts replaced or left out."""
    chance = random.random()
    if chance < 0.03:
        return odd
    if isinstance(value, dict):
        return {key: damage(inner, random, odd) for key, inner in value.items() if random.random() > 0.01}
    return [damage(inner, random, odd) for inner in value] if isinstance(value, list) else value


@given(st.randoms(use_true_random=False), ODD)
@settings(max_examples=200 * FACTOR, deadline=None)
def test_damaged_item_is_refused_or_kept(random, odd):
    payload = damage(ITEM, random, odd)
    with suppress(PacsError):
        read_transaction_uid(payload)
    with suppress(PacsError):
        item = parse_new(payload, "", NOW)
        check(item.attributes, report_new("1.2.3", item.attributes))
        changes = damage(CHANGES, random, odd)
        new, _ = merge_changes(item.attributes, changes, NOW)
        check(new, find_reports("1.2.3", State.IN_PROGRESS, item.attributes, new))


def check(attributes, reports):
    shown = show("1.2.3", "SCHEDULED", attributes)
    assert orjson.loads(orjson.dumps(shown)) == shown
    assert all(isinstance(uid, str) for uid in find_studies(attributes))
    for state in (State.COMPLETED, State.CANCELED):
        assert isinstance(find_unmet(attributes, state), str)
    for report in reports:
        assert orjson.loads(number_report(report, 1))["00001000"]["Value"] == ["1.2.3"]
