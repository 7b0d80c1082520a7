"""A modality that pushes instances and remembers which were acknowledged."""

import io
import threading
from dataclasses import dataclass, field

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from tests.builders import as_dataset_bytes, build_ct


@dataclass
class Pusher:
    """Sends CT slices of one study over one association, until told to stop or cut off."""

    port: int
    changes: dict[str, object] = field(default_factory=dict)
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def finish(self) -> None:
        self._stop.set()
        self._thread.join(60)

    def wait_for(self, count: int) -> None:
        while len(self.acknowledged) < count and self._thread.is_alive():
            self._stop.wait(0.01)

    def wait_for_status(self, status: int) -> None:
        while status not in self.statuses and self._thread.is_alive():
            self._stop.wait(0.01)

    def _run(self) -> None:
        first = build_ct()
        entity = AE(ae_title="PUSHER")
        entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = entity.associate("127.0.0.1", self.port, ae_title="PACS")
        number = 0
        while not self._stop.is_set() and association.is_established:
            number += 1
            dataset = build_ct(
                StudyInstanceUID=first.StudyInstanceUID,
                SeriesInstanceUID=first.SeriesInstanceUID,
                PatientID=first.PatientID,
                InstanceNumber=number,
                **self.changes,
            )
            status = association.send_c_store(dataset)
            self.statuses.append(status.Status if "Status" in status else -1)
            if "Status" in status and status.Status == 0:
                self.acknowledged[dataset.SOPInstanceUID] = as_dataset_bytes(dataset)
        if association.is_established:
            association.release()


def dataset_of(part10: bytes) -> bytes:
    """Return what follows the file meta of a stored file."""
    stream = io.BytesIO(part10)
    stream.seek(132 + 8)
    length = int.from_bytes(stream.read(4), "little")
    return part10[132 + 12 + length :]
