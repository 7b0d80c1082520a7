"""The Store Instances Response (PS3.18 I.2), in JSON or XML, and the status that goes with it."""

from dataclasses import dataclass, field

from starlette.responses import Response

from dicomweb import dicom_json, dicom_xml, media_types
from dicomweb.addresses import path_to
from dicomweb.errors import RETRY_AFTER_SECONDS, MultipartError
from pacs.errors import OutOfResources, Unavailable
from pacs.ingest.outcome import Outcome, Reason
from pacs.model import Attributes

NO_ROOM = frozenset({Reason.OUT_OF_RESOURCES, Reason.UNAVAILABLE})

_PROCESSING_FAILURE = 0x0110


@dataclass(slots=True)
class StoreReport:
    """The answer to one request, from what became of its objects; ``media_type`` is that of the answer."""

    base: str
    media_type: str
    outcomes: list[Outcome]
    _broken: bool = False
    _is_out_of_room: bool = False
    _others: list[Attributes] = field(default_factory=list)

    def break_off(self, error: MultipartError) -> None:
        """Note that the body made no sense from somewhere on."""
        self._broken = True
        self._others.append(_failure(_PROCESSING_FAILURE, str(error)))

    def run_out(self, error: Unavailable) -> None:
        """Note that the rest of the body could not be held."""
        self._is_out_of_room = True
        reason = Reason.OUT_OF_RESOURCES if isinstance(error, OutOfResources) else Reason.UNAVAILABLE
        self._others.append(_failure(reason.code, reason.comment))

    def build(self) -> Response:
        """Return the answer."""
        stored = [outcome for outcome in self.outcomes if outcome.is_stored]
        failed = [outcome for outcome in self.outcomes if not outcome.is_stored]
        named = [outcome for outcome in failed if outcome.sop_instance_uid and outcome.sop_class_uid]
        others = [*self._others, *(_describe_failure(outcome) for outcome in failed if outcome not in named)]
        module: list[Attributes] = [self._study_url(stored)]
        if stored:
            module.append(dicom_json.element("ReferencedSOPSequence", *(self._describe(one) for one in stored)))
        if named:
            module.append(dicom_json.element("FailedSOPSequence", *(_describe_failure(one) for one in named)))
        if others:
            module.append(dicom_json.element("OtherFailuresSequence", *others))
        status = self._status(stored, failed)
        headers = {"Cache-Control": "no-store"}
        if status == 503:
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        encode = dicom_xml.encode if self.media_type == media_types.DICOM_XML else dicom_json.encode
        return Response(encode(dicom_json.item(*module)), status, headers, self.media_type)

    def _status(self, stored: list[Outcome], failed: list[Outcome]) -> int:
        if self._is_out_of_room or any(outcome.reason in NO_ROOM for outcome in failed):
            return 503
        if self._broken:
            return 400
        if failed:
            return 202 if stored else 409
        return 202 if any(outcome.reason is not None for outcome in stored) else 200

    def _study_url(self, stored: list[Outcome]) -> Attributes:
        studies = {outcome.study_instance_uid for outcome in stored}
        if len(studies) != 1:
            return dicom_json.element("RetrieveURL")
        return dicom_json.element("RetrieveURL", self.base + path_to(studies.pop()))

    def _describe(self, outcome: Outcome) -> Attributes:
        path = path_to(outcome.study_instance_uid, outcome.series_instance_uid, outcome.sop_instance_uid)
        warning = dicom_json.element("WarningReason", outcome.reason.code) if outcome.reason else {}
        return dicom_json.item(
            _reference(outcome),
            dicom_json.element("RetrieveURL", self.base + path),
            warning,
        )


def _describe_failure(outcome: Outcome) -> Attributes:
    reason = outcome.reason or Reason.INTERNAL_ERROR
    reference = _reference(outcome) if outcome.sop_instance_uid and outcome.sop_class_uid else {}
    return dicom_json.item(reference, _failure(reason.code, reason.comment))


def _reference(outcome: Outcome) -> Attributes:
    return dicom_json.item(
        dicom_json.element("ReferencedSOPClassUID", outcome.sop_class_uid),
        dicom_json.element("ReferencedSOPInstanceUID", outcome.sop_instance_uid),
    )


def _failure(code: int, comment: str) -> Attributes:
    # Error Comment is no attribute of this module, but the only place where a person can read what a code means here.
    return dicom_json.item(dicom_json.element("FailureReason", code), dicom_json.element("ErrorComment", comment[:64]))
