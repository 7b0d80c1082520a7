"""Damaged identifiers and performed steps: an error of ours or an answer that can be encoded, and nothing else."""

from contextlib import suppress
from io import BytesIO

from hypothesis import given, settings
from hypothesis import strategies as st

from pacs.dimse.answers import encode_answer
from pacs.dimse.data_sets import parse_data_set
from pacs.errors import PacsError
from pacs.worklist import build_answer, parse_query
from pacs.worklist.attributes import clean
from pacs.worklist.entries import parse_entries
from pacs.worklist.matching import holds
from tests.builders import as_dataset_bytes
from tests.conformance.dimse.scu import EXPLICIT, IMPLICIT
from tests.fuzz.amount import FACTOR
from tests.worklist_entries import build_entry, build_entry_json, build_performed

ENCODED = {
    (syntax, number): as_dataset_bytes(data_set, syntax)
    for syntax in (IMPLICIT, EXPLICIT)
    for number, data_set in enumerate((build_entry(), build_performed(build_entry())))
}
KEPT = parse_entries(build_entry_json())[0].attributes

DAMAGE = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8)


@given(st.sampled_from(sorted(ENCODED)), DAMAGE, st.integers(0, 2000))
@settings(max_examples=150 * FACTOR, deadline=None)
def test_damaged_data_set_is_refused_or_understood(which, damage, cut):
    data = bytearray(ENCODED[which])
    for position, value in damage:
        data[position % len(data)] = value
    data = data[: len(data) - cut] if cut < len(data) else data
    with suppress(PacsError):
        attributes = parse_data_set(BytesIO(bytes(data)), which[0], "ISO_IR 100")
        with suppress(PacsError):
            encode_answer(clean(attributes), which[0])
        query = parse_query(attributes)
        holds(query.conditions, KEPT)
        encode_answer(build_answer(query, KEPT), which[0])
