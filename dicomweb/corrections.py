"""Corrections and conflicts over HTTP, as plain JSON: DICOM has no service for them.

What these resources show and take may be patients' values; addresses and problems never hold any.
"""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.context import Context
from dicomweb.errors import RequestError
from dicomweb.plain_json import parse_id, parse_number, query_fields, read_json, respond
from pacs.access import Principal
from pacs.correction import Conflict, Correction, Corrector, Keep, PatientKey
from pacs.errors import ConflictNotFound, CorrectionNotFound, InvalidQuery

_DEFAULT_LIMIT = 100
_SHOWN_FACTS = ("prior", "surviving", "patient", "study_instance_uid", "sop_instance_uid", "conflict_id", "keep")

Text = Annotated[str, Field(max_length=16 * 1024)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    reason: Text


class _Patient(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    patient_id: Text
    issuer_of_patient_id: Text = ""

    def key(self) -> PatientKey:
        """Return what the use cases call the patient by."""
        return PatientKey(self.patient_id, self.issuer_of_patient_id)


class _Merge(_Body):
    kind: Literal["merge-patients"]
    prior: _Patient
    surviving: _Patient

    def make(self, correct: Corrector, principal: Principal) -> Correction:
        return correct.merge_patients(principal, self.prior.key(), self.surviving.key(), reason=self.reason)


class _CorrectPatient(_Body):
    kind: Literal["correct-patient"]
    patient: _Patient
    values: dict[Text, Text] = Field(max_length=50)

    def make(self, correct: Corrector, principal: Principal) -> Correction:
        return correct.correct_patient(principal, self.patient.key(), self.values, reason=self.reason)


class _Move(_Body):
    kind: Literal["move-study"]
    study_instance_uid: Text
    patient: _Patient

    def make(self, correct: Corrector, principal: Principal) -> Correction:
        return correct.move_study(principal, self.study_instance_uid, self.patient.key(), reason=self.reason)


class _CorrectStudy(_Body):
    kind: Literal["correct-study"]
    study_instance_uid: Text
    values: dict[Text, Text] = Field(max_length=50)

    def make(self, correct: Corrector, principal: Principal) -> Correction:
        return correct.correct_study(principal, self.study_instance_uid, self.values, reason=self.reason)


class _Resolution(_Body):
    keep: Literal["answering", "other"]


_AnyCorrection = Annotated[_Merge | _CorrectPatient | _Move | _CorrectStudy, Field(discriminator="kind")]
_CORRECTION: TypeAdapter[_AnyCorrection] = TypeAdapter(_AnyCorrection)
_RESOLUTION: TypeAdapter[_Resolution] = TypeAdapter(_Resolution)


def build_router(context: Context) -> APIRouter:
    """Return ``/corrections`` and ``/conflicts``: lists, and orders that take a reason."""
    router = APIRouter(tags=["Corrections"])
    correct = context.archive.correct

    @router.get("/corrections", summary="List corrections, latest first", operation_id="list_corrections")
    def list_corrections(request: Request) -> Response:
        asked = _parse_query(request, "before", "limit")
        page = correct.list_corrections(
            context.principal(request), before=asked.get("before"), limit=asked.get("limit", _DEFAULT_LIMIT)
        )
        return respond([describe_correction(one) for one in page])

    @router.post("/corrections", summary="Merge, move or correct", operation_id="make_correction")
    async def make_correction(request: Request) -> Response:
        body = _parse_body(_CORRECTION, await read_json(request))
        done = await run_in_threadpool(body.make, correct, context.principal(request))
        return respond(describe_correction(done), 201, {"Location": f"/corrections/{done.id}"})

    @router.post("/corrections/{correction_id}/undo", summary="Undo a correction", operation_id="undo_correction")
    async def undo_correction(request: Request, correction_id: str) -> Response:
        await read_json(request)
        number = parse_id(correction_id, CorrectionNotFound)
        return respond(describe_correction(await run_in_threadpool(correct.undo, context.principal(request), number)))

    @router.get("/conflicts", summary="List conflicts", operation_id="list_conflicts")
    def list_conflicts(request: Request) -> Response:
        asked = _parse_query(request, "after", "limit", "is_resolved")
        page = correct.list_conflicts(
            context.principal(request),
            is_resolved=bool(asked.get("is_resolved", 0)),
            after=asked.get("after", 0),
            limit=asked.get("limit", _DEFAULT_LIMIT),
        )
        return respond([describe_conflict(one) for one in page])

    @router.post("/conflicts/{conflict_id}/resolve", summary="Decide a conflict", operation_id="resolve_conflict")
    async def resolve_conflict(request: Request, conflict_id: str) -> Response:
        body = _parse_body(_RESOLUTION, await read_json(request))
        number = parse_id(conflict_id, ConflictNotFound)
        done = await run_in_threadpool(
            lambda: correct.resolve_conflict(context.principal(request), number, Keep(body.keep), reason=body.reason)
        )
        return respond(describe_correction(done), 201)

    return router


def describe_correction(done: Correction) -> dict[str, Any]:
    """Return a correction as JSON has it; ``changes`` are in the DICOM JSON model."""
    return {
        "id": done.id,
        "kind": done.kind.value,
        "by": done.by,
        "reason": done.reason,
        "at": done.at.isoformat(),
        "undone_at": done.undone_at and done.undone_at.isoformat(),
        "undone_by": done.undone_by,
        "changes": done.changes,
        **{key: done.facts[key] for key in _SHOWN_FACTS if key in done.facts},
    }


def describe_conflict(conflict: Conflict) -> dict[str, Any]:
    """Return a conflict as JSON has it; ``has_copy`` says that there is another copy to choose."""
    return {
        "id": conflict.id,
        "kind": conflict.kind.value,
        "study_instance_uid": conflict.study_instance_uid,
        "series_instance_uid": conflict.series_instance_uid,
        "sop_instance_uid": conflict.sop_instance_uid,
        "has_copy": conflict.location is not None,
        "calling_ae_title": conflict.origin.calling_ae_title,
        "found_at": conflict.found_at.isoformat(),
        "resolved_at": conflict.resolved_at and conflict.resolved_at.isoformat(),
        "resolution": conflict.resolution,
    }


def _parse_query(request: Request, *names: str) -> dict[str, int]:
    """Return the numbers of a query string; ``true`` and ``false`` are 1 and 0."""
    asked = {}
    for name, value in query_fields(request):
        if name not in names:
            raise InvalidQuery(f"The parameters are {', '.join(names)}.")
        asked[name] = parse_number(name, {"true": "1", "false": "0"}.get(value, value))
    return asked


def _parse_body(adapter: TypeAdapter[Any], body: Any) -> Any:
    """Return what a body asks for; a problem names the member that is wrong, never its value."""
    try:
        return adapter.validate_python(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        known = [str(part) for part in first["loc"] if part in _MEMBERS]
        raise RequestError(f"The body is wrong{' at ' + '.'.join(known) if known else ''}.") from None


_MEMBERS = frozenset(
    {"kind", "reason", "prior", "surviving", "patient", "patient_id", "issuer_of_patient_id", "study_instance_uid",
     "values", "keep"}
)  # fmt: skip
