"""What leaves the archive: found by UID, in the syntax that was asked for, and equal to what came in."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pacs.access import LOCAL
from pacs.database import tables
from pacs.errors import (
    BulkDataNotFound,
    CorruptPixelData,
    FrameNotFound,
    InstanceNotFound,
    NotAcceptable,
    SeriesNotFound,
    StudyNotFound,
    Unavailable,
)
from pacs.imaging import codecs
from pacs.imaging.codecs import PixelDescription
from pacs.imaging.syntaxes import OCTET_STREAM, SYNTAXES, lookup
from pacs.index import reader
from pacs.ingest.incoming import Incoming
from pacs.model import CLINICAL_PARTITION, Door, Level, Origin
from pacs.overlay import COERCE, Step, StudyOverlay, dump_steps
from pacs.query import Query
from pacs.retrieve import ANY, DEFAULT, Acceptable, Retriever
from pacs.retrieve.cache import MemoryFrameCache
from storage.errors import BlobNotFound, StorageUnavailable
from tests import builders
from tests.builders import as_part10, build_ct
from tests.imaging import InProcess, leave

LITTLE = Acceptable((uid.ExplicitVRLittleEndian,))


ENCAPSULATED = [syntax.uid for syntax in SYNTAXES.values() if syntax.can_encode and syntax.is_encapsulated]


@pytest.fixture
def retriever(parts, tmp_path):
    return Retriever(parts.database, parts.store, CLINICAL_PARTITION, tmp_path, InProcess())


@pytest.fixture
def stored(parts, retriever):
    """Store a data set or a file and return its record."""

    def put(dataset, syntax=uid.ExplicitVRLittleEndian):
        data = dataset if isinstance(dataset, bytes) else as_part10(dataset, syntax)
        with parts.archive.ingest.open_spool() as spool:
            spool.write(data)
            outcome = parts.archive.ingest.store(Incoming(spool, Origin(Door.IMPORT)))
        assert outcome.is_stored, outcome
        (record,) = retriever.find_instances(
            LOCAL, outcome.study_instance_uid, outcome.series_instance_uid, outcome.sop_instance_uid
        )
        return record

    return put


def all_bytes(representation):
    with representation:
        data = b"".join(representation.iter_chunks())
    assert len(data) == representation.length_bytes
    return data


def read(representation):
    return pydicom.dcmread(io.BytesIO(all_bytes(representation)))


def j2k(array):
    return bytes(imagecodecs.jpeg2k_encode(array, codecformat="J2K", reversible=True))


def j2k_image(values=(1, 500, 65535), **overrides):
    arrays = [np.full((8, 8), value, "u2") for value in values]
    dataset = builders.build_encapsulated([j2k(array) for array in arrays], **overrides)
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    return dataset, arrays


def test_what_is_not_there_is_named(retriever, stored):
    record = stored(build_ct())
    study, series = record.study_instance_uid, record.series_instance_uid
    with pytest.raises(StudyNotFound):
        retriever.find_instances(LOCAL, "1.2.3")
    with pytest.raises(SeriesNotFound):
        retriever.find_instances(LOCAL, study, "1.2.3")
    with pytest.raises(SeriesNotFound):
        retriever.find_instances(LOCAL, study, "1.2.3", record.sop_instance_uid)
    with pytest.raises(InstanceNotFound):
        retriever.find_instances(LOCAL, study, series, "1.2.3")


def test_metadata_are_as_stored_and_in_order(retriever, stored):
    records = [stored(dataset) for dataset in reversed(builders.build_series(3))]
    found = list(retriever.iter_metadata(LOCAL, records[0].study_instance_uid))
    assert [record for record, _ in found] == records[::-1]
    assert [json.loads(header)["00200013"]["Value"] for _, header in found] == [[1], [2], [3]]


def test_metadata_of_an_unknown_study_fail_before_the_first_item(retriever):
    with pytest.raises(StudyNotFound):
        retriever.iter_metadata(LOCAL, "1.2.3")


@pytest.mark.parametrize(
    "syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian]
)
def test_any_syntax_gives_the_received_bytes(retriever, stored, syntax):
    data = as_part10(build_ct(), syntax)
    representation = retriever.open_instance(LOCAL, stored(data), ANY)
    assert representation.transfer_syntax_uid == syntax
    assert all_bytes(representation) == data


@pytest.mark.parametrize(
    "syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian]
)
@pytest.mark.parametrize("acceptable", [DEFAULT, LITTLE], ids=["default", "explicit"])
def test_native_instance_is_re_encoded(retriever, stored, syntax, acceptable):
    dataset = builders.build_sr()
    representation = retriever.open_instance(LOCAL, stored(dataset, syntax), acceptable)
    assert representation.transfer_syntax_uid == uid.ExplicitVRLittleEndian
    assert read(representation) == pydicom.dcmread(io.BytesIO(as_part10(dataset)))


def test_explicit_little_endian_is_sent_as_received(retriever, stored):
    data = as_part10(build_ct())
    assert all_bytes(retriever.open_instance(LOCAL, stored(data), DEFAULT)) == data


def test_lossless_instance_is_decoded_by_default(retriever, stored):
    dataset, arrays = j2k_image()
    after = read(retriever.open_instance(LOCAL, stored(dataset, uid.JPEG2000Lossless)))
    assert after.PixelData == b"".join(array.tobytes() for array in arrays)


def test_lossy_instance_keeps_its_syntax_by_default(retriever, stored):
    dataset, _ = j2k_image()
    data = as_part10(dataset, uid.JPEG2000)
    representation = retriever.open_instance(LOCAL, stored(data))
    assert representation.transfer_syntax_uid == uid.JPEG2000
    assert all_bytes(representation) == data


def test_lossy_instance_is_decoded_for_whoever_insists(retriever, stored):
    dataset, arrays = j2k_image()
    after = read(retriever.open_instance(LOCAL, stored(dataset, uid.JPEG2000), LITTLE))
    assert after.PixelData == b"".join(array.tobytes() for array in arrays)


@pytest.mark.parametrize("syntax", [uid.JPEG2000Lossless, uid.MPEG2MPML, uid.RLELossless])
def test_undecodable_instance_keeps_its_syntax_by_default(retriever, stored, syntax):
    record = stored(builders.build_encapsulated(), syntax)
    assert retriever.open_instance(LOCAL, record).transfer_syntax_uid == syntax
    with pytest.raises(NotAcceptable):
        retriever.open_instance(LOCAL, record, LITTLE)


def test_syntax_that_nobody_makes_is_not_acceptable(retriever, stored):
    record = stored(build_ct())
    with pytest.raises(NotAcceptable):
        retriever.open_instance(LOCAL, record, Acceptable((uid.JPEG2000,)))
    with pytest.raises(NotAcceptable):
        retriever.open_frames(LOCAL, record, [1], Acceptable((uid.JPEG2000,)))


def test_stored_syntax_goes_before_decoding(retriever, stored):
    dataset, _ = j2k_image()
    acceptable = Acceptable((uid.ExplicitVRLittleEndian, uid.JPEG2000Lossless))
    record = stored(dataset, uid.JPEG2000Lossless)
    assert retriever.open_instance(LOCAL, record, acceptable).transfer_syntax_uid == uid.JPEG2000Lossless


def test_nothing_is_left_in_the_spool_folder(tmp_path, retriever, stored, monkeypatch):
    monkeypatch.setattr("storage.spool.MEMORY_LIMIT_BYTES", 0)
    dataset, _ = j2k_image()
    with retriever.open_instance(LOCAL, stored(dataset, uid.JPEG2000Lossless)) as representation:
        next(iter(representation.iter_chunks()))
    assert list(tmp_path.glob("*.spool")) == []


@pytest.mark.parametrize("acceptable", [ANY, DEFAULT, LITTLE], ids=["any", "default", "explicit"])
@pytest.mark.parametrize(
    "syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian]
)
def test_native_frames_are_little_endian(retriever, stored, syntax, acceptable):
    dataset = builders.build_multiframe(frames=5)
    frames = retriever.open_frames(LOCAL, stored(dataset, syntax), [2, 5, 1], acceptable)
    assert (frames.transfer_syntax_uid, frames.media_type) == (uid.ExplicitVRLittleEndian, OCTET_STREAM)
    pixels = [dataset.PixelData[index * 128 : index * 128 + 128] for index in range(5)]
    assert list(frames) == [pixels[1], pixels[4], pixels[0]]
    frames.close()


def test_big_endian_frames_are_turned_around(retriever, stored):
    dataset = builders.build_multiframe(frames=3)
    dataset.PixelData = np.arange(192, dtype=">u2").tobytes()
    frames = retriever.open_frames(LOCAL, stored(dataset, uid.ExplicitVRBigEndian), [1, 3])
    assert list(frames) == [np.arange(64, dtype="<u2").tobytes(), np.arange(128, 192, dtype="<u2").tobytes()]


def test_big_endian_words_across_odd_frames_are_turned_around(retriever, stored):
    dataset = builders.build_multiframe(frames=2)
    dataset.update(builders.build_image(rows=3, columns=3, frames=2, bits=8))
    dataset.PixelData = np.arange(18, dtype="u1").view("u2").byteswap().tobytes()
    dataset["PixelData"].VR = "OW"
    frames = retriever.open_frames(LOCAL, stored(dataset, uid.ExplicitVRBigEndian), [1, 2])
    assert list(frames) == [bytes(range(9)), bytes(range(9, 18))]


def test_one_bit_frames_start_on_a_byte(retriever, stored):
    dataset = builders.build_segmentation(frames=3, rows=5, columns=5)
    frames = list(retriever.open_frames(LOCAL, stored(dataset), [1, 2, 3]))
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, "u1"), bitorder="little")[:75].reshape(3, 25)
    assert frames == [np.packbits(frame, bitorder="little").tobytes() for frame in bits]


@pytest.mark.parametrize("has_offset_table", [True, False])
@pytest.mark.parametrize("fragments_per_frame", [1, 2])
def test_encapsulated_frames_are_the_fragments_joined(retriever, stored, fragments_per_frame, has_offset_table):
    contents = [b"\xff\xd8first one\xff\xd9\0", b"\xff\xd8second\xff\xd9", b"\xff\xd8third..\xff\xd9"]
    dataset = builders.build_encapsulated(
        contents, fragments_per_frame=fragments_per_frame, has_offset_table=has_offset_table
    )
    frames = retriever.open_frames(LOCAL, stored(dataset, uid.JPEGBaseline8Bit), [3, 1, 2], ANY)
    assert (frames.transfer_syntax_uid, frames.media_type) == (uid.JPEGBaseline8Bit, "image/jpeg")
    assert [frame.rstrip(b"\0") for frame in frames] == [contents[2], contents[0].rstrip(b"\0"), contents[1]]


def test_lossless_frames_are_decoded_by_default(retriever, stored):
    dataset, arrays = j2k_image()
    frames = retriever.open_frames(LOCAL, stored(dataset, uid.JPEG2000Lossless), [3, 1])
    assert frames.transfer_syntax_uid == uid.ExplicitVRLittleEndian
    assert list(frames) == [arrays[2].tobytes(), arrays[0].tobytes()]


def test_lossy_frames_are_as_stored_by_default_and_decoded_on_demand(retriever, stored):
    dataset, arrays = j2k_image()
    record = stored(dataset, uid.JPEG2000)
    assert retriever.open_frames(LOCAL, record, [1]).media_type == "image/jp2"
    assert list(retriever.open_frames(LOCAL, record, [1], LITTLE)) == [arrays[0].tobytes()]


def test_undecodable_frames_are_as_stored_by_default(retriever, stored):
    record = stored(builders.build_encapsulated(), uid.JPEG2000Lossless)
    assert retriever.open_frames(LOCAL, record, [1]).transfer_syntax_uid == uid.JPEG2000Lossless
    with pytest.raises(NotAcceptable):
        retriever.open_frames(LOCAL, record, [1], LITTLE)


def test_video_is_one_frame(retriever, stored):
    dataset = builders.build_encapsulated([b"part one", b"part two"], has_offset_table=False, NumberOfFrames=100)
    record = stored(dataset, uid.MPEG2MPML)
    assert list(retriever.open_frames(LOCAL, record, [1], ANY)) == [b"part onepart two"]
    with pytest.raises(FrameNotFound):
        retriever.open_frames(LOCAL, record, [2], ANY)


@pytest.mark.parametrize("numbers", [[0], [6], [1, 6], [-1]])
def test_frame_that_does_not_exist_is_not_found(retriever, stored, numbers):
    with pytest.raises(FrameNotFound):
        retriever.open_frames(LOCAL, stored(builders.build_multiframe(frames=5)), numbers)


def test_instance_without_pixels_has_no_frames(retriever, stored):
    with pytest.raises(FrameNotFound):
        retriever.open_frames(LOCAL, stored(builders.build_sr()), [1])


def test_pixels_of_unknown_size_have_no_frames(retriever, stored):
    with pytest.raises(CorruptPixelData):
        retriever.open_frames(LOCAL, stored(build_ct(Rows=None)), [1])


@pytest.mark.parametrize(
    "syntax",
    [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian],
)
def test_bulk_data_are_found_by_the_path_in_the_metadata(retriever, stored, syntax):
    item = Dataset()
    item.EncapsulatedDocument = bytes(range(256)) * 40
    record = stored(builders.build_pdf(b"%PDF" * 5000, ReferencedImageSequence=Sequence([item])), syntax)
    ((_, header),) = retriever.iter_metadata(LOCAL, record.study_instance_uid)
    metadata = json.loads(header)
    nested = metadata["00081140"]["Value"][0]["00420011"]["BulkDataURI"]
    assert all_bytes(retriever.open_bulk(LOCAL, record, nested)) == item.EncapsulatedDocument
    document = retriever.open_bulk(LOCAL, record, metadata["00420011"]["BulkDataURI"])
    assert document.media_type == OCTET_STREAM
    assert all_bytes(document) == b"%PDF" * 5000


def test_big_endian_bulk_data_are_turned_around(retriever, stored):
    dataset = build_ct(PixelData=np.arange(64, dtype=">u2").tobytes())
    bulk = retriever.open_bulk(LOCAL, stored(dataset, uid.ExplicitVRBigEndian), "7FE00010")
    assert all_bytes(bulk) == np.arange(64, dtype="<u2").tobytes()


def test_encapsulated_bulk_data_are_the_frames_joined(retriever, stored):
    record = stored(builders.build_encapsulated([b"one.", b"two."]), uid.JPEGBaseline8Bit)
    bulk = retriever.open_bulk(LOCAL, record, "7fe00010")
    assert (bulk.transfer_syntax_uid, bulk.media_type) == (uid.JPEGBaseline8Bit, "image/jpeg")
    assert all_bytes(bulk) == b"one.two."


def test_unknown_bulk_path_is_not_found(retriever, stored):
    with pytest.raises(BulkDataNotFound):
        retriever.open_bulk(LOCAL, stored(build_ct()), "00100010")


class Moving:
    """A store that has lost the blob under the key it is first asked for."""

    def __init__(self, store, missing):
        self._store, self._missing = store, missing

    def read_range(self, key, start, end):
        if key == self._missing:
            raise BlobNotFound
        return self._store.read_range(key, start, end)

    def open(self, key, start=0, end=None):
        if key == self._missing:
            raise BlobNotFound
        return self._store.open(key, start, end)


def test_moved_blob_is_looked_up_once_more(parts, tmp_path, stored):
    data = as_part10(build_ct())
    record = stored(data)
    stale = replace(record, location=replace(record.location, blob_key="gone", offset=0))
    store = Moving(parts.store, "gone")
    retriever = Retriever(parts.database, store, CLINICAL_PARTITION, tmp_path, InProcess())
    assert all_bytes(retriever.open_instance(LOCAL, stale, ANY)) == data


def test_lost_blob_is_an_error_and_no_loop(parts, tmp_path, stored):
    record = stored(build_ct())
    store = Moving(parts.store, record.location.blob_key)
    retriever = Retriever(parts.database, store, CLINICAL_PARTITION, tmp_path, InProcess())
    with pytest.raises(Unavailable):
        all_bytes(retriever.open_instance(LOCAL, record, ANY))


def test_store_that_does_not_answer_is_unavailable(parts, retriever, stored, monkeypatch):
    record = stored(build_ct())

    def fail(*_):
        raise StorageUnavailable

    monkeypatch.setattr(parts.store, "read_range", fail)
    with pytest.raises(Unavailable):
        all_bytes(retriever.open_instance(LOCAL, record, ANY))


def test_abandoned_stream_is_closed(parts, retriever, stored, monkeypatch):
    record = stored(builders.build_multiframe(frames=1, PixelData=bytes(4 << 20)))
    opened = []
    original = parts.store.open

    def remember(*arguments):
        opened.append(original(*arguments))
        return opened[-1]

    monkeypatch.setattr(parts.store, "open", remember)
    chunks = retriever.open_instance(LOCAL, record, ANY).iter_chunks()
    next(chunks)
    chunks.close()
    assert [stream.closed for stream in opened] == [True]


@pytest.mark.parametrize("syntax", ENCAPSULATED, ids=str)
def test_instance_leaves_in_the_first_syntax_the_peer_takes(retriever, stored, syntax):
    """Issue 3: if the peer does not accept the stored syntax, transcode losslessly, as negotiated."""
    dataset, _ = j2k_image()
    data = as_part10(dataset, uid.JPEG2000)
    with retriever.open_instance(LOCAL, stored(data), Acceptable(("1.2.3", syntax, uid.RLELossless))) as opened:
        assert opened.transfer_syntax_uid == syntax
        after = b"".join(opened.iter_chunks())
    assert read_native(after) == read_native(data)


def read_native(data):
    return pydicom.dcmread(io.BytesIO(leave(data))).PixelData


def test_syntax_that_cannot_hold_the_pixels_is_passed_over(retriever, stored):
    record = stored(builders.build_segmentation())
    acceptable = Acceptable((uid.JPEG2000Lossless, uid.RLELossless, uid.ImplicitVRLittleEndian))
    assert retriever.open_instance(LOCAL, record, acceptable).transfer_syntax_uid == uid.ImplicitVRLittleEndian
    with pytest.raises(NotAcceptable):
        retriever.open_instance(LOCAL, record, Acceptable((uid.JPEG2000Lossless, uid.RLELossless)))


def test_stored_syntax_goes_before_any_other_that_is_taken(retriever, stored):
    data = as_part10(build_ct(), uid.ImplicitVRLittleEndian)
    acceptable = Acceptable((uid.RLELossless, uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian))
    assert all_bytes(retriever.open_instance(LOCAL, stored(data), acceptable)) == data


@pytest.mark.parametrize("syntax", ENCAPSULATED, ids=str)
def test_frames_are_encoded_for_whoever_takes_nothing_else(retriever, stored, syntax):
    dataset = builders.build_multiframe(frames=3)
    frames = retriever.open_frames(LOCAL, stored(dataset), [3, 1], Acceptable((uid.JPEG2000, syntax)))
    assert (frames.transfer_syntax_uid, frames.media_type) == (syntax, lookup(syntax).media_type)
    description = PixelDescription(8, 8, 1, 16, 12, 0, "MONOCHROME2")
    decoded = [codecs.decode(syntax, frame, description).pixels for frame in frames]
    assert decoded == [dataset.PixelData[256:384], dataset.PixelData[:128]]


JPEG_LS = Acceptable((uid.JPEGLSLossless,))


@pytest.mark.parametrize(
    ("cache", "is_kept"),
    [(None, False), (MemoryFrameCache(0), False), (MemoryFrameCache(200), False), (MemoryFrameCache(10**6), True)],
    ids=["none", "empty", "too small", "large enough"],
)
def test_ranges_of_a_made_frame_are_given_if_it_is_kept(parts, tmp_path, stored, cache, is_kept):
    """RULES.md: cached transcoding; where bytes are not repeatable, ignore Range."""
    retriever = Retriever(parts.database, parts.store, CLINICAL_PARTITION, tmp_path, InProcess(), cache=cache)
    record = stored(builders.build_multiframe(frames=3))
    frames = [retriever.open_frame(LOCAL, record, 2, JPEG_LS) for _ in range(2)]
    whole = [b"".join(frame.iter_chunks()) for frame in frames]
    assert whole[0] == whole[1]
    assert [frame.iter_range is not None for frame in frames] == [is_kept] * 2
    if is_kept:
        assert b"".join(frames[1].iter_range(3, 9)) == whole[0][3:9]


def test_an_answer_that_might_be_another_next_time_gives_no_ranges(parts, tmp_path, stored):
    class Overloaded(InProcess):
        def encode_frame(self, transfer_syntax_uid, pixels, description):
            if transfer_syntax_uid == uid.HTJ2KLosslessRPCL:
                raise CorruptPixelData  # so the sandbox says of a child that took too long
            return super().encode_frame(transfer_syntax_uid, pixels, description)

    cache = MemoryFrameCache(10**6)
    retriever = Retriever(parts.database, parts.store, CLINICAL_PARTITION, tmp_path, Overloaded(), cache=cache)
    record = stored(builders.build_multiframe(frames=1))
    acceptable = Acceptable((uid.HTJ2KLosslessRPCL, uid.JPEGLSLossless))
    frame = retriever.open_frame(LOCAL, record, 1, acceptable)
    assert (frame.transfer_syntax_uid, frame.iter_range) == (uid.JPEGLSLossless, None)


def test_kept_frames_of_one_instance_are_not_those_of_another(parts, tmp_path, stored):
    cache = MemoryFrameCache(10**6)
    retriever = Retriever(parts.database, parts.store, CLINICAL_PARTITION, tmp_path, InProcess(), cache=cache)
    datasets = [builders.build_multiframe(frames=2) for _ in range(2)]
    datasets[1].PixelData = datasets[1].PixelData[::-1]
    description = PixelDescription(8, 8, 1, 16, 16, 0, "MONOCHROME2")
    for dataset in datasets:
        dataset.BitsStored, dataset.HighBit = 16, 15
    for dataset in datasets * 2:
        record = stored(dataset)
        for syntax in (uid.JPEGLSLossless, uid.RLELossless):
            frames = list(retriever.open_frames(LOCAL, record, [2, 1], Acceptable((syntax,))))
            decoded = [codecs.decode(syntax, frame, description).pixels for frame in frames]
            assert decoded == [dataset.PixelData[128:], dataset.PixelData[:128]]


def test_one_bit_frames_are_never_encoded(retriever, stored):
    with pytest.raises(NotAcceptable):
        retriever.open_frames(LOCAL, stored(builders.build_segmentation()), [1], Acceptable((uid.RLELossless,)))


AT = datetime(2024, 2, 29, tzinfo=UTC)


def rename(name, **facts):
    return Step({"00100010": {"vr": "PN", "Value": [{"Alphabetic": name}]}}, AT, **facts)


@pytest.fixture
def overlay(parts):
    """Lay steps over what is stored, as ingest and corrections do."""

    def lay(record, *, coercions=(), corrections=()):
        def write(connection):
            of_instance = tables.instance_header.c.instance_row_id == record.row_id
            connection.execute(tables.instance_header.update().where(of_instance).values(overlay=dump_steps(coercions)))
            connection.execute(tables.study.update().values(overlay=StudyOverlay({}, tuple(corrections)).dump()))

        parts.database.write(write)

    return lay


def test_metadata_and_bytes_leave_coerced_then_corrected(retriever, stored, overlay):
    """RULES.md: QIDO, C-FIND, metadata, C-STORE out and WADO show the same values."""
    record = stored(build_ct())
    overlay(record, coercions=[rename("COERCED", reason=COERCE)], corrections=[rename("CORRECTED")])

    ((_, header),) = retriever.iter_metadata(LOCAL, record.study_instance_uid)
    after = read(retriever.open_instance(LOCAL, record, ANY))

    metadata = json.loads(header)
    assert metadata["00100010"]["Value"] == [{"Alphabetic": "CORRECTED"}]
    assert after.PatientName == "CORRECTED"
    previous = [item.ModifiedAttributesSequence[0].PatientName for item in after.OriginalAttributesSequence]
    assert previous == ["TEST^BUILT", "COERCED"]
    reasons = [item["04000565"]["Value"] for item in metadata["04000561"]["Value"]]
    assert reasons == [["COERCE"], ["CORRECT"]]


def test_search_shows_whole_headers_as_they_leave(parts, stored, overlay):
    """RULES.md: QIDO, C-FIND, metadata, C-STORE out and WADO show the same values."""
    overlay(stored(build_ct()), corrections=[Step({"00181030": {"vr": "LO", "Value": ["RIGHT"]}}, AT)])
    with parts.database.read() as connection:
        found = reader.search(connection, CLINICAL_PARTITION, Query(Level.INSTANCE), with_header=True)
    (match,) = found.matches
    assert match.attributes["00181030"]["Value"] == ["RIGHT"]
    assert "04000561" in match.attributes


def test_overlay_without_steps_leaves_the_received_bytes(retriever, stored, overlay):
    data = as_part10(build_ct())
    record = stored(data)
    overlay(record)
    assert all_bytes(retriever.open_instance(LOCAL, record, ANY)) == data


@pytest.mark.parametrize("syntax", [uid.JPEG2000Lossless, uid.JPEGBaseline8Bit, uid.MPEG2MPML])
def test_corrected_instance_keeps_its_syntax_and_pixels(retriever, stored, overlay, syntax):
    dataset = builders.build_encapsulated()
    record = stored(dataset, syntax)
    overlay(record, corrections=[rename("CORRECTED")])
    opened = retriever.open_instance(LOCAL, record, ANY)
    assert opened.transfer_syntax_uid == syntax
    after = read(opened)
    assert (after.PatientName, after.PixelData) == ("CORRECTED", dataset.PixelData)


def test_corrected_big_endian_instance_leaves_little_endian_or_not_at_all(retriever, stored, overlay):
    record = stored(build_ct(), uid.ExplicitVRBigEndian)
    overlay(record, corrections=[rename("CORRECTED")])
    assert retriever.open_instance(LOCAL, record, ANY).transfer_syntax_uid == uid.ExplicitVRLittleEndian
    with pytest.raises(NotAcceptable):
        retriever.open_instance(LOCAL, record, Acceptable((uid.ExplicitVRBigEndian,)))


def test_frames_and_bulk_data_are_those_that_were_received(retriever, stored, overlay):
    dataset = builders.build_multiframe(frames=2)
    record = stored(dataset)
    overlay(record, corrections=[rename("CORRECTED")])
    ((_, header),) = retriever.iter_metadata(LOCAL, record.study_instance_uid)
    path = json.loads(header)["7FE00010"]["BulkDataURI"]
    assert all_bytes(retriever.open_bulk(LOCAL, record, path)) == dataset.PixelData
    assert b"".join(retriever.open_frames(LOCAL, record, [1, 2])) == dataset.PixelData


def test_what_is_coerced_for_one_peer_is_laid_over_last_and_for_it_alone(retriever, stored, overlay):
    """Issue 3: attribute coercion on the way out."""
    record = stored(build_ct())
    overlay(record, corrections=[rename("CORRECTED")])

    def coerce(attributes):
        name = attributes["00100010"]["Value"][0]["Alphabetic"]
        return [rename(f"{name}^PEER", reason=COERCE)]

    assert read(retriever.open_instance(LOCAL, record, ANY, coerce)).PatientName == "CORRECTED^PEER"
    assert read(retriever.open_instance(LOCAL, record, ANY)).PatientName == "CORRECTED"


def test_nobody_pays_for_a_coercion_that_changes_nothing(retriever, stored):
    data = as_part10(build_ct())
    assert all_bytes(retriever.open_instance(LOCAL, stored(data), ANY, lambda _: ())) == data


def test_instance_that_is_gone_is_not_found(parts, retriever, stored):
    record = replace(stored(build_ct()), row_id=1 << 40)
    with pytest.raises(InstanceNotFound):
        retriever.open_instance(LOCAL, record, ANY)
