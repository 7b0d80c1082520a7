import pytest
from pydicom.uid import UID_dictionary
from pynetdicom import AllStoragePresentationContexts, build_context

from pacs.dimse.negotiation import is_accepted_class, plan_contexts
from pacs.imaging.syntaxes import ACCEPTED_ORDER

CT = "1.2.840.10008.5.1.4.1.1.2"


def test_every_known_storage_class_is_accepted():
    assert all(is_accepted_class(context.abstract_syntax) for context in AllStoragePresentationContexts)


@pytest.mark.parametrize("uid", [uid for uid, (name, *_) in UID_dictionary.items() if "FIND" in name or "MOVE" in name])
def test_query_and_retrieve_classes_are_not_stored(uid):
    assert not is_accepted_class(uid)


@pytest.mark.parametrize("kind", sorted({facts[1] for facts in UID_dictionary.values()} - {"SOP Class"}))
def test_what_is_known_not_to_be_a_class_is_refused(kind):
    assert not any(is_accepted_class(uid) for uid, facts in UID_dictionary.items() if facts[1] == kind)


def test_plan_keeps_our_order_of_what_was_proposed():
    proposed = build_context(CT, [ACCEPTED_ORDER[-1], "1.2.3", ACCEPTED_ORDER[5], ACCEPTED_ORDER[0]])
    (planned,) = plan_contexts([proposed])
    assert planned.transfer_syntax == [ACCEPTED_ORDER[0], ACCEPTED_ORDER[5], ACCEPTED_ORDER[-1]]


def test_plan_has_one_context_a_class():
    proposed = [build_context(CT, ACCEPTED_ORDER[0]), build_context(CT, ACCEPTED_ORDER[1]), build_context("2.25.1")]
    assert [context.abstract_syntax for context in plan_contexts(proposed)] == [CT, "2.25.1"]


def test_plan_leaves_out_other_services():
    assert plan_contexts([build_context("1.2.840.10008.1.20.1")]) == []
