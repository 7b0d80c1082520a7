"""Recompression: smaller, and the same to whoever asks; or left alone. On both engines."""

import io
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pacs.access import LOCAL, Permission, Principal
from pacs.app import open_archive
from pacs.config import DatabaseSettings, Settings, StorageSettings
from pacs.errors import Unavailable
from pacs.imaging import codecs
from pacs.imaging.codecs import DecodedFrame
from pacs.index import changes, inventory, recompressed, writer
from pacs.index.inventory import Place
from pacs.ingest.incoming import Incoming
from pacs.ingest.outcome import Disposition
from pacs.ingest.withholding import WithheldReason
from pacs.jobs import queue
from pacs.jobs.turn import Failed, Finished, Patience
from pacs.jobs.worker import Worker
from pacs.maintenance.recompression import FOLLOWER, KIND, LANE, TARGET, Recompression, Recompressor
from pacs.maintenance.verification import count_copies, verify_copies
from pacs.model import CLINICAL_PARTITION, ChangeKind, Cursor, Door, DuplicatePolicy, Origin
from pacs.retrieve import ANY, DEFAULT, Acceptable
from pacs.routing.following import Follower
from storage.errors import StorageUnavailable
from storage.keys import key_digest
from storage.spool import Spool
from tests import builders
from tests.builders import as_part10, build_image
from tests.codestream import ct_slice
from tests.conftest import CORPUS
from tests.imaging import InProcess, flatten

SAMPLE_DATA = Path(__file__).parents[3] / "sample_data"
EXPLICIT = uid.ExplicitVRLittleEndian
AS_EXPLICIT = Acceptable((EXPLICIT,))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def parts(request, tmp_path):
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    settings = Settings(
        data_dir=tmp_path / "archive",
        storage=StorageSettings(url="memory:"),
        database=DatabaseSettings(url=url),
    )
    with open_archive(settings) as opened:
        yield opened


@pytest.fixture
def recompressor(parts, tmp_path):
    return build(parts, tmp_path)


def build(parts, tmp_path, codec=None, **given):
    codec = codec or InProcess()
    return Recompressor(parts.database, parts.store, CLINICAL_PARTITION, codec, tmp_path, delay=timedelta(0), **given)


def store(parts, data, **origin):
    with parts.archive.ingest.open_spool() as spool:
        spool.write(data)
        return parts.archive.ingest.store(Incoming(spool, Origin(Door.IMPORT, **origin)))


def build_slice(**overrides):
    """Return a CT image that is worth packing."""
    array, _ = ct_slice((64, 64))
    dataset = builders.build_ct()
    dataset.update(build_image(rows=64, columns=64, bits=16))
    dataset.PixelData = array.tobytes()
    for keyword, value in overrides.items():
        setattr(dataset, keyword, value)
    return dataset


def record_of(parts, dataset):
    uids = (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
    (record,) = parts.archive.retrieve.find_instances(LOCAL, *uids)
    return record


def read(parts, dataset, acceptable=AS_EXPLICIT):
    with parts.archive.retrieve.open_instance(LOCAL, record_of(parts, dataset), acceptable) as opened:
        return b"".join(opened.iter_chunks())


def find_originals(parts, dataset):
    with parts.database.read() as connection:
        return recompressed.find_originals(connection, CLINICAL_PARTITION, dataset.SOPInstanceUID)


def kinds(parts):
    with parts.database.read() as connection:
        return [change.kind for change in changes.read_after(connection, CLINICAL_PARTITION, Cursor(), 1000)]


def colour(planar=0):
    dataset = build_slice()
    slope = np.add.outer(np.arange(64), np.arange(64)).astype("u1")
    array = np.stack([slope, slope[::-1], slope[:, ::-1]], axis=2)
    dataset.update(build_image(rows=64, columns=64, bits=8, samples=3))
    dataset.PlanarConfiguration = planar
    dataset.PixelData = (array.transpose(2, 0, 1) if planar else array).tobytes()
    return dataset


def signed():
    array, _ = ct_slice((64, 64))
    return build_slice(PixelRepresentation=1, PixelData=(array.astype("i2") - 1200).tobytes())


def multiframe():
    array, _ = ct_slice((64, 64))
    frames = b"".join((array + shift).astype("<u2").tobytes() for shift in range(3))
    return build_slice(NumberOfFrames=3, PixelData=frames)


def palette():
    dataset = build_slice(PhotometricInterpretation="PALETTE COLOR")
    for colour_name in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour_name}PaletteColorLookupTableDescriptor", [2048, 0, 16])
        setattr(dataset, f"{colour_name}PaletteColorLookupTableData", np.arange(2048, dtype="<u2").tobytes())
    return dataset


