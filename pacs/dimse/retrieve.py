"""C-MOVE and C-GET as SCP (PS3.4 C.4.2, C.4.3): what an identifier names, sent as sub-operations that are counted.

Both differ in nothing but the way their instances go: to a known destination over associations that we ask for, or
back over the one that the request came by.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dimse_primitives import C_GET, C_MOVE
from pynetdicom.dsutils import decode
from pynetdicom.presentation import PresentationContext

from pacs.access import Principal
from pacs.archive import Archive
from pacs.dimse.answers import encode_answer
from pacs.dimse.calling import Caller
from pacs.dimse.peers import Peers
from pacs.dimse.sending import AssociationLost, InstanceSender, Originator, Result, send_all
from pacs.dimse.status import ERROR_COMMENT_LENGTH
from pacs.errors import InvalidQuery, NotFound, PacsError
from pacs.model import InstanceRecord, Level
from pacs.query import MAX_LIMIT, MAX_VALUES, AnyOf, Condition, Equals, Query
from pacs.retrieve import Acceptable, Representation
from pacs.routing.destinations import Unreachable
from pacs.search import Match
from pacs.tags import tag_of

if TYPE_CHECKING:
    from pacs.dimse.association import Acceptor

LOGGER = logging.getLogger(__name__)

SUCCESS, PENDING, CANCELLED, SOME_FAILED = 0x0000, 0xFF00, 0xFE00, 0xB000
CANNOT_COUNT, CANNOT_PERFORM, UNKNOWN_DESTINATION, INVALID_IDENTIFIER = 0xA701, 0xA702, 0xA801, 0xA900

_ALL_LEVELS = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.INSTANCE)
_MOVE = {
    "1.2.840.10008.5.1.4.1.2.1.2": _ALL_LEVELS,  # Patient Root
    "1.2.840.10008.5.1.4.1.2.2.2": _ALL_LEVELS[1:],  # Study Root
    "1.2.840.10008.5.1.4.1.2.3.2": _ALL_LEVELS[:2],  # Patient/Study Only, retired
}
_GET = {
    "1.2.840.10008.5.1.4.1.2.1.3": _ALL_LEVELS,
    "1.2.840.10008.5.1.4.1.2.2.3": _ALL_LEVELS[1:],
    "1.2.840.10008.5.1.4.1.2.3.3": _ALL_LEVELS[:2],
}
_UNIQUE_KEYS = {
    Level.PATIENT: "PatientID",
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.INSTANCE: "SOPInstanceUID",
}
_FAILED_LIST = tag_of("FailedSOPInstanceUIDList")
_MAX_KEYS = 65_536
_MAX_COUNT = 0xFFFF
"""Numbers of sub-operations are US."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a retrieve identifier names: the values of its unique keys at ``level``, and those of the levels above."""

    level: Level
    values: tuple[str, ...]
    above: tuple[Condition, ...] = ()

    def iter_queries(self) -> Iterator[Query]:
        """Yield queries that together find it, none with more values than a query may have."""
        keyword = _UNIQUE_KEYS[self.level]
        # Whole patients are found by their studies.
        level = Level.STUDY if self.level is Level.PATIENT else self.level
        for start in range(0, len(self.values), MAX_VALUES):
            condition = _condition(keyword, self.values[start : start + MAX_VALUES])
            yield Query(level, (*self.above, condition), limit=MAX_LIMIT)


def parse_identifier(identifier: Dataset, levels: Iterable[Level]) -> Wanted:
    """Return what an identifier names (PS3.4 C.4.2.1.4.1); raise InvalidQuery if its model has no such thing.

    Unique keys of the levels above are matched where they are given, and not asked for where they are missing: that is
    the relational retrieve, which nobody has to negotiate here to be served.
    """
    try:
        level = Level(str(identifier.get("QueryRetrieveLevel", "")).strip(" \0"))
    except ValueError:
        raise InvalidQuery("Query/Retrieve Level is missing or wrong.") from None
    if level not in levels:
        raise InvalidQuery(f"This information model has no level {level}.")
    values = _read_values(identifier, _UNIQUE_KEYS[level])
    if not values:
        raise InvalidQuery(f"{_UNIQUE_KEYS[level]} is missing.")
    above = []
    for upper in _ALL_LEVELS[: _ALL_LEVELS.index(level)]:
        given = _read_values(identifier, _UNIQUE_KEYS[upper])
        if given:
            above.append(_condition(_UNIQUE_KEYS[upper], given))
    return Wanted(level, values, tuple(above))


def _condition(keyword: str, values: tuple[str, ...]) -> Condition:
    return Equals(keyword, values[0]) if len(values) == 1 else AnyOf(keyword, values)


