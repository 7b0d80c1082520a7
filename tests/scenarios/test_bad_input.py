"""One archive takes every kind of bad input in turn, and goes on: clear answers, nothing kept, bounded memory."""

import re
import socket
import struct
import subprocess
import sys
import threading
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests.builders import as_dataset_bytes, as_part10, build_ct, build_dataset
from tests.conformance.dimse.scu import (
    ABORT,
    ASSOCIATE_ACCEPT,
    CT,
    EXPLICIT,
    P_DATA,
    BareSocket,
    echo_works,
    encode_association_request,
    encode_store_command,
)
from tests.scenarios.process import ArchiveProcess, serving

pytestmark = pytest.mark.scenario

MAX_GROWTH_MB = 300
NOT_DICOM = "These bytes are not a DICOM data set."
TRUNCATED = "The data set ends before it is complete."
TOO_COMPLEX = "The data set nests too deep or has too many elements."
BAD_UID = "A required UID is missing or malformed."
MULTIPART = 'multipart/related; type="application/dicom"; boundary=b'
UNDEFINED = 0xFFFFFFFF
ITEM, SEQUENCE_DELIMITER = 0xE000, 0xE0DD


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("bad input") / "data") as running:
        yield running


@pytest.fixture(autouse=True)
def _goes_on_with_nothing_kept(archive):
    """Whatever a test sends: the archive answers, keeps nothing, and has not grown."""
    before = resident_mb(archive), blobs(archive)
    yield
    assert httpx.get(f"{archive.url}/readyz", timeout=30).status_code == 200
    assert echo_works(archive.dicom_port)
    assert httpx.get(f"{archive.dicomweb}/instances").status_code == 204
    assert not list((archive.data_dir / "objects" / "incoming").iterdir())
    assert blobs(archive) == before[1] == set()
    assert resident_mb(archive) - before[0] < MAX_GROWTH_MB
    assert "Traceback" not in archive.log.read_text()


