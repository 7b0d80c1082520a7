"""Which rule an attribute falls under: an option of the profile, else Table E.1-1, else its value representation.

A slashed action leaves the choice to the attribute's Type in the IOD; the engine takes the one that is right for every
Type, which is the last (decision 33). Rules are worked out once for a profile and an attribute, and looked up then.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache

from pydicom.datadict import dictionary_VR

from pacs.deid.profile import Option, Profile
from pacs.deid.reading import PIXEL_TAGS
from pacs.deid.report import Deed
from pacs.deid.standard import Row, load_standard


class Act(Enum):
    """What the engine does to an element."""

    COPY = auto()
    """As it is: numbers, and what an option retains."""
    CHECK = auto()
    """As it is if it is a value of its VR and none that is known to identify the patient."""
    TEXT = auto()
    """As it is, but for what is known of the patient."""
    CLEAN = auto()
    SHIFT = auto()
    TIME = auto()
    MAP = auto()
    AGE = auto()
    ICC = auto()
    RECURSE = auto()
    KEYED = auto()
    """A code of the project's that stands for the value."""
    REMOVE = auto()
    EMPTY = auto()
    DUMMY = auto()


_DEEDS = {
    Act.COPY: Deed.KEPT,
    Act.CHECK: Deed.KEPT,
    Act.TEXT: Deed.KEPT,
    Act.CLEAN: Deed.CLEANED,
    Act.SHIFT: Deed.SHIFTED,
    Act.TIME: Deed.KEPT,
    Act.MAP: Deed.MAPPED,
    Act.AGE: Deed.KEPT,
    Act.ICC: Deed.CLEANED,
    Act.RECURSE: Deed.KEPT,
    Act.KEYED: Deed.REPLACED,
    Act.REMOVE: Deed.REMOVED,
    Act.EMPTY: Deed.EMPTIED,
    Act.DUMMY: Deed.REPLACED,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What is done, by which rule, and the VR in which the attribute is written.

    ``identifies``: what goes is the patient's, or of people and places around them, and must not be found anywhere.
    """

    act: Act
    name: str
    vr: str
    identifies: bool = False
    may_vanish: bool = False
    """Of text of which nothing is left after cleaning: whether it goes, for otherwise it may have to have a value."""
    deed: Deed = field(init=False)
    """What the report says was done."""
    is_reported: bool = field(init=False)
    """What stays as everything of its VR does is not worth a line."""

    def __post_init__(self) -> None:
        """Work out what the report says."""
        object.__setattr__(self, "deed", _DEEDS[self.act])
        is_plain = self.name.startswith("by VR") and self.deed is Deed.KEPT
        object.__setattr__(self, "is_reported", not is_plain)


TEXT_VRS = frozenset({"LO", "SH", "ST", "LT", "UT", "UC", "UR", "PN", "AE"})
_STRINGS = TEXT_VRS | {"CS", "AS", "DA", "DS", "DT", "IS", "TM", "UI"}
_NUMBERS = frozenset({"US", "SS", "UL", "SL", "FL", "FD", "UV", "SV", "AT", "OF", "OD", "OL", "OV"})
_OCTETS = frozenset({"OB", "OW", "UN"})

STRUCTURAL = frozenset(
    {
        0x00080016,  # SOP Class UID
        0x0008001A,  # Related General SOP Class UID
        0x0008001B,  # Original Specialized SOP Class UID
        0x00080062,  # SOP Classes in Study
        0x0008010C,  # Coding Scheme UID
        0x00080117,  # Context UID
        0x00080118,  # Mapping Resource UID
        0x00081150,  # Referenced SOP Class UID
        0x0008040E,  # Stored Instance Transfer Syntax UID
        0x0008115A,  # SOP Classes Supported
        0x00083002,  # Available Transfer Syntax UID
        0x00041510,  # Referenced SOP Class UID in File
        0x00041512,  # Referenced Transfer Syntax UID in File
        0x0004151A,  # Referenced Related General SOP Class UID in File
        0x00340003,  # Flow Transfer Syntax UID
        0x30100052,  # Pertinent SOP Classes in Study
        0x30100053,  # Pertinent SOP Classes in Series
        0x04000010,  # MAC Calculation Transfer Syntax UID
    }
)
"""UIDs that say what something is, and not which one it is: decided by the attribute and never by the UID's root."""

ALLOWED_TEXT = frozenset(
    {
        0x00080070,  # Manufacturer
        0x00081090,  # Manufacturer's Model Name
        0x00080102,  # Coding Scheme Designator
        0x00080103,  # Coding Scheme Version
        0x00080115,  # Coding Scheme Name
        0x00180024,  # Sequence Name
        0x00180085,  # Imaged Nucleus
        0x00181016,  # Secondary Capture Device Manufacturer
        0x00181018,  # Secondary Capture Device Manufacturer's Model Name
        0x00181019,  # Secondary Capture Device Software Versions
        0x00181020,  # Software Versions
        0x00181160,  # Filter Type
        0x00181210,  # Convolution Kernel
        0x00181250,  # Receive Coil Name
        0x00181251,  # Transmit Coil Name
        0x00185020,  # Processing Function
        0x0018702A,  # Detector Manufacturer Name
        0x0018702B,  # Detector Manufacturer's Model Name
        0x00189005,  # Pulse Sequence Name
        0x00189041,  # Receive Coil Manufacturer Name
        0x00189050,  # Transmit Coil Manufacturer Name
        0x00281054,  # Rescale Type
        0x00283004,  # Modality LUT Type
        0x00420012,  # MIME Type of Encapsulated Document
        0x00541101,  # Attenuation Correction Method
        0x00541103,  # Reconstruction Method
        0x00541104,  # Detector Lines of Response Used
        0x00541105,  # Scatter Correction Method
    }
)
"""Text that tells a device or a method, and by its nature nobody: the only text that is not taken to its words."""

_PAYLOADS = frozenset(
    {
        0x54001010,  # Waveform Data
        0x54000110,  # Channel Minimum Value
        0x54000112,  # Channel Maximum Value
        0x5400100A,  # Waveform Padding Value
        0x00660016,  # Point Coordinates Data
        0x00281201, 0x00281202, 0x00281203, 0x00281204,  # Palette Color Lookup Table Data
        0x00281221, 0x00281222, 0x00281223, 0x00281224,  # Segmented
        0x00283006,  # LUT Data
        0x00660023, 0x00660024, 0x00660025, 0x00660029,  # Indices of surfaces
        0x7FE00001, 0x7FE00002, 0x7FE00003,  # Offset tables and value lengths of the pixel data
        0x00221529, 0x00221531,
    }
)  # fmt: skip
"""Octets that are numbers."""

ICC_PROFILE = 0x00282000
TIMEZONE_OFFSET = 0x00080201
PATIENT_AGE = 0x00101010
ACCESSION_NUMBER = 0x00080050
_VERSIONS = frozenset({0x00080106, 0x00080107})
"""Dates of context groups: constants that everybody knows. Shifted, they would tell by how much."""

_BY_VR = {
    "SQ": Act.RECURSE,
    "DA": Act.SHIFT,
    "DT": Act.SHIFT,
    "TM": Act.TIME,
    "UI": Act.MAP,
    "AS": Act.AGE,
    "CS": Act.CHECK,
    "DS": Act.CHECK,
    "IS": Act.CHECK,
    "PN": Act.REMOVE,
    "AE": Act.REMOVE,
    "UR": Act.REMOVE,
}
_CHARACTERISTIC = f"E.1-1 {Option.RETAIN_PATIENT_CHARACTERISTICS}"
_DATES = frozenset({Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES})
_MAX_RULES = 50_000
"""Kept: all that there are many times over, and not all that somebody may think up."""
_TEMPORAL = frozenset({"DA", "DT", "TM"})


class RuleBook:
    """The rules of one profile. Any number of threads may look things up at once."""

    def __init__(self, profile: Profile) -> None:
        self._options = profile.options
        self._standard = load_standard()
        self._found: dict[tuple[int, str], Rule] = {}
        safe = (*self._standard.safe_private, *profile.safe_private) if self._has(Option.RETAIN_SAFE_PRIVATE) else ()
        self._safe_private = {(private.creator, private.group, private.element): private.vr for private in safe}

    def find(self, tag: int, vr: str) -> Rule:
        """Return the rule of an attribute of the standard, given the VR that the file says."""
        found = self._found.get((tag, vr))
        if found is None:
            found = self._decide(tag, vr)
            if len(self._found) < _MAX_RULES:
                self._found[tag, vr] = found
        return found

    def find_private(self, creator: str, tag: int, vr: str) -> Rule | None:
        """Return the rule of a private attribute that is known safe, None for all the others."""
        known = self._safe_private.get((creator, tag >> 16, tag & 0xFF))
        if known is None or (vr not in (known, "UN") and not (vr in _NUMBERS and known in _NUMBERS)):
            return None
        rule = self._by_vr(tag, known, "safe private (E.3.10)")
        return None if known == "SQ" or rule.act is Act.REMOVE else rule

    def _has(self, option: Option) -> bool:
        return option in self._options

    def _decide(self, tag: int, vr: str) -> Rule:
        known = dictionary_vrs(tag)
        why_not = _why_not(tag, vr, known)
        if why_not:
            return Rule(Act.REMOVE, why_not, vr, identifies=vr in TEXT_VRS and bool(known))
        if vr not in known and known[0] in _STRINGS:
            vr = known[0]
        row = self._standard.rows.get(tag)
        if tag == ACCESSION_NUMBER:
            return Rule(Act.KEYED, "E.1-1 Z, by the project's key", vr, identifies=True)
        if tag == ICC_PROFILE:
            return Rule(Act.ICC, "text of the ICC profile", "OB")
        if tag in _VERSIONS:
            return Rule(Act.COPY if vr == "DT" else Act.REMOVE, "version of a context group", vr)
        return self._by_row(tag, vr, row) if row else self._by_vr(tag, vr, f"by VR {vr}")

    def _by_row(self, tag: int, vr: str, row: Row) -> Rule:  # noqa: PLR0911 - an action each
        action, name = self._action_of(row)
        label = f"E.1-1 {name}{action}"
        if tag == TIMEZONE_OFFSET and action in "CK":
            return Rule(Act.CHECK, label, vr)
        if vr == "SQ":
            return self._by_sequence_row(action, label)
        match action.rsplit("/", 1)[-1].rstrip("*"):
            case "K":
                return self._kept(tag, vr, label)
            case "C":
                return self._cleaned(vr, label, may_vanish="X" in row.basic)
            case "U":
                return Rule(Act.MAP if vr == "UI" else Act.REMOVE, label, vr)
            case "X":
                return Rule(Act.REMOVE, label, vr, identifies=_identifies(row))
            case "Z":
                return Rule(Act.EMPTY, label, vr, identifies=_identifies(row))
            case _:
                act = Act.MAP if vr == "UI" else Act.REMOVE if vr in _OCTETS else Act.DUMMY
                return Rule(act, label, vr, identifies=_identifies(row))

    def _by_sequence_row(self, action: str, label: str) -> Rule:
        """Whole sequences go: where it may be absent it is, else where it may be empty it is."""
        if action in ("K", "C") or "U" in action:
            return Rule(Act.RECURSE, label, "SQ")
        act = Act.REMOVE if "X" in action else Act.EMPTY if "Z" in action else Act.DUMMY
        return Rule(act, label, "SQ")

    def _action_of(self, row: Row) -> tuple[str, str]:
        """Return the action and the name of the option that says so, empty if the Basic Profile does."""
        dates = row.options.get(Option.RETAIN_MODIFIED_DATES)
        if dates and self._has(Option.RETAIN_MODIFIED_DATES) and self._may_tell_dates(row):
            return dates, f"{Option.RETAIN_MODIFIED_DATES} "
        if row.options.get(Option.RETAIN_FULL_DATES) and self._has(Option.RETAIN_FULL_DATES):
            return "K", f"{Option.RETAIN_FULL_DATES} "
        active = [
            (action, option) for option, action in row.options.items() if self._has(option) and option not in _DATES
        ]
        # K before C: who retains a characteristic retains it whole.
        for action, option in sorted(active, key=lambda pair: (pair[0] != "K", pair[1])):
            return action, f"{option} "
        return row.basic, ""

    def _may_tell_dates(self, row: Row) -> bool:
        """Whether dates of a row are shifted.

        Those of devices are the same for many patients, whose shifts differ: two shifted calibrations would tell one
        shift from the other. They stay only with the device.
        """
        return Option.RETAIN_DEVICE_IDENTITY not in row.options or self._has(Option.RETAIN_DEVICE_IDENTITY)

    def _kept(self, tag: int, vr: str, label: str) -> Rule:
        if tag == PATIENT_AGE or vr == "AS":
            return Rule(Act.AGE, label, vr)
        if vr in TEXT_VRS:
            # A characteristic that is retained is a word of medicine still, and not whatever was typed there.
            act = Act.CLEAN if label.startswith(_CHARACTERISTIC) else Act.TEXT
            return Rule(act, label, vr, may_vanish=True)
        if vr in ("CS", "DS", "IS") or vr in _TEMPORAL:
            return Rule(Act.CHECK, label, vr)
        if vr in _OCTETS:
            return Rule(Act.REMOVE, label, vr)
        return Rule(Act.COPY, label, vr)

    def _cleaned(self, vr: str, label: str, *, may_vanish: bool) -> Rule:
        if vr in ("DA", "DT"):
            return Rule(Act.SHIFT, label, vr)
        if vr == "TM":
            return Rule(Act.TIME, label, vr)
        if vr in TEXT_VRS:
            act = Act.DUMMY if vr in ("AE", "PN", "UR") else Act.CLEAN
            return Rule(act, label, vr, may_vanish=may_vanish)
        return self._by_vr(0, vr, label) if vr not in _OCTETS else Rule(Act.REMOVE, label, vr)

    def _by_vr(self, tag: int, vr: str, label: str) -> Rule:  # noqa: PLR0911 - a kind of VR each
        if vr in _TEMPORAL:
            return self._temporal(vr, label)
        if vr == "UI" and (tag in STRUCTURAL or self._has(Option.RETAIN_UIDS)):
            return Rule(Act.COPY, "structural UID" if tag in STRUCTURAL else label, vr)
        if vr in _BY_VR:
            return Rule(_BY_VR[vr], label, vr, identifies=vr == "PN")
        if vr in _NUMBERS or (vr in _OCTETS and tag in _PAYLOADS):
            return Rule(Act.COPY, label, vr)
        if vr == "OW" and not tag >> 16 & 1:
            return Rule(Act.COPY, label, vr)
        if vr in _OCTETS:
            return Rule(Act.REMOVE, label, vr)
        return Rule(Act.TEXT, "known to name no one", vr) if tag in ALLOWED_TEXT else Rule(Act.CLEAN, label, vr)

    def _temporal(self, vr: str, label: str) -> Rule:
        if self._has(Option.RETAIN_MODIFIED_DATES):
            return Rule(Act.TIME if vr == "TM" else Act.SHIFT, label, vr)
        return Rule(Act.CHECK if self._has(Option.RETAIN_FULL_DATES) else Act.REMOVE, label, vr)


_GROUPS_THAT_GO = (
    (0x0000, 0x0007, "of a message or a file, and no data set's"),
    (0x5000, 0x50FF, "E.1-1 Curve Data X"),
    (0x6000, 0x60FF, "E.1-1 Overlay Data X"),
)


def _why_not(tag: int, vr: str, known: tuple[str, ...]) -> str:
    """Return why an attribute goes whatever the profile says, empty if that is not so."""
    group = tag >> 16
    if tag & 0xFFFF == 0:
        return "group length"
    for first, last, reason in _GROUPS_THAT_GO:
        if first <= group <= last:
            return reason
    if tag in PIXEL_TAGS:
        return "pixels in an item"
    if not known:
        return "unknown attribute"
    return "" if vr in known or _is_exchangeable(vr, known[0]) else "VR is not the attribute's"


def _identifies(row: Row) -> bool:
    """Whether what a row removes is worth searching for in the output: people, places and numbers, not dates."""
    return not row.options.keys() & {
        Option.RETAIN_FULL_DATES,
        Option.RETAIN_DEVICE_IDENTITY,
        Option.CLEAN_DESCRIPTORS,
        Option.RETAIN_PATIENT_CHARACTERISTICS,
    }


@lru_cache(maxsize=8192)
def dictionary_vrs(tag: int) -> tuple[str, ...]:
    """Return the VRs that the dictionary gives an attribute, none if it does not know it."""
    try:
        return tuple(dictionary_VR(tag).split(" or "))
    except KeyError:
        return ()


def _is_exchangeable(vr: str, known: str) -> bool:
    """Whether a value in the wrong VR is read as one of the right VR: both text, both numbers, or both octets."""
    return any(vr in kinds and known in kinds for kinds in (_STRINGS, _NUMBERS, _OCTETS))
