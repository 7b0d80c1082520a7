"""DICOM over TLS (PS3.15 B.12): both sides show certificates; DCMTK and openssl are the other side."""

import socket
import ssl
import stat
import subprocess
import time
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import build_context

from pacs.cli import tls as commands
from pacs.config import load_settings
from pacs.dimse.association import Timeouts
from pacs.dimse.calling import Caller
from pacs.dimse.find import FindService
from pacs.dimse.peers import Peer, Peers
from pacs.dimse.server import create_server
from pacs.dimse.tls import Credentials, build_client_context, build_server_context
from pacs.errors import InvalidSetting, PacsError
from pacs.routing.destinations import Unreachable
from tests.builders import as_part10, build_ct
from tests.conformance.dimse.authority import command, credentials, digest, make_authority, options
from tests.conformance.dimse.scu import (
    ASSOCIATE_REJECT,
    CT,
    EXPLICIT,
    VERIFICATION,
    BareSocket,
    decode_command,
    echo_works,
    encode_data,
    encode_echo_command,
    encode_store_command,
)
from tests.scenarios.process import free_port

CALLING_AE_TITLE_NOT_RECOGNIZED = b"\0\x01\x01\x03"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_authority(tmp_path_factory.mktemp("tls") / "ours", "DEVICE", "OTHER")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> Path:
    return make_authority(tmp_path_factory.mktemp("tls") / "foreign", "DEVICE")


@pytest.fixture
def start_secure(start_server, keeper, folder):
    def start(**arguments):
        return start_server(keeper, tls=(0, build_server_context(credentials(folder))), **arguments)

    return start


@pytest.fixture
def secure(start_secure):
    return start_secure()


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, check=False)


