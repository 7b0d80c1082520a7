"""Modality Worklist as SCP (PS3.4 Annex K): C-FIND of scheduled steps, one response for each."""

import logging
from io import BytesIO
from typing import Any

from pynetdicom.dimse_primitives import C_FIND
from pynetdicom.presentation import PresentationContext

from pacs.dimse import status
from pacs.dimse.answers import choose_character_sets, encode_answer
from pacs.dimse.association import Acceptor
from pacs.dimse.data_sets import parse_data_set
from pacs.errors import InvalidHeader, InvalidQuery, Unavailable
from pacs.worklist import Worklist, build_answer, parse_query

LOGGER = logging.getLogger(__name__)

MODALITY_WORKLIST_FIND = "1.2.840.10008.5.1.4.31"

# PS3.4 Table K.4-1
_OUT_OF_RESOURCES = 0xA700
_IDENTIFIER_DOES_NOT_MATCH = 0xA900
_CANCELLED = 0xFE00
_PENDING = 0xFF00
_PENDING_WITHOUT_OPTIONAL_KEYS = 0xFF01


class WorklistService:
    """Answers what is on the worklist."""

    sop_class_uids = frozenset({MODALITY_WORKLIST_FIND})

    def __init__(self, worklist: Worklist) -> None:
        self._worklist = worklist

    def negotiate(self, sop_class_uid: str, application_information: bytes) -> bytes | None:  # noqa: ARG002
        """Agree to nothing: names are always folded, which is all that fuzzy matching asks for (PS3.4 K.5.1)."""
        return None

    def serve(self, association: Acceptor, request: Any, context: PresentationContext) -> None:
        """Answer a C-FIND; what is wrong with an identifier is said in the final response."""
        if not isinstance(request, C_FIND):
            refuse_operation(association, request, context)
            return
        try:
            code, comment = self._answer(association, request, context)
        except (InvalidQuery, InvalidHeader) as error:
            code, comment = _IDENTIFIER_DOES_NOT_MATCH, str(error)
        except Unavailable as error:
            code, comment = _OUT_OF_RESOURCES, str(error)
        _respond(association, request, context, code, comment=comment)

    def _answer(self, association: Acceptor, request: C_FIND, context: PresentationContext) -> tuple[int, str]:
        """Send a pending response for every step and return how it ended."""
        peer, syntax = association.peer, str(context.transfer_syntax[0])
        identifier = parse_data_set(request.Identifier, syntax, peer.character_set)
        if not identifier:
            return _IDENTIFIER_DOES_NOT_MATCH, "The request has no identifier."
        query = parse_query(identifier)
        character_sets = choose_character_sets(peer, identifier)
        pending = _PENDING_WITHOUT_OPTIONAL_KEYS if query.has_unsupported else _PENDING
        message_id = int(request.MessageID or 0)
        for step in self._worklist.find(association.principal, query):
            if association.is_cancelled(message_id):
                return _CANCELLED, ""
            answer = build_answer(query, step.attributes)
            encoded = encode_answer(answer, syntax, character_sets, is_latin_only=peer.is_latin_only)
            _respond(association, request, context, pending, identifier=encoded)
        return status.SUCCESS, ""


def refuse_operation(association: Acceptor, request: Any, context: PresentationContext) -> None:
    """Answer a request that this SOP Class has not got: 0x0211, Unrecognized Operation (PS3.7 C.5.22)."""
    response = type(request)()
    response.MessageIDBeingRespondedTo = request.MessageID
    response.Status = status.UNRECOGNIZED_OPERATION
    association.respond(response, int(context.context_id or 0))


def _respond(
    association: Acceptor,
    request: C_FIND,
    context: PresentationContext,
    code: int,
    *,
    comment: str = "",
    identifier: bytes = b"",
) -> None:
    response: Any = C_FIND()
    response.MessageIDBeingRespondedTo = request.MessageID
    response.AffectedSOPClassUID = request.AffectedSOPClassUID
    response.Status = code
    if comment:
        response.ErrorComment = comment[: status.ERROR_COMMENT_LENGTH]
    if identifier:
        response.Identifier = BytesIO(identifier)
    association.respond(response, int(context.context_id or 0))
