"""A modality that pushes instances and remembers which were acknowledged."""

import io
import threading
from contextlib import suppress
from dataclasses import dataclass, field

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from tests.builders import as_dataset_bytes, build_ct
from tests.conformance.dimse.scu import ASSOCIATE_ACCEPT, BareSocket, encode_store_command

FRAGMENT_BYTES = 128 * 1024


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
        with BareSocket(self.port) as peer:
            kind, _ = peer.associate(first.SOPClassUID, syntaxes=[ExplicitVRLittleEndian])
            assert kind == ASSOCIATE_ACCEPT
            # The archive is gone when the connection is: nothing more is acknowledged.
            with suppress(OSError, AssertionError):
                while not self._stop.is_set():
                    self._send(peer, first)

    def _send(self, peer: BareSocket, first: Dataset) -> None:
        dataset = build_ct(
            StudyInstanceUID=first.StudyInstanceUID,
            SeriesInstanceUID=first.SeriesInstanceUID,
            PatientID=first.PatientID,
            InstanceNumber=len(self.statuses) + 1,
            **self.changes,
        )
        data = as_dataset_bytes(dataset)
        peer.send_data(1, encode_store_command(sop_instance_uid=dataset.SOPInstanceUID.encode()), is_command=True)
        for start in range(0, len(data), FRAGMENT_BYTES):
            is_last = start + FRAGMENT_BYTES >= len(data)
            peer.send_data(1, data[start : start + FRAGMENT_BYTES], is_command=False, is_last=is_last)
        status, _ = peer.receive_status()
        self.statuses.append(status)
        if status == 0x0000:
            self.acknowledged[dataset.SOPInstanceUID] = data


def dataset_of(part10: bytes) -> bytes:
    """Return what follows the file meta of a stored file."""
    stream = io.BytesIO(part10)
    stream.seek(132 + 8)
    length = int.from_bytes(stream.read(4), "little")
    return part10[132 + 12 + length :]