class SecureSocket(BareSocket):
    """A bare socket behind TLS."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__(port)
        self.socket = context.wrap_socket(self.socket)


def build_lenient_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class TestDcmtk:
    @pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
    def test_echo_with_every_profile_of_bcp_195(self, secure, folder, dcmtk, profile):
        done = run(dcmtk("echoscu"), *options(folder), profile, "127.0.0.1", secure.tls_port)
        assert done.returncode == 0, done.stderr

    def test_store_keeps_the_bytes_that_were_sent(self, secure, folder, keeper, dcmtk, tmp_path):
        dataset = build_ct(Rows=512, Columns=512, PixelData=bytes(range(256)) * 2048)
        (tmp_path / "ct.dcm").write_bytes(as_part10(dataset))
        done = run(dcmtk("storescu"), *options(folder), "127.0.0.1", secure.tls_port, tmp_path / "ct.dcm")
        assert done.returncode == 0, done.stderr
        (kept,) = keeper.kept
        assert kept.data_set.endswith(bytes(range(256)) * 2048)
        assert kept.origin.calling_ae_title == "STORESCU"

    def test_the_plain_port_stays_plain_and_the_other_is_for_tls_only(self, secure, folder, dcmtk):
        assert run(dcmtk("echoscu"), "127.0.0.1", secure.port).returncode == 0
        assert run(dcmtk("echoscu"), *options(folder), "127.0.0.1", secure.port).returncode != 0
        assert run(dcmtk("echoscu"), "127.0.0.1", secure.tls_port).returncode != 0
        assert echo_works(secure.port)

    def test_find_is_answered(self, archive, folder, dcmtk):
        context = build_server_context(credentials(folder))
        server = create_server(archive, port=0, tls=(0, context), services=[FindService(archive.search, "PACS")])
        server.start()
        try:
            keys = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID"]
            done = run(dcmtk("findscu"), "-v", *options(folder), *keys, "127.0.0.1", server.tls_port)
            assert done.returncode == 0, done.stderr
            assert "Received Final Find Response (Success)" in done.stdout + done.stderr
        finally:
            server.stop(grace_seconds=2)

    def test_a_destination_is_called_over_tls(self, folder, dcmtk, tmp_path):
        (tmp_path / "in").mkdir()
        port = free_port()
        program = [dcmtk("storescp"), *options(folder, "OTHER"), "-od", str(tmp_path / "in"), str(port)]
        with subprocess.Popen(program) as process:
            try:
                peer = Peer("STORESCP", "127.0.0.1", port, tls=True, certificate_sha256=digest(folder, "OTHER"))
                dataset = dcmread(BytesIO(as_part10(build_ct())))
                caller = Caller("PACS", build_client_context(credentials(folder)))
                with self.call(caller, peer) as association:
                    assert association.send_c_store(dataset).Status == 0x0000
                (stored,) = (tmp_path / "in").iterdir()
                assert dcmread(stored).SOPInstanceUID == dataset.SOPInstanceUID
                self.refuses(caller, Peer("STORESCP", "127.0.0.1", port, tls=True, certificate_sha256="00" * 32))
                self.refuses(Caller("PACS"), peer)
            finally:
                process.kill()

    @staticmethod
    def call(caller: Caller, peer: Peer):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                with socket.create_connection((peer.address, peer.port), 1):
                    break
            except OSError:
                time.sleep(0.02)
        return caller.associate(peer, [build_context(CT, EXPLICIT)])

    @staticmethod
    def refuses(caller: Caller, peer: Peer) -> None:
        with pytest.raises(Unreachable, match=r"TLS|certificate"), caller.associate(peer, [build_context(CT)]):
            pass


class TestCertificates:
    def test_who_shows_none_is_refused_by_the_handshake(self, secure, folder):
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{secure.tls_port}", "-tls1_2"]
        done = run(*command, "-CAfile", folder / "authority.crt")
        assert done.returncode != 0
        assert "handshake failure" in done.stderr or "certificate required" in done.stderr
        assert echo_works(secure.port)

    @pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
    def test_old_versions_are_refused(self, secure, folder, version):
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{secure.tls_port}", version, "-cipher"]
        files = ["-cert", folder / "DEVICE.crt", "-key", folder / "DEVICE.key"]
        assert run(*command, "ALL:@SECLEVEL=0", *files).returncode != 0

    @pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "NULL"])
    def test_weak_ciphers_are_refused(self, secure, folder, cipher):
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{secure.tls_port}", "-tls1_2", "-cipher"]
        files = ["-cert", folder / "DEVICE.crt", "-key", folder / "DEVICE.key"]
        assert run(*command, f"{cipher}:@SECLEVEL=0", *files).returncode != 0

    def test_another_authority_is_refused_on_both_sides(self, secure, folder, foreign, dcmtk):
        strange = options(foreign, authority=folder)
        assert run(dcmtk("echoscu"), *strange, "127.0.0.1", secure.tls_port).returncode != 0
        peer = Peer("PACS", "127.0.0.1", secure.tls_port, tls=True)
        for own, trusted in ((foreign, folder), (folder, foreign)):
            caller = Caller("PACS", build_client_context(credentials(own, authority=trusted)))
            with pytest.raises(Unreachable), caller.associate(peer, [build_context(VERIFICATION)]):
                pass
        assert echo_works(secure.port)

    def test_an_expired_certificate_is_refused(self, secure, folder, tmp_path, monkeypatch, dcmtk, caplog):
        monkeypatch.setattr(commands, "_CERTIFICATE_DAYS", -0.5)
        assert command("issue", "--to", str(folder), f"EXPIRED{tmp_path.name[-1]}") == 0
        with caplog.at_level("INFO", logger="pacs"):
            late = options(folder, f"EXPIRED{tmp_path.name[-1]}")
            assert run(dcmtk("echoscu"), *late, "127.0.0.1", secure.tls_port).returncode != 0
            deadline = time.monotonic() + 20
            while "no TLS: certificate has expired" not in caplog.text and time.monotonic() < deadline:
                time.sleep(0.01)
        assert "no TLS: certificate has expired" in caplog.text

    @pytest.mark.parametrize(
        ("name", "uses_tls", "is_admitted"), [("DEVICE", True, True), ("OTHER", True, False), ("DEVICE", False, False)]
    )
    def test_a_peer_with_a_digest_must_show_exactly_that_certificate(
        self, start_secure, folder, name, uses_tls, is_admitted
    ):
        server = start_secure(peers=Peers((Peer("BARE", certificate_sha256=digest(folder, "DEVICE").upper()),)))
        context = build_client_context(credentials(folder, name))
        with SecureSocket(server.tls_port, context) if uses_tls else BareSocket(server.port) as peer:
            answer = peer.associate(VERIFICATION)
        assert (answer != (ASSOCIATE_REJECT, CALLING_AE_TITLE_NOT_RECOGNIZED)) is is_admitted

    def test_who_is_not_known_is_rejected_over_tls_too(self, start_secure, folder):
        server = start_secure(peers=Peers((Peer("CT_1"),)))
        with SecureSocket(server.tls_port, build_client_context(credentials(folder, "DEVICE"))) as peer:
            assert peer.associate() == (ASSOCIATE_REJECT, CALLING_AE_TITLE_NOT_RECOGNIZED)


class TestConnection:
    def test_bytes_that_tls_holds_already_are_read(self, secure, folder):
        """Two PDUs in one TLS record: the second waits in TLS's own buffer, where ``poll`` does not see it."""
        with SecureSocket(secure.tls_port, build_client_context(credentials(folder, "DEVICE"))) as peer:
            peer.associate(VERIFICATION)
            peer.socket.sendall(encode_data(1, encode_echo_command(), is_command=True) * 3)
            assert [peer.receive_status() for _ in range(3)] == [(0x0000, "")] * 3

    def test_stores_and_an_echo_in_one_record_are_answered_in_order(self, secure, folder, keeper):
        echo = encode_data(3, encode_echo_command(), is_command=True)
        store = encode_data(1, encode_store_command(), is_command=True) + encode_data(1, b"data", is_command=False)
        with SecureSocket(secure.tls_port, build_client_context(credentials(folder, "DEVICE"))) as peer:
            peer.associate(CT, VERIFICATION)
            peer.socket.sendall(store + echo + store * 2)
            answers = [decode_command(peer.receive()[1][6:])[0x0100] for _ in range(4)]
        assert answers == [b"\x01\x80", b"\x30\x80", b"\x01\x80", b"\x01\x80"]
        assert [kept.data_set for kept in keeper.kept] == [b"data"] * 3

    def test_a_handshake_that_stands_still_keeps_nobody_out_and_ends(self, start_secure, folder, dcmtk):
        server = start_secure(timeouts=Timeouts(association_seconds=1))
        with BareSocket(server.tls_port) as silent, BareSocket(server.tls_port) as slow:
            slow.socket.sendall(b"\x16\x03\x01")
            assert run(dcmtk("echoscu"), *options(folder), "127.0.0.1", server.tls_port).returncode == 0
            assert silent.receive() == (0, b"")
            assert slow.receive() == (0, b"")

    def test_garbage_instead_of_a_handshake_ends_its_connection(self, secure, folder, dcmtk):
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x01\0\0\0\0\x04abcd", b"\x16\x03\x01\xff\xff" + b"\xff" * 500):
            with BareSocket(secure.tls_port) as peer:
                peer.socket.sendall(garbage)
                peer.socket.shutdown(socket.SHUT_WR)
                try:
                    while peer.socket.recv(100):
                        pass
                except ConnectionResetError:
                    pass
        assert run(dcmtk("echoscu"), *options(folder), "127.0.0.1", secure.tls_port).returncode == 0

    def test_both_ports_share_the_limits_of_a_peer(self, start_secure, folder):
        server = start_secure(peers=Peers((Peer("BARE", max_associations=1),)))
        with BareSocket(server.port) as plain:
            plain.associate(VERIFICATION)
            with SecureSocket(server.tls_port, build_client_context(credentials(folder, "DEVICE"))) as other:
                assert other.associate(VERIFICATION) == (ASSOCIATE_REJECT, b"\0\x02\x03\x02")

    def test_stop_ends_what_is_open_and_what_shakes_hands(self, secure, folder):
        with SecureSocket(secure.tls_port, build_client_context(credentials(folder, "DEVICE"))) as peer:
            peer.associate(VERIFICATION)
            with BareSocket(secure.tls_port) as silent:
                assert echo_works(secure.port)
                secure.stop(grace_seconds=20)
                assert silent.receive() == (0, b"")
            assert peer.receive()[0] == 0x07