def resident_mb(archive: ArchiveProcess) -> int:
    status = Path(f"/proc/{archive.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024


def peak_mb(archive: ArchiveProcess) -> int:
    status = Path(f"/proc/{archive.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024


def blobs(archive: ArchiveProcess) -> set[Path]:
    return {path for path in (archive.data_dir / "objects").rglob("*") if path.is_file() and path.name != ".lock"}


def long_element(group: int, element: int, vr: bytes, length: int) -> bytes:
    return struct.pack("<HH2sHL", group, element, vr, 0, length)


def item(element: int, length: int = 0) -> bytes:
    return struct.pack("<HHL", 0xFFFE, element, length)


def many_values(vr: bytes, value: bytes, size_bytes: int, elements: int) -> bytes:
    """Return private elements full of the shortest values that there are."""
    value = value * (size_bytes // len(value))
    head = struct.pack("<HH2sH", 0x0071, 0x0010, b"LO", 2) + b"X "
    return head + b"".join(
        struct.pack("<HH2sH", 0x0071, 0x1000 + index, vr, len(value)) + value for index in range(elements)
    )


def deflated_bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    zeros = b"\0" * (1 << 20)
    body = as_dataset_bytes(build_dataset()) + long_element(0x0042, 0x0011, b"OB", 200 << 20)
    packed = packer.compress(body) + b"".join(packer.compress(zeros) for _ in range(200)) + packer.flush()
    return meta(DeflatedExplicitVRLittleEndian) + packed


def meta(syntax: str = EXPLICIT) -> bytes:
    whole = as_part10(build_dataset())
    length = struct.unpack_from("<L", whole, 140)[0]
    head = whole[: 144 + length]
    padded = syntax.encode() + b"\0" * (len(syntax) % 2)
    old = struct.pack("<HH2sH", 2, 0x10, b"UI", 20) + b"1.2.840.10008.1.2.1\0"
    assert old in head
    head = head.replace(old, struct.pack("<HH2sH", 2, 0x10, b"UI", len(padded)) + padded)
    return head[:140] + struct.pack("<L", length + len(padded) - 20) + head[144:]


def renamed(keyword: str, uid: bytes) -> bytes:
    dataset = build_dataset()
    old = getattr(dataset, keyword).encode()
    return as_part10(dataset).replace(old, uid.ljust(len(old), b"\0"))


def build_huge(name: str) -> tuple[bytes, str]:
    """Return a hostile object and the sentence it is refused with."""
    base, unnamed = as_part10(build_dataset()), as_part10(build_dataset(SOPInstanceUID=None))
    content = long_element(0x0040, 0xA730, b"SQ", UNDEFINED)
    match name:
        case "2 million empty items":
            return base + long_element(0x0040, 0xA730, b"SQ", 16_000_000) + item(ITEM) * 2_000_000, TOO_COMPLEX
        case "nested 100,000 deep":
            return base + (content + item(ITEM, UNDEFINED)) * 100_000, TOO_COMPLEX
        case "an element of 4 GB":
            return base + long_element(0x0042, 0x0011, b"OB", 0xFFFFFFFE) + b"x" * 100, TRUNCATED
        case "200 MB deflated":
            return deflated_bomb(), TOO_COMPLEX
        case "2 million fragments":
            pixels = long_element(0x7FE0, 0x0010, b"OB", UNDEFINED) + item(ITEM) * 2_000_000
            return base + pixels + item(SEQUENCE_DELIMITER), TOO_COMPLEX
        case "many short lists of names":
            return base + many_values(b"PN", b"a\\", 1000, 3000), TOO_COMPLEX
        case "long lists of names":
            return unnamed + many_values(b"PN", b"a\\", 60000, 200), BAD_UID
        case "long lists of numbers":
            return unnamed + many_values(b"US", b"\xff\xff", 60000, 400), BAD_UID
    raise AssertionError(name)


HUGE = (
    "2 million empty items",
    "nested 100,000 deep",
    "an element of 4 GB",
    "200 MB deflated",
    "2 million fragments",
    "many short lists of names",
    "long lists of names",
    "long lists of numbers",
)


def small() -> dict[str, tuple[bytes, str]]:
    whole = as_part10(build_ct())
    return {
        "text": (b"GET / HTTP/1.1\r\n\r\n" * 20, NOT_DICOM),
        "zeros": (b"\0" * 4000, NOT_DICOM),
        "one byte": (b"\x08", NOT_DICOM),
        "a magic number alone": (b"\0" * 128 + b"DICM", BAD_UID),
        "cut in the meta": (whole[:200], TRUNCATED),
        "cut in the data set": (whole[:600], TRUNCATED),
        "cut in the pixels": (whole[:-40], TRUNCATED),
        "no instance UID": (as_part10(build_dataset(SOPInstanceUID=None)), BAD_UID),
        "no study UID": (as_part10(build_dataset(StudyInstanceUID=None)), BAD_UID),
        "no series UID": (as_part10(build_dataset(SeriesInstanceUID=None)), BAD_UID),
        "a path": (renamed("StudyInstanceUID", b"../../etc/passwd"), BAD_UID),
        "the folder above": (renamed("StudyInstanceUID", b".."), BAD_UID),
        "a header": (renamed("SOPInstanceUID", b"1.2\r\nSet-Cookie: a=b"), BAD_UID),
        "a script": (renamed("SeriesInstanceUID", b"<script>alert(1)</script>"), BAD_UID),
        "a name": (renamed("SOPInstanceUID", b"DOE^JANE\n2026-01-01 forged"), BAD_UID),
        "Arabic digits": (renamed("SOPInstanceUID", "٢.٣".encode()), BAD_UID),
    }


SMALL = tuple(small())


def multipart(*parts: bytes) -> bytes:
    return b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


def post(archive: ArchiveProcess, body: bytes, content_type: str = MULTIPART) -> httpx.Response:
    return httpx.post(f"{archive.dicomweb}/studies", content=body, headers={"Content-Type": content_type}, timeout=60)


def comments(answer: httpx.Response) -> list[str]:
    module = answer.json()
    failures = [*module.get("00081198", {}).get("Value", []), *module.get("0008119A", {}).get("Value", [])]
    return [failure["00000902"]["Value"][0] for failure in failures]


def exchange(archive: ArchiveProcess, data: bytes, *, hangs_up: bool = False) -> bytes:
    """Send these bytes and return everything that is answered before the connection ends."""
    with socket.create_connection(("127.0.0.1", archive.http_port), timeout=20) as connection:
        with suppress(OSError):
            connection.sendall(data)
            if hangs_up:
                connection.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                answer += piece
        return answer


@pytest.mark.parametrize("name", [*SMALL, *HUGE])
def test_a_bad_object_by_stow_is_409_with_its_reason_and_nothing_it_holds(archive, name):
    data, reason = build_huge(name) if name in HUGE else small()[name]
    answer = post(archive, multipart(data))
    assert answer.status_code == 409
    assert comments(answer) == [reason]
    for leak in ("DOE", "script", "passwd", "Cookie"):
        assert leak not in answer.text
        assert leak not in archive.log.read_text()
    assert peak_mb(archive) < 700


@pytest.mark.parametrize("name", [*SMALL, "2 million empty items", "nested 100,000 deep", "an element of 4 GB"])
def test_a_bad_object_by_store_is_a_status_with_a_comment_on_an_association_that_goes_on(archive, name):
    data, _ = build_huge(name) if name in HUGE else small()[name]
    data_set = data[meta_end(data) :] or b"\0"
    with BareSocket(archive.dicom_port) as peer:
        assert peer.associate(CT, syntaxes=[EXPLICIT])[0] == ASSOCIATE_ACCEPT
        for _ in range(2):
            peer.send_data(1, encode_store_command(), is_command=True)
            pieces = [data_set[start : start + 100_000] for start in range(0, len(data_set), 100_000)]
            for piece in pieces[:-1]:
                peer.send_data(1, piece, is_command=False, is_last=False)
            peer.send_data(1, pieces[-1], is_command=False)
            status, comment = peer.receive_status()
            assert status & 0xF000 in (0xA000, 0xC000)
            assert 0 < len(comment) <= 64


def meta_end(data: bytes) -> int:
    is_whole = data[128:132] == b"DICM" and len(data) > 144 + 100
    return 144 + struct.unpack_from("<L", data, 140)[0] if is_whole else 0


def test_sixteen_large_headers_at_once_stay_within_memory(archive):
    body = as_dataset_bytes(build_dataset()) + many_values(b"PN", b"a\\", 1000, 1500)
    answers = []

    def push() -> None:
        with BareSocket(archive.dicom_port) as peer:
            peer.associate(CT, syntaxes=[EXPLICIT])
            peer.send_data(1, encode_store_command(), is_command=True)
            for start in range(0, len(body), 100_000):
                is_last = start + 100_000 >= len(body)
                peer.send_data(1, body[start : start + 100_000], is_command=False, is_last=is_last)
            peer.socket.settimeout(60)
            answers.append(peer.receive_status()[0])

    threads = [threading.Thread(target=push) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {status & 0xF000 for status in answers} <= {0xA000, 0xC000}
    assert len(answers) == len(threads)
    assert peak_mb(archive) < 900


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"nothing like it", MULTIPART),
        (multipart(b"x")[:-10], MULTIPART),
        (multipart(b"x"), MULTIPART.replace("boundary=b", "boundary=c")),
        (multipart(b"x"), MULTIPART.replace("boundary=b", "boundary=" + "b" * 100)),
        (multipart(b"x"), MULTIPART.replace("; boundary=b", "")),
        (b"--b\r\nX: " + b"a" * 10_000_000 + b"\r\n\r\nx\r\n--b--\r\n", MULTIPART),
        (b"--b\r\n" + b"X: a\r\n" * 1_000_000 + b"\r\nx\r\n--b--\r\n", MULTIPART),
        (b"--b\r\nno header\r\n\r\nx\r\n--b--\r\n", MULTIPART),
        (b"--b" + b" " * 5_000_000 + b"\r\n\r\nx\r\n--b--\r\n", MULTIPART),
        (b"", MULTIPART),
        (b"", "application/dicom"),
    ],
)
def test_a_broken_multipart_body_is_400(archive, body, content_type):
    assert post(archive, body, content_type).status_code == 400


@pytest.mark.parametrize("content_type", ["text/html", "", '"' + '\\"' * 20_000, "multipart/related; type=text/html"])
def test_another_body_is_415(archive, content_type):
    assert post(archive, b"x", content_type).status_code == 415


def test_twenty_thousand_parts_are_each_answered(archive):
    answer = post(archive, multipart(*[b"x"] * 20_000))
    assert answer.status_code == 409
    assert len(comments(answer)) == 20_000


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 100000", b"Content-Length: 20\r\nContent-Length: 30", b"Content-Length: -1",
     b"Content-Length: 99999999999999999999999", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked, gzip",
     b"Content-Length: 5\r\nTransfer-Encoding: chunked"],
)  # fmt: skip
def test_a_lying_length_stores_nothing(archive, head):
    body = multipart(as_part10(build_ct(SOPInstanceUID=None)))[:700]
    request = b"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nContent-Type: " + MULTIPART.encode() + b"\r\n" + head
    answer = exchange(archive, request + b"\r\n\r\n" + body, hangs_up=True)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "query",
    ["StudyDate=20241301x", "StudyDate=99999999-", "StudyTime=99-", "limit=-1", "limit=x", "offset=1e9",
     "limit=1&limit=2",
     "InstanceNumber=99999999999999999999", "PatientName=%ED%A0%80", "PatientName=a%00b", "PatientName=a%0d%0aX:b",
     "PatientName=" + "*a" * 20_000, "StudyInstanceUID=../../x", "StudyInstanceUID=" + ",".join(map(str, range(9000))),
     "fuzzymatching=maybe", "&".join(f"a{number}=1" for number in range(2000))],
)  # fmt: skip
def test_a_bad_query_is_400(archive, query):
    answer = httpx.get(f"{archive.dicomweb}/studies?{query}")
    assert answer.status_code == 400
    assert answer.json()["message"]


