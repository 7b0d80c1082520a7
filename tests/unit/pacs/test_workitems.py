"""Work items: the state machine row by row, the table of attributes, locks, subscribers and what is told to whom."""

import shutil
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from pacs.access import LOCAL
from pacs.database.opener import open_database
from pacs.database.workitem_tables import workitem, workitem_event
from pacs.errors import InvalidQuery, NotPermitted, PacsError, WorkitemNotFound
from pacs.model import CLINICAL_PARTITION, Cursor
from pacs.tags import tag_of, text_of, values_of
from pacs.workitems import FILTERED_WORKLIST, WORKLIST, InvalidWorkitem, State, UnifiedWorklist, WorkitemExists
from pacs.workitems.attributes import find_studies
from pacs.workitems.problems import (
    NotClaimed,
    SubscriptionNotFound,
    TransactionUidIncorrect,
    TransactionUidMissing,
    WorkitemConflict,
    WorkitemEnded,
)
from pacs.workitems.requirements import TABLE, Final, Need, find_unmet
from pacs.workitems.states import check_change, check_update
from tests.builders import new_uid
from tests.work_items import build_discontinued, build_performed, build_workitem, code, data_set

KEY, OTHER_KEY = "1.7.7531", "1.7.7532"
START = Cursor()
S, P, C, X = State.SCHEDULED, State.IN_PROGRESS, State.COMPLETED, State.CANCELED


@pytest.fixture(scope="module")
def sqlite_template(tmp_path_factory):
    """Return a migrated file, to be copied, which is quicker than to migrate another."""
    path = tmp_path_factory.mktemp("template") / "index.sqlite"
    opened = open_database(f"sqlite:///{path}")
    opened.migrate()
    opened.close()
    return path


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request, tmp_path):
    if request.param == "postgresql":
        template = request.getfixturevalue("postgres_template")
        url = request.getfixturevalue("postgres").create_database(template=template)
    else:
        url = f"sqlite:///{shutil.copy(request.getfixturevalue('sqlite_template'), tmp_path)}"
    opened = open_database(url)
    yield opened
    opened.close()


@pytest.fixture
def worklist(database):
    return UnifiedWorklist(database, CLINICAL_PARTITION)


def nested(depth):
    return data_set(ReferencedRequestSequence=[nested(depth - 1)]) if depth else data_set(StudyInstanceUID="1.2")


def create(worklist, **overrides):
    return worklist.create(LOCAL, build_workitem(**overrides), new_uid())[0]


def state_of(worklist, uid):
    return State(text_of(worklist.get(LOCAL, uid), "ProcedureStepState"))


def bring_to(worklist, state):
    """Return the UID of an item in this state, claimed with KEY unless it is only scheduled."""
    uid = create(worklist)
    if state is not S:
        worklist.change_state(LOCAL, uid, P, KEY)
    if state in (C, X):
        worklist.update(LOCAL, uid, KEY, build_performed() | build_discontinued())
        worklist.change_state(LOCAL, uid, state, KEY)
    return uid


def events(worklist, after=START):
    """Return (AE title, event type, state) of what was told."""
    told = []
    for event in worklist.subscriptions.read_events(LOCAL, after, 1000):
        report = orjson.loads(event.report)
        kind = report["00001002"]["Value"][0]
        told += [(title, kind, text_of(report, "ProcedureStepState")) for title in sorted(event.recipients)]
    return told


# PS3.4 Table CC.1.1-2: operation, then what comes of it in SCHEDULED, IN PROGRESS, COMPLETED, CANCELED

TRANSITIONS = {
    "claim with the right key": (P, KEY, (True, WorkitemConflict, WorkitemConflict, WorkitemConflict)),
    "claim without a key": (P, "", (TransactionUidMissing,) * 4),
    "claim with another key": (P, OTHER_KEY, (True, WorkitemConflict, WorkitemConflict, WorkitemConflict)),
    "complete with the right key": (C, KEY, (WorkitemConflict, True, False, WorkitemConflict)),
    "complete without a key": (C, "", (TransactionUidMissing,) * 4),
    "complete with another key": (C, OTHER_KEY, (WorkitemConflict, *(TransactionUidIncorrect,) * 3)),
    "cancel with the right key": (X, KEY, (WorkitemConflict, True, WorkitemConflict, False)),
    "cancel without a key": (X, "", (TransactionUidMissing,) * 4),
    "cancel with another key": (X, OTHER_KEY, (WorkitemConflict, *(TransactionUidIncorrect,) * 3)),
}


