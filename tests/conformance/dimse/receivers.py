"""Who receives what we send: pynetdicom's SCP, which keeps the bytes as they came, and DCMTK's storescp."""

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pynetdicom import AE, AllStoragePresentationContexts, build_context, evt

from tests.conformance.dimse.scu import EXPLICIT, IMPLICIT, P_DATA
from tests.scenarios.process import free_port

STORAGE_CLASSES = tuple(str(context.abstract_syntax) for context in AllStoragePresentationContexts)


@dataclass(frozen=True)
class Received:
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: bytes
    originator: str | None
    originator_message_id: int | None
    priority: int


@dataclass
class Receiver:
    port: int
    received: list[Received] = field(default_factory=list)
    associations: int = 0
    longest_pdu_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def data_sets(self) -> dict[str, bytes]:
        return {one.sop_instance_uid: one.data_set for one in self.received}


@contextmanager
def run_receiver(
    answer: Callable[[Received], int | None] = lambda _: 0x0000,
    *,
    ae_title: str = "DEST",
    classes: Sequence[str] = STORAGE_CLASSES,
    syntaxes: Sequence[str] = (EXPLICIT, IMPLICIT),
    max_pdu_bytes: int = 16384,
) -> Iterator[Receiver]:
    """Run a storage SCP; ``answer`` gives the status for an instance, which is kept whatever it says; None aborts."""
    ae = AE(ae_title)
    ae.maximum_pdu_size = max_pdu_bytes
    ae.supported_contexts = [build_context(uid, list(syntaxes)) for uid in classes]
    receiver = Receiver(0)

    def keep(event: evt.Event) -> int:
        request = event.request
        one = Received(
            str(request.AffectedSOPInstanceUID),
            str(event.context.transfer_syntax),
            request.DataSet.getvalue(),
            request.MoveOriginatorApplicationEntityTitle,
            request.MoveOriginatorMessageID,
            request.Priority,
        )
        status = answer(one)
        if status is None:
            event.assoc.abort()
            return 0x0110
        with receiver.lock:
            receiver.received.append(one)
        return status

    def measure(event: evt.Event) -> None:
        if event.data[0] == P_DATA:
            receiver.longest_pdu_bytes = max(receiver.longest_pdu_bytes, len(event.data) - 6)

    def count(_: evt.Event) -> None:
        receiver.associations += 1

    handlers = [(evt.EVT_C_STORE, keep), (evt.EVT_DATA_RECV, measure), (evt.EVT_ACCEPTED, count)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    receiver.port = server.server_address[1]
    try:
        yield receiver
    finally:
        server.shutdown()


@contextmanager
def run_storescp(program: str, folder: Path, *options: str) -> Iterator[int]:
    """Run DCMTK's storescp, which writes what it receives to ``folder`` exactly as it came; give its port."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    command = [program, *options, "+B", "-od", str(folder), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield port
    finally:
        process.kill()
        process.wait()


@contextmanager
def run_dcmqrscp(program: str, folder: Path, *, port: int = 0, known: Mapping[str, int]) -> Iterator[int]:
    """Run DCMTK's archive QRSCP, empty, which keeps files in ``folder``; give its port.

    ``known`` are the ports on loopback of those it sends to, by title.
    """
    folder.mkdir()
    port = port or free_port()
    hosts = "".join(f"host{number} = ({title}, 127.0.0.1, {known[title]})\n" for number, title in enumerate(known))
    configuration = folder.with_suffix(".cfg")
    configuration.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        f"HostTable BEGIN\n{hosts}HostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nQRSCP {folder} RW (200, 1024mb) ANY\nAETable END\n"
    )
    command = [program, "-c", str(configuration)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_port(port)
            yield port
        finally:
            process.kill()


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"nobody listens on {port}")


def data_set_of(file: bytes) -> bytes:
    """Return what comes after the file meta, whose length its first element gives."""
    assert file[128:140] == b"DICM\x02\0\0\0UL\x04\0"
    return file[144 + int.from_bytes(file[140:144], "little") :]
