"""What packing as HTJ2K saves and costs, measured on real objects: bytes and milliseconds a frame, by modality.

Every file of the given folders is stored in one archive and recompressed as the policy does it, with codecs in
this process. ``half`` and ``quarter`` are the bytes of a frame, from its first on, that give it at half and a quarter
of its width and height. Printed, and written to ``benchmarks/results/recompression.json`` and ``.md``.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from rich.progress import track

sys.path.insert(0, str(Path(__file__).parent.parent))

from pacs.access import LOCAL
from pacs.app import Parts, open_archive
from pacs.config import Settings, StorageSettings
from pacs.imaging import codecs, encoders
from pacs.imaging.codecs import DecodedFrame, PixelDescription
from pacs.imaging.encoders import EncodedFrame
from pacs.ingest.incoming import Incoming
from pacs.ingest.outcome import Disposition
from pacs.maintenance.recompression import TARGET, Recompressor
from pacs.model import CLINICAL_PARTITION, Door, Origin
from pacs.tags import text_of
from tests.codestream import parse

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
FOLDERS = [ROOT / "sample_data", ROOT.parent / "shared" / "corpus"]
COLUMNS = (
    "modality",
    "objects",
    "packed",
    "frames",
    "mb_before",
    "mb_after",
    "saved",
    "encode_ms",
    "decode_ms",
    "half",
    "quarter",
)


@dataclass
class Tally:
    """What was measured of one modality."""

    objects: int = 0
    packed: int = 0
    before_bytes: int = 0
    after_bytes: int = 0
    encode_seconds: list[float] = field(default_factory=list)
    decode_seconds: list[float] = field(default_factory=list)
    frame_bytes: int = 0
    half_bytes: int = 0
    quarter_bytes: int = 0

    def row(self, modality: str) -> dict[str, str | int | float]:
        def share(part: int, whole: int) -> float:
            return round(100 * part / whole, 1) if whole else 0.0

        def milliseconds(seconds: list[float]) -> float:
            return round(1000 * statistics.median(seconds), 1) if seconds else 0.0

        return {
            "modality": modality,
            "objects": self.objects,
            "packed": self.packed,
            "frames": len(self.encode_seconds),
            "mb_before": round(self.before_bytes / 1e6, 2),
            "mb_after": round(self.after_bytes / 1e6, 2),
            "saved": share(self.before_bytes - self.after_bytes, self.before_bytes),
            "encode_ms": milliseconds(self.encode_seconds),
            "decode_ms": milliseconds(self.decode_seconds),
            "half": share(self.half_bytes, self.frame_bytes),
            "quarter": share(self.quarter_bytes, self.frame_bytes),
        }


class TimedCodec:
    """The codecs, in this process, with a clock; what was encoded is kept until it is taken."""

    def __init__(self) -> None:
        self.encode_seconds: list[float] = []
        self.decode_seconds: list[float] = []
        self.frames: list[bytes] = []

    def encode_frame(self, transfer_syntax_uid: str, pixels: bytes, description: PixelDescription) -> EncodedFrame:
        start = time.perf_counter()
        encoded = encoders.encode(transfer_syntax_uid, pixels, description)
        self.encode_seconds.append(time.perf_counter() - start)
        self.frames.append(encoded.data)
        return encoded

    def decode_frame(self, transfer_syntax_uid: str, frame: bytes, description: PixelDescription) -> DecodedFrame:
        start = time.perf_counter()
        decoded = codecs.decode(transfer_syntax_uid, frame, description)
        if transfer_syntax_uid == TARGET:
            self.decode_seconds.append(time.perf_counter() - start)
        return decoded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, default=[folder for folder in FOLDERS if folder.is_dir()])
    files = sorted(path for folder in parser.parse_args().folders for path in folder.rglob("*") if path.is_file())
    tallies: dict[str, Tally] = {}
    reasons: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        settings = Settings(data_dir=Path(temporary), storage=StorageSettings(url="memory:"))
        with open_archive(settings) as parts:
            for path in track(files, description="Recompressing"):
                measure(parts, Path(temporary), path, tallies, reasons)
    total = Tally()
    for tally in tallies.values():
        for name, value in vars(tally).items():
            setattr(total, name, getattr(total, name) + value)
    rows = [tally.row(modality) for modality, tally in sorted(tallies.items())] + [total.row("all")]
    result = {"codec": encoders.VERSION, "modalities": rows, "left_alone": dict(reasons.most_common())}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "recompression.json").write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / "recompression.md").write_text(table(rows, reasons))
    print(table(rows, reasons))


def measure(parts: Parts, folder: Path, path: Path, tallies: dict[str, Tally], reasons: Counter[str]) -> None:
    with parts.archive.ingest.open_spool() as spool:
        spool.write(path.read_bytes())
        outcome = parts.archive.ingest.store(Incoming(spool, Origin(Door.IMPORT)))
    if outcome.disposition is not Disposition.STORED:
        return
    uids = (outcome.study_instance_uid, outcome.series_instance_uid, outcome.sop_instance_uid)
    ((_, header),) = parts.archive.retrieve.iter_metadata(LOCAL, *uids)
    modality = text_of(orjson.loads(header), "Modality") or "none"
    codec = TimedCodec()
    recompressor = Recompressor(parts.database, parts.store, CLINICAL_PARTITION, codec, folder)
    done = recompressor.recompress(outcome.sop_instance_uid)
    tally = tallies.setdefault(modality, Tally())
    tally.objects += 1
    if done.obstacle:
        reasons[done.obstacle] += 1
        return
    tally.packed += 1
    tally.before_bytes += done.before_bytes
    tally.after_bytes += done.after_bytes
    tally.encode_seconds += codec.encode_seconds
    tally.decode_seconds += codec.decode_seconds
    for frame in codec.frames:
        stream = parse(frame)
        tally.frame_bytes += len(frame)
        tally.half_bytes += stream.tile_parts[-2].end
        tally.quarter_bytes += stream.tile_parts[-3].end


def table(rows: list[dict[str, str | int | float]], reasons: Counter[str]) -> str:
    """Return the result as Markdown, without modalities of which nothing was packed."""
    heads = {
        "mb_before": "MB before",
        "mb_after": "MB after",
        "saved": "saved, %",
        "encode_ms": "encode and verify, ms a frame",
        "decode_ms": "decode, ms a frame",
        "half": "1/2 resolution, % of the frame",
        "quarter": "1/4 resolution, %",
    }
    lines = [
        "| " + " | ".join(heads.get(column, column) for column in COLUMNS) + " |",
        "| --- |" + " ---: |" * (len(COLUMNS) - 1),
        *("| " + " | ".join(str(row[column]) for column in COLUMNS) + " |" for row in rows if row["packed"]),
        "",
        "Left alone: " + "; ".join(f"{count} {reason}" for reason, count in reasons.most_common()) + ".",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
