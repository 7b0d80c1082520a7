"""The multipart parser and writer, without HTTP."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb import multipart
from dicomweb.errors import MultipartError
from dicomweb.multipart import MultipartParser, Part, PartBegan, PartData, PartEnded

BOUNDARY = "frontier"


def parse(chunks, boundary=BOUNDARY):
    """Return ([(headers, bytes or None if cut short)], error sentence or None)."""
    parts, error = [], None
    try:
        parser = MultipartParser(boundary)
        for chunk in chunks:
            for event in parser.feed(chunk):
                match event:
                    case PartBegan(headers):
                        parts.append([headers, [], False])
                    case PartData(data):
                        assert len(data) > 0
                        parts[-1][1].append(bytes(data))
                    case PartEnded():
                        parts[-1][2] = True
        parser.finish()
    except MultipartError as caught:
        error = str(caught)
    return [(headers, b"".join(pieces) if whole else None) for headers, pieces, whole in parts], error


def encode(bodies, boundary=BOUNDARY):
    parts = [
        Part("application/dicom", f"/{number}", len(body), lambda body=body: iter([body]))
        for number, body in enumerate(bodies)
    ]
    return b"".join(multipart.write(boundary, parts))


def cut(data, lengths):
    pieces, position = [], 0
    for length in lengths:
        pieces.append(data[position : position + length])
        position += length
    return [*pieces, data[position:]]


# Bytes in which boundaries, near-boundaries and cut boundaries are likely.
hostile = st.lists(
    st.sampled_from(
        [
            b"\r",
            b"\n",
            b"\r\n",
            b"--",
            b"-",
            b"\r\n--",
            b"\r\n--fron",
            b"\r\n--frontierx",
            b"\r\n--frontier-x",
            b"\r\n--frontier \t x",
            b"x",
            b"\x00\x00",
        ]
    )
).map(b"".join)


@given(st.lists(hostile, max_size=4), st.lists(st.integers(0, 20), max_size=60))
def test_any_chunking_gives_the_parts_that_were_written(bodies, lengths):
    parts, error = parse(cut(encode(bodies), lengths))
    assert error is None
    assert [body for _, body in parts] == bodies


framing = st.lists(
    st.sampled_from(
        [
            b"\r\n--frontier\r\n",
            b"--frontier\r\n",
            b"\r\n--frontier--",
            b"\r\n\r\n",
            b"\r\n",
            b"a: b",
            b": b",
            b"data",
            b"\r\n--frontier  ",
            b" ",
            b" " * 255,
            b"\t" * 256,
            b" " * 257,
            b"-",
            b"\r",
            b" folded",
        ]
    )
).map(b"".join)


@given(framing, st.lists(st.integers(0, 9), max_size=80))
def test_broken_bodies_mean_the_same_however_they_are_cut(data, lengths):
    assert parse(cut(data, lengths)) == parse([data])


def test_a_body_cut_into_single_bytes_gives_the_same_parts():
    data = b"preamble" + encode([b"one", b"", b"two\r\n--frontie"]) + b"\r\nepilogue --frontier\r\n"
    parts, error = parse(data[i : i + 1] for i in range(len(data)))
    assert error is None
    assert [body for _, body in parts] == [b"one", b"", b"two\r\n--frontie"]


def test_preamble_padding_and_epilogue_are_tolerated():
    data = b"hello\r\n--frontier \t\r\nA: 1\r\n\r\nbody\r\n--frontier--\r\nbye"
    assert parse([data]) == ([({"a": "1"}, b"body")], None)


def test_part_without_headers_is_a_part():
    assert parse([b"--frontier\r\n\r\nbody\r\n--frontier--"]) == ([({}, b"body")], None)


def test_folded_header_lines_are_joined_and_names_are_lower_case():
    data = b"--frontier\r\nContent-Type: application/dicom;\r\n  a=b\r\nX :y\r\n\r\n\r\n--frontier--"
    assert parse([data])[0] == [({"content-type": "application/dicom; a=b", "x": "y"}, b"")]


def test_what_was_whole_before_the_error_is_delivered():
    data = b"--frontier\r\n\r\nwhole\r\n--frontier\r\nnonsense\r\n\r\n"
    parts, error = parse([data])
    assert parts == [({}, b"whole")]
    assert error is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no boundary at all" * 1000,
        b"--other\r\n\r\nbody\r\n--other--",
        b"--frontier\r\n\r\nbody that never ends",
        b"--frontier\r\n\r\nbody\r\n--frontier",
        b"--frontier\r\n\r\nbody\r\n--frontier-",
        b"--frontier\n\nline feeds alone\n--frontier--",
        b"--frontier\r\nno colon\r\n\r\nbody\r\n--frontier--",
        b"--frontier\r\nbad name: x\r\n\r\nbody\r\n--frontier--",
        b"--frontier\r\nA: " + b"x" * multipart.MAX_HEADER_BYTES + b"\r\n\r\nbody\r\n--frontier--",
    ],
)
def test_a_broken_body_is_a_multipart_error(data):
    assert parse([data])[1] is not None


def test_endless_headers_are_refused_before_they_are_held():
    parser = MultipartParser(BOUNDARY)
    list(parser.feed(b"--frontier\r\n"))
    line = b"a: b\r\n"
    for _ in range(multipart.MAX_HEADER_BYTES // len(line) - 1):
        list(parser.feed(line))
    with pytest.raises(MultipartError):
        list(parser.feed(line * 2))


def test_more_parts_than_allowed_are_refused(monkeypatch):
    monkeypatch.setattr(multipart, "MAX_PARTS", 3)
    assert parse([encode([b""] * 3)])[1] is None
    assert parse([encode([b""] * 4)])[1] is not None


@pytest.mark.parametrize("boundary", ["", "x" * 71, "ends with space ", "line\r\nbreak", "é", "\0"])
def test_a_malformed_boundary_is_a_multipart_error(boundary):
    with pytest.raises(MultipartError):
        MultipartParser(boundary)


def test_the_parser_holds_back_no_more_than_a_delimiter_in_a_body():
    parser = MultipartParser("b" * 70)
    list(parser.feed(b"--" + b"b" * 70 + b"\r\n\r\n"))
    for _ in range(20):
        list(parser.feed(b"\r\n--" + b"b" * 69 + b"\r\n--bbb"))
        assert len(parser._held) <= 74 + multipart.MAX_PADDING_BYTES


def test_measured_length_is_the_written_length():
    parts = [Part("application/dicom", "/a", 3, lambda: iter([b"abc"])), Part("x/y", "", 0, lambda: iter([]))]
    assert multipart.measure(BOUNDARY, parts) == len(b"".join(multipart.write(BOUNDARY, parts)))
    assert multipart.measure(BOUNDARY, []) == len(b"".join(multipart.write(BOUNDARY, [])))


def test_length_is_unknown_if_one_part_is_of_unknown_length():
    assert multipart.measure(BOUNDARY, [Part("x/y", "", None, lambda: iter([]))]) is None


def test_the_boundary_repeats_for_the_same_content_and_needs_the_key():
    assert multipart.derive_boundary(b"k", ["1", "2"]) == multipart.derive_boundary(b"k", ["1", "2"])
    assert multipart.derive_boundary(b"k", ["1", "2"]) != multipart.derive_boundary(b"k", ["12", ""])
    assert multipart.derive_boundary(b"k", ["1"]) != multipart.derive_boundary(b"l", ["1"])


@given(st.lists(st.binary(max_size=30)), st.integers(1, 40))
def test_coalescing_changes_no_byte_and_leaves_only_the_last_piece_short(chunks, size):
    pieces = list(multipart.coalesce(chunks, size))
    assert b"".join(pieces) == b"".join(chunks)
    assert all(len(piece) >= size for piece in pieces[:-1])


@given(st.lists(st.binary(max_size=40), max_size=4), st.integers(0, 400), st.integers(0, 400))
def test_a_range_is_cut_out_of_what_is_written_and_nothing_else_is_read(bodies, one, other):
    read = []

    def part(body):
        def iter_range(start, end):
            read.append(end - start)
            yield body[start:end]

        return Part("x/y", "http://here", len(body), lambda: iter((body,)), iter_range=iter_range)

    parts = [part(body) for body in bodies]
    whole = b"".join(multipart.write(BOUNDARY, parts))
    start, end = sorted((min(one, len(whole)), min(other, len(whole))))
    assert b"".join(multipart.write_range(BOUNDARY, parts, start, end)) == whole[start:end]
    assert sum(read) <= end - start
