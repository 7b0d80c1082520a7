"""Who is admitted (PS3.8 9.3.4), and how much one peer may have of the port."""

import logging
import threading
import time
from contextlib import ExitStack

import pytest
from pynetdicom import build_context

from pacs.app import build_peers
from pacs.config import load_settings
from pacs.dimse.admission import MAX_WAITING
from pacs.dimse.association import Timeouts
from pacs.dimse.peers import HostNames, Peer, Peers
from tests.conformance.dimse.scu import (
    ASSOCIATE_ACCEPT,
    ASSOCIATE_REJECT,
    VERIFICATION,
    BareSocket,
    associate,
    echo_works,
)

CALLING_AE_TITLE_NOT_RECOGNIZED = b"\0\x01\x01\x03"
LOCAL_LIMIT_EXCEEDED = b"\0\x02\x03\x02"
BARE = Peer("BARE", "127.0.0.1")
ANYBODY = Peer("")


class TestAllowList:
    @pytest.mark.parametrize(
        "peers",
        [Peers(), Peers((Peer("CT_1", "127.0.0.1"),)), Peers((Peer("BARE", "192.0.2.1"),)), Peers((Peer("bare"),))],
        ids=["nobody", "another title", "another address", "another case"],
    )
    def test_who_is_not_known_is_rejected_for_good_and_told_why(self, start_server, keeper, peers, caplog):
        with caplog.at_level(logging.WARNING), BareSocket(start_server(keeper, peers=peers).port) as peer:
            assert peer.associate() == (ASSOCIATE_REJECT, CALLING_AE_TITLE_NOT_RECOGNIZED)
        assert '[[dimse.peers]] with ae_title = "BARE" and address = "127.0.0.1"' in caplog.text

    @pytest.mark.parametrize(
        "peers",
        [Peers((BARE,)), Peers((Peer("BARE"),)), Peers((Peer("BARE", "localhost"),)), Peers(default=ANYBODY)],
        ids=["title and address", "title", "host name", "anybody"],
    )
    def test_who_is_known_is_admitted(self, start_server, keeper, peers):
        assert echo_works(start_server(keeper, peers=peers).port)

    def test_what_the_log_says_admits_the_sender(self, start_server, keeper, caplog, tmp_path):
        with caplog.at_level(logging.WARNING), BareSocket(start_server(keeper, peers=Peers()).port) as peer:
            assert peer.associate()[0] == ASSOCIATE_REJECT
        # An entry of its own, that goes behind whatever the file has already.
        said = caplog.text.partition("add to the settings a ")[2].splitlines()[0]
        entry = said.replace(" with ", "\n").replace(" and ", "\n")
        before = '[[dimse.peers]]\nae_title = "OTHER"\n\n[http]\nport = 0\n\n'
        (tmp_path / "pacs.toml").write_text(f"{before}{entry}\n")
        peers = build_peers(load_settings(tmp_path / "pacs.toml", {}))
        assert echo_works(start_server(keeper, peers=peers).port)

    @pytest.mark.parametrize(
        ("variables", "is_admitted"),
        [
            ({"PACS_DIMSE__HOST": "0.0.0.0"}, False),
            ({"PACS_DIMSE__HOST": "192.0.2.1"}, False),
            ({"PACS_DIMSE__HOST": "0.0.0.0", "PACS_DIMSE__PROMISCUOUS": "true"}, True),
            ({"PACS_DIMSE__HOST": "127.0.0.1"}, True),
            ({"PACS_DIMSE__HOST": "localhost"}, True),
            ({"PACS_DIMSE__HOST": "::1"}, True),
            ({}, True),
        ],
    )
    def test_strangers_are_admitted_on_loopback_and_where_the_settings_say_so(self, variables, is_admitted):
        peers = build_peers(load_settings(None, variables))
        assert (peers.lookup("STRANGER", "192.0.2.9") is not None) is is_admitted

    def test_a_name_service_that_hangs_does_not_stop_the_port(self, start_server, keeper):
        asked, release = threading.Event(), threading.Event()

        def look_up(_):
            asked.set()
            release.wait(20)
            return frozenset(["127.0.0.1"])

        peers = Peers((Peer("BARE", "slow.example.org"), Peer("TESTER", "127.0.0.1")), names=HostNames(look_up))
        port = start_server(keeper, peers=peers).port
        answers = []
        with BareSocket(port) as waiting:
            asking = threading.Thread(target=lambda: answers.append(waiting.associate()))
            asking.start()
            assert asked.wait(20)
            with associate(port, [build_context(VERIFICATION)]) as association:
                assert association.send_c_echo().Status == 0x0000
            release.set()
            asking.join()
        assert answers[0][0] == ASSOCIATE_ACCEPT


