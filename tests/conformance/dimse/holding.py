"""An archive that holds something, on a DICOM port where it can be retrieved, and requests for it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import build_context, build_role
from pynetdicom.association import Association

from pacs.archive import Archive
from pacs.dimse.association import Acceptor
from pacs.dimse.calling import Caller
from pacs.dimse.peers import Peer, Peers
from pacs.dimse.retrieve import GetService, MoveService
from pacs.dimse.server import create_server
from pacs.ingest.incoming import Incoming
from pacs.model import Door, Origin
from tests.builders import as_part10, build_ct
from tests.conformance.dimse.receivers import data_set_of
from tests.conformance.dimse.scu import build_extended, established

PATIENT_ROOT_MOVE, STUDY_ROOT_MOVE, PATIENT_STUDY_MOVE = (f"1.2.840.10008.5.1.4.1.2.{root}.2" for root in (1, 2, 3))
PATIENT_ROOT_GET, STUDY_ROOT_GET, PATIENT_STUDY_GET = (f"1.2.840.10008.5.1.4.1.2.{root}.3" for root in (1, 2, 3))
REQUESTORS = tuple(Peer(title) for title in ("TESTER", "MOVESCU", "GETSCU", "ORTHANC"))

Response = tuple[Dataset, Dataset | None]


def store_file(archive: Archive, file: bytes) -> bytes:
    """Store a file and return its data set as it must come out."""
    with archive.ingest.open_spool() as spool:
        spool.write(file)
        assert archive.ingest.store(Incoming(spool, Origin(Door.IMPORT))).is_stored
    return data_set_of(file)


def store(archive: Archive, *datasets: Dataset, **encoding: Any) -> dict[str, bytes]:
    """Store data sets and return them as they must come out, by SOP Instance UID."""
    return {dataset.SOPInstanceUID: store_file(archive, as_part10(dataset, **encoding)) for dataset in datasets}


def build_study(count: int = 3, **overrides: Any) -> list[Dataset]:
    """Return slices of one series."""
    first = build_ct(**overrides)
    same = {keyword: first[keyword].value for keyword in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")}
    rest = [build_ct(**(overrides | same), InstanceNumber=number) for number in range(2, count + 1)]
    return [first, *rest]


@dataclass
class Serving:
    """An archive on a port, and the associations over which something was retrieved."""

    port: int = 0
    associations: list[Acceptor] = field(default_factory=list)

    def watch(self, service: MoveService | GetService) -> Any:
        """Return a service that notes the association and does as the given one."""

        def note(association: Acceptor, request: Any, context: Any) -> None:
            self.associations.append(association)
            service.serve(association, request, context)

        return SimpleNamespace(sop_class_uids=service.sop_class_uids, negotiate=service.negotiate, serve=note)


@contextmanager
def serve(archive: Archive, *peers: Peer, port: int = 0) -> Iterator[Serving]:
    """Serve an archive to the requestors of the tests; ``peers`` are known as well."""
    titles = {peer.ae_title for peer in peers}
    known = Peers((*peers, *(peer for peer in REQUESTORS if peer.ae_title not in titles)))
    serving = Serving()
    services = [serving.watch(MoveService(archive, known, Caller("PACS"))), serving.watch(GetService(archive))]
    server = create_server(archive, port=port, peers=known, services=services)
    server.start()
    serving.port = server.port
    try:
        yield serving
    finally:
        server.stop(grace_seconds=2)


def destination(port: int, ae_title: str = "DEST") -> Peer:
    return Peer(ae_title, address="127.0.0.1", port=port)


def build_identifier(level: str, **keys: Any) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


@contextmanager
def request_association(
    port: int,
    model: str,
    classes: Sequence[str] = (),
    syntaxes: Sequence[str] = (),
    *,
    roles: bool = True,
    handlers: Sequence[Any] = (),
    extended: bytes = b"",
) -> Iterator[Association]:
    """Ask for an association for one model, and for storage in the SCP role; released at the end."""
    contexts = [build_context(model), *(build_context(uid, list(syntaxes)) for uid in classes)]
    negotiation: list[Any] = [build_role(uid, scp_role=True) for uid in dict.fromkeys(classes)] if roles else []
    negotiation += [build_extended(model, extended)] if extended else []
    with established(port, contexts, negotiation=negotiation, handlers=handlers) as association:
        yield association


def move(
    server: Serving, identifier: Dataset, to: str = "DEST", model: str = STUDY_ROOT_MOVE, message_id: int = 1
) -> list[Response]:
    """Return every response to a C-MOVE, the last one last."""
    with request_association(server.port, model) as association:
        return list(association.send_c_move(identifier, to, model, msg_id=message_id))


def counts(status: Dataset) -> tuple[int | None, ...]:
    """Return how many sub-operations are remaining, completed, failed, and completed with a warning."""
    kinds = ("Remaining", "Completed", "Failed", "Warning")
    return tuple(status.get(f"NumberOf{kind}Suboperations") for kind in kinds)


def failed_list(identifier: Dataset | None) -> list[str]:
    """Return the Failed SOP Instance UID List; empty if there is none."""
    value = identifier.get("FailedSOPInstanceUIDList", []) if identifier is not None else []
    return [str(value)] if isinstance(value, str) else [str(uid) for uid in value]
