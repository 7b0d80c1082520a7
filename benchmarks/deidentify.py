"""What de-identifying one CT slice of half a megabyte costs on one core: the header's work, and copying the pixels.

``python benchmarks/deidentify.py [FILE]``: medians of several hundred objects that differ in their UIDs and positions.
Without a file a slice like those of a current scanner is built: 512 x 512, 16 bits, about 150 attributes, two private
blocks, request attributes and codes.
"""

import io
import statistics
import struct
import sys
import time
from pathlib import Path

import numpy as np

from pacs.deid import RELEASE_DEFAULT, ProjectKey, deidentify
from pacs.deid.writing import encode_element, encode_file_meta, encode_sequence

RUNS = 400
KEY = ProjectKey(bytes(range(32)))
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"


def text(tag: int, vr: str, value: str) -> bytes:
    return encode_element(tag, vr, value.encode())


def build(number: int) -> bytes:
    """A CT slice of 525 KB."""
    code = text(0x00080100, "SH", "77477000") + text(0x00080102, "SH", "SCT") + text(0x00080104, "LO", "CT")
    parts = {
        0x00080005: ("CS", "ISO_IR 100"), 0x00080008: ("CS", "ORIGINAL\\PRIMARY\\AXIAL\\CT_SOM5 SPI"),
        0x00080012: ("DA", "20240312"), 0x00080013: ("TM", "101500.123000"), 0x00080016: ("UI", CT),
        0x00080018: ("UI", f"1.3.12.2.1107.5.1.4.99999.3000001.{number}"), 0x00080020: ("DA", "20240312"),
        0x00080021: ("DA", "20240312"), 0x00080022: ("DA", "20240312"), 0x00080023: ("DA", "20240312"),
        0x00080030: ("TM", "101200.000000"), 0x00080031: ("TM", "101300.000000"), 0x00080032: ("TM", "101400.5"),
        0x00080033: ("TM", "101400.5"), 0x00080050: ("SH", "ACC1234567"), 0x00080060: ("CS", "CT"),
        0x00080070: ("LO", "SIEMENS"), 0x00080080: ("LO", "CENTRE HOSPITALIER"), 0x00080081: ("ST", "12 RUE"),
        0x00080090: ("PN", "REFERRER^BUILT"), 0x00081010: ("SH", "CT01"),
        0x00081030: ("LO", "Scanner thorax avec injection"), 0x0008103E: ("LO", "Thorax 1.0 B70f"),
        0x00081040: ("LO", "RADIOLOGIE"), 0x00081048: ("PN", "RECORD^BUILT"), 0x00081050: ("PN", "PERFORMER^BUILT"),
        0x00081070: ("PN", "OPERATOR^BUILT"), 0x00081090: ("LO", "Definition AS"),
        0x00100010: ("PN", "PATIENT^BUILT"), 0x00100020: ("LO", "IPP0012345"), 0x00100030: ("DA", "19610203"),
        0x00100040: ("CS", "F"), 0x00101010: ("AS", "063Y"), 0x00101030: ("DS", "71"),
        0x00102154: ("SH", "0612345678"), 0x001021B0: ("LT", "Toux chronique, suspicion de nodule"),
        0x00104000: ("LT", "Rappeler le 0612345678"), 0x00180015: ("CS", "CHEST"), 0x00180050: ("DS", "1"),
        0x00180060: ("DS", "120"), 0x00180090: ("DS", "500"), 0x00181000: ("LO", "66123"),
        0x00181020: ("LO", "syngo CT 2012B"), 0x00181030: ("LO", "ThoraxRoutine"), 0x00181100: ("DS", "330"),
        0x00181110: ("DS", "1085.6"), 0x00181111: ("DS", "595"), 0x00181120: ("DS", "0"), 0x00181130: ("DS", "155"),
        0x00181140: ("CS", "CW"), 0x00181150: ("IS", "500"), 0x00181151: ("IS", "180"), 0x00181152: ("IS", "90"),
        0x00181160: ("SH", "FLAT"), 0x00181170: ("IS", "21"), 0x00181190: ("DS", "1.2"),
        0x00181200: ("DA", "20240311"), 0x00181201: ("TM", "074500"), 0x00181210: ("SH", "B70f"),
        0x00185100: ("CS", "HFS"), 0x0020000D: ("UI", "1.3.12.2.1107.5.1.4.99999.1"),
        0x0020000E: ("UI", "1.3.12.2.1107.5.1.4.99999.2"), 0x00200010: ("SH", "4711"), 0x00200011: ("IS", "2"),
        0x00200012: ("IS", "2"), 0x00200013: ("IS", str(number)), 0x00200032: ("DS", f"-165\\-165\\{number}"),
        0x00200037: ("DS", "1\\0\\0\\0\\1\\0"), 0x00200052: ("UI", "1.3.12.2.1107.5.1.4.99999.3"),
        0x00201040: ("LO", ""), 0x00201041: ("DS", str(number)), 0x00204000: ("LT", "Thorax"),
        0x00280004: ("CS", "MONOCHROME2"), 0x00280030: ("DS", "0.64453125\\0.64453125"),
        0x00281050: ("DS", "50\\-600"), 0x00281051: ("DS", "350\\1200"), 0x00281052: ("DS", "-1024"),
        0x00281053: ("DS", "1"), 0x00281055: ("LO", "WINDOW1\\WINDOW2"), 0x00321032: ("PN", "REQUESTER^BUILT"),
        0x00321060: ("LO", "Scanner thorax"), 0x00400244: ("DA", "20240312"), 0x00400245: ("TM", "101100"),
        0x00400253: ("SH", "PPS4711"), 0x00400254: ("LO", "Thorax"), 0x00290010: ("LO", "SIEMENS CSA HEADER"),
        0x00190010: ("LO", "SIEMENS CT VA0  COAD"),
    }  # fmt: skip
    elements = {tag: text(tag, vr, value) for tag, (vr, value) in parts.items()}
    for tag, value in ((0x00280002, 1), (0x00280010, 512), (0x00280011, 512), (0x00280100, 16), (0x00280101, 12),
                       (0x00280102, 11), (0x00280103, 0)):  # fmt: skip
        elements[tag] = encode_element(tag, "US", struct.pack("<H", value))
    for place in range(40):
        elements[0x00191000 + place] = text(0x00191000 + place, "DS", str(place))
    elements[0x00291010] = encode_element(0x00291010, "OB", bytes(2000))
    elements[0x00081032] = encode_sequence(0x00081032, [code])
    references = [text(0x00081150, "UI", CT) + text(0x00081155, "UI", f"1.3.12.2.1107.5.{n}") for n in range(3)]
    elements[0x00081140] = encode_sequence(0x00081140, references)
    elements[0x00400275] = encode_sequence(
        0x00400275, [text(0x00321060, "LO", "Scanner thorax") + text(0x00401001, "SH", "RP4711")]
    )
    pixels = np.random.default_rng(number).integers(0, 4096, 512 * 512, dtype=np.uint16).tobytes()
    elements[0x7FE00010] = encode_element(0x7FE00010, "OW", pixels)
    return encode_file_meta(CT, "1.2.3", EXPLICIT_LITTLE) + b"".join(elements[tag] for tag in sorted(elements))


def measure(objects: list[bytes]) -> tuple[float, float]:
    """Return the median of the seconds an object takes, and of those for reading and writing its bytes alone."""
    seconds, copying = [], []
    for number in range(RUNS):
        data = objects[number % len(objects)]
        source, target = io.BytesIO(data), io.BytesIO()
        start = time.process_time()
        deidentify(source, target, RELEASE_DEFAULT, KEY)
        seconds.append(time.process_time() - start)
        start = time.process_time()
        io.BytesIO().write(io.BytesIO(data).read())
        copying.append(time.process_time() - start)
    return statistics.median(seconds), statistics.median(copying)


def main() -> None:
    objects = [Path(name).read_bytes() for name in sys.argv[1:]] or [build(number) for number in range(8)]
    deidentify(io.BytesIO(objects[0]), io.BytesIO(), RELEASE_DEFAULT, KEY)
    taken, copying = measure(objects)
    size = len(objects[0]) / 1e3
    print(f"{size:.0f} KB: {taken * 1e3:.2f} ms an object, of which {copying * 1e3:.2f} ms are copying its bytes")


if __name__ == "__main__":
    main()
