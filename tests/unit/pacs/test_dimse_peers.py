import pytest

from pacs.dimse.peers import Peer, Peers
from pacs.model import Door, DuplicatePolicy, Origin

ANYWHERE = Peer("CT_1", issuer_of_patient_id="ANYWHERE")
HERE = Peer("CT_1", "192.0.2.1", issuer_of_patient_id="HERE")
OTHERS = Peer("", issuer_of_patient_id="OTHERS")
PEERS = Peers((ANYWHERE, HERE), OTHERS)


@pytest.mark.parametrize(
    ("ae_title", "address", "peer"),
    [
        ("CT_1", "192.0.2.1", HERE),
        (" CT_1  ", "192.0.2.1", HERE),
        ("CT_1", "::ffff:192.0.2.1", HERE),
        ("CT_1", "192.0.2.2", ANYWHERE),
        ("CT_2", "192.0.2.1", OTHERS),
        ("ct_1", "192.0.2.1", OTHERS),
        ("", "", OTHERS),
    ],
)
def test_title_and_address_win_over_title_and_title_over_default(ae_title, address, peer):
    assert PEERS.lookup(ae_title, address) is peer


def test_title_at_another_address_is_not_the_peer():
    assert Peers((HERE,)).lookup("CT_1", "192.0.2.2") == Peer("")


def test_peer_with_an_ipv6_address_is_found_in_any_case():
    peer = Peer("MR_1", "2001:DB8::1")
    assert Peers((peer,)).lookup("MR_1", "2001:db8::1") is peer


def test_origin_carries_what_the_peer_supplies():
    peer = Peer("CT_1", "192.0.2.1", "HOSPITAL", "ISO_IR 127", DuplicatePolicy.REPLACE)
    assert peer.build_origin("CT_1", "PACS", "192.0.2.1") == Origin(
        Door.DIMSE, "192.0.2.1", "CT_1", "PACS", "HOSPITAL", "ISO_IR 127", DuplicatePolicy.REPLACE
    )
