"""Hostile bytes through the engine: whatever was done to a file, it comes out whole, or nothing of it does."""

import io

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid

from pacs.deid import RELEASE_DEFAULT, ProjectKey, Quarantine, Reason, deidentify
from pacs.deid.reading import parse_file
from tests import builders
from tests.fuzz.amount import FACTOR
from tests.fuzz.test_header_fuzz import INTERESTING

KEY = ProjectKey(bytes(32))
FILES = [
    *(
        builders.as_part10(builders.build_mr(), syntax)
        for syntax in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian)
    ),
    builders.as_part10(builders.build_sr(), uid.ExplicitVRBigEndian),
    builders.as_part10(builders.build_ct(), uid.DeflatedExplicitVRLittleEndian),
    builders.as_part10(builders.build_encapsulated(), uid.JPEGBaseline8Bit),
]


def comes_out_whole_or_not_at_all(content):
    for waived in ((), tuple(Reason)):
        target, reasons = io.BytesIO(), ()
        try:
            deidentify(io.BytesIO(content), target, RELEASE_DEFAULT, KEY, released_reasons=waived)
        except Quarantine as held:
            reasons = held.reasons
        assert Reason.ENGINE_FAILED not in reasons
        if reasons:
            assert target.getvalue() == b""
        else:
            parse_file(io.BytesIO(target.getvalue())).close()


@settings(deadline=None, max_examples=150 * FACTOR)
@given(st.data())
def test_bytes_changed_anywhere(data):
    content = bytearray(data.draw(st.sampled_from(FILES)))
    changes = st.tuples(
        st.integers(0, len(content) - 1), st.one_of(st.sampled_from(INTERESTING), st.binary(max_size=4))
    )
    for position, change in data.draw(st.lists(changes, min_size=1, max_size=8)):
        content[position : position + len(change)] = change
    comes_out_whole_or_not_at_all(bytes(content))


@settings(deadline=None, max_examples=60 * FACTOR)
@given(st.sampled_from(FILES), st.floats(0, 1))
def test_truncated_anywhere(content, share):
    comes_out_whole_or_not_at_all(content[: int(len(content) * share)])
