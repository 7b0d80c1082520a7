"""What is fuzzed with coverage as its guide: each target takes bytes from outside, and may refuse them in one way only.

Run one for as long as you like: ``python tests/fuzz/targets.py accept -max_total_time=600``. What breaks it is written
to a file ``crash-...`` in the working directory.
"""

import contextlib
import resource
import sys
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from urllib.parse import quote_from_bytes

import atheris
import orjson
from pydicom._uid_dict import UID_dictionary

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

with atheris.instrument_imports(include=["dicomweb", "pacs"]):
    from starlette.datastructures import Headers

    from dicomweb.addresses import parse_frame_list
    from dicomweb.appearance import parse_quality, parse_viewport, parse_window
    from dicomweb.caching import choose_coding, choose_range
    from dicomweb.dicom_xml import ModelParser
    from dicomweb.errors import InvalidXml, MultipartError, RequestError
    from dicomweb.media_types import (
        choose_bulk,
        choose_frames,
        choose_instances,
        parse_accept,
        parse_accept_parameter,
        parse_media_type,
    )
    from dicomweb.multipart import MAX_HEADER_BYTES, MultipartParser
    from dicomweb.params import parse_fields, parse_search
    from pacs.deid import RELEASE_DEFAULT, ProjectKey, Quarantine, Reason, deidentify
    from pacs.errors import InvalidHeader, InvalidQuery, NotAcceptable
    from pacs.imaging.inflation import MemorySink
    from pacs.ingest.assembly import CannotAssemble, plan_file
    from pacs.ingest.header import parse_header
    from pacs.ingest.limits import Limits
    from pacs.model import Level

from tests.builders import as_part10, build_ct, build_mr

MEMORY_BYTES = 1 << 30
LIMITS = Limits(depth=8, elements=500, inline_values=500, values=500, inflated_bytes=64 * 1024)

XML = b"""@<NativeDicomModel>
<DicomAttribute tag="00100010" vr="PN"><PersonName number="1"><Alphabetic><FamilyName>A</FamilyName></Alphabetic>
</PersonName></DicomAttribute><DicomAttribute tag="00081115" vr="SQ"><Item number="1"><DicomAttribute tag="00280010"
vr="US"><Value number="1">5</Value></DicomAttribute></Item></DicomAttribute></NativeDicomModel>"""
JSON = b"""{"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.7"]},"00080018":{"vr":"UI","Value":["1.2.3"]},
"0020000D":{"vr":"UI","Value":["1.2"]},"0020000E":{"vr":"UI","Value":["1.3"]},"00420011":{"vr":"OB","InlineBinary":
"AAAA"},"00100010":{"vr":"PN","Value":[{"Alphabetic":"A^B"}]},"00081115":{"vr":"SQ","Value":[{"00280010":{"vr":"US",
"Value":[5]}}]}}"""


PROJECT = ProjectKey(bytes(32))


def fuzz_multipart(data: bytes) -> None:
    step = 1 + (data[0] if data else 0)
    parser = MultipartParser("b")
    try:
        for start in range(1, len(data), step):
            for _ in parser.feed(data[start : start + step]):
                pass
            assert len(parser._held) <= MAX_HEADER_BYTES
        parser.finish()
    except MultipartError:
        pass


def fuzz_accept(data: bytes) -> None:
    text = data.decode("latin-1")
    parse_media_type(text)
    ranges = (*parse_accept([text]), *parse_accept_parameter([text]))
    for choose in (choose_instances, choose_frames):
        for is_single in (True, False):
            with contextlib.suppress(NotAcceptable):
                assert choose(ranges, is_single=is_single)
    with contextlib.suppress(NotAcceptable):
        assert choose_bulk(ranges, "application/pdf")


def fuzz_query(data: bytes) -> None:
    for query_string in (data.decode("latin-1"), quote_from_bytes(data, safe="=&%,.*?-\\")):
        for level in (Level.STUDY, Level.SERIES, Level.INSTANCE):
            with contextlib.suppress(InvalidQuery):
                parse_search(level, (), parse_fields(query_string))