def _read_values(identifier: Dataset, keyword: str) -> tuple[str, ...]:
    value = identifier.get(keyword)
    parts = [value] if isinstance(value, str) else list(value or ())
    texts = dict.fromkeys(str(part).strip(" \0") for part in parts)
    if len(texts) > _MAX_KEYS:
        raise InvalidQuery(f"Too many values for {keyword}.")
    return tuple(text for text in texts if text)


def find_records(archive: Archive, principal: Principal, wanted: Wanted) -> list[InstanceRecord]:
    """Return the instances that an identifier names, each once: newest study first, by series and instance number."""
    records: dict[int, InstanceRecord] = {}
    for query in wanted.iter_queries():
        series: dict[tuple[str, str], set[str]] = {}
        for match in _iter_matches(archive, principal, query):
            uids = series.setdefault((match.study_instance_uid, match.series_instance_uid), set())
            uids.add(match.sop_instance_uid)
        for (study_instance_uid, series_instance_uid), uids in series.items():
            try:
                found = archive.retrieve.find_instances(principal, study_instance_uid, series_instance_uid)
            except NotFound:  # it went away a moment ago
                continue
            if wanted.level is Level.INSTANCE:
                found = [record for record in found if record.sop_instance_uid in uids]
            records |= {record.row_id: record for record in found}
    return list(records.values())


def _iter_matches(archive: Archive, principal: Principal, query: Query) -> Iterator[Match]:
    page = archive.search.search(principal, query)
    yield from page.matches
    while page.has_more:
        page = archive.search.search(principal, replace(query, after=page.last))
        yield from page.matches


@dataclass(slots=True)
class Tally:
    """The sub-operations of one retrieve: those that wait, UIDs by row id, and what became of the others."""

    waiting: dict[int, str] = field(default_factory=dict)
    completed: int = 0
    warning: int = 0
    failed: list[str] = field(default_factory=list)

    @property
    def remaining(self) -> int:
        """How many wait."""
        return len(self.waiting)

    def add(self, result: Result[InstanceRecord]) -> None:
        """Count a sub-operation that has ended."""
        del self.waiting[result.item.row_id]
        if not result.is_delivered:
            LOGGER.warning("Instance %s was not sent: %s", result.item.sop_instance_uid, result.comment)
            self.failed.append(result.item.sop_instance_uid)
        elif result.is_warning:
            self.warning += 1
        else:
            self.completed += 1

    def fail_rest(self) -> None:
        """Count the sub-operations that will never be begun as failed."""
        self.failed += self.waiting.values()
        self.waiting.clear()

    @property
    def final_status(self) -> int:
        """The status of the last response (PS3.4 Table C.4-2) of a retrieve that was not cancelled."""
        if not self.failed and not self.warning:
            return SUCCESS
        return SOME_FAILED if self.completed or self.warning else CANNOT_PERFORM