@pytest.mark.parametrize("operation", TRANSITIONS)
@pytest.mark.parametrize("state", State)
def test_every_transition_of_the_table(state, operation):
    requested, key, outcomes = TRANSITIONS[operation]
    expected = outcomes[(S, P, C, X).index(state)]
    held_by = "" if state is S else KEY
    if isinstance(expected, bool):
        assert check_change(state, requested, held_by, key) is expected
    else:
        with pytest.raises(expected):
            check_change(state, requested, held_by, key)


@pytest.mark.parametrize(
    ("state", "key", "expected"),
    [
        (S, "", None),
        (S, KEY, NotClaimed),
        (P, KEY, None),
        (P, "", TransactionUidMissing),
        (P, OTHER_KEY, TransactionUidIncorrect),
        (C, KEY, WorkitemEnded),
        (X, KEY, WorkitemEnded),
    ],
)
def test_update_is_open_to_everybody_then_to_the_holder_then_to_nobody(state, key, expected):
    if expected is None:
        check_update(state, "" if state is S else KEY, key)
    else:
        with pytest.raises(expected):
            check_update(state, KEY, key)


@pytest.mark.parametrize("state", State)
def test_request_to_cancel_does_what_the_table_says(worklist, state):
    uid = bring_to(worklist, state)
    worklist.subscriptions.subscribe(LOCAL, uid, "DESK", has_lock=False)
    start = worklist.subscriptions.read_end(LOCAL)
    outcomes = {S: True, P: True, X: False}
    if state is C:
        with pytest.raises(WorkitemConflict):
            worklist.request_cancel(LOCAL, uid)
    else:
        assert worklist.request_cancel(LOCAL, uid) is outcomes[state]
    told = {S: [("DESK", 1, "IN PROGRESS"), ("DESK", 1, "CANCELED")], P: [("DESK", 2, "")], C: [], X: []}
    assert events(worklist, start) == told[state]
    assert state_of(worklist, uid) is {S: X}.get(state, state)


# PS3.4 Table CC.2.5-3


@pytest.mark.parametrize("row", [row for row in TABLE if row.create is Need.VALUE and len(row.path) == 1], ids=str)
def test_new_item_needs_what_is_type_1(row):
    worklist = UnifiedWorklist(None, CLINICAL_PARTITION)
    with pytest.raises(InvalidWorkitem, match=row.path[0]):
        worklist.create(LOCAL, build_workitem(**{row.path[0]: None}))
    with pytest.raises(InvalidWorkitem, match=row.path[0]):
        worklist.create(LOCAL, build_workitem(**{row.path[0]: []}))


@pytest.mark.parametrize("row", [row for row in TABLE if row.final is not Final.OPTIONAL], ids=lambda row: row.name)
@pytest.mark.parametrize("state", [C, X])
def test_final_state_needs_what_its_code_says(row, state):
    complete = build_workitem(ScheduledProcedureStepModificationDateTime="20260706")
    complete |= build_performed() | build_discontinued(ProcedureStepCancellationDateTime="20260706")
    assert find_unmet(complete, state) == ""
    *above, keyword = row.path
    holder = values_of(complete, above[0])[0] if above else complete
    del holder[tag_of(keyword)]
    asks = {Final.REQUIRED: True, Final.IF_COMPLETED: state is C, Final.IF_CANCELED: state is X}[row.final]
    assert find_unmet(complete, state) == (row.name if asks else "")


@pytest.mark.parametrize(
    "overrides",
    [{"CommentsOnTheScheduledProcedureStep": "x" * 1024 * 1024}, {"InputInformationSequence": [nested(12)]}],
    ids=["size", "depth"],
)
def test_item_that_is_too_large_or_too_deep_is_refused(overrides):
    with pytest.raises(InvalidWorkitem, match="too"):
        UnifiedWorklist(None, CLINICAL_PARTITION).create(LOCAL, build_workitem(**overrides))


def test_item_names_the_studies_that_it_is_about():
    item = build_workitem(
        StudyInstanceUID="1.1",
        InputInformationSequence=[data_set(StudyInstanceUID=uid) for uid in ("1.2.3", "1.2.4", "not a UID")],
    )
    item |= build_performed(OutputInformationSequence=[data_set(StudyInstanceUID="1.2.5")])
    assert find_studies(item) == ["1.1", "1.2.3", "1.2.4", "1.2.5"]