def fuzz_frame_list(data: bytes) -> None:
    try:
        numbers = parse_frame_list(data.decode("utf-8", "replace"))
    except RequestError:
        return
    assert numbers
    assert all(number >= 1 for number in numbers)


def fuzz_appearance(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for parse in (parse_window, parse_viewport, parse_quality):
        with contextlib.suppress(RequestError):
            parse(text)


def fuzz_range(data: bytes) -> None:
    headers = Headers({"range": data.decode("latin-1"), "if-range": '"x"'})
    wanted = choose_range(headers, '"x"', 1000)
    assert wanted is None or 0 <= wanted[0] <= wanted[1] <= 1000
    choose_coding([data.decode("latin-1")])


def fuzz_header(data: bytes) -> None:
    source = MemorySink()
    source.write(data)
    with contextlib.suppress(InvalidHeader):
        parse_header(source, len(data), ("ISO_IR 100",), LIMITS)


def fuzz_xml(data: bytes) -> None:
    step = 1 + (data[0] if data else 0)
    parser = ModelParser(LIMITS.elements)
    with contextlib.suppress(InvalidXml):
        for start in range(1, len(data), step):
            parser.feed(data[start : start + step])
        assert isinstance(parser.finish(), dict)


def fuzz_json(data: bytes) -> None:
    with contextlib.suppress(orjson.JSONDecodeError):
        metadata = orjson.loads(data)
        with contextlib.suppress(CannotAssemble):
            plan_file(metadata, lambda _: ())


def fuzz_deidentify(data: bytes) -> None:
    for waived in ((), tuple(Reason)):
        target, reasons = BytesIO(), ()
        try:
            report = deidentify(BytesIO(data), target, RELEASE_DEFAULT, PROJECT, released_reasons=waived)
        except Quarantine as held:
            reasons = held.reasons
        assert Reason.ENGINE_FAILED not in reasons
        if reasons:
            assert not target.getvalue()
            continue
        written = target.getvalue()
        # What was written is taken apart again, and is somebody else's all over.
        assert report.sop_instance_uid.startswith("2.25.") or report.sop_instance_uid in UID_dictionary
        again = deidentify(BytesIO(written), BytesIO(), RELEASE_DEFAULT, PROJECT, released_reasons=tuple(Reason))
        assert again.sop_class_uid == report.sop_class_uid


TARGETS: dict[str, tuple[Callable[[bytes], None], tuple[bytes, ...]]] = {
    "multipart": (fuzz_multipart, (b"\x40x\r\n--b\r\nContent-Type: application/dicom\r\n\r\nbody\r\n--b--\r\n",)),
    "accept": (
        fuzz_accept,
        (
            b'multipart/related; type="application/dicom"; transfer-syntax=*;q=0.5, application/zip',
            b"image/jphc;transfer-syntax=1.2.840.10008.1.2.4.202, */*;q=0.1",
        ),
    ),
    "query": (
        fuzz_query,
        (
            b"PatientName=Ben%20Ali*&fuzzymatching=true&limit=5&offset=2&includefield=all",
            b"00080020=20240101-20241231&ModalitiesInStudy=CT,MR&RequestAttributesSequence.RequestedProcedureID=1",
        ),
    ),
    "frame_list": (fuzz_frame_list, (b"1,2,3", b"100")),
    "appearance": (fuzz_appearance, (b"40,400,linear-exact", b"100,100,,,20,-20", b"90")),
    "range": (fuzz_range, (b"bytes=0-99", b"bytes=-5", b"gzip;q=0.5, br, *;q=0")),
    "xml": (fuzz_xml, (XML,)),
    "json": (fuzz_json, (JSON,)),
    "deidentify": (fuzz_deidentify, (as_part10(build_ct()), as_part10(build_mr(), "1.2.840.10008.1.2"))),
    "header": (fuzz_header, (b"\0" * 128 + b"DICM" + b"\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0",)),
}
"""Name -> what takes the bytes, and what to begin with."""


def main() -> None:
    # Not libFuzzer's own limit: that looks at the peak of resident memory, which a process inherits over fork and exec.
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    name, *options = sys.argv[1:]
    target, seeds = TARGETS[name]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *options, corpus], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
