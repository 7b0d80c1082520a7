"""Every service over TLS, on an archive that is served as administrators do: DCMTK and Debian's Orthanc are the peers.

DCMTK's movescu, getscu and dcmqrscp speak no TLS themselves: a relay speaks it for them. Debian's Orthanc has no C-GET
as SCU, which came with 1.12.6.
"""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import dcmread

from pacs.dimse.tls import build_client_context, build_server_context
from tests.builders import as_part10, build_ct
from tests.conformance.dimse.authority import credentials, digest, make_authority, options
from tests.conformance.dimse.holding import build_study
from tests.conformance.dimse.orthanc import Orthanc, run_orthanc
from tests.conformance.dimse.receivers import data_set_of, run_dcmqrscp, wait_for_port
from tests.conformance.dimse.relay import relaying
from tests.scenarios.process import ArchiveProcess, free_port, free_ports, serving
from tests.worklist_entries import build_entry_json

pytestmark = pytest.mark.scenario

SECONDS = 60
DEVICES = ("MOVESCU", "GETSCU", "STORESCP", "ORTHANC", "QRSCP")

SETTINGS = """
[dimse.tls]
port = {secure}
certificate_file = "{folder}/server.crt"
key_file = "{folder}/server.key"
authority_file = "{folder}/authority.crt"
[commitment]
wait_seconds = 0
"""
PEER = """
[[dimse.peers]]
ae_title = "{title}"
address = "127.0.0.1"
port = {port}
tls = true
certificate_sha256 = "{digest}"
"""


@dataclass
class Secure:
    """An archive with a port for TLS, the authority of everybody, and the port that each device listens on."""

    archive: ArchiveProcess
    port: int
    folder: Path
    ports: dict[str, int]

    def run(self, program: str, *arguments: str | Path, device: str = "STORESCP", cwd: Path | None = None) -> str:
        """Run a program of DCMTK that speaks TLS against the archive, as a device, and return what it says."""
        place = "127.0.0.1", str(self.port)
        return self.call(program, *options(self.folder, device), "-aet", device, *place, *arguments, cwd=cwd)

    def run_relayed(self, program: str, *arguments: str | Path, device: str, cwd: Path | None = None) -> str:
        """Run one that does not, behind a relay that shows the certificate of the device."""
        with relaying(self.port, outside=build_client_context(credentials(self.folder, device))) as port:
            return self.call(program, "-aet", device, "127.0.0.1", str(port), *arguments, cwd=cwd)

    @contextmanager
    def listening(self, device: str) -> Iterator[int]:
        """Give a port in the clear that is called over TLS, by the port and with the certificate of a device."""
        port = free_port()
        context = build_server_context(credentials(self.folder, device))
        with relaying(port, self.ports[device], inside=context):
            yield port

    def call(self, program: str, *arguments: str | Path, cwd: Path | None = None) -> str:
        return call(program, "-aec", "PACS", *arguments, cwd=cwd)

    def store(self, folder: Path, program: str, *datasets: Any) -> dict[str, bytes]:
        """Store data sets with storescu, and return them as they must come out, by SOP Instance UID."""
        files = write_files(folder, datasets)
        self.run(program, *files)
        return received(folder)


