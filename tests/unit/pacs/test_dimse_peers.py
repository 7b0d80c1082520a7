import threading

import pytest

from pacs.dimse.peers import HostNames, Peer, Peers, is_loopback
from pacs.model import Door, DuplicatePolicy, Origin

ANYWHERE = Peer("CT_1", issuer_of_patient_id="ANYWHERE")
HERE = Peer("CT_1", "192.0.2.1", issuer_of_patient_id="HERE")
NAMED = Peer("MR_1", "mr.example.org")
OTHERS = Peer("", issuer_of_patient_id="OTHERS")
DIGEST = "0123456789abcdef" * 4


def knows(**names: str) -> HostNames:
    return HostNames(lambda name: frozenset([names[name.partition(".")[0]]]))


PEERS = Peers((ANYWHERE, HERE, NAMED), OTHERS, knows(mr="192.0.2.7"))


@pytest.mark.parametrize(
    ("ae_title", "address", "peer"),
    [
        ("CT_1", "192.0.2.1", HERE),
        (" CT_1  ", "192.0.2.1", HERE),
        ("CT_1", "::ffff:192.0.2.1", HERE),
        ("CT_1", "192.0.2.2", ANYWHERE),
        ("CT_2", "192.0.2.1", OTHERS),
        ("ct_1", "192.0.2.1", OTHERS),
        ("MR_1", "192.0.2.7", NAMED),
        ("MR_1", "192.0.2.8", OTHERS),
        ("CT_1", "192.0.2.7", ANYWHERE),
        ("", "", OTHERS),
    ],
)
def test_title_and_address_win_over_title_and_title_over_default(ae_title, address, peer):
    assert PEERS.lookup(ae_title, address) is peer


def test_without_a_default_nobody_else_is_admitted():
    peers = Peers((HERE, NAMED), names=knows(mr="192.0.2.7"))
    assert peers.lookup("CT_1", "192.0.2.1") is HERE
    assert peers.lookup("CT_1", "192.0.2.2") is None
    assert peers.lookup("CT_2", "192.0.2.1") is None
    assert peers.lookup("MR_1", "192.0.2.1") is None


@pytest.mark.parametrize("address", ["2001:db8::1", "2001:DB8:0::0001", "2001:db8::1%eth0"])
def test_peer_with_an_ipv6_address_is_found_however_it_is_written(address):
    peer = Peer("MR_1", "2001:DB8::1")
    assert Peers((peer,)).lookup("MR_1", address) is peer


def test_a_host_name_is_looked_up_once_a_minute():
    asked = []
    names = HostNames(lambda name: asked.append(name) or frozenset(["192.0.2.7"]))
    assert [names.find_addresses("mr") for _ in range(3)] == [{"192.0.2.7"}] * 3
    assert asked == ["mr"]


@pytest.mark.parametrize("error", [OSError("no answer"), UnicodeError("no name")])
def test_a_name_service_that_fails_changes_nothing(error, monkeypatch):
    answers = [frozenset(["192.0.2.7"])]

    def look_up(_):
        if not answers:
            raise error
        return answers.pop()

    names = HostNames(look_up)
    monkeypatch.setattr("pacs.dimse.peers.NAME_SECONDS", 0)
    assert [names.find_addresses("mr") for _ in range(3)] == [{"192.0.2.7"}] * 3


def test_a_name_service_that_hangs_stops_nobody_else():
    asked, release = threading.Event(), threading.Event()

    def look_up(_):
        asked.set()
        release.wait(20)
        return frozenset(["192.0.2.7"])

    names = HostNames(look_up)
    first = threading.Thread(target=names.find_addresses, args=("mr",))
    first.start()
    asked.wait(20)
    assert names.find_addresses("mr") == frozenset()
    release.set()
    first.join()
    assert names.find_addresses("mr") == {"192.0.2.7"}


def test_localhost_is_known_to_the_system():
    assert "127.0.0.1" in HostNames().find_addresses("localhost")


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("", False),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("pacs.example.org", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host, answer):
    assert is_loopback(host) is answer


@pytest.mark.parametrize("written", [DIGEST, DIGEST.upper(), ":".join(DIGEST[at : at + 2] for at in range(0, 64, 2))])
def test_a_certificate_must_be_the_one_of_the_settings_however_its_digest_is_written(written):
    peer = Peer("CT_1", certificate_sha256=written)
    assert peer.is_shown_by(DIGEST)
    assert not peer.is_shown_by(DIGEST[::-1])
    assert not peer.is_shown_by("")


def test_a_peer_without_a_digest_may_show_any_certificate_or_none():
    assert HERE.is_shown_by(DIGEST)
    assert HERE.is_shown_by("")


def test_origin_carries_what_the_peer_supplies():
    peer = Peer(
        "CT_1",
        "192.0.2.1",
        issuer_of_patient_id="HOSPITAL",
        character_set="ISO_IR 127",
        duplicate_policy=DuplicatePolicy.REPLACE,
    )
    assert peer.build_origin("CT_1", "PACS", "192.0.2.1") == Origin(
        Door.DIMSE, "192.0.2.1", "CT_1", "PACS", "HOSPITAL", "ISO_IR 127", DuplicatePolicy.REPLACE
    )