class TestLimits:
    def test_a_peer_has_no_more_associations_than_its_setting_and_leaves_the_rest_to_others(self, start_server, keeper):
        peers = Peers((Peer("BARE", "127.0.0.1", max_associations=2),), ANYBODY)
        port = start_server(keeper, peers=peers).port
        with ExitStack() as stack:
            held = [stack.enter_context(BareSocket(port)) for _ in range(3)]
            answers = [peer.associate(VERIFICATION) for peer in held]
            assert [kind for kind, _ in answers] == [ASSOCIATE_ACCEPT, ASSOCIATE_ACCEPT, ASSOCIATE_REJECT]
            assert answers[2][1] == LOCAL_LIMIT_EXCEEDED
            with associate(port, [build_context(VERIFICATION)]) as association:
                assert association.send_c_echo().Status == 0x0000

    def test_strangers_of_one_address_share_a_limit_whatever_they_call_themselves(self, start_server, keeper):
        port = start_server(keeper, peers=Peers(default=Peer("", max_associations=2))).port
        with ExitStack() as stack:
            titles = ["ONE", "TWO", "THREE"]
            held = [stack.enter_context(associate(port, [build_context(VERIFICATION)], calling=to)) for to in titles]
            assert [association.is_established for association in held] == [True, True, False]

    def test_a_quarter_of_the_port_is_left_to_peers_that_have_nothing_yet(self, start_server, keeper):
        greedy, also_greedy, modest = Peer("BARE"), Peer("TESTER"), Peer("CT_1")
        port = start_server(keeper, max_associations=8, peers=Peers((greedy, also_greedy, modest))).port
        contexts = [build_context(VERIFICATION)]
        with ExitStack() as stack:
            for _ in range(3):
                assert stack.enter_context(BareSocket(port)).associate(VERIFICATION)[0] == ASSOCIATE_ACCEPT
                assert stack.enter_context(associate(port, contexts)).is_established
            assert stack.enter_context(BareSocket(port)).associate()[1] == LOCAL_LIMIT_EXCEEDED
            assert not stack.enter_context(associate(port, contexts)).is_established
            first = stack.enter_context(associate(port, contexts, calling="CT_1"))
            assert first.send_c_echo().Status == 0x0000
            assert not stack.enter_context(associate(port, contexts, calling="CT_1")).is_established

    def test_connections_beyond_the_bound_cut_off_the_oldest_of_the_same_address(self, start_server, keeper):
        server = start_server(keeper)
        with ExitStack() as stack:
            silent = [stack.enter_context(BareSocket(server.port)) for _ in range(MAX_WAITING + 5)]
            assert echo_works(server.port)
            assert silent[0].receive() == (0, b"")
            silent[-1].socket.setblocking(False)
            with pytest.raises(BlockingIOError):
                silent[-1].socket.recv(1)

    def test_idle_time_is_the_peers_own(self, start_server, keeper):
        peers = Peers((Peer("BARE", idle_seconds=0.2),), Peer("", idle_seconds=600))
        port = start_server(keeper, peers=peers).port
        with associate(port, [build_context(VERIFICATION)]) as patient, BareSocket(port) as impatient:
            impatient.associate(VERIFICATION)
            assert impatient.receive()[0] == 0x07
            assert patient.send_c_echo().Status == 0x0000

    def test_what_is_released_can_be_had_again_at_once(self, start_server, keeper):
        port = start_server(keeper, peers=Peers((Peer("TESTER", max_associations=1),))).port
        for _ in range(10):
            with associate(port, [build_context(VERIFICATION)]) as association:
                assert association.is_established


class TestIdleAssociations:
    def test_threads_of_an_idle_association_do_not_run(self, start_server, keeper):
        """Nothing wakes them: they pass through neither loop while nobody speaks (issue 3, "cost no CPU")."""
        server = start_server(keeper, timeouts=Timeouts(association_seconds=600))
        with ExitStack() as stack:
            for _ in range(10):
                assert stack.enter_context(BareSocket(server.port)).associate(VERIFICATION)[0] == ASSOCIATE_ACCEPT
            time.sleep(0.3)
            passes = []
            for association in server._door.admission.connections:
                look, serve = association.dul._process_recv_primitive, association.dimse.get_msg
                association.dul._process_recv_primitive = lambda look=look: passes.append("upper layer") or look()
                association.dimse.get_msg = lambda block=False, serve=serve: passes.append("messages") or serve(block)
            time.sleep(0.5)
            assert passes == []
            assert echo_works(server.port)