def test_item_that_is_pruned_has_ended_long_ago_and_nobody_holds_it(worklist, database):
    ended, held, recent, open_ = (bring_to(worklist, state) for state in (C, X, C, P))
    worklist.subscriptions.subscribe(LOCAL, held, "ARCHIVIST", has_lock=True)
    worklist.subscriptions.subscribe(LOCAL, ended, "WATCHER", has_lock=False)
    long_ago = datetime.now(UTC) - timedelta(days=31)
    old = update(workitem).where(workitem.c.sop_instance_uid.in_([ended, held]))
    database.write(lambda connection: connection.execute(old.values(ended_at=long_ago)))
    create(worklist)
    with pytest.raises(WorkitemNotFound):
        worklist.get(LOCAL, ended)
    assert [state_of(worklist, uid) for uid in (held, recent, open_)] == [X, C, P]
    worklist.subscriptions.unsubscribe(LOCAL, held, "ARCHIVIST")
    create(worklist)
    with pytest.raises(WorkitemNotFound):
        worklist.get(LOCAL, held)


def test_old_events_are_forgotten(worklist, database):
    worklist.subscriptions.subscribe(LOCAL, create(worklist), "DESK", has_lock=False)
    old = update(workitem_event).values(at=datetime.now(UTC) - timedelta(days=2))
    database.write(lambda connection: connection.execute(old))
    create(worklist)
    assert events(worklist) == []


# The lock


def test_of_twenty_claims_at_once_one_wins(worklist):
    uid = create(worklist)
    worklist.subscriptions.subscribe(LOCAL, uid, "DESK", has_lock=False)
    start = threading.Barrier(20)
    outcomes = Counter()
    winners = []

    def claim(number):
        key = f"2.25.{number + 1}"
        start.wait()
        try:
            worklist.change_state(LOCAL, uid, P, key)
            winners.append(key)
        except WorkitemConflict as error:
            outcomes[type(error)] += 1

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1
    assert outcomes == {WorkitemConflict: 19}
    assert events(worklist).count(("DESK", 1, "IN PROGRESS")) == 1
    worklist.update(LOCAL, uid, winners[0], data_set(ProcedureStepLabel="mine"))


def test_same_uid_created_twice_at_once_makes_one_item(worklist):
    uid = new_uid()
    start = threading.Barrier(8)
    outcomes = Counter()

    def attempt():
        start.wait()
        try:
            worklist.create(LOCAL, build_workitem(), uid)
            outcomes["created"] += 1
        except WorkitemExists:
            outcomes["exists"] += 1

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {"created": 1, "exists": 7}


def test_key_of_an_item_that_the_archive_canceled_is_nobodys(worklist):
    uid = create(worklist)
    worklist.request_cancel(LOCAL, uid)
    for key, error in (("", TransactionUidMissing), (KEY, TransactionUidIncorrect)):
        with pytest.raises(error):
            worklist.change_state(LOCAL, uid, C, key)


# Events and subscriptions, PS3.4 CC.2.3 and CC.2.4


def test_subscriber_is_told_the_present_state_and_then_every_change(worklist):
    uid = create(worklist)
    worklist.subscriptions.subscribe(LOCAL, uid, "DESK", has_lock=False)
    worklist.update(LOCAL, uid, "", data_set(InputReadinessState="UNAVAILABLE"))
    worklist.update(LOCAL, uid, "", data_set(ProcedureStepLabel="Not told"))
    station = [code("AI1", "99TEST", "AI 1")]
    worklist.update(LOCAL, uid, "", data_set(ScheduledStationNameCodeSequence=station))
    worklist.change_state(LOCAL, uid, P, KEY)
    worklist.update(LOCAL, uid, KEY, build_discontinued(ProcedureStepProgress="50"))
    worklist.update(LOCAL, uid, KEY, build_discontinued(ProcedureStepProgress="50", ReasonForCancellation="x"))
    worklist.change_state(LOCAL, uid, X, KEY)
    kinds = [(kind, state) for _, kind, state in events(worklist)]
    assert kinds == [
        (1, "SCHEDULED"),
        (1, "SCHEDULED"),
        (5, ""),
        (1, "IN PROGRESS"),
        (3, ""),
        (1, "CANCELED"),
    ]


