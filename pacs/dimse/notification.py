"""Instance Availability Notification as SCU (PS3.4 Annex R): N-CREATE."""

from itertools import groupby
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid
from pynetdicom import build_context

from pacs.dimse.calling import Caller
from pacs.dimse.peers import Peers
from pacs.routing.availability import Availability, Notice
from pacs.routing.destinations import Unreachable

NOTIFICATION = "1.2.840.10008.5.1.4.33"

_SUCCESSES = (0x0000, 0x0001, 0x0107, 0x0116)
"""Success, and the warnings of N-CREATE (PS3.7 10.1.5.1.6): the notice was taken."""


class NotificationCaller:
    """Tells peers what can be retrieved from here."""

    sop_class_uids = frozenset({NOTIFICATION})

    def __init__(self, caller: Caller, peers: Peers) -> None:
        self._caller = caller
        self._peers = peers

    def notify(self, ae_title: str, notice: Notice) -> str:
        """Tell one peer; return what it has against the notice. Raises Unreachable if it cannot be told now."""
        peer = self._peers.find_callable(ae_title)
        if peer is None:
            raise Unreachable(f"{ae_title} has no address and port in the settings.")
        with self._caller.associate(peer, [build_context(NOTIFICATION)]) as association:
            answer: Any = association.send_n_create(
                build_notification(notice, self._caller.ae_title), NOTIFICATION, generate_uid(prefix=None)
            )[0]
        if "Status" not in answer:
            raise Unreachable(f"{ae_title} does not answer.")
        return "" if answer.Status in _SUCCESSES else f"Instance availability was refused: 0x{answer.Status:04X}."


def build_notification(notice: Notice, retrieve_ae_title: str) -> Dataset:
    """Return the attributes of PS3.4 Table R.3.2-1; more are forbidden (R.3.2.1.2)."""
    dataset = Dataset()
    dataset.ReferencedPerformedProcedureStepSequence = Sequence([])
    dataset.StudyInstanceUID = notice.study_instance_uid
    series_items = []
    for series_instance_uid, instances in groupby(notice.instances, lambda instance: instance.series_instance_uid):
        item = Dataset()
        item.SeriesInstanceUID = series_instance_uid
        item.ReferencedSOPSequence = Sequence([_build_reference(one, retrieve_ae_title) for one in instances])
        series_items.append(item)
    dataset.ReferencedSeriesSequence = Sequence(series_items)
    return dataset


def _build_reference(instance: Availability, retrieve_ae_title: str) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = instance.sop_class_uid
    reference.ReferencedSOPInstanceUID = instance.sop_instance_uid
    reference.InstanceAvailability = "ONLINE" if instance.is_available else "UNAVAILABLE"
    reference.RetrieveAETitle = retrieve_ae_title
    return reference
