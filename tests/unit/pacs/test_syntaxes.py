"""The transfer-syntax table agrees with PS3.6, with the codecs, and with what acceptors are told."""

import pytest
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID

from pacs.imaging import syntaxes
from pacs.imaging.codecs import DECODABLE
from pacs.imaging.syntaxes import ACCEPTED_ORDER, SYNTAXES, lookup

REGISTERED = {
    value: entry[0]
    for value, entry in UID_dictionary.items()
    if entry[1] == "Transfer Syntax" and not entry[0].startswith("Papyrus")
}


def test_every_registered_syntax_is_in_the_table_by_its_name():
    assert {value: lookup(value).name for value in REGISTERED} == REGISTERED


@pytest.mark.parametrize("value", sorted(REGISTERED))
def test_encoding_facts_agree_with_pydicom(value):
    syntax, theirs = lookup(value), UID(value)
    assert syntax.is_implicit_vr == theirs.is_implicit_VR
    assert syntax.is_little_endian == theirs.is_little_endian
    if syntax.has_pixels:
        assert syntax.is_encapsulated == theirs.is_encapsulated


def test_encapsulated_syntaxes_that_can_be_decoded_are_those_the_codecs_decode():
    assert {uid for uid, syntax in SYNTAXES.items() if syntax.is_encapsulated and syntax.can_decode} == DECODABLE


def test_acceptance_order_is_lossless_lossy_then_native():
    def rank(uid: str) -> int:
        syntax = lookup(uid)
        if syntax.is_encapsulated:
            return 0 if syntax.is_lossless else 1
        native = (
            syntaxes.EXPLICIT_VR_LITTLE_ENDIAN,
            syntaxes.IMPLICIT_VR_LITTLE_ENDIAN,
            syntaxes.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
            syntaxes.EXPLICIT_VR_BIG_ENDIAN,
        )
        return 2 + native.index(uid)

    assert list(ACCEPTED_ORDER) == sorted(ACCEPTED_ORDER, key=rank)
    assert len(set(ACCEPTED_ORDER)) == len(ACCEPTED_ORDER)


def test_every_current_syntax_with_pixels_is_accepted():
    current = {uid for uid, syntax in SYNTAXES.items() if syntax.has_pixels and not syntax.is_retired}
    assert set(ACCEPTED_ORDER) == current | {syntaxes.EXPLICIT_VR_BIG_ENDIAN}


def test_what_can_be_encoded_is_lossless_and_can_be_decoded():
    """RULES.md: lossy only for rendered and for frames; HTJ2K may hold reversible codestreams (PS3.5 10.18)."""
    made = [syntax for syntax in SYNTAXES.values() if syntax.can_encode]
    assert all(syntax.can_decode for syntax in made)
    assert {syntax.uid for syntax in made if not syntax.is_lossless} == {syntaxes.HTJ2K}
    with_loss = [syntax for syntax in SYNTAXES.values() if syntax.can_encode_lossy]
    assert [(syntax.uid, syntax.can_encode, syntax.can_decode) for syntax in with_loss] == [
        (syntaxes.JPEG_BASELINE, False, True)
    ]


def test_unknown_syntax_is_encapsulated_explicit_little_endian():
    syntax = lookup("1.2.3")
    assert (syntax.is_known, syntax.is_encapsulated, syntax.is_implicit_vr, syntax.can_decode) == (
        False,
        True,
        False,
        False,
    )
