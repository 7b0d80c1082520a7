"""Keys: built from content, and nothing else names a blob."""

import pytest

from storage.keys import blob_key, check_key, is_valid_key, key_digest

DIGEST = "0123456789abcdef" * 4


def test_a_key_spreads_over_folders_and_gives_its_digest_back():
    key = blob_key(DIGEST)
    assert key == f"sha256/01/{DIGEST}"
    assert key_digest(key) == DIGEST
    assert is_valid_key(key)


@pytest.mark.parametrize("digest", ["", DIGEST.upper(), DIGEST[:-1], DIGEST + "0", "../" + DIGEST[3:], DIGEST + "\n"])
def test_only_a_digest_becomes_a_key(digest):
    with pytest.raises(ValueError, match="SHA-256"):
        blob_key(digest)


@pytest.mark.parametrize("key", ["a", "journal/2026-11/x.json", "incoming-x/a", "a/incoming", "_a/-b", "A/b.c"])
def test_plain_relative_names_are_keys(key):
    check_key(key)


NO_KEYS = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    "..",
    "a/..",
    "a/../b",
    ".",
    "./a",
    ".a",
    "a/.b",
    "a\0",
    "a\n",
    "é",
    "a b",
    "a\\b",
]
NO_KEYS += ["incoming", "incoming/a", "a:b", "a" * 201, "/".join("a" * 17), "abc/" * 300 + "a"]


@pytest.mark.parametrize("key", NO_KEYS, ids=repr)
def test_nothing_else_is_a_key(key):
    assert not is_valid_key(key)
    with pytest.raises(ValueError, match="not a valid blob key"):
        check_key(key)
