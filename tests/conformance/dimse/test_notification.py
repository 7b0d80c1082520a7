"""Instance Availability Notification as SCU (PS3.4 R.3.2.1): what a peer sees."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pynetdicom import AE, evt

from pacs.dimse.calling import Caller
from pacs.dimse.notification import NOTIFICATION, NotificationCaller
from pacs.dimse.peers import Peer, Peers
from pacs.routing.availability import Availability, Notice
from pacs.routing.destinations import Unreachable

NOTICE = Notice(
    "1.2.3",
    (
        Availability("1.2.3.1", "1.2.840.10008.5.1.4.1.1.2", "1.2.3.1.1", is_available=True),
        Availability("1.2.3.1", "1.2.840.10008.5.1.4.1.1.2", "1.2.3.1.2", is_available=False),
        Availability("1.2.3.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.3.2.1", is_available=True),
    ),
)


@contextmanager
def notified(status=0x0000) -> Iterator[tuple[NotificationCaller, list]]:
    """Run a peer that keeps what it is told and answers with ``status``."""
    told: list = []

    def take(event):
        told.append((str(event.request.AffectedSOPInstanceUID), event.attribute_list))
        return status, None

    ae = AE("WARD")
    ae.add_supported_context(NOTIFICATION)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_CREATE, take)])
    try:
        peers = Peers((Peer("WARD", "127.0.0.1", server.server_address[1]),))
        yield NotificationCaller(Caller("PACS"), peers), told
    finally:
        server.shutdown()


def test_notice_has_every_attribute_of_the_table_and_no_other():
    with notified() as (caller, told):
        assert caller.notify("WARD", NOTICE) == ""
        assert caller.notify("WARD", NOTICE) == ""
    (first_uid, attributes), (second_uid, _) = told
    assert first_uid != second_uid
    assert {element.keyword for element in attributes} == {
        "ReferencedPerformedProcedureStepSequence",
        "StudyInstanceUID",
        "ReferencedSeriesSequence",
    }
    assert attributes.StudyInstanceUID == "1.2.3"
    assert not attributes.ReferencedPerformedProcedureStepSequence
    assert {
        (item.SeriesInstanceUID, one.ReferencedSOPInstanceUID, one.InstanceAvailability, one.RetrieveAETitle)
        for item in attributes.ReferencedSeriesSequence
        for one in item.ReferencedSOPSequence
    } == {
        ("1.2.3.1", "1.2.3.1.1", "ONLINE", "PACS"),
        ("1.2.3.1", "1.2.3.1.2", "UNAVAILABLE", "PACS"),
        ("1.2.3.2", "1.2.3.2.1", "ONLINE", "PACS"),
    }
    assert len(attributes.ReferencedSeriesSequence) == 2


@pytest.mark.parametrize("status", [0x0107, 0x0116])
def test_warning_counts_as_taken(status):
    with notified(status) as (caller, told):
        assert caller.notify("WARD", NOTICE) == ""
    assert len(told) == 1


def test_refusal_is_told_by_its_status():
    with notified(0x0110) as (caller, _):
        assert "0x0110" in caller.notify("WARD", NOTICE)


def test_peer_without_an_address_or_that_does_not_listen_is_unreachable():
    with notified() as (caller, _):
        with pytest.raises(Unreachable):
            caller.notify("NOBODY", NOTICE)
        ended = caller
    with pytest.raises(Unreachable):
        ended.notify("WARD", NOTICE)