def private():
    dataset = build_slice()
    block = dataset.private_block(0x0029, "SOMEBODY", create=True)
    block.add_new(0x01, "OB", bytes(range(256)) * 20)
    block.add_new(0x02, "LO", "a text")
    return dataset


WORTH_IT = {
    "explicit": (build_slice, EXPLICIT),
    "implicit": (build_slice, uid.ImplicitVRLittleEndian),
    "colour": (colour, EXPLICIT),
    "planes": (lambda: colour(planar=1), EXPLICIT),
    "signed": (signed, EXPLICIT),
    "multi-frame": (multiframe, uid.ImplicitVRLittleEndian),
    "palette": (palette, EXPLICIT),
    "private": (private, EXPLICIT),
    "monochrome 1": (lambda: build_slice(PhotometricInterpretation="MONOCHROME1"), EXPLICIT),
}


def native(data):
    """Return what another reader makes of a file: header and samples, interleaved."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    pixels = dataset.pixel_array
    for keyword in ("PixelData", "PlanarConfiguration"):
        if keyword in dataset:
            del dataset[keyword]
    return dataset, pixels


@pytest.mark.parametrize(("make", "syntax"), WORTH_IT.values(), ids=WORTH_IT)
def test_the_packed_instance_is_smaller_and_holds_the_same(parts, recompressor, make, syntax):
    """RULES.md: recompression; Photometric Interpretation and Planar Configuration set right; same SOP Instance UID."""
    dataset = make()
    data = as_part10(dataset, syntax)
    store(parts, data)
    before = record_of(parts, dataset)
    done = recompressor.recompress(dataset.SOPInstanceUID)
    assert done.obstacle == ""
    record = record_of(parts, dataset)
    assert (record.row_id, record.stored_at, record.transfer_syntax_uid) == (before.row_id, before.stored_at, TARGET)
    assert done == Recompression("", len(data), record.location.length_bytes)
    assert record.location.length_bytes < len(data)
    packed = pydicom.dcmread(io.BytesIO(read(parts, dataset, ANY)))
    assert packed.file_meta.TransferSyntaxUID == TARGET
    is_colour = dataset.SamplesPerPixel == 3
    assert packed.PhotometricInterpretation == ("YBR_RCT" if is_colour else dataset.PhotometricInterpretation)
    assert packed.get("PlanarConfiguration") == (0 if is_colour else None)
    assert packed.SOPInstanceUID == dataset.SOPInstanceUID
    assert packed.get("LossyImageCompression") is None
    # Who asks for what it was gets what it was.
    ours, theirs = native(read(parts, dataset)), native(data)
    assert ours[0].to_json_dict() == theirs[0].to_json_dict()
    assert np.array_equal(ours[1], theirs[1])


def test_metadata_say_how_it_is_stored_now_and_nothing_else_changes(parts, recompressor):
    dataset = colour(planar=1)
    store(parts, as_part10(dataset))
    uids = (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
    ((_, before),) = parts.archive.retrieve.iter_metadata(LOCAL, *uids)
    revision = parts.archive.retrieve.read_revision(LOCAL, [record_of(parts, dataset)])
    recompressor.recompress(dataset.SOPInstanceUID)
    ((_, after),) = parts.archive.retrieve.iter_metadata(LOCAL, *uids)
    before, after = orjson.loads(before), orjson.loads(after)
    changed = {tag for tag in before.keys() | after.keys() if before.get(tag) != after.get(tag)}
    assert changed == {"00280004", "00280006"}
    assert (after["00280004"]["Value"], after["00280006"]["Value"]) == (["YBR_RCT"], [0])
    assert after["7FE00010"]["BulkDataURI"] == before["7FE00010"]["BulkDataURI"]
    assert parts.archive.retrieve.read_revision(LOCAL, [record_of(parts, dataset)]) != revision


def overlaid():
    dataset = build_slice()
    dataset.add_new(0x60000010, "US", 64)
    dataset.add_new(0x60000011, "US", 64)
    dataset.add_new(0x60003000, "OW", bytes(512))
    return dataset


def high_bits():
    array, _ = ct_slice((64, 64))
    array[5, 5] |= 0x8000
    return build_slice(PixelData=array.tobytes())


def digitally_signed():
    item = Dataset()
    item.DigitalSignatureUID = "1.2.3"
    outer = Dataset()
    outer.DigitalSignaturesSequence = Sequence([item])
    return build_slice(ReferencedImageSequence=Sequence([outer]))


def spare(rubbish):
    array, _ = ct_slice((64, 64))
    return build_slice(PixelData=array.tobytes() + rubbish)


def noise():
    return build_slice(PixelData=np.random.default_rng(1).bytes(64 * 64 * 2), BitsStored=16, HighBit=15)


def sized(bits):
    dataset = build_slice()
    dataset.update(build_image(bits=bits))
    return dataset


def float_pixels():
    dataset = build_slice()
    del dataset.PixelData
    dataset.FloatPixelData = np.zeros((64, 64), "<f4").tobytes()
    return dataset


def replaced_colour(name):
    dataset = colour()
    dataset.PhotometricInterpretation = name
    return dataset


LEFT_ALONE = {
    "overlay": (overlaid, EXPLICIT, "with an overlay"),
    "high bits": (high_bits, EXPLICIT, "nothing that can be packed without loss"),
    "low bits": (lambda: build_slice(HighBit=15), EXPLICIT, "with bits below its samples"),
    "one bit": (builders.build_segmentation, EXPLICIT, "of neither 8 nor 16 bits"),
    "32 bit": (lambda: sized(32), EXPLICIT, "of neither 8 nor 16 bits"),
    "no pixels": (builders.build_sr, EXPLICIT, "without integer pixels"),
    "float": (float_pixels, EXPLICIT, "without integer pixels"),
    "lossy": (lambda: build_slice(LossyImageCompression="01"), EXPLICIT, "lossy already"),
    "signed": (digitally_signed, EXPLICIT, "digitally signed"),
    "spare bytes": (lambda: spare(b"\0\0"), EXPLICIT, "with more than its frames in its pixel data"),
    "noise": (noise, EXPLICIT, "no smaller when packed"),
    "jpeg": (builders.build_encapsulated, uid.JPEGBaseline8Bit, "in a syntax that is kept"),
    "video": (lambda: builders.build_encapsulated([b"video!"]), uid.MPEG2MPML, "in a syntax that is kept"),
    "jpeg 2000": (builders.build_encapsulated, uid.JPEG2000Lossless, "in a syntax that is kept"),
    "big endian": (build_slice, uid.ExplicitVRBigEndian, "in a syntax that is kept"),
    "deflated": (build_slice, uid.DeflatedExplicitVRLittleEndian, "in a syntax that is kept"),
    "broken": (lambda: build_slice(NumberOfFrames=4), EXPLICIT, "nothing that can be packed without loss"),
    "4:2:2": (
        lambda: replaced_colour("YBR_FULL_422"),
        EXPLICIT,
        "nothing that can be packed without loss",
    ),
}


@pytest.mark.parametrize(("make", "syntax", "why"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_might_not_come_back_or_is_of_no_use_is_left_alone(parts, recompressor, make, syntax, why):
    """RULES.md: skip overlays, data in unused high bits, 1-bit, float, 32-bit, signed, already lossy, video."""
    dataset = make()
    data = as_part10(dataset, syntax)
    assert store(parts, data).is_stored
    before = record_of(parts, dataset)
    assert recompressor.recompress(dataset.SOPInstanceUID) == Recompression(why)
    assert record_of(parts, dataset) == before
    assert read(parts, dataset, ANY) == data
    assert find_originals(parts, dataset) == []


class Forgetful(InProcess):
    """A codec whose frames do not come back from the store as they went in."""

    def decode_frame(self, transfer_syntax_uid, frame, description):
        decoded = super().decode_frame(transfer_syntax_uid, frame, description)
        return DecodedFrame(b"\xff" + decoded.pixels[1:], decoded.photometric_interpretation)


def test_what_does_not_come_back_from_the_store_replaces_nothing(parts, tmp_path, caplog):
    """RULES.md: verified by decoding before it replaces anything; compares every stored bit."""
    dataset = build_slice()
    store(parts, as_part10(dataset))
    done = build(parts, tmp_path, Forgetful()).recompress(dataset.SOPInstanceUID)
    assert done == Recompression("not the same when packed")
    assert record_of(parts, dataset).transfer_syntax_uid == EXPLICIT
    assert "did not come back" in caplog.text


@pytest.mark.parametrize("syntax", [EXPLICIT, uid.ImplicitVRLittleEndian])
def test_what_was_received_is_still_the_same_when_it_is_sent_again(parts, recompressor, syntax):
    """RULES.md: "same" means same dataset digest, also after recompression."""
    dataset = build_slice()
    data = as_part10(dataset, syntax)
    store(parts, data)
    recompressor.recompress(dataset.SOPInstanceUID)
    packed = record_of(parts, dataset)
    for policy in DuplicatePolicy:
        assert store(parts, data, duplicate_policy=policy).disposition is Disposition.DUPLICATE
    assert record_of(parts, dataset) == packed
    corrected = build_slice(
        SOPInstanceUID=dataset.SOPInstanceUID,
        StudyInstanceUID=dataset.StudyInstanceUID,
        SeriesInstanceUID=dataset.SeriesInstanceUID,
        InstanceNumber=99,
    )
    assert store(parts, as_part10(corrected, syntax)).disposition is Disposition.CONFLICT


def test_the_received_bytes_are_kept_for_as_long_as_was_said_and_their_digest_for_ever(parts, tmp_path):
    """RULES.md: the received original stays for a set time."""
    dataset = build_slice()
    data = as_part10(dataset)
    store(parts, data)
    before = record_of(parts, dataset)
    recompressor = build(parts, tmp_path, keep_original=timedelta(days=30))
    recompressor.recompress(dataset.SOPInstanceUID)
    (kept,) = find_originals(parts, dataset)
    assert (kept.location, kept.transfer_syntax_uid) == (before.location, EXPLICIT)
    assert kept.blob_digest == key_digest(before.location.blob_key)
    assert kept.kept_until - kept.recompressed_at == timedelta(days=30)
    recompressor.release_expired()
    assert count_copies(parts.database, CLINICAL_PARTITION) == 2
    assert before.location in named(parts)
    later = datetime.now(UTC) + timedelta(days=31)
    released = parts.database.write(
        lambda connection: recompressed.release_expired(connection, CLINICAL_PARTITION, later)
    )
    assert released == 1
    (forgotten,) = find_originals(parts, dataset)
    assert forgotten == replace(kept, location=None)
    assert named(parts) == [record_of(parts, dataset).location]
    assert count_copies(parts.database, CLINICAL_PARTITION) == 1
    assert parts.store.read_range(before.location.blob_key, 0, len(data)) == data  # only the sweeper removes


def named(parts):
    """Return the places that the inventory names."""
    found, after = [], Place()
    with parts.database.read() as connection:
        while page := inventory.read_copies(connection, CLINICAL_PARTITION, after, 1):
            found += [copy.location for copy in page]
            after = page[-1].place
    return found


def test_both_copies_are_verified(parts, recompressor):
    dataset = build_slice()
    store(parts, as_part10(dataset))
    recompressor.recompress(dataset.SOPInstanceUID)
    results = list(verify_copies(parts.database, parts.store, CLINICAL_PARTITION))
    assert [(result.copy.sop_instance_uid, result.problem) for result in results] == [(dataset.SOPInstanceUID, "")] * 2


def withhold(parts, dataset):
    by = Principal("somebody", frozenset(Permission))
    uids = (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
    assert parts.archive.withhold.withhold(by, *uids, reason=WithheldReason.QUALITY) == 1


@pytest.mark.parametrize("what", ["withheld", "replaced", "recompressed"])
def test_the_switch_gives_way_to_what_happened_meanwhile(parts, tmp_path, what):
    """RULES.md: the switch is conditional on the row being what it was."""
    dataset = build_slice()
    store(parts, as_part10(dataset))

    class Meanwhile(InProcess):
        is_done = False

        def encode_frame(self, *given):
            if not self.is_done:
                self.is_done = True
                happen[what]()
            return super().encode_frame(*given)

    def replace_it():
        other = build_slice(
            SOPInstanceUID=dataset.SOPInstanceUID,
            StudyInstanceUID=dataset.StudyInstanceUID,
            SeriesInstanceUID=dataset.SeriesInstanceUID,
            InstanceNumber=99,
        )
        assert store(parts, as_part10(other), duplicate_policy=DuplicatePolicy.REPLACE).is_stored

    happen = {
        "withheld": lambda: withhold(parts, dataset),
        "replaced": replace_it,
        "recompressed": lambda: build(parts, tmp_path).recompress(dataset.SOPInstanceUID),
    }
    done = build(parts, tmp_path, Meanwhile()).recompress(dataset.SOPInstanceUID)
    assert done == Recompression("changed meanwhile")
    assert len(find_originals(parts, dataset)) == (1 if what == "recompressed" else 0)
    if what == "replaced":
        assert record_of(parts, dataset).transfer_syntax_uid == EXPLICIT
        assert pydicom.dcmread(io.BytesIO(read(parts, dataset))).InstanceNumber == 99
    if what == "withheld":
        with parts.database.read() as connection:
            assert writer.find_existing(connection, CLINICAL_PARTITION, dataset.SOPInstanceUID) is None


def test_a_damaged_copy_is_not_packed_into_a_sound_one(parts, recompressor):
    dataset = build_slice()
    store(parts, as_part10(dataset))
    key = record_of(parts, dataset).location.blob_key
    spoil(parts.store, key)
    done = recompressor.recompress(dataset.SOPInstanceUID)
    assert done == Recompression("damaged", is_sound=False)
    (failed,) = recompressor.work([job(parts, dataset)])
    assert isinstance(failed, Failed)
    assert failed.is_final
    parts.store.remove(key)
    assert recompressor.recompress(dataset.SOPInstanceUID) == Recompression("missing", is_sound=False)


def spoil(store, key):
    data = store.read_range(key, 0, store.stat(key).size_bytes)
    store.remove(key)
    with Spool(Path()) as spool:
        spool.write(data[:-1] + bytes([data[-1] ^ 1]))
        store.put(key, spool)


def job(parts, dataset):
    now = datetime.now(UTC)
    listed = queue.NewJob(KIND, LANE, dataset.SOPInstanceUID)
    parts.database.write(lambda connection: queue.enqueue(connection, [listed], now))
    with parts.database.read() as connection:
        return queue.find_job(connection, KIND, LANE, dataset.SOPInstanceUID)


def test_a_store_that_does_not_answer_holds_the_lane_up_and_fails_nobody(parts, recompressor, monkeypatch):
    dataset = build_slice()
    store(parts, as_part10(dataset))

    def away(*_):
        raise StorageUnavailable

    monkeypatch.setattr(parts.store, "put", away)
    with pytest.raises(Unavailable):
        list(recompressor.work([job(parts, dataset)]))
    monkeypatch.undo()
    assert [type(result) for result in recompressor.work([job(parts, dataset)])] == [Finished]
    assert record_of(parts, dataset).transfer_syntax_uid == TARGET


def test_done_again_it_does_nothing(parts, recompressor):
    dataset = build_slice()
    store(parts, as_part10(dataset))
    for _ in range(3):
        assert [type(result) for result in recompressor.work([job(parts, dataset)])] == [Finished]
    assert len(find_originals(parts, dataset)) == 1
    assert kinds(parts).count(ChangeKind.INSTANCE_RECOMPRESSED) == 1


def test_follower_and_worker_pack_what_is_stored_after_they_began(parts, recompressor):
    datasets = [build_slice() for _ in range(3)]
    store(parts, as_part10(datasets[0]))
    with (
        Worker(parts.database, {KIND: recompressor.work}, Patience(timedelta(days=1))) as worker,
        Follower(parts.database, CLINICAL_PARTITION, FOLLOWER, recompressor.plan, worker.wake),
    ):
        for dataset in datasets[1:]:
            store(parts, as_part10(dataset))
        deadline = time.monotonic() + 60
        while kinds(parts).count(ChangeKind.INSTANCE_RECOMPRESSED) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert [record_of(parts, dataset).transfer_syntax_uid for dataset in datasets] == [EXPLICIT, TARGET, TARGET]


def test_what_was_stored_before_is_packed_on_demand(parts, recompressor):
    datasets = [build_slice(), builders.build_sr(), build_slice()]
    for dataset in datasets:
        store(parts, as_part10(dataset))
    assert recompressor.count() == 3
    done = list(recompressor.iter_all())
    assert sorted(one.obstacle for one in done) == ["", "", "without integer pixels"]
    assert recompressor.count() == 1


def test_a_packed_instance_can_be_withheld_and_restored(parts, recompressor):
    dataset = colour(planar=1)
    data = as_part10(dataset)
    store(parts, data)
    recompressor.recompress(dataset.SOPInstanceUID)
    location = record_of(parts, dataset).location
    withhold(parts, dataset)
    assert location in named(parts)
    assert parts.archive.withhold.restore(LOCAL, dataset.SOPInstanceUID) == 1
    assert record_of(parts, dataset).transfer_syntax_uid == TARGET
    assert np.array_equal(native(read(parts, dataset))[1], native(data)[1])
    assert store(parts, data).disposition is Disposition.DUPLICATE


def test_who_looked_before_the_switch_reads_whole_frames_after_it(parts, recompressor):
    """What is found and what is read must be one copy: offsets of one in the other would be anybody's pixels."""
    dataset = multiframe()
    store(parts, as_part10(dataset))
    record = record_of(parts, dataset)
    before = list(parts.archive.retrieve.open_frames(LOCAL, record, [1, 3], AS_EXPLICIT))
    recompressor.recompress(dataset.SOPInstanceUID)
    for acceptable in (AS_EXPLICIT, DEFAULT):
        assert list(parts.archive.retrieve.open_frames(LOCAL, record, [1, 3], acceptable)) == before
    with parts.archive.retrieve.open_instance(LOCAL, record, ANY) as opened:
        assert b"".join(opened.iter_chunks()) == as_part10(dataset)
    with parts.archive.retrieve.open_instance(LOCAL, record, AS_EXPLICIT) as opened:
        assert b"".join(opened.iter_chunks()) == as_part10(dataset)
    packed = list(parts.archive.retrieve.open_frames(LOCAL, record, [2], ANY))
    assert packed[0].startswith(b"\xff\x4f\xff\x51")


