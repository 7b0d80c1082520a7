"""C-ECHO (PS3.4 Annex A)."""

import subprocess

from pynetdicom import build_context

from tests.conformance.dimse.scu import VERIFICATION, BareSocket, associate, encode_echo_command


def test_echo_answers_success(server):
    with associate(server.port, [build_context(VERIFICATION)]) as association:
        assert association.send_c_echo().Status == 0x0000


def test_echo_answers_many_times_on_one_association(server):
    with BareSocket(server.port) as peer:
        peer.associate(VERIFICATION)
        for _ in range(50):
            peer.send_data(1, encode_echo_command(), is_command=True)
            assert peer.receive_status() == (0x0000, "")


def test_dcmtk_gets_an_echo(server, dcmtk):
    subprocess.run([dcmtk("echoscu"), "-aec", "ANYTHING", "127.0.0.1", str(server.port)], check=True, timeout=60)
