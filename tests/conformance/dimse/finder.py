"""An SCU of C-FIND that keeps every response as it came, and DCMTK's findscu with its answers as data sets."""

import queue
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_CANCEL, C_FIND

from tests.builders import as_dataset_bytes
from tests.conformance.dimse.scu import EXPLICIT, IMPLICIT, build_extended, established

PATIENT_ROOT = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_STUDY_ONLY = "1.2.840.10008.5.1.4.1.2.3.1"

PENDING = (0xFF00, 0xFF01)


@dataclass(frozen=True)
class Response:
    """One response; ``identifier`` is None in a final one."""

    status: int
    identifier: Dataset | None
    comment: str
    offending: tuple[int, ...]


class Finder:
    """Asks on one association."""

    def __init__(self, association: Association) -> None:
        self.association = association
        self._messages: queue.SimpleQueue = queue.SimpleQueue()
        # See scu.send_bytes: the association's own thread is left to take the answers.
        association._serve_request = lambda message, _: self._messages.put(message)

    @property
    def agreed(self) -> dict[str, bytes]:
        """What the peer answered to extended negotiation, by SOP Class."""
        return {str(uid): information for uid, information in self.association.acceptor.sop_class_extended.items()}

    def send(self, identifier: Dataset | bytes | None, message_id: int = 1) -> None:
        """Send a request, in the first accepted context."""
        context = self.association.accepted_contexts[0]
        request = C_FIND()
        request.MessageID = message_id
        request.AffectedSOPClassUID = context.abstract_syntax
        request.Priority = 2
        if isinstance(identifier, Dataset):
            identifier = as_dataset_bytes(identifier, str(context.transfer_syntax[0]))
        if identifier is not None:
            request.Identifier = BytesIO(identifier)
        self.association.dimse.send_msg(request, context.context_id)

    def cancel(self, message_id: int = 1) -> None:
        """Send a C-CANCEL."""
        request = C_CANCEL()
        request.MessageIDBeingRespondedTo = message_id
        self.association.dimse.send_msg(request, self.association.accepted_contexts[0].context_id)

    def receive(self) -> Response:
        """Return the next response."""
        message = self._messages.get(timeout=20)
        identifier = None
        if message.Identifier is not None and message.Identifier.getvalue():
            identifier = self._decode(message.Identifier.getvalue())
        offending = message.OffendingElement or ()
        offending = tuple(offending) if isinstance(offending, list) else (offending,) if offending else ()
        return Response(message.Status, identifier, message.ErrorComment or "", offending)

    def find(self, identifier: Dataset | bytes | None = None, **keys: object) -> list[Response]:
        """Return every response to a request, the final one last."""
        self.send(build_identifier(**keys) if keys else identifier)
        responses = [self.receive()]
        while responses[-1].status in PENDING:
            responses.append(self.receive())
        return responses

    def found(self, **keys: object) -> list[Dataset]:
        """Return the identifiers of the matches of a search that succeeds."""
        *matches, final = self.find(**keys)
        assert (final.status, final.identifier) == (0x0000, None), final
        return [match.identifier for match in matches]

    def _decode(self, data: bytes) -> Dataset:
        syntax = UID(self.association.accepted_contexts[0].transfer_syntax[0])
        if syntax.is_deflated:
            data = pydicom.filereader.zlib.decompress(data, -15)
        dataset = read_dataset(BytesIO(data), syntax.is_implicit_VR, syntax.is_little_endian)
        dataset.decode()
        return dataset


@contextmanager
def finding(
    port: int,
    model: str = STUDY_ROOT,
    options: bytes = b"",
    syntaxes: Sequence[str] = (EXPLICIT, IMPLICIT),
    calling: str = "TESTER",
) -> Iterator[Finder]:
    """Yield a finder on an association, with SOP Class Extended Negotiation if there are ``options``."""
    negotiation = [build_extended(model, options)] if options else []
    with established(port, [build_context(model, list(syntaxes))], calling, negotiation=negotiation) as association:
        yield Finder(association)


def build_identifier(level: str | None = None, **keys: object) -> Dataset:
    """Return an identifier; a key of None is empty."""
    identifier = Dataset()
    if level is not None:
        identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, "" if value is None else value)
    return identifier


def findscu(
    dcmtk: Callable[[str], str], port: int, folder: Path, model: str, *keys: str, options: Sequence[str] = ()
) -> list[Dataset]:
    """Return what DCMTK's findscu received, each as a data set; ``model`` is ``-P``, ``-S`` or ``-O``."""
    folder.mkdir()
    arguments = [argument for key in keys for argument in ("-k", key)]
    command = [dcmtk("findscu"), model, "-aec", "PACS", "-X", "-od", str(folder), *options, *arguments]
    ended = subprocess.run([*command, "127.0.0.1", str(port)], capture_output=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    return [pydicom.dcmread(path, force=True) for path in sorted(folder.glob("rsp*.dcm"))]
