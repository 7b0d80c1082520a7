"""What requests about work items say: UIDs, keys, filters and locks of a query string."""

import pytest

from dicomweb.errors import InvalidAddress
from dicomweb.workitem_requests import check_ae_title, find_uid, parse_filter, parse_lock, parse_search
from pacs.errors import InvalidQuery


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], ""),
        ([("1.2.3", "")], "1.2.3"),
        ([("transaction-uid", "1.2.3")], "1.2.3"),
        ([("TRANSACTION-UID", "1.2.3"), ("1.2.3", "")], "1.2.3"),
        ([("accept", "application/dicom+json")], ""),
    ],
)
def test_uid_is_found_in_every_form(fields, expected):
    assert find_uid(fields, "transaction-uid") == expected


def test_two_uids_are_one_too_many():
    with pytest.raises(InvalidAddress):
        find_uid([("1.2.3", ""), ("transaction-uid", "1.2.4")], "transaction-uid")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("filter", "WorklistLabel=SEG*")], {"WorklistLabel": "SEG*"}),
        (
            [("filter", "WorklistLabel=A, B,00404018.00080100=110005,ProcedureStepState=SCHEDULED")],
            {
                "WorklistLabel": "A, B",
                "ScheduledWorkitemCodeSequence.CodeValue": "110005",
                "ProcedureStepState": "SCHEDULED",
            },
        ),
        (
            [("WorklistLabel", "A"), ("deletionlock", "true"), ("filter", "PatientID=1")],
            {"WorklistLabel": "A", "PatientID": "1"},
        ),
        ([("filter", "SOPInstanceUID=1.2,1.3")], {"SOPInstanceUID": "1.2\\1.3"}),
        ([("filter", "WorklistLabel=")], {}),
        ([], {}),
    ],
)
def test_filter_is_a_list_of_keys_or_parameters_of_their_own(fields, expected):
    assert parse_filter(fields) == expected


@pytest.mark.parametrize("text", ["x", "Nonsense=1", "=", "WorklistLabel=a,Nonsense=1"])
def test_filter_with_what_is_no_key_is_refused(text):
    with pytest.raises(InvalidQuery):
        parse_filter([("filter", text)])


@pytest.mark.parametrize(
    ("texts", "expected"), [([], False), (["true"], True), (["FALSE"], False), (["true"] * 2, True)]
)
def test_lock_is_asked_for_or_not(texts, expected):
    assert parse_lock([("deletionlock", text) for text in texts]) is expected


@pytest.mark.parametrize("texts", [["yes"], ["true", "false"], [""]])
def test_lock_that_is_not_clear_is_refused(texts):
    with pytest.raises(InvalidQuery):
        parse_lock([("deletionlock", text) for text in texts])


@pytest.mark.parametrize("title", ["", " ", "A" * 17, "A\\B", "A\tB", "É"])
def test_ae_title_that_is_none_is_refused(title):
    with pytest.raises(InvalidAddress):
        check_ae_title(title)


def test_ae_title_is_taken_without_its_padding():
    assert check_ae_title(" AI 1 ") == "AI 1"


def test_page_is_never_larger_than_any_search_s():
    assert parse_search([("limit", "999999999")]).limit == 5000
    assert parse_search([]).limit == 200