def test_a_correction_holds_for_the_packed_instance_and_packing_for_a_corrected_one(parts, recompressor):
    datasets = [build_slice(), build_slice()]
    for index, dataset in enumerate(datasets):
        data = as_part10(dataset)
        store(parts, data)
        steps = [
            lambda uid=dataset.SOPInstanceUID: recompressor.recompress(uid),
            lambda uid=dataset.StudyInstanceUID: parts.archive.correct.correct_study(
                LOCAL, uid, {"AccessionNumber": "A-77"}, reason="A test"
            ),
        ]
        for step in steps[:: 1 if index else -1]:
            step()
        corrected = pydicom.dcmread(io.BytesIO(read(parts, dataset, ANY)))
        assert corrected.AccessionNumber == "A-77"
        assert corrected.file_meta.TransferSyntaxUID == TARGET
        assert np.array_equal(native(read(parts, dataset))[1], native(data)[1])


CORPUS_FILES = sorted(CORPUS.rglob("*.dcm"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_corpus_holds_the_same_after_it_was_packed(tmp_path):
    """Issue 4: recompresses after ingest, verified by decoding; measured on the corpus."""
    codecs.register()
    settings = Settings(data_dir=tmp_path / "archive", storage=StorageSettings(url="memory:"))
    packed = 0
    with open_archive(settings) as parts:
        recompressor = build(parts, tmp_path)
        for path in [*CORPUS_FILES, *sorted(SAMPLE_DATA.rglob("*.dcm"))]:
            data = path.read_bytes()
            outcome = store(parts, data)
            if outcome.disposition is not Disposition.STORED:
                continue
            if recompressor.recompress(outcome.sop_instance_uid).obstacle:
                continue
            packed += 1
            dataset = pydicom.dcmread(io.BytesIO(data), force=True)
            before = pydicom.dcmread(io.BytesIO(data), force=True)
            after = pydicom.dcmread(io.BytesIO(read(parts, dataset, ANY)))
            ours, theirs = flatten(after), flatten(before)
            changed = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
            assert changed <= {"(0028,0004)", "(0028,0006)"}, path
            assert np.array_equal(after.pixel_array, before.pixel_array), path
    assert packed >= 40
