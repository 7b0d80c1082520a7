"""Storage Commitment Push Model (PS3.4 Annex J) as SCP and as SCU: N-ACTION and N-EVENT-REPORT, both ways.

As SCP the report goes over the association of the request while that is open, else over one that we ask for, as SCP. As
SCU the report is taken from either kind of association too.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID
from pynetdicom import build_context, build_role
from pynetdicom.dimse_primitives import N_ACTION, N_EVENT_REPORT
from pynetdicom.dsutils import encode
from pynetdicom.presentation import PresentationContext

from pacs.access import Principal
from pacs.commitment import Committer, Item, Report
from pacs.dimse import status
from pacs.dimse.association import Acceptor
from pacs.dimse.calling import Caller
from pacs.dimse.data_sets import parse_data_set
from pacs.dimse.peers import Peer, Peers
from pacs.errors import InvalidHeader, Unavailable
from pacs.ingest.rules import is_uid
from pacs.model import Attributes, InstanceRecord
from pacs.routing.destinations import Destination, Sent, Unreachable
from pacs.tags import text_of, values_of

PUSH_MODEL = "1.2.840.10008.1.20.1"
WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"

_REQUEST_COMMITMENT = 1
_ALL_COMMITTED, _SOME_FAILED = 1, 2

# PS3.7 Annex C, but for the first, which PS3.3 C.14.1.1 has
_DUPLICATE_TRANSACTION = 0x0131
_NO_SUCH_SOP_INSTANCE = 0x0112
_NO_SUCH_EVENT_TYPE = 0x0113
_INVALID_ARGUMENT = 0x0115
_NO_SUCH_ACTION = 0x0123
_RESOURCE_LIMITATION = 0x0213

_ANSWER_SECONDS = 30.0
_LINGER_SECONDS = 2.0
"""How long an association over which we asked is kept open for a report that comes at once."""

_MESSAGE_IDS = 0x7000
"""Where the Message IDs of reports begin: other requests of ours over the same association have lower ones."""

_MAX_OPEN = 1000


class InvalidArgument(Exception):
    """The information of a request is not what the SOP Class wants."""


class CommitmentService:
    """Takes requests for storage commitment, and reports of what was committed for us.

    ``elsewhere`` delivers a report as ``report_at_once`` does, over an association that another process serves.
    """

    sop_class_uids = frozenset({PUSH_MODEL})

    def __init__(
        self, committer: Committer, elsewhere: Callable[[str, Report], bool] = lambda _peer, _report: False
    ) -> None:
        self._committer = committer
        self._elsewhere = elsewhere
        self._open: dict[tuple[str, str], tuple[Acceptor, PresentationContext]] = {}
        self._gate = threading.Lock()
        self._reports = 0

    def negotiate(self, sop_class_uid: str, application_information: bytes) -> bytes | None:  # noqa: ARG002
        """Agree to nothing: there is nothing to agree on."""
        return None

    def serve(self, association: Acceptor, request: Any, context: PresentationContext) -> None:
        """Answer an N-ACTION once it is durable, or an N-EVENT-REPORT once it is noted."""
        if isinstance(request, N_ACTION):
            self._serve_action(association, request, context)
        elif isinstance(request, N_EVENT_REPORT):
            response = take_report(self._committer, association.principal, request, context)
            association.respond(response, _id_of(context))
        else:
            response = type(request)()
            response.MessageIDBeingRespondedTo = request.MessageID
            response.Status = status.UNRECOGNIZED_OPERATION
            association.respond(response, _id_of(context))

    def report_at_once(self, peer: str, report: Report) -> bool:
        """Deliver a report over the association of its request; False if that has ended, or the peer does not take it.

        Not for the association's own thread.
        """
        with self._gate:
            found = self._open.pop((peer, report.transaction_uid), None)
            self._reports += 1
            message_id = _MESSAGE_IDS + self._reports % _MESSAGE_IDS
        if found is None:
            return self._elsewhere(peer, report)
        association, context = found
        response = association.report(
            build_event(report, association.acceptor.ae_title, context, message_id), _id_of(context), _ANSWER_SECONDS
        )
        return response is not None and response.Status == status.SUCCESS

    def _serve_action(self, association: Acceptor, request: N_ACTION, context: PresentationContext) -> None:
        response = N_ACTION()
        response.MessageIDBeingRespondedTo = request.MessageID
        response.AffectedSOPClassUID = request.RequestedSOPClassUID
        response.AffectedSOPInstanceUID = request.RequestedSOPInstanceUID
        response.ActionTypeID = request.ActionTypeID
        response.Status, transaction_uid = self._accept(association, request, context)
        # Before the answer: the report may be ready before the peer has read it.
        if transaction_uid:
            self._remember(association, context, transaction_uid)
        association.respond(response, _id_of(context))

    def _accept(self, association: Acceptor, request: N_ACTION, context: PresentationContext) -> tuple[int, str]:
        if request.RequestedSOPInstanceUID != WELL_KNOWN_INSTANCE:
            return _NO_SUCH_SOP_INSTANCE, ""
        if request.ActionTypeID != _REQUEST_COMMITMENT:
            return _NO_SUCH_ACTION, ""
        try:
            transaction_uid, items = parse_request(request.ActionInformation, context)
            is_new = self._committer.accept(association.principal, transaction_uid, items)
        except InvalidArgument:
            return _INVALID_ARGUMENT, ""
        except Unavailable:
            return _RESOURCE_LIMITATION, ""
        return (status.SUCCESS, transaction_uid) if is_new else (_DUPLICATE_TRANSACTION, "")

    def _remember(self, association: Acceptor, context: PresentationContext, transaction_uid: str) -> None:
        with self._gate:
            self._open = {key: entry for key, entry in self._open.items() if not entry[0].is_over}
            if len(self._open) < _MAX_OPEN:
                self._open[association.principal.name, transaction_uid] = association, context


class CommitmentCaller:
    """Carries reports and requests to peers."""

    sop_class_uids = frozenset({PUSH_MODEL})

    def __init__(self, caller: Caller, peers: Peers, service: CommitmentService, committer: Committer) -> None:
        self._caller = caller
        self._peers = peers
        self._service = service
        self._committer = committer

    def report(self, ae_title: str, report: Report) -> None:
        """Tell a peer what was committed; raise Unreachable if it does not take that now."""
        if self._service.report_at_once(ae_title, report):
            return
        peer = self._find(ae_title)
        roles = [build_role(PUSH_MODEL, scu_role=False, scp_role=True)]
        with self._caller.associate(peer, [build_context(PUSH_MODEL)], roles) as association:
            context = association.accepted_contexts[0]
            event = build_event(report, self._caller.ae_title, context, 1)
            # Not send_n_event_report: a peer that knows nothing of roles has agreed to ours all the same.
            association.dimse.send_msg(event, _id_of(context))
            response = association.await_response(_ANSWER_SECONDS)
        if not isinstance(response, N_EVENT_REPORT) or response.Status != status.SUCCESS:
            raise Unreachable(f"{ae_title} did not take a storage commitment report: {_explain(response)}.")

    def ask(self, ae_title: str, request: Report) -> None:
        """Ask a peer to commit; raise Unreachable if it does not accept that now. It may answer at once, or later."""
        peer = self._find(ae_title)
        with self._caller.associate(peer, [build_context(PUSH_MODEL)]) as association:
            context = association.accepted_contexts[0]
            reported = threading.Event()

            def take(event: N_EVENT_REPORT, context_id: int) -> None:
                answer = take_report(self._committer, Principal(ae_title), event, context)
                association.dimse.send_msg(answer, context_id)
                reported.set()

            association.on_report = take
            association.dimse.send_msg(build_action(request, context), _id_of(context))
            response = association.await_response(_ANSWER_SECONDS)
            if isinstance(response, N_ACTION) and response.Status == status.SUCCESS:
                reported.wait(_LINGER_SECONDS)
                return
        raise Unreachable(f"{ae_title} did not accept a storage commitment request: {_explain(response)}.")

    def _find(self, ae_title: str) -> Peer:
        peer = self._peers.find_callable(ae_title)
        if peer is None:
            raise Unreachable(f"{ae_title} has no address and port in the settings.")
        return peer


class CommittedDestination:
    """A destination that is asked, after each instance that it has got, to commit to it."""

    def __init__(self, destination: Destination, committer: Committer) -> None:
        self._destination = destination
        self._committer = committer

    @property
    def name(self) -> str:
        """The destination's AE title."""
        return self._destination.name

    def send(self, records: Sequence[InstanceRecord]) -> Iterator[Sent]:
        """Send instances as the destination does; the request is listed before an instance counts as delivered."""
        classes = {record.sop_instance_uid: record.sop_class_uid for record in records}
        for sent in self._destination.send(records):
            if sent.is_delivered:
                self._committer.request(self.name, [Item(classes[sent.sop_instance_uid], sent.sop_instance_uid)])
            yield sent


