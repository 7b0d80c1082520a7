from dataclasses import dataclass

import pytest

from pacs.dimse.sending import COMPRESSED, MAX_CONTEXTS, NATIVE, Result, plan_batches

EXPLICIT, JPEG_LS = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.80"


@dataclass(frozen=True)
class Item:
    sop_class_uid: str
    transfer_syntax_uid: str = EXPLICIT
    sop_instance_uid: str = "1.2"


def proposed(batch):
    return [(str(one.abstract_syntax), [str(uid) for uid in one.transfer_syntax]) for one in batch.contexts]


def test_each_stored_syntax_has_a_context_of_its_own_and_each_class_two_to_convert_to():
    (batch,) = plan_batches([Item("1.1"), Item("1.1", JPEG_LS), Item("1.1"), Item("1.2")])
    assert proposed(batch) == [
        ("1.1", [EXPLICIT]),
        ("1.1", list(NATIVE)),
        ("1.1", list(COMPRESSED)),
        ("1.1", [JPEG_LS]),
        ("1.2", [EXPLICIT]),
        ("1.2", list(NATIVE)),
        ("1.2", list(COMPRESSED)),
    ]


def test_every_class_is_offered_in_implicit_vr_little_endian():
    assert NATIVE[-1] == "1.2.840.10008.1.2"


def test_130_pairs_are_split_over_associations_and_every_instance_is_in_one_where_it_fits():
    items = [Item(f"1.{number}", sop_instance_uid=f"9.{number}.{copy}") for copy in range(2) for number in range(130)]
    batches = plan_batches(items)
    assert len(batches) == 4
    assert all(len(batch.contexts) <= MAX_CONTEXTS for batch in batches)
    assert sorted(item.sop_instance_uid for batch in batches for item in batch.items) == sorted(
        item.sop_instance_uid for item in items
    )
    for batch in batches:
        offered = {(uid, syntaxes[0]) for uid, syntaxes in proposed(batch) if len(syntaxes) == 1}
        assert {(item.sop_class_uid, item.transfer_syntax_uid) for item in batch.items} == offered


def test_one_class_in_130_syntaxes_is_split_too():
    batches = plan_batches([Item("1.1", f"2.{number}") for number in range(130)])
    assert [len(batch.items) for batch in batches] == [126, 4]
    assert [len(batch.contexts) for batch in batches] == [128, 6]


def test_order_is_kept_within_an_association():
    items = [Item("1.1", sop_instance_uid=str(number)) for number in (3, 1, 2)]
    assert [item.sop_instance_uid for item in plan_batches(items)[0].items] == ["3", "1", "2"]


def test_nothing_to_send_needs_no_association():
    assert plan_batches([]) == []


@pytest.mark.parametrize(
    ("code", "is_delivered", "is_warning"),
    [
        (0x0000, True, False),
        (0xB000, True, True),
        (0xB006, True, True),
        (0xB007, True, True),
        (0x0001, True, True),
        (0x0107, True, True),
        (0x0111, True, True),
        (0x0116, True, True),
        (0x0110, False, False),
        (0x0122, False, False),
        (0x0124, False, False),
        (0xA700, False, False),
        (0xA900, False, False),
        (0xC000, False, False),
        (0xFF00, False, False),
    ],
)
def test_status_says_whether_the_peer_has_it(code, is_delivered, is_warning):
    result = Result(Item("1.1"), code)
    assert (result.is_delivered, result.is_warning) == (is_delivered, is_warning)
