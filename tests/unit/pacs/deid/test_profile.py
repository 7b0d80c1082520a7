"""The profile as data, the key's derivations, and the text that a profile is stated by."""

import json
import pickle

import pytest

from pacs.deid import (
    RELEASE_DEFAULT,
    DeviceRectangles,
    Option,
    Profile,
    ProjectKey,
    SafePrivate,
    conformance_statement,
    derive_subject,
    subject_identity,
)
from pacs.errors import InvalidValue

EVERYTHING = Profile(
    "all",
    frozenset(Option) - {Option.RETAIN_FULL_DATES},
    (DeviceRectangles("ACME", "Echo", 600, 800, ((0, 0, 800, 40),)),),
    (SafePrivate("ACME 1", 0x0019, 0x10, "DS"),),
)


@pytest.mark.parametrize("profile", [RELEASE_DEFAULT, EVERYTHING, Profile("basic")])
def test_a_profile_is_read_back_from_what_is_stored(profile):
    assert Profile.from_json(json.loads(json.dumps(profile.to_json()))) == profile


@pytest.mark.parametrize("stored", [{}, {"name": "x", "options": ["other"]}, {"name": "x", "safe_private": [["a"]]}])
def test_what_is_no_profile_is_refused(stored):
    with pytest.raises(InvalidValue):
        Profile.from_json(stored)


def test_dates_are_not_retained_in_two_ways():
    with pytest.raises(InvalidValue):
        Profile("both", frozenset({Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES}))


@pytest.mark.parametrize("option", [Option.RETAIN_UIDS, Option.RETAIN_FULL_DATES])
def test_what_joins_a_release_to_the_archive_is_not_fit_for_one(option):
    assert RELEASE_DEFAULT.is_fit_for_release
    assert not Profile("joined", frozenset({option})).is_fit_for_release


def test_a_key_shows_itself_nowhere():
    key = ProjectKey(b"\x07secret-" * 4)
    assert "secret" not in repr(key)
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_a_key_of_another_length_is_refused():
    with pytest.raises(InvalidValue):
        ProjectKey(b"short")


def test_a_patient_is_the_same_subject_in_every_study_and_another_in_every_project():
    one, other = ProjectKey(b"1" * 32), ProjectKey(b"2" * 32)
    identity = subject_identity("HOSPITAL", "4711", "1.2.3")
    assert identity == subject_identity("HOSPITAL", "4711", "1.2.4")
    assert derive_subject(one, identity) == derive_subject(one, identity)
    assert derive_subject(one, identity).pseudonym != derive_subject(other, identity).pseudonym
    assert -3650 <= derive_subject(one, identity).shift_days <= -365


def test_without_a_patient_id_every_study_is_a_subject_of_its_own():
    assert subject_identity("", "", "1.2.3") != subject_identity("", "", "1.2.4")


@pytest.mark.parametrize("profile", [RELEASE_DEFAULT, EVERYTHING, Profile("basic")])
def test_the_statement_names_every_option_and_whether_it_is_claimed(profile):
    statement = conformance_statement(profile)
    for option in Option:
        assert f"| {option.code} | {option.meaning} | {'yes' if option in profile.options else 'no'} |" in statement
    assert "| 113100 |" in statement
    assert "(0010,0010)" in statement