def parse_request(information: BytesIO | None, context: PresentationContext) -> tuple[str, tuple[Item, ...]]:
    """Return Transaction UID and instances of a request (PS3.4 Table J.3-1); raise InvalidArgument."""
    attributes = _parse(information, context)
    items = tuple(_iter_items(attributes, "ReferencedSOPSequence", is_failed=False))
    transaction_uid = text_of(attributes, "TransactionUID")
    if not is_uid(transaction_uid) or not items:
        raise InvalidArgument
    return transaction_uid, items


def pack_report(peer: str, report: Report) -> bytes:
    """Return a report to a peer as another process of the archive can read it."""
    items = [(item.sop_class_uid, item.sop_instance_uid, item.failure) for item in report.items]
    return json.dumps([peer, report.transaction_uid, items]).encode()


def unpack_report(packed: bytes) -> tuple[str, Report]:
    """Return the peer and the report of ``pack_report``."""
    peer, transaction_uid, items = json.loads(packed)
    return peer, Report(transaction_uid, tuple(Item(*item) for item in items))


def take_report(
    committer: Committer, principal: Principal, event: N_EVENT_REPORT, context: PresentationContext
) -> N_EVENT_REPORT:
    """Note a report and return the response to it."""
    response = N_EVENT_REPORT()
    response.MessageIDBeingRespondedTo = event.MessageID
    response.AffectedSOPClassUID = event.AffectedSOPClassUID
    response.AffectedSOPInstanceUID = event.AffectedSOPInstanceUID
    response.EventTypeID = event.EventTypeID
    response.Status = _note(committer, principal, event, context)
    return response