def test_report_says_what_table_cc_2_4_1_wants_and_not_the_key(worklist):
    performer = data_set(
        HumanPerformerCodeSequence=[code("DR1", "99TEST", "Reader")],
        HumanPerformerName="Reader^One",
        HumanPerformerOrganization="Ward",
    )
    uid = create(worklist, ScheduledHumanPerformersSequence=[performer])
    worklist.subscriptions.subscribe_to_worklist(LOCAL, "DESK", has_lock=True)
    worklist.change_state(LOCAL, uid, P, KEY)
    request = data_set(ReasonForCancellation="Moved", ContactURI="tel:+100", PatientName="CANARY^PHI")
    worklist.request_cancel(LOCAL, uid, request)
    worklist.update(LOCAL, uid, KEY, data_set(ScheduledHumanPerformersSequence=[performer, performer]))
    reports = [event.report for event in worklist.subscriptions.read_events(LOCAL, Cursor(), 100)]
    assert not any(KEY in report or "CANARY" in report or "00081195" in report for report in reports)
    initial, claimed, canceled, assigned = map(orjson.loads, reports)
    for report in (initial, claimed, canceled, assigned):
        assert report["00000002"]["Value"] == ["1.2.840.10008.5.1.4.34.6.1"]
        assert report["00001000"]["Value"] == [uid]
        assert list(report) == sorted(report)
    assert len({report["00000110"]["Value"][0] for report in (initial, claimed, canceled, assigned)}) == 4
    assert claimed["00404041"] == {"vr": "CS", "Value": ["READY"]}
    assert text_of(canceled, "RequestingAE") == LOCAL.name
    assert text_of(canceled, "ReasonForCancellation") == "Moved"
    assert text_of(canceled, "ContactURI") == "tel:+100"
    assert text_of(values_of(assigned, "HumanPerformerCodeSequence")[0], "CodeValue") == "DR1"
    assert text_of(assigned, "HumanPerformerOrganization") == "Ward"
    assert len(values_of(assigned, "ScheduledHumanPerformersSequence")) == 2


def test_subscriber_of_all_is_told_of_new_items_and_of_old_ones(worklist):
    old = create(worklist)
    worklist.subscriptions.subscribe_to_worklist(LOCAL, "DESK", has_lock=False)
    assert events(worklist) == []  # without a lock, the present state is not reported
    create(worklist, ScheduledStationNameCodeSequence=[code("AI1", "99TEST", "AI 1")])
    worklist.change_state(LOCAL, old, P, KEY)
    assert events(worklist) == [("DESK", 1, "SCHEDULED"), ("DESK", 5, ""), ("DESK", 1, "IN PROGRESS")]


def test_subscriber_of_all_with_a_lock_is_told_every_present_state(worklist):
    for _ in range(3):
        create(worklist)
    worklist.subscriptions.subscribe_to_worklist(LOCAL, "DESK", has_lock=True)
    assert events(worklist) == [("DESK", 1, "SCHEDULED")] * 3
    worklist.subscriptions.subscribe_to_worklist(LOCAL, "DESK", has_lock=True)
    assert len(events(worklist)) == 3  # who is told already stays as it is


def test_filtered_subscriber_is_told_of_what_fits(worklist):
    segmentations = {"WorklistLabel": "SEGMENTATION"}
    old = create(worklist, **segmentations)
    read = create(worklist)
    worklist.subscriptions.subscribe_to_worklist(LOCAL, "AI", has_lock=False, conditions={"WorklistLabel": "SEG*"})
    create(worklist)
    create(worklist, **segmentations)
    for uid in (old, read):
        worklist.change_state(LOCAL, uid, P, KEY)
    assert events(worklist) == [("AI", 1, "SCHEDULED"), ("AI", 1, "IN PROGRESS")]


def test_suspended_subscriber_keeps_what_it_has(worklist):
    uid = create(worklist)
    worklist.subscriptions.subscribe_to_worklist(LOCAL, "DESK", has_lock=False)
    worklist.subscriptions.suspend(LOCAL, WORKLIST, "DESK")
    create(worklist)
    worklist.change_state(LOCAL, uid, P, KEY)
    assert events(worklist) == [("DESK", 1, "IN PROGRESS")]
    with pytest.raises(SubscriptionNotFound):
        worklist.subscriptions.suspend(LOCAL, FILTERED_WORKLIST, "DESK")


def test_what_nobody_is_told_is_not_logged(worklist, database):
    bring_to(worklist, C)
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(workitem_event)).scalar() == 0


