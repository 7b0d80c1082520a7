"""Modality Performed Procedure Step as SCU (PS3.4 F.7): what a device told us, told on to a RIS or a dose register."""

from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import build_context

from pacs.dimse.answers import encode_answer
from pacs.dimse.calling import Caller
from pacs.dimse.mpps import PERFORMED_STEP
from pacs.dimse.peers import Peer, Peers
from pacs.model import Attributes
from pacs.routing.destinations import Unreachable
from pacs.worklist import PerformedState, PerformedStep
from pacs.worklist.performed import FIXED, STATUS

_DUPLICATE_SOP_INSTANCE = 0x0111
_PROCESSING_FAILURE = 0x0110
_MAY_NO_LONGER_BE_UPDATED = 0xA710
_WARNINGS = (0x0001, 0x0107, 0x0116)


class PerformedStepCaller:
    """Tells peers of performed steps."""

    sop_class_uids = frozenset({PERFORMED_STEP})

    def __init__(self, caller: Caller, peers: Peers) -> None:
        self._caller = caller
        self._peers = peers

    def tell(self, ae_title: str, step: PerformedStep) -> str:
        """Make a peer's step what ours is; return what it has against that.

        Raises Unreachable if it cannot be told now. It may have been told before: then it has the step already, or has
        seen it end.
        """
        peer = self._peers.find_callable(ae_title)
        if peer is None:
            raise Unreachable(f"{ae_title} has no address and port in the settings.")
        uid = step.sop_instance_uid
        with self._caller.associate(peer, [build_context(PERFORMED_STEP)]) as association:
            created = {**step.attributes, STATUS: {"vr": "CS", "Value": [PerformedState.IN_PROGRESS.value]}}
            answer, _ = association.send_n_create(_encode(created, peer), PERFORMED_STEP, uid)
            status = _status_of(answer, ae_title)
            is_new = status != _DUPLICATE_SOP_INSTANCE
            if is_new and status not in (0, *_WARNINGS):
                return f"The performed step was refused: 0x{status:04X}."
            if is_new and step.state is PerformedState.IN_PROGRESS:
                return ""
            changes = {tag: element for tag, element in step.attributes.items() if tag not in FIXED}
            answer, _ = association.send_n_set(_encode(changes, peer), PERFORMED_STEP, uid)
            status = _status_of(answer, ae_title)
        has_ended = status == _PROCESSING_FAILURE and answer.get("ErrorID") == _MAY_NO_LONGER_BE_UPDATED
        return "" if has_ended or status in (0, *_WARNINGS) else f"The change was refused: 0x{status:04X}."


def _encode(attributes: Attributes, peer: Peer) -> Dataset:
    """Return a data set whose text is in the peer's character set."""
    sets = tuple(peer.answer_character_set.split("\\")) if peer.answer_character_set else ("ISO_IR 192",)
    encoded = encode_answer(attributes, ExplicitVRLittleEndian, sets, is_latin_only=peer.is_latin_only)
    return read_dataset(BytesIO(encoded), is_implicit_VR=False, is_little_endian=True)


def _status_of(answer: Dataset, ae_title: str) -> int:
    if "Status" not in answer:
        raise Unreachable(f"{ae_title} does not answer.")
    return int(answer.Status)