class _Retrieve:
    """One retrieve request under way: its instances, its counts, and its responses."""

    def __init__(
        self, archive: Archive, association: "Acceptor", request: C_MOVE | C_GET, context: PresentationContext
    ) -> None:
        self._archive = archive
        self._association = association
        self._request = request
        self._context = context
        self._retriever = archive.retrieve
        self.destination = association.origin.calling_ae_title
        self.tally = Tally()

    @property
    def message_id(self) -> int:
        """The Message ID of the request."""
        return self._request.MessageID or 0

    @property
    def priority(self) -> int:
        """The priority that sub-operations have too."""
        return self._request.Priority or 0

    def is_cancelled(self) -> bool:
        """Whether there is nobody left who wants the rest."""
        return self._association.is_cancelled(self.message_id)

    def open_record(self, record: InstanceRecord, acceptable: Acceptable) -> Representation:
        """Open an instance to be sent."""
        coerce = self._archive.coercion.towards(self.destination)
        return self._retriever.open_instance(self._association.principal, record, acceptable, coerce)

    def find(self, levels: tuple[Level, ...]) -> list[InstanceRecord] | None:
        """Return what is asked for; None if that cannot be found out, which has been answered then."""
        try:
            records = find_records(
                self._archive, self._association.principal, parse_identifier(self._read_identifier(), levels)
            )
        except InvalidQuery as error:
            self.respond(INVALID_IDENTIFIER, str(error))
            return None
        except PacsError as error:
            LOGGER.warning("What a retrieve asks for cannot be found: %s", error)
            self.respond(CANNOT_COUNT, "The archive cannot answer now.")
            return None
        self.tally = Tally({record.row_id: record.sop_instance_uid for record in records})
        self._retriever = self._archive.retrieve.ahead_of(records)
        return records

    def perform(self, results: Iterable[Result[InstanceRecord]]) -> None:
        """Count results as they come, with a pending response for each but the last."""
        for result in results:
            self.tally.add(result)
            if self.tally.remaining and not self.is_cancelled():
                self.respond(PENDING)

    def finish(self) -> None:
        """Send the final response."""
        is_cancelled = self.tally.remaining > 0 and self.is_cancelled()
        self.respond(CANCELLED if is_cancelled else self.tally.final_status)

    def respond(self, status: int, comment: str = "") -> None:
        """Send a response with the counts; only the final one names what failed (PS3.4 C.4.2.1.4.2)."""
        tally = self.tally
        response: Any = type(self._request)()
        response.MessageIDBeingRespondedTo = self.message_id
        response.AffectedSOPClassUID = self._request.AffectedSOPClassUID
        response.Status = status
        if comment:
            response.ErrorComment = comment[:ERROR_COMMENT_LENGTH]
        if status in (PENDING, CANCELLED):  # a final response of any other kind has none remaining (PS3.7 9.1.4.1.7)
            response.NumberOfRemainingSuboperations = min(tally.remaining, _MAX_COUNT)
        response.NumberOfCompletedSuboperations = min(tally.completed, _MAX_COUNT)
        response.NumberOfFailedSuboperations = min(len(tally.failed), _MAX_COUNT)
        response.NumberOfWarningSuboperations = min(tally.warning, _MAX_COUNT)
        if status != PENDING and tally.failed:
            response.Identifier = BytesIO(self._encode_failed())
        self._association.respond(response, cast("int", self._context.context_id))

    def _encode_failed(self) -> bytes:
        element = {"vr": "UI", "Value": self.tally.failed}
        return encode_answer({_FAILED_LIST: element}, str(self._syntax), ())  # PS3.4 C.4.2.1.4.2: no character set

    def _read_identifier(self) -> Dataset:
        syntax = self._syntax
        try:
            identifier = decode(
                self._request.Identifier or BytesIO(),
                syntax.is_implicit_VR,
                syntax.is_little_endian,
                syntax.is_deflated,
            )
            identifier.decode()
        except Exception as error:
            raise InvalidQuery("The identifier cannot be read.") from error
        return identifier

    @property
    def _syntax(self) -> UID:
        return self._context.transfer_syntax[0]


class _Negotiating:
    """What both services agree to: relational retrieve (PS3.4 C.5.2.1, C.5.3.1)."""

    def negotiate(self, sop_class_uid: str, application_information: bytes) -> bytes | None:  # noqa: ARG002
        """Return one byte, which declines whatever else was asked: relational retrieve is agreed to."""
        return bytes([application_information[0] & 1]) if application_information else None


class MoveService(_Negotiating):
    """C-MOVE: sends to any known peer that can be called."""

    sop_class_uids = frozenset(_MOVE)

    def __init__(self, archive: Archive, peers: Peers, caller: Caller) -> None:
        self._archive = archive
        self._peers = peers
        self._caller = caller

    def serve(self, association: "Acceptor", request: Any, context: PresentationContext) -> None:
        """Send what is asked for to the Move Destination; a destination that is lost fails what is left."""
        retrieve = _Retrieve(self._archive, association, request, context)
        peer = self._peers.find_callable(str(request.MoveDestination or ""))
        if peer is None:
            retrieve.respond(UNKNOWN_DESTINATION, "The move destination is not known.")
            return
        retrieve.destination = peer.ae_title
        records = retrieve.find(_MOVE[str(context.abstract_syntax)])
        if records is None:
            return
        results = send_all(
            self._caller,
            peer,
            records,
            retrieve.open_record,
            originator=Originator(association.origin.calling_ae_title, retrieve.message_id),
            priority=retrieve.priority,
            is_cancelled=retrieve.is_cancelled,
        )
        try:
            retrieve.perform(results)
        except Unreachable as error:
            LOGGER.warning("C-MOVE: %s", error)
            retrieve.tally.fail_rest()
        retrieve.finish()


class GetService(_Negotiating):
    """C-GET: sends back over the contexts that the requestor offered for it, and over no other."""

    sop_class_uids = frozenset(_GET)

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def serve(self, association: "Acceptor", request: Any, context: PresentationContext) -> None:
        """Send what is asked for over the same association; once that is lost nobody waits for an answer."""
        retrieve = _Retrieve(self._archive, association, request, context)
        records = retrieve.find(_GET[str(context.abstract_syntax)])
        if records is None:
            return
        sender = InstanceSender(association, retrieve.open_record, priority=retrieve.priority)
        try:
            retrieve.perform(sender.send(record) for record in _until(records, retrieve.is_cancelled))
        except AssociationLost:
            LOGGER.info("C-GET: the association ended before everything was sent")
            return
        retrieve.finish()


def _until(records: Iterable[InstanceRecord], is_cancelled: Callable[[], bool]) -> Iterator[InstanceRecord]:
    for record in records:
        if is_cancelled():
            return
        yield record
