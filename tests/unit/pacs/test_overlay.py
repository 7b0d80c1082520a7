"""Steps laid over a data set: pure, recorded, and the same again after a round trip through a column."""

from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from pacs.overlay import COERCE, Step, StudyOverlay, apply, dump_steps, load_overlay, load_steps
from pacs.overlay import load_study_steps as load_study

AT = datetime(2024, 2, 29, 12, 30, 15, 250000, tzinfo=UTC)
ORIGINALS = "04000561"

tags = st.sampled_from(["00080050", "00100010", "00100020", "00101002", "00280010", ORIGINALS])
texts = st.lists(st.text(min_size=1), min_size=1, max_size=2)
elements = st.one_of(
    st.fixed_dictionaries({"vr": st.just("LO"), "Value": texts}),
    st.fixed_dictionaries(
        {"vr": st.just("PN"), "Value": st.lists(st.fixed_dictionaries({"Alphabetic": st.text(min_size=1)}))}
    ),
    st.fixed_dictionaries({"vr": st.just("LO")}),
)
attributes = st.dictionaries(tags.filter(lambda tag: tag != ORIGINALS), elements).map(
    lambda found: dict(sorted(found.items()))
)
steps = st.lists(
    st.builds(
        Step,
        changes=attributes,
        at=st.datetimes(timezones=st.just(UTC)),
        reason=st.sampled_from(["COERCE", "CORRECT"]),
        source=st.text(max_size=8),
        correction_id=st.integers(0, 1 << 62),
    ),
    max_size=4,
)


def element(vr, *values):
    return {"vr": vr, "Value": list(values)}


@given(attributes, steps)
def test_apply_never_changes_what_it_is_given(given_attributes, given_steps):
    before = deepcopy((given_attributes, given_steps))

    apply(given_attributes, given_steps)

    assert (given_attributes, given_steps) == before


@given(attributes)
def test_no_steps_leave_the_same_attributes(given_attributes):
    assert apply(given_attributes, ()) == given_attributes


@given(attributes, steps)
def test_after_all_steps_the_last_one_to_name_an_attribute_wins_and_the_rest_is_as_it_was(
    given_attributes, given_steps
):
    applied = apply(given_attributes, given_steps)

    expected = dict(given_attributes)
    for step in given_steps:
        expected |= step.changes
    for tag in expected:
        assert applied.get(tag, {}).get("Value", []) == expected[tag].get("Value", [])
    assert list(applied) == sorted(applied)
    changed = {tag for step in given_steps for tag in step.changes}
    assert {tag for tag in applied if applied[tag] != given_attributes.get(tag)} <= {*changed, "04000561"}


@given(attributes, steps)
def test_a_step_that_makes_no_difference_leaves_no_item(given_attributes, given_steps):
    once = apply(given_attributes, given_steps)
    again = Step({tag: found for tag, found in once.items() if tag != ORIGINALS}, AT)

    assert apply(once, [again]) == once


@given(steps)
def test_steps_survive_a_column(given_steps):
    assert load_steps(dump_steps(given_steps)) == tuple(given_steps)


@given(attributes, steps)
def test_a_study_overlay_survives_a_column(received, given_steps):
    overlay = StudyOverlay(received, tuple(given_steps))

    assert StudyOverlay.load(overlay.dump()) == overlay
    assert load_study(overlay.dump()) == overlay.steps


def test_nothing_to_keep_is_an_empty_column():
    assert dump_steps(()) == ""
    assert StudyOverlay().dump() == ""
    assert load_overlay("", "") == ()


def test_a_half_surrogate_pair_and_a_giant_integer_survive_a_column():
    step = Step({"00100020": element("LO", "\ud800"), "00280010": element("IS", 10**30)}, AT)

    assert load_steps(dump_steps([step])) == (step,)


def test_coercions_come_before_corrections():
    coercion, correction = Step({"00100020": element("LO", "A")}, AT, COERCE), Step({}, AT, correction_id=7)

    found = load_overlay(dump_steps([coercion]), StudyOverlay({}, (correction,)).dump())

    assert found == (coercion, correction)


def test_item_says_what_was_there_when_by_whom_and_why():
    """PS3.3 C.12.1.1.9; RULES.md: what leaves coerced or corrected carries Original Attributes Sequence."""
    before = {"00100010": element("PN", {"Alphabetic": "WRONG^NAME"}), "00100020": element("LO", "1")}
    local = AT.astimezone(timezone(timedelta(hours=2)))
    step = Step({"00100010": element("PN", {"Alphabetic": "RIGHT^NAME"})}, local, COERCE, "ARCHIVE", "MODALITY 1")

    applied = apply(before, [step])

    assert applied["00100010"] == element("PN", {"Alphabetic": "RIGHT^NAME"})
    assert applied["00100020"] == before["00100020"]
    assert applied[ORIGINALS] == element(
        "SQ",
        {
            "04000550": element("SQ", {"00100010": element("PN", {"Alphabetic": "WRONG^NAME"})}),
            "04000562": element("DT", "20240229123015.250000+0000"),
            "04000563": element("LO", "ARCHIVE"),
            "04000564": element("LO", "MODALITY 1"),
            "04000565": element("CS", "COERCE"),
        },
    )


def test_received_items_stay_in_front():
    """RULES.md: what leaves coerced or corrected carries Original Attributes Sequence."""
    received = {"04000565": element("CS", "COERCE")}
    before = {"00100020": element("LO", "1"), ORIGINALS: element("SQ", received)}
    steps_in_order = [Step({"00100020": element("LO", text)}, AT) for text in ("2", "3")]

    items = apply(before, steps_in_order)[ORIGINALS]["Value"]

    assert items[0] == received
    assert [item["04000550"]["Value"][0]["00100020"]["Value"] for item in items[1:]] == [["1"], ["2"]]


def test_what_was_absent_is_recorded_without_a_value_and_an_unknown_source_is_empty():
    (item,) = apply({}, [Step({"00080050": element("SH", "ACC")}, AT)])[ORIGINALS]["Value"]

    assert item["04000550"] == element("SQ", {"00080050": {"vr": "SH"}})
    assert item["04000564"] == {"vr": "LO"}


def test_emptying_what_is_absent_makes_no_difference():
    assert apply({}, [Step({"00080050": {"vr": "SH"}}, AT)]) == {}