def build_event(report: Report, ae_title: str, context: PresentationContext, message_id: int) -> N_EVENT_REPORT:
    """Return the message that carries a report (PS3.4 Table J.3-2)."""
    information = Dataset()
    information.TransactionUID = report.transaction_uid
    if report.committed:
        information.RetrieveAETitle = ae_title.strip()
        information.ReferencedSOPSequence = Items([_build_item(item) for item in report.committed])
    if report.failed:
        information.FailedSOPSequence = Items([_build_item(item) for item in report.failed])
    event = N_EVENT_REPORT()
    event.MessageID = message_id
    event.AffectedSOPClassUID = UID(PUSH_MODEL)
    event.AffectedSOPInstanceUID = UID(WELL_KNOWN_INSTANCE)
    event.EventTypeID = _SOME_FAILED if report.failed else _ALL_COMMITTED
    event.EventInformation = _encode(information, context)
    return event


def build_action(request: Report, context: PresentationContext) -> N_ACTION:
    """Return the message that asks for commitment (PS3.4 Table J.3-1)."""
    information = Dataset()
    information.TransactionUID = request.transaction_uid
    information.ReferencedSOPSequence = Items([_build_item(item) for item in request.items])
    action = N_ACTION()
    action.MessageID = 1
    action.RequestedSOPClassUID = UID(PUSH_MODEL)
    action.RequestedSOPInstanceUID = UID(WELL_KNOWN_INSTANCE)
    action.ActionTypeID = _REQUEST_COMMITMENT
    action.ActionInformation = _encode(information, context)
    return action


def _note(committer: Committer, principal: Principal, event: N_EVENT_REPORT, context: PresentationContext) -> int:
    if event.EventTypeID not in (_ALL_COMMITTED, _SOME_FAILED):
        return _NO_SUCH_EVENT_TYPE
    try:
        attributes = _parse(event.EventInformation, context)
    except InvalidArgument:
        return _INVALID_ARGUMENT
    items = (
        *_iter_items(attributes, "ReferencedSOPSequence", is_failed=False),
        *_iter_items(attributes, "FailedSOPSequence", is_failed=True),
    )
    try:
        is_known = committer.take_report(principal, Report(text_of(attributes, "TransactionUID"), items))
    except Unavailable:
        return _RESOURCE_LIMITATION
    return status.SUCCESS if is_known else _INVALID_ARGUMENT


def _parse(information: BytesIO | None, context: PresentationContext) -> Attributes:
    try:
        return parse_data_set(information, str(context.transfer_syntax[0]), "ISO_IR 100")
    except InvalidHeader:
        raise InvalidArgument from None


def _iter_items(attributes: Attributes, keyword: str, *, is_failed: bool) -> Iterable[Item]:
    for item in values_of(attributes, keyword):
        if not isinstance(item, dict) or not is_uid(uid := text_of(item, "ReferencedSOPInstanceUID")):
            raise InvalidArgument
        reason = text_of(item, "FailureReason")
        failure = (int(reason) if reason.isdecimal() else status.PROCESSING_FAILURE) if is_failed else 0
        yield Item(text_of(item, "ReferencedSOPClassUID"), uid, failure)


def _build_item(item: Item) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = item.sop_class_uid
    reference.ReferencedSOPInstanceUID = item.sop_instance_uid
    if item.failure:
        reference.FailureReason = item.failure
    return reference


def _encode(information: Dataset, context: PresentationContext) -> BytesIO:
    syntax = UID(context.transfer_syntax[0])
    encoded = encode(information, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    assert encoded is not None, "what we build can be encoded"
    return BytesIO(encoded)


def _explain(response: Any) -> str:
    return "it does not answer" if response is None else f"status 0x{getattr(response, 'Status', 0) or 0:04X}"


def _id_of(context: PresentationContext) -> int:
    return int(context.context_id or 0)
