"""Modality Performed Procedure Step as SCP (PS3.4 F.7) and its retrieval (F.8): N-CREATE, N-SET and N-GET."""

import logging
import re
from io import BytesIO
from typing import Any

from pydicom.uid import UID
from pynetdicom.dimse_primitives import N_CREATE, N_GET, N_SET
from pynetdicom.presentation import PresentationContext

from pacs.dimse import status
from pacs.dimse.answers import choose_character_sets, encode_answer
from pacs.dimse.association import Acceptor
from pacs.dimse.data_sets import parse_data_set
from pacs.dimse.worklist import refuse_operation
from pacs.errors import InvalidEntry, InvalidHeader, PacsError, Unavailable
from pacs.model import Attributes
from pacs.worklist import PerformedSteps
from pacs.worklist.performed import (
    STATUS,
    InvalidState,
    MissingAttribute,
    PerformedStepEnded,
    PerformedStepExists,
    PerformedStepNotFound,
)

LOGGER = logging.getLogger(__name__)

PERFORMED_STEP = "1.2.840.10008.3.1.2.3.3"
PERFORMED_STEP_RETRIEVE = "1.2.840.10008.3.1.2.3.4"

# PS3.7 Annex C
_INVALID_ATTRIBUTE_VALUE = 0x0106
_ATTRIBUTE_LIST_ERROR = 0x0107
_DUPLICATE_SOP_INSTANCE = 0x0111
_NO_SUCH_SOP_INSTANCE = 0x0112
_INVALID_SOP_INSTANCE = 0x0117
_MISSING_ATTRIBUTE = 0x0120
_MISSING_ATTRIBUTE_VALUE = 0x0121
_RESOURCE_LIMITATION = 0x0213
_MAY_NO_LONGER_BE_UPDATED = 0xA710
"""Error ID beside 0x0110 (PS3.4 F.7.2.2.4)."""

_CODES: tuple[tuple[type[PacsError], int], ...] = (
    (InvalidState, _INVALID_ATTRIBUTE_VALUE),
    (InvalidEntry, _INVALID_ATTRIBUTE_VALUE),
    (InvalidHeader, _INVALID_ATTRIBUTE_VALUE),
    (PerformedStepExists, _DUPLICATE_SOP_INSTANCE),
    (PerformedStepNotFound, _NO_SUCH_SOP_INSTANCE),
    (PerformedStepEnded, status.PROCESSING_FAILURE),
    (Unavailable, _RESOURCE_LIMITATION),
)
_UID = re.compile(r"[0-9.]{1,64}")