def test_items_created_while_somebody_subscribes_to_all_are_all_subscribed_to(worklist):
    uids, start = [], threading.Barrier(3)

    def fill():
        start.wait()
        uids.extend(create(worklist) for _ in range(15))

    threads = [threading.Thread(target=fill) for _ in range(2)]
    for thread in threads:
        thread.start()
    start.wait()
    worklist.subscriptions.subscribe_to_worklist(LOCAL, "DESK", has_lock=False)
    for thread in threads:
        thread.join()
    for uid in uids:
        worklist.subscriptions.unsubscribe(LOCAL, uid, "DESK")


def test_subscriptions_to_the_worklist_are_bounded(worklist):
    for number in range(100):
        worklist.subscriptions.subscribe_to_worklist(LOCAL, f"AE{number}", has_lock=False)
    with pytest.raises(NotPermitted):
        worklist.subscriptions.subscribe_to_worklist(LOCAL, "ONE_MORE", has_lock=False)


@pytest.mark.parametrize("conditions", [{}, {"TransactionUID": KEY}, {"Door": "stow"}, {"Nonsense": "x"}], ids=str)
def test_filter_that_makes_no_sense_is_refused(worklist, conditions):
    with pytest.raises(InvalidQuery):
        worklist.subscriptions.subscribe_to_worklist(LOCAL, "AI", has_lock=False, conditions=conditions)


# Any sequence of operations against a model of five lines


OPERATIONS = st.one_of(
    st.tuples(st.just("claim"), st.sampled_from([KEY, OTHER_KEY, ""])),
    st.tuples(st.just("complete"), st.sampled_from([KEY, OTHER_KEY, ""])),
    st.tuples(st.just("cancel"), st.sampled_from([KEY, OTHER_KEY, ""])),
    st.tuples(st.just("perform"), st.sampled_from([KEY, OTHER_KEY, ""])),
    st.tuples(st.just("request"), st.just("")),
)


class Model:
    """What a work item is, as short as it can be said."""

    def __init__(self):
        self.state, self.key, self.is_performed = S, None, False

    def apply(self, operation, key):
        """Return whether the operation goes through."""
        is_holder = bool(key) and key == self.key
        match operation:
            case "claim":
                if self.state is not S or not key:
                    return False
                self.state, self.key = P, key
            case "complete" | "cancel":
                final = C if operation == "complete" else X
                if self.state is final:
                    return is_holder
                if self.state is not P or not is_holder or not self.is_performed:
                    return False
                self.state = final
            case "perform":
                if self.state not in (S, P) or (not key if self.state is P else bool(key)) or (key and not is_holder):
                    return False
                self.is_performed = True
            case "request":
                if self.state is C:
                    return False
                self.state = X if self.state is S else self.state
        return True


@pytest.fixture(scope="module")
def shared_worklist(sqlite_template, tmp_path_factory):
    opened = open_database(f"sqlite:///{shutil.copy(sqlite_template, tmp_path_factory.mktemp('index'))}")
    yield UnifiedWorklist(opened, CLINICAL_PARTITION)
    opened.close()


@given(st.lists(OPERATIONS, max_size=12))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_of_operations_ends_where_the_model_does(shared_worklist, operations):
    uid, model = create(shared_worklist), Model()
    shared_worklist.subscriptions.subscribe(LOCAL, uid, "DESK", has_lock=False)
    start = shared_worklist.subscriptions.read_end(LOCAL)
    states = [S]
    for operation, key in operations:
        try:
            match operation:
                case "claim":
                    shared_worklist.change_state(LOCAL, uid, P, key)
                case "complete":
                    shared_worklist.change_state(LOCAL, uid, C, key)
                case "cancel":
                    shared_worklist.change_state(LOCAL, uid, X, key)
                case "perform":
                    shared_worklist.update(LOCAL, uid, key, build_performed() | build_discontinued())
                case "request":
                    shared_worklist.request_cancel(LOCAL, uid)
            went_through = True
        except PacsError:
            went_through = False
        assert went_through is model.apply(operation, key)
        assert state_of(shared_worklist, uid) is model.state
        states += [P, X] if states[-1] is S and model.state is X else [model.state] * (model.state is not states[-1])
    told = [state for _, kind, state in events(shared_worklist, start) if kind == 1]
    assert told == [state.value for state in states[1:]]
    assert KEY not in str(shared_worklist.get(LOCAL, uid))
