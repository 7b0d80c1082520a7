"""Another archive over DICOMweb: instances are stored there by STOW-RS (PS3.18 10.5), as they are stored here.

Bytes are read while they are sent, so that an instance of any size costs a buffer. The body's length is said before it
is sent, for not every server takes chunks. Only what the answer lists as stored is delivered: there are servers that
answer 200 to what they did not understand.
"""

import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from secrets import token_hex
from typing import Any

import orjson
import urllib3
from urllib3.exceptions import HTTPError

from dicomweb import multipart
from dicomweb.addresses import path_of
from pacs.access import Principal
from pacs.model import InstanceRecord
from pacs.retrieve import ANY, Coerce, Retriever
from pacs.routing.destinations import Sent, Unreachable
from pacs.tags import tag_of, text_of, values_of

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0
"""How long a server may take between two bytes: it may write everything to disk before the first one."""

MAX_PARTS = 20
MAX_BODY_BYTES = 64 * 1024 * 1024
"""One request carries so much, or one instance: what fails with it is sent again."""

_MAX_ANSWER_BYTES = 8 * 1024 * 1024
_JSON = "application/dicom+json"
_STORED, _FAILED = "ReferencedSOPSequence", "FailedSOPSequence"
_LISTED = frozenset({200, 202, 409})
_OF_THE_BODY = frozenset({400, 413, 415, 422})
"""Statuses that may speak of one instance; any other without a list speaks of the server, or of our access to it."""

_DUPLICATE = frozenset({0x0111, 0xB00E})
"""Failure Reasons for what is there already: Duplicate SOP Instance (PS3.7 C.5.7), and dicom-server's own."""


class WebDestination:
    """A DICOMweb service that takes instances of the archive; ``pacs.routing.destinations.Destination``.

    ``url`` is its root, the address before ``/studies``. Certificates are verified against the system's authorities.
    """

    def __init__(
        self,
        name: str,
        url: str,
        retriever: Retriever,
        principal: Principal,
        token: str = "",
        *,
        coerce: Coerce | None = None,
    ) -> None:
        self._coerce = coerce
        self._name = name
        self._url = url.rstrip("/")
        self._retriever = retriever
        self._principal = principal
        self._headers = {"Accept": _JSON} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._pool = urllib3.PoolManager(
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS),
            ssl_context=ssl.create_default_context(),
        )

    @property
    def name(self) -> str:
        """The name in the settings."""
        return self._name

    def send(self, records: Sequence[InstanceRecord]) -> Iterator[Sent]:
        """Store instances there and yield what became of each; raise Unreachable when nothing more can be sent now."""
        ahead = self._retriever.ahead_of(records)
        for group in _group(records):
            yield from self._send_group(ahead, group)

    def _send_group(self, retriever: Retriever, group: Sequence[InstanceRecord]) -> Iterator[Sent]:
        status, answer = self._post(retriever, group)
        if status in _OF_THE_BODY and not answer:
            if len(group) > 1:  # one of them spoils it, or they are too many
                for record in group:
                    yield from self._send_group(retriever, [record])
                return
            yield Sent(group[0].sop_instance_uid, is_delivered=False, problem=f"HTTP {status}", is_final=True)
            return
        if status not in _LISTED and not answer:
            raise Unreachable(f"{self._name} answers HTTP {status}.")
        stored = set(_listed(answer, _STORED))
        failed = _listed(answer, _FAILED)
        for record in group:
            uid = record.sop_instance_uid
            if uid in stored or failed.get(uid) in _DUPLICATE or (status == 409 and self._is_there(record)):
                yield Sent(uid, is_delivered=True)
            elif uid in failed:
                yield _refused(uid, failed[uid])
            else:
                yield Sent(uid, is_delivered=False, problem=f"HTTP {status}, and not a word of this instance")

    def _post(self, retriever: Retriever, group: Sequence[InstanceRecord]) -> tuple[int, dict[str, Any]]:
        """Store a group in one request; return the status, and the answer's data set or an empty one."""
        boundary = token_hex(20)
        with ExitStack() as stack:
            parts = []
            for record in group:
                opened = stack.enter_context(retriever.open_instance(self._principal, record, ANY, self._coerce))
                # Without its transfer syntax, which the file itself says: Orthanc's plugin 1.7 passes over a part with
                # any parameter, and answers 200.
                parts.append(multipart.Part("application/dicom", "", opened.length_bytes, opened.iter_chunks))
            headers = self._headers | {
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                "Content-Length": str(multipart.measure(boundary, parts)),
            }
            return self._request("POST", "/studies", headers, multipart.write(boundary, parts))

    def _is_there(self, record: InstanceRecord) -> bool:
        """Whether it has the instance: a conflict in general words may be with what was sent before."""
        return self._request("GET", f"{path_of(record)}/metadata", self._headers, None)[0] == 200

    def _request(
        self, method: str, path: str, headers: dict[str, str], body: Iterator[bytes] | None
    ) -> tuple[int, dict[str, Any]]:
        try:
            response = self._pool.request(
                method, self._url + path, body=body, headers=headers, redirect=False, preload_content=False
            )
            answer = response.read(_MAX_ANSWER_BYTES)
            if len(answer) == _MAX_ANSWER_BYTES:
                response.close()  # the rest is not worth reading, and the connection is of no use with it
            response.release_conn()
            return response.status, _parse(answer)
        except (HTTPError, OSError) as error:
            raise Unreachable(f"{self._name} cannot be reached: {type(error).__name__}.") from error


def _group(records: Sequence[InstanceRecord]) -> Iterator[list[InstanceRecord]]:
    """Yield the records in groups that one request carries."""
    group: list[InstanceRecord] = []
    size_bytes = 0
    for record in records:
        length_bytes = record.location.length_bytes
        if group and (len(group) == MAX_PARTS or size_bytes + length_bytes > MAX_BODY_BYTES):
            yield group
            group, size_bytes = [], 0
        group.append(record)
        size_bytes += length_bytes
    if group:
        yield group


def _parse(body: bytes) -> dict[str, Any]:
    """Return the answer's data set (PS3.18 10.5.3); an empty one for whatever is none."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if isinstance(parsed, list) and len(parsed) == 1:
        parsed = parsed[0]
    return parsed if isinstance(parsed, dict) and any(tag_of(name) in parsed for name in (_STORED, _FAILED)) else {}


def _listed(answer: dict[str, Any], sequence: str) -> dict[str, int]:
    """Return the SOP Instance UIDs that a sequence lists, each with its Failure Reason, 0 for none."""
    found = {}
    items = values_of(answer, sequence) if isinstance(answer.get(tag_of(sequence)), dict) else []
    for item in items:
        if isinstance(item, dict) and all(isinstance(value, dict) for value in item.values()):
            reason = text_of(item, "FailureReason")
            found[text_of(item, "ReferencedSOPInstanceUID")] = int(reason) if reason.isdecimal() else 0
    return found


def _refused(uid: str, reason: int) -> Sent:
    """Return what a Failure Reason says (PS3.18 Table I.2-2): of the object for ever, of the server for now."""
    is_final = reason in (0x0122, 0x0124) or 0xA900 <= reason <= 0xA9FF or 0xC000 <= reason <= 0xCFFF
    return Sent(uid, is_delivered=False, problem=f"Failure Reason 0x{reason:04X}", is_final=is_final)