class PerformedStepService:
    """Keeps what modalities say they do."""

    sop_class_uids = frozenset({PERFORMED_STEP, PERFORMED_STEP_RETRIEVE})

    def __init__(self, performed_steps: PerformedSteps) -> None:
        self._performed_steps = performed_steps

    def negotiate(self, sop_class_uid: str, application_information: bytes) -> bytes | None:  # noqa: ARG002
        """Agree to nothing: there is nothing to agree on."""
        return None

    def serve(self, association: Acceptor, request: Any, context: PresentationContext) -> None:
        """Answer an operation; what it acknowledges is durable."""
        if context.abstract_syntax == PERFORMED_STEP and isinstance(request, N_CREATE):
            self._create(association, request, context)
        elif context.abstract_syntax == PERFORMED_STEP and isinstance(request, N_SET):
            self._set(association, request, context)
        elif context.abstract_syntax == PERFORMED_STEP_RETRIEVE and isinstance(request, N_GET):
            self._get(association, request, context)
        else:
            refuse_operation(association, request, context)

    def _create(self, association: Acceptor, request: N_CREATE, context: PresentationContext) -> None:
        uid = str(request.AffectedSOPInstanceUID or "")
        response = _begin_response(N_CREATE(), request, uid)
        try:
            _check_uid(uid, is_optional=True)
            attributes = _parse(association, request.AttributeList, context)
            uid = self._performed_steps.create(association.principal, uid, attributes)
            response.AffectedSOPInstanceUID = UID(uid)
            response.Status = status.SUCCESS
        except InvalidState as error:
            _fail(response, error)
            response.AttributeList = _encode(association, {STATUS: attributes[STATUS]}, context)  # PS3.4 F.7.2.1.3
        except PacsError as error:
            _fail(response, error)
        association.respond(response, int(context.context_id or 0))

    def _set(self, association: Acceptor, request: N_SET, context: PresentationContext) -> None:
        uid = str(request.RequestedSOPInstanceUID or "")
        response = _begin_response(N_SET(), request, uid)
        try:
            _check_uid(uid)
            attributes = _parse(association, request.ModificationList, context)
            refused = self._performed_steps.update(association.principal, uid, attributes)
            response.Status = _ATTRIBUTE_LIST_ERROR if refused else status.SUCCESS
            if refused:
                response.AttributeIdentifierList = [int(tag, 16) for tag in refused]
        except PacsError as error:
            _fail(response, error)
        association.respond(response, int(context.context_id or 0))

    def _get(self, association: Acceptor, request: N_GET, context: PresentationContext) -> None:
        uid = str(request.RequestedSOPInstanceUID or "")
        response = _begin_response(N_GET(), request, uid)
        try:
            _check_uid(uid)
            step = self._performed_steps.get(association.principal, uid)
            attributes = _select(step.attributes, request.AttributeIdentifierList)
            response.AttributeList = _encode(association, attributes, context)
            response.Status = status.SUCCESS
        except PacsError as error:
            _fail(response, error)
        association.respond(response, int(context.context_id or 0))


class _InvalidInstance(PacsError):
    """The SOP Instance UID is none."""


def _check_uid(uid: str, *, is_optional: bool = False) -> None:
    if not (is_optional and not uid) and not _UID.fullmatch(uid):
        raise _InvalidInstance


def _parse(association: Acceptor, encoded: BytesIO | None, context: PresentationContext) -> Attributes:
    return parse_data_set(encoded, str(context.transfer_syntax[0]), association.peer.character_set)


def _encode(association: Acceptor, attributes: Attributes, context: PresentationContext) -> BytesIO:
    peer = association.peer
    sets = choose_character_sets(peer, {})
    syntax = str(context.transfer_syntax[0])
    return BytesIO(encode_answer(attributes, syntax, sets, is_latin_only=peer.is_latin_only))


def _begin_response(response: Any, request: Any, uid: str) -> Any:
    response.MessageIDBeingRespondedTo = request.MessageID
    is_create = isinstance(request, N_CREATE)
    response.AffectedSOPClassUID = request.AffectedSOPClassUID if is_create else request.RequestedSOPClassUID
    response.AffectedSOPInstanceUID = UID(uid) if _UID.fullmatch(uid) else None
    return response


def _fail(response: Any, error: PacsError) -> None:
    """Put into a response what went wrong; the sentences of these errors hold no value."""
    if isinstance(error, MissingAttribute):
        response.Status = _MISSING_ATTRIBUTE_VALUE if error.is_empty else _MISSING_ATTRIBUTE
    elif isinstance(error, _InvalidInstance):
        response.Status = _INVALID_SOP_INSTANCE
    else:
        response.Status = next((code for kind, code in _CODES if isinstance(error, kind)), status.PROCESSING_FAILURE)
    response.ErrorComment = str(error)[: status.ERROR_COMMENT_LENGTH]
    if isinstance(error, PerformedStepEnded):
        response.ErrorID = _MAY_NO_LONGER_BE_UPDATED


def _select(attributes: Attributes, tags: Any) -> Attributes:
    """Return the attributes that are asked for; all if none are named (PS3.7 10.1.2.1.5)."""
    if not tags:
        return attributes
    wanted = {f"{int(tag):08X}" for tag in (tags if isinstance(tags, list | tuple) else [tags])}
    return {tag: element for tag, element in attributes.items() if tag in wanted}