@pytest.mark.parametrize("name", ["Accept", "accept"])
def test_quotes_that_never_end_do_not_stall_the_archive(archive, name):
    # 60 kB of these took a regular expression a minute, with the interpreter locked.
    quotes = '"' + '\\"' * (25_000 if name == "Accept" else 8_000)
    wanted = {"headers": {name: quotes}} if name == "Accept" else {"params": {name: quotes}}
    assert httpx.get(f"{archive.dicomweb}/studies", timeout=10, **wanted).status_code == 406


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/dicom-web/studies/1%2F..%2F../metadata", 404),
        ("/dicom-web/studies/1%00/metadata", 400),
        ("/dicom-web/studies/1%0d%0aX-Bad:%20y/metadata", 400),
        ("/dicom-web/studies/%D9%A2/metadata", 400),
        ("/dicom-web/studies/" + "1" * 10_000 + "/metadata", 400),
        ("/dicom-web/studies/1/series/2/instances/3/frames/" + ",".join(["1"] * 10_000), 404),
        ("/dicom-web/studies/1/series/2/instances/3/frames/" + ",".join(["1"] * 20_001), 400),
        ("/dicom-web/studies/1/series/2/instances/3/frames/99999999999999999999", 400),
        ("/dicom-web/studies/1/series/2/instances/3/frames/0", 400),
        ("/dicom-web/studies/1/series/2/instances/3/frames/-1", 400),
        ("/dicom-web/studies/1/series/2/instances/3/bulkdata/..%2F..%2Fetc%2Fpasswd", 400),
        ("/dicom-web/nothing/<script>", 404),
        ("/..%2f..%2f..%2f..%2fetc%2fpasswd.js", 404),
        ("/%2e%2e/%2e%2e/etc/passwd.conf", 404),
        ("/%2fetc%2fpasswd.conf", 404),
        ("/%00.js", 404),
        ("/%ff%fe.js", 404),
        ("/" + "a" * 5000 + ".js", 404),
    ],
)
def test_a_bad_address_is_an_error_that_repeats_nothing(archive, path, status):
    answer = exchange(archive, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"x-content-type-options: nosniff" in head.lower()
    assert b"x-bad" not in head.lower()
    assert b"root:" not in body
    assert b"<script>" not in body


@pytest.mark.parametrize("host", ["[", "a:99999999", '"><script>', "a b", "é", "a/../b?c#d"])
def test_a_bad_host_header_is_no_failure_of_ours(archive, host):
    request = f"GET /dicom-web/studies?x=1&limit=1 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    answer = exchange(archive, request.encode("latin-1"))
    assert answer.startswith((b"HTTP/1.1 204 ", b"HTTP/1.1 400 "))
    assert b"<script>" not in answer


@pytest.mark.parametrize(
    "start", [b"GET /dicom-web/studies?PatientName=", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\n"]
)
def test_a_head_without_end_is_cut_off(archive, start):
    answer = exchange(archive, start + b"a: b\r\n" * 1_700_000 if start.endswith(b"\n") else start + b"a" * 10_000_000)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


def test_silent_connections_keep_nobody_out(archive):
    silent = [socket.create_connection(("127.0.0.1", archive.http_port), timeout=5) for _ in range(50)]
    silent += [socket.create_connection(("127.0.0.1", archive.dicom_port), timeout=5) for _ in range(50)]
    begun = [BareSocket(archive.dicom_port) for _ in range(10)]
    for peer in begun:
        peer.socket.sendall(encode_association_request([CT], [EXPLICIT])[:20])
    try:
        assert echo_works(archive.dicom_port)
        assert httpx.get(f"{archive.url}/readyz").status_code == 200
    finally:
        for connection in (*silent, *(peer.socket for peer in begun)):
            connection.close()


def test_a_control_character_in_an_ae_title_is_no_line_in_the_log(archive):
    request = encode_association_request([CT], [EXPLICIT]).replace(b"BARE            ", b"A\nFORGED LINE   ".ljust(16))
    with BareSocket(archive.dicom_port) as peer:
        peer.socket.sendall(request)
        if peer.receive()[0] == ASSOCIATE_ACCEPT:
            peer.send_data(1, encode_store_command(), is_command=True)
            peer.send_data(1, b"junk", is_command=False)
            assert peer.receive()[0] in (P_DATA, ABORT)
    assert "\nFORGED" not in archive.log.read_text()


def test_an_import_of_bad_files_names_each_and_goes_on(archive, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number, (data, _) in enumerate(small().values()):
        (folder / f"{number}.dcm").write_bytes(data)
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
        for number in range(3):
            with bomb.open(f"{number}.dcm", "w", force_zip64=True) as entry:
                for _ in range(120):
                    entry.write(b"\0" * (1 << 20))
        bomb.writestr("escape\x1b[31m\nrejected: forged.dcm", b"x")
        bomb.writestr("../../outside.dcm", b"x")
    command = [sys.executable, "-m", "pacs.cli.main", "import", "--data-dir", str(tmp_path / "other"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    count = len(SMALL) + 5
    assert done.returncode == 1
    assert f"0 accepted, 0 already there, {count} rejected, of {count} files." in done.stdout
    assert "unpacks to more than 200 times its size" in done.stdout
    assert "\x1b" not in done.stdout
    assert "\nrejected: forged" not in done.stdout
    assert "Traceback" not in done.stderr
    assert "DOE" not in done.stdout + done.stderr
    assert not list(tmp_path.rglob("*outside*"))