class TestFiles:
    def test_keys_are_their_owners_alone_and_certificates_verify(self, folder):
        for file in folder.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        for name in ("server", "DEVICE"):
            done = run("openssl", "verify", "-x509_strict", "-CAfile", folder / "authority.crt", folder / f"{name}.crt")
            assert done.returncode == 0, done.stderr

    def test_nothing_is_ever_overwritten(self, folder):
        before = {file: file.read_bytes() for file in folder.iterdir()}
        for arguments in (["init"], ["issue", "DEVICE"], ["issue", "authority"]):
            with pytest.raises(PacsError, match="is there already"):
                command(*arguments, "--to", str(folder))
        assert {file: file.read_bytes() for file in folder.iterdir()} == before

    @pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "a\nb", "x" * 65])
    def test_a_name_that_is_no_file_name_is_refused(self, folder, name):
        with pytest.raises(PacsError, match="letters, digits"):
            command("issue", "--to", str(folder), name)

    def test_a_device_needs_an_authority(self, tmp_path):
        with pytest.raises(PacsError, match="no authority"):
            command("issue", "--to", str(tmp_path / "nothing"), "DEVICE")
        assert not (tmp_path / "nothing").exists()

    def test_the_settings_that_are_printed_are_right(self, tmp_path, capsys):
        assert command("init", "--to", str(tmp_path / "tls")) == 0
        printed = capsys.readouterr().out.partition("[dimse.tls]")
        (tmp_path / "pacs.toml").write_text("[dimse.tls]" + printed[2].partition("Keep")[0])
        tls = load_settings(tmp_path / "pacs.toml", {}).dimse.tls
        assert tls.port == 2762
        build_server_context(Credentials(tls.certificate_file, tls.key_file, tls.authority_file))

    @pytest.mark.parametrize(
        ("change", "setting"),
        [
            ({"certificate_file": None}, "certificate_file"),
            ({"key_file": Path("/nowhere/key")}, "key_file"),
            ({"authority_file": "DEVICE.key"}, "authority_file"),
            ({"key_file": "OTHER.key"}, "key_file"),
        ],
    )
    def test_files_that_make_no_sense_are_named(self, folder, change, setting):
        files = {"certificate_file": "DEVICE.crt", "key_file": "DEVICE.key", "authority_file": "authority.crt"} | change
        given = {name: folder / file if file is not None else None for name, file in files.items()}
        for build in (build_server_context, build_client_context):
            with pytest.raises(InvalidSetting, match=f"dimse.tls.*{setting}"):
                build(Credentials(**given))
