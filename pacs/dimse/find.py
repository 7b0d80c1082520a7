"""C-FIND of the query/retrieve service, as SCP (PS3.4 C.4.1): the search of every door, a page in memory at a time."""

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

from pydicom.uid import UID
from pynetdicom.dimse_primitives import C_FIND
from pynetdicom.presentation import PresentationContext

from pacs.access import Principal
from pacs.dimse.answers import choose_character_sets, encode_answer
from pacs.dimse.data_sets import parse_data_set
from pacs.dimse.identifiers import Agreement, Find, InvalidIdentifier, negotiate_options, parse_find
from pacs.dimse.status import ERROR_COMMENT_LENGTH, SUCCESS, UNRECOGNIZED_OPERATION
from pacs.errors import InvalidHeader, InvalidQuery, Unavailable
from pacs.model import Attributes, Level
from pacs.search import Match, Searcher
from pacs.tags import tag_of

if TYPE_CHECKING:
    from pacs.dimse.association import Acceptor

MODELS: dict[str, tuple[Level, ...]] = {
    "1.2.840.10008.5.1.4.1.2.1.1": (Level.PATIENT, Level.STUDY, Level.SERIES, Level.INSTANCE),
    "1.2.840.10008.5.1.4.1.2.2.1": (Level.STUDY, Level.SERIES, Level.INSTANCE),
    "1.2.840.10008.5.1.4.1.2.3.1": (Level.PATIENT, Level.STUDY),
}
"""The SOP Classes of Patient Root, Study Root and, retired, Patient/Study Only - FIND, with the levels of each."""

PENDING = 0xFF00
PENDING_WITHOUT_SOME_KEYS = 0xFF01
OUT_OF_RESOURCES = 0xA700
IDENTIFIER_MISMATCH = 0xA900
UNREADABLE_IDENTIFIER = 0xC001
CANCELLED = 0xFE00
"""PS3.4 Table C.4-1."""

_UNREADABLE = "The identifier cannot be read."
_RETRIEVE_AE_TITLE = tag_of("RetrieveAETitle")


class FindService:
    """Answers C-FIND; ``ae_title`` is who to retrieve from.

    Whatever is stored meanwhile, no match is answered twice and none is left out (see ``Query.after``).
    """

    def __init__(self, searcher: Searcher, ae_title: str) -> None:
        self._searcher = searcher
        self._ae_title = ae_title

    @property
    def sop_class_uids(self) -> frozenset[str]:
        """The three FIND models."""
        return frozenset(MODELS)

    def negotiate(self, sop_class_uid: str, application_information: bytes) -> bytes | None:  # noqa: ARG002
        """Answer which matching options are supported (PS3.4 C.5.1.1)."""
        return negotiate_options(application_information)

    def serve(self, association: "Acceptor", request: Any, context: PresentationContext) -> None:
        """Answer one C-FIND: a pending response for every match, and a final one that tells how it ended."""
        if not isinstance(request, C_FIND):
            _respond(association, request, context, UNRECOGNIZED_OPERATION)
            return
        try:
            status = self._answer(association, request, context)
        except (InvalidIdentifier, InvalidQuery) as error:
            tag = error.tag if isinstance(error, InvalidIdentifier) else ""
            _respond(association, request, context, IDENTIFIER_MISMATCH, comment=str(error), offending_tag=tag)
        except InvalidHeader:
            _respond(association, request, context, UNREADABLE_IDENTIFIER, comment=_UNREADABLE)
        except Unavailable as error:
            _respond(association, request, context, OUT_OF_RESOURCES, comment=str(error))
        else:
            _respond(association, request, context, status)

    def _answer(self, association: "Acceptor", request: C_FIND, context: PresentationContext) -> int:
        """Send every match and return the final status."""
        sop_class_uid, syntax_uid = str(context.abstract_syntax), str(context.transfer_syntax[0])
        identifier = parse_data_set(request.Identifier, syntax_uid, association.peer.character_set)
        agreement = Agreement.of(association.extended.get(sop_class_uid, b""))
        find = parse_find(identifier, MODELS[sop_class_uid], agreement)
        character_sets = choose_character_sets(association.peer, identifier)
        status = PENDING if find.is_complete else PENDING_WITHOUT_SOME_KEYS
        message_id = request.MessageID or 0
        for match in self._iter_matches(association.principal, find):
            if association.is_cancelled(message_id):
                return CANCELLED
            encoded = encode_answer(
                self._build_answer(find, match),
                syntax_uid,
                character_sets,
                is_latin_only=association.peer.is_latin_only,
            )
            _respond(association, request, context, status, identifier=encoded)
        return CANCELLED if association.is_cancelled(message_id) else SUCCESS

    def _iter_matches(self, principal: Principal, find: Find) -> Iterator[Match]:
        query, page = find.query, None
        while True:
            page = self._searcher.search(principal, query, with_header=find.needs_header, behind=page)
            yield from page.matches
            if not page.has_more:
                return
            query = replace(query, after=page.last)

    def _build_answer(self, find: Find, match: Match) -> Attributes:
        answer = find.build_answer(match.attributes)
        answer[_RETRIEVE_AE_TITLE] = {"vr": "AE", "Value": [self._ae_title]}
        return answer


def _respond(
    association: "Acceptor",
    request: Any,
    context: PresentationContext,
    status: int,
    *,
    comment: str = "",
    offending_tag: str = "",
    identifier: bytes = b"",
) -> None:
    response = type(request)()
    response.MessageIDBeingRespondedTo = request.MessageID
    response.AffectedSOPClassUID = UID(str(context.abstract_syntax))
    response.Status = status
    if comment:
        response.ErrorComment = comment[:ERROR_COMMENT_LENGTH]
    if offending_tag:
        response.OffendingElement = [int(offending_tag, 16)]
    if identifier:
        response.Identifier = BytesIO(identifier)
    association.respond(response, context.context_id or 0)