def call(program: str, *arguments: str | Path, cwd: Path | None = None) -> str:
    """Run a program, which must succeed, and return what it says."""
    command = [program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def write_files(folder: Path, datasets: Sequence[Any]) -> list[Path]:
    folder.mkdir()
    files = [folder / f"{number}.dcm" for number in range(len(datasets))]
    for file, dataset in zip(files, datasets, strict=True):
        file.write_bytes(as_part10(dataset))
    return files


@pytest.fixture(scope="module")
def secure(tmp_path_factory) -> Iterator[Secure]:
    root = tmp_path_factory.mktemp("secure")
    folder = make_authority(root / "tls", *DEVICES)
    port, *others = free_ports(1 + len(DEVICES))
    ports = dict(zip(DEVICES, others, strict=True))
    peers = [PEER.format(title=device, port=number, digest=digest(folder, device)) for device, number in ports.items()]
    config = root / "pacs.toml"
    config.write_text(SETTINGS.format(secure=port, folder=folder) + "".join(peers))
    with serving(root / "data", config=config) as archive:
        yield Secure(archive, port, folder, ports)


def study_keys(dataset) -> list[str]:
    return ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={dataset.StudyInstanceUID}"]


def received(folder: Path) -> dict[str, bytes]:
    """Return the data sets of the files in a folder, exactly as they are, by SOP Instance UID."""
    files = [file.read_bytes() for file in folder.iterdir()]
    return {str(dcmread(BytesIO(file)).SOPInstanceUID): data_set_of(file) for file in files}


class TestDcmtk:
    def test_what_is_stored_is_found_and_moved_to_a_storescp_bit_for_bit(self, secure, dcmtk, tmp_path):
        study = build_study(3)
        stored = secure.store(tmp_path / "out", dcmtk("storescu"), *study)
        found = secure.run(dcmtk("findscu"), "-v", *study_keys(study[0]))
        assert found.count("Find Response: ") == 1
        with storescp(secure, dcmtk("storescp"), tmp_path / "in"):
            secure.run_relayed(dcmtk("movescu"), "-aem", "STORESCP", *study_keys(study[0]), device="MOVESCU")
        assert received(tmp_path / "in") == stored

    def test_movescu_receives_itself_bit_for_bit(self, secure, dcmtk, tmp_path):
        study = build_study(3)
        stored = secure.store(tmp_path / "out", dcmtk("storescu"), *study)
        folder = tmp_path / "in"
        folder.mkdir()
        with secure.listening("MOVESCU") as port:
            # With +B it writes where it runs, whatever its output directory is.
            arguments = ["+P", str(port), "+B", *study_keys(study[0])]
            secure.run_relayed(dcmtk("movescu"), *arguments, device="MOVESCU", cwd=folder)
        assert received(folder) == stored

    def test_getscu_receives_bit_for_bit(self, secure, dcmtk, tmp_path):
        study = build_study(3)
        stored = secure.store(tmp_path / "out", dcmtk("storescu"), *study)
        folder = tmp_path / "in"
        folder.mkdir()
        secure.run_relayed(dcmtk("getscu"), "+B", *study_keys(study[0]), device="GETSCU", cwd=folder)
        assert received(folder) == stored

    def test_dcmqrscp_is_moved_to_and_moves_to_us(self, secure, dcmtk, tmp_path):
        ours, theirs = build_study(3), build_study(3)
        secure.store(tmp_path / "ours", dcmtk("storescu"), *ours)
        tls = build_client_context(credentials(secure.folder, "QRSCP"))
        with (
            secure.listening("QRSCP") as port,
            relaying(secure.port, outside=tls) as back,
            run_dcmqrscp(dcmtk("dcmqrscp"), tmp_path / "qr", port=port, known={"PACS": back}),
        ):
            secure.run_relayed(dcmtk("movescu"), "-aem", "QRSCP", *study_keys(ours[0]), device="MOVESCU")
            assert len([file for file in (tmp_path / "qr").iterdir() if file.name.startswith("CT")]) == 3
            place = "-aec", "QRSCP", "127.0.0.1", str(port)
            call(dcmtk("storescu"), *place, *write_files(tmp_path / "theirs", theirs))
            call(dcmtk("movescu"), *place, "-aem", "PACS", *study_keys(theirs[0]))
        found = secure.run(dcmtk("findscu"), "-v", *study_keys(theirs[0]), "-k", "NumberOfStudyRelatedInstances")
        assert "[3 ]" in found

    def test_a_worklist_is_answered(self, secure, dcmtk):
        add_to_worklist(secure, PatientID="SECURE-1", RequestedProcedureID="SECURE-R1")
        keys = ["-W", "-k", "PatientID=SECURE-1", "-k", "(0040,0100)[0].Modality"]
        found = secure.run(dcmtk("findscu"), "-v", *keys)
        assert found.count("Find Response: ") == 1


@contextmanager
def storescp(secure: Secure, program: str, folder: Path) -> Iterator[None]:
    folder.mkdir()
    port = secure.ports["STORESCP"]
    command = [program, *options(secure.folder, "STORESCP"), "+B", "-od", str(folder), str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_port(port)
            yield
        finally:
            process.kill()


def add_to_worklist(secure: Secure, **values: Any) -> None:
    answer = httpx.post(f"{secure.archive.url}/worklist", json=build_entry_json(**values))
    assert answer.is_success, answer.text


@pytest.fixture(scope="module")
def orthanc(secure, tmp_path_factory) -> Iterator[Orthanc]:
    """Orthanc that takes and opens nothing but TLS, and knows the archive as ``pacs``."""
    modality = {"AET": "PACS", "Host": "127.0.0.1", "Port": secure.port, "UseDicomTls": True, "Manufacturer": "Generic"}
    with run_orthanc(
        tmp_path_factory.mktemp("orthanc"),
        DicomPort=secure.ports["ORTHANC"],
        DicomModalities={"pacs": modality},
        DicomTlsEnabled=True,
        DicomTlsCertificate=str(secure.folder / "ORTHANC.crt"),
        DicomTlsPrivateKey=str(secure.folder / "ORTHANC.key"),
        DicomTlsTrustedCertificates=str(secure.folder / "authority.crt"),
        DefaultEncoding="Utf8",
    ) as running:
        yield running


class TestOrthanc:
    def test_it_stores_into_us_finds_and_moves_it_back(self, secure, orthanc):
        study = build_study(3)
        sent = {one.SOPInstanceUID: as_part10(one) for one in study}
        names = [orthanc.upload(file) for file in sent.values()]
        before = data_sets(orthanc, names)
        orthanc.post("/modalities/pacs/store", names)
        for name in names:
            orthanc.http.delete(f"/instances/{name}")
        wanted = {"StudyInstanceUID": study[0].StudyInstanceUID}
        query = orthanc.post("/modalities/pacs/query", {"Level": "Study", "Query": wanted | {"PatientName": ""}})
        answers = orthanc.http.get(f"/queries/{query['ID']}/answers?expand&simplify").json()
        assert [answer["PatientName"] for answer in answers] == [str(study[0].PatientName)]
        orthanc.post("/modalities/pacs/move", {"Level": "Study", "Resources": [wanted], "TargetAet": "ORTHANC"})
        assert data_sets(orthanc, names) == before

    def test_we_move_to_it(self, secure, orthanc, dcmtk, tmp_path):
        study = build_study(3)
        stored = secure.store(tmp_path / "out", dcmtk("storescu"), *study)
        secure.run_relayed(dcmtk("movescu"), "-aem", "ORTHANC", *study_keys(study[0]), device="MOVESCU")
        files = orthanc.files()
        assert {uid: data_set_of(files[uid]) for uid in stored} == stored

    def test_it_asks_for_the_worklist(self, secure, orthanc):
        name = "الفاسي^فاطمة"
        add_to_worklist(secure, PatientID="SECURE-2", PatientName=name, RequestedProcedureID="SECURE-R2")
        keys = {"PatientID": "SECURE-2", "PatientName": "", "ScheduledProcedureStepSequence": [{"Modality": ""}]}
        answers = orthanc.post("/modalities/pacs/find-worklist", keys)
        assert [answer["PatientName"] for answer in answers] == [name]

    def test_it_is_given_commitment(self, secure, orthanc, dcmtk, tmp_path):
        image, missing = build_ct(), build_ct()
        secure.store(tmp_path / "out", dcmtk("storescu"), image)
        wanted = [[str(one.SOPClassUID), one.SOPInstanceUID] for one in (image, missing)]
        request = orthanc.post("/modalities/pacs/storage-commitment", {"DicomInstances": wanted})
        deadline = time.monotonic() + SECONDS
        while (report := orthanc.http.get(f"/storage-commitment/{request['ID']}").json())["Status"] == "Pending":
            assert time.monotonic() < deadline, secure.archive.log.read_text()[-3000:]
            time.sleep(0.1)
        assert [item["SOPInstanceUID"] for item in report["Success"]] == [image.SOPInstanceUID]
        assert [item["FailureReason"] for item in report["Failures"]] == [0x0112]

    def test_who_calls_in_its_name_in_the_clear_is_turned_away(self, secure, dcmtk):
        """The peer must show its certificate: a call in the clear in its name is turned away."""
        command = [
            dcmtk("echoscu"),
            "-v",
            "-aet",
            "ORTHANC",
            "-aec",
            "PACS",
            "127.0.0.1",
            str(secure.archive.dicom_port),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode != 0
        assert "Calling AE Title Not Recognized" in done.stdout + done.stderr


def data_sets(orthanc: Orthanc, names: list[str]) -> dict[str, bytes]:
    return {name: data_set_of(orthanc.http.get(f"/instances/{name}/file").content) for name in names}
