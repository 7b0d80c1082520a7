"""Addresses of what is stored (PS3.18 10.1)."""

import pytest

from dicomweb.addresses import check_uid, check_uids, parse_frame_list, path_to
from dicomweb.errors import InvalidAddress


@pytest.mark.parametrize("uid", ["", "1.2.x", "1" * 65, "..%2F", "1.2\n", "a"])
def test_malformed_uids_of_addresses_are_refused(uid):
    with pytest.raises(InvalidAddress):
        check_uid(uid)
    with pytest.raises(InvalidAddress):
        check_uids("1.2", "1.3", uid or "x")


def test_an_address_goes_down_as_far_as_its_uids():
    assert path_to("1") == "/studies/1"
    assert path_to("1", "2") == "/studies/1/series/2"
    assert path_to("1", "2", "3") == "/studies/1/series/2/instances/3"
    assert check_uids("1", "2") == ("1", "2", "")


def test_frames_are_read_in_their_order():
    assert parse_frame_list("3,1,1") == (3, 1, 1)


@pytest.mark.parametrize("text", ["", "0", "1,0", "1,", ",1", "-1", "a", "1 ", "\u0661", "1" * 10, "1," * 20_000 + "1"])
def test_nonsense_for_frames_is_refused(text):
    with pytest.raises(InvalidAddress):
        parse_frame_list(text)
