"""C-STORE as SCU (PS3.4 Annex B): stored bytes go out as they are, over an association that stands, in bounded memory.

What the peer takes in the stored syntax is never decoded or re-encoded; anything else is asked for in a syntax that it
took. One context is proposed for every stored syntax of a class, and two more for what it can be converted to, so that
a peer's choice in one never costs us another. What cannot be sent is a result like any other, with its reason.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Generic, Protocol, TypeVar

from pydicom.uid import UID
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext, build_context

from pacs.dimse.calling import Caller
from pacs.dimse.peers import Peer
from pacs.dimse.streaming import iter_message
from pacs.errors import CorruptPixelData, NotAcceptable, NotFound, PacsError
from pacs.imaging import syntaxes
from pacs.retrieve import Acceptable, Representation
from pacs.routing.destinations import Unreachable

LOGGER = logging.getLogger(__name__)

MAX_CONTEXTS = 128
"""Presentation contexts of one association: their IDs are the odd numbers of a byte (PS3.8 9.3.2.2)."""

NATIVE = (syntaxes.EXPLICIT_VR_LITTLE_ENDIAN, syntaxes.IMPLICIT_VR_LITTLE_ENDIAN)
COMPRESSED = (
    syntaxes.JPEG_LS_LOSSLESS,
    syntaxes.JPEG_2000_LOSSLESS,
    syntaxes.HTJ2K_LOSSLESS,
    syntaxes.HTJ2K_LOSSLESS_RPCL,
    syntaxes.RLE_LOSSLESS,
    syntaxes.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
)
"""What an instance can be converted to, most wanted first. Native before compressed: nothing can go wrong with it."""

_RESPONSE_SECONDS = 120.0
_MAX_MESSAGE_ID = 0xFFFF
_DUPLICATE_SOP_INSTANCE = 0x0111
_SOP_CLASS_NOT_SUPPORTED = 0x0122
_PROCESSING_FAILURE = 0x0110
_FINAL = (_SOP_CLASS_NOT_SUPPORTED, 0x0124)  # not supported, not authorised: a person has to change that
_WARNINGS = (0x0001, 0x0107, 0x0116)


class Sendable(Protocol):
    """What has to be known of an instance before it is opened; ``model.InstanceRecord`` is one."""

    @property
    def sop_class_uid(self) -> str:
        """Its SOP Class."""
        ...

    @property
    def sop_instance_uid(self) -> str:
        """Its SOP Instance UID."""
        ...

    @property
    def transfer_syntax_uid(self) -> str:
        """The syntax its bytes are in."""
        ...


T = TypeVar("T", bound=Sendable)


class AssociationLost(PacsError):
    """The association ended before the instance was acknowledged."""


class Line(Protocol):
    """An established association, whoever asked for it: ``association.Acceptor`` or ``calling.Requestor``."""

    is_established: bool
    dul: Any
    dimse: Any

    @property
    def accepted_contexts(self) -> list[PresentationContext]:
        """The contexts that were accepted."""
        ...

    def await_response(self, timeout_seconds: float) -> Any:
        """Return the response to what was sent; None if none came."""
        ...

    def abort(self, block: bool = True) -> None:
        """End the association at once."""
        ...


@dataclass(frozen=True, slots=True)
class Originator:
    """Whose C-MOVE a C-STORE is a part of (PS3.7 9.1.1.1.6)."""

    ae_title: str
    message_id: int


@dataclass(frozen=True, slots=True)
class Result(Generic[T]):
    """What became of one instance: the peer's status, or ours if it was not sent, and a comment without patient values.

    ``is_final``: sending the same again will not help.
    """

    item: T
    code: int
    comment: str = ""
    is_final: bool = False

    @property
    def is_warning(self) -> bool:
        """Whether the peer has it, but not without a remark; one that was there already is such a case."""
        return self.code in _WARNINGS or self.code >> 12 == 0xB or self.code == _DUPLICATE_SOP_INSTANCE

    @property
    def is_delivered(self) -> bool:
        """Whether the peer has it."""
        return self.code == 0 or self.is_warning


Open = Callable[[T, Acceptable], Representation]


@dataclass(slots=True)
class Batch(Generic[T]):
    """What is sent over one association."""

    contexts: list[PresentationContext] = field(default_factory=list)
    items: list[T] = field(default_factory=list)


def plan_batches(items: Iterable[T]) -> list[Batch[T]]:
    """Return the instances in their order, split so that no association needs more than 128 contexts."""
    batches: list[Batch[T]] = []
    places: dict[tuple[str, str], Batch[T]] = {}
    for item in items:
        pair = item.sop_class_uid, item.transfer_syntax_uid
        if pair not in places:
            wanted = _contexts_for(*pair, batches[-1].contexts if batches else [])
            if not batches or len(batches[-1].contexts) + len(wanted) > MAX_CONTEXTS:
                batches.append(Batch())
                wanted = _contexts_for(*pair, [])
            batches[-1].contexts += wanted
            places[pair] = batches[-1]
        places[pair].items.append(item)
    return batches


def _contexts_for(
    sop_class_uid: str, transfer_syntax_uid: str, present: Sequence[PresentationContext]
) -> list[PresentationContext]:
    """Return the contexts that a class in a syntax needs beside those that are there."""
    stored = build_context(sop_class_uid, transfer_syntax_uid)
    if any(context.abstract_syntax == sop_class_uid for context in present):
        return [stored]
    return [stored, build_context(sop_class_uid, list(NATIVE)), build_context(sop_class_uid, list(COMPRESSED))]


class InstanceSender(Generic[T]):
    """Sends instances over one association, one after the other.

    ``open_item`` gives an instance in one of the syntaxes asked for, or raises NotAcceptable.
    """

    def __init__(self, line: Line, open_item: Open[T], originator: Originator | None = None, priority: int = 0) -> None:
        self._line = line
        self._open_item = open_item
        self._originator = originator
        self._priority = priority
        self._message_ids = cycle(range(1, _MAX_MESSAGE_ID + 1))
        self._contexts: dict[str, dict[str, int]] = {}
        for context in line.accepted_contexts:
            if context.as_scu and context.context_id is not None:
                of_class = self._contexts.setdefault(str(context.abstract_syntax), {})
                of_class.setdefault(str(context.transfer_syntax[0]), context.context_id)

    def send(self, item: T) -> Result[T]:
        """Send one instance and return what became of it; raise AssociationLost if that will never be known."""
        accepted = self._contexts.get(item.sop_class_uid, {})
        if not accepted:
            return Result(item, _SOP_CLASS_NOT_SUPPORTED, "The peer does not take this SOP Class.", is_final=True)
        try:
            opened = self._open_item(item, _choose(item.transfer_syntax_uid, accepted))
        except NotAcceptable:
            return Result(item, _PROCESSING_FAILURE, "In no syntax that the peer takes.", is_final=True)
        except (NotFound, CorruptPixelData) as error:
            return Result(item, _PROCESSING_FAILURE, str(error), is_final=True)
        except PacsError as error:
            return Result(item, _PROCESSING_FAILURE, str(error))
        except Exception:
            LOGGER.exception("Instance %s cannot be opened", item.sop_instance_uid)
            return Result(item, _PROCESSING_FAILURE, "The archive failed; its log says why.")
        with opened as representation:
            self._transmit(item, representation, accepted[representation.transfer_syntax_uid])
        return self._await_result(item)

    def _transmit(self, item: T, representation: Representation, context_id: int) -> None:
        command, max_pdu_bytes = self._build_command(item), self._line.dimse.maximum_pdu_size
        try:
            for primitive in iter_message(command, representation.iter_chunks(), context_id, max_pdu_bytes):
                if not self._line.is_established or self._line.dul.has_ended:
                    break
                self._line.dul.send_pdu(primitive)
        except Exception as error:
            # Half a data set is out already, and no protocol has a word for taking it back.
            LOGGER.exception("Sending instance %s broke off", item.sop_instance_uid)
            self._line.abort(block=False)
            raise AssociationLost from error

    def _build_command(self, item: T) -> C_STORE:
        request = C_STORE()
        request.MessageID = next(self._message_ids)
        request.AffectedSOPClassUID = UID(item.sop_class_uid)
        request.AffectedSOPInstanceUID = UID(item.sop_instance_uid)
        request.Priority = self._priority
        if self._originator is not None:
            request.MoveOriginatorApplicationEntityTitle = self._originator.ae_title
            request.MoveOriginatorMessageID = self._originator.message_id
        return request

    def _await_result(self, item: T) -> Result[T]:
        response = self._line.await_response(_RESPONSE_SECONDS)
        if not isinstance(response, C_STORE) or response.Status is None:
            if self._line.is_established:
                self._line.abort(block=False)
            raise AssociationLost
        code = response.Status
        comment = "" if code == 0 else f"The peer answered 0x{code:04X}."
        return Result(item, code, comment, is_final=code >> 8 == 0xA9 or code >> 12 == 0xC or code in _FINAL)


def _choose(transfer_syntax_uid: str, accepted: dict[str, int]) -> Acceptable:
    """Return the stored syntax if the peer took it, else what it took of those that can be made."""
    if transfer_syntax_uid in accepted:
        return Acceptable((transfer_syntax_uid,))
    return Acceptable(tuple(uid for uid in (*NATIVE, *COMPRESSED) if uid in accepted))


def send_all(
    caller: Caller,
    peer: Peer,
    items: Sequence[T],
    open_item: Open[T],
    *,
    originator: Originator | None = None,
    priority: int = 0,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Result[T]]:
    """Send instances in their order and yield what became of each; after a cancel the rest yields nothing.

    An association that is lost is asked for again and goes on behind the instance that was under way, which has
    failed: the one that a peer cannot take does not keep back the others. Raises Unreachable once two in a row have
    brought nothing, or none can be had.
    """
    for batch in plan_batches(items):
        left = iter(batch.items)
        fruitless = 0
        item = next(left, None)
        while item is not None and not is_cancelled():
            with caller.associate(peer, batch.contexts) as line:
                sender = InstanceSender(line, open_item, originator, priority)
                is_fruitful = False
                while item is not None and line.is_usable and not is_cancelled():
                    try:
                        result = sender.send(item)
                        is_fruitful = True
                    except AssociationLost as lost:
                        result = Result(item, _PROCESSING_FAILURE, str(lost))
                    yield result
                    item = next(left, None)
            fruitless = 0 if is_fruitful else fruitless + 1
            if fruitless > 1:
                raise Unreachable(f"{peer.ae_title} ends every association.")
