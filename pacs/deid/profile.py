"""What a project wants done: the Basic Profile of PS3.15 Annex E and options of it, as a value that is kept as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from pacs.errors import InvalidValue


class Option(StrEnum):
    """An option of PS3.15 E.3. ``code`` and ``meaning`` are those of CID 7050."""

    code: str
    meaning: str

    def __new__(cls, name: str, code: str = "", meaning: str = "") -> Self:
        """Make an option of its name in a profile, and its code in DCM."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.code = code
        member.meaning = meaning
        return member

    CLEAN_PIXEL_DATA = "clean-pixel-data", "113101", "Clean Pixel Data Option"
    CLEAN_VISUAL_FEATURES = "clean-visual-features", "113102", "Clean Recognizable Visual Features Option"
    CLEAN_GRAPHICS = "clean-graphics", "113103", "Clean Graphics Option"
    CLEAN_STRUCTURED_CONTENT = "clean-structured-content", "113104", "Clean Structured Content Option"
    CLEAN_DESCRIPTORS = "clean-descriptors", "113105", "Clean Descriptors Option"
    RETAIN_FULL_DATES = (
        "retain-full-dates",
        "113106",
        "Retain Longitudinal Temporal Information Full Dates Option",
    )
    RETAIN_MODIFIED_DATES = (
        "retain-modified-dates",
        "113107",
        "Retain Longitudinal Temporal Information Modified Dates Option",
    )
    RETAIN_PATIENT_CHARACTERISTICS = (
        "retain-patient-characteristics",
        "113108",
        "Retain Patient Characteristics Option",
    )
    RETAIN_DEVICE_IDENTITY = "retain-device-identity", "113109", "Retain Device Identity Option"
    RETAIN_UIDS = "retain-uids", "113110", "Retain UIDs Option"
    RETAIN_SAFE_PRIVATE = "retain-safe-private", "113111", "Retain Safe Private Option"
    RETAIN_INSTITUTION_IDENTITY = "retain-institution-identity", "113112", "Retain Institution Identity Option"


BASIC_CODE = "113100", "Basic Application Confidentiality Profile"
NEVER_RELEASED = frozenset({Option.RETAIN_UIDS, Option.RETAIN_FULL_DATES})
"""With these anybody who has the clinical archive can join a release to it: they are for `pacs deidentify` alone."""


@dataclass(frozen=True, slots=True)
class DeviceRectangles:
    """Where a device writes text into its images: these pixels are blacked out, and the rest of the image is clean.

    Manufacturer and model are compared without case; an empty one, or a size of 0, fits all. A rectangle is left, top,
    right and bottom, in pixels from 0, right and bottom exclusive.
    """

    manufacturer: str
    model: str
    rows: int
    columns: int
    rectangles: tuple[tuple[int, int, int, int], ...]

    def __post_init__(self) -> None:
        """Raise InvalidValue for a rectangle that is none."""
        for left, top, right, bottom in self.rectangles:
            if not (0 <= left < right and 0 <= top < bottom):
                raise InvalidValue("A rectangle is left, top, right, bottom, each from 0, and not empty.")


@dataclass(frozen=True, slots=True)
class SafePrivate:
    """A private attribute that is known to identify nobody: creator, group, the last two hex digits, and its VR."""

    creator: str
    group: int
    element: int
    vr: str


@dataclass(frozen=True, slots=True)
class Profile:
    """What is done to every object of a project. Raises InvalidValue for options that exclude each other."""

    name: str
    options: frozenset[Option] = frozenset()
    device_rectangles: tuple[DeviceRectangles, ...] = ()
    safe_private: tuple[SafePrivate, ...] = field(default=())
    """Beside those of PS3.15 Table E.3.10-1, with Retain Safe Private only."""

    def __post_init__(self) -> None:
        """Check the options against each other."""
        if {Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES} <= self.options:
            raise InvalidValue("Dates are retained in full or modified, not both.")

    @property
    def is_fit_for_release(self) -> bool:
        """Whether nothing in the profile lets a release be joined to the clinical archive by its identifiers."""
        return not self.options & NEVER_RELEASED

    def to_json(self) -> dict[str, Any]:
        """Return the profile as plain data."""
        return {
            "name": self.name,
            "options": sorted(self.options),
            "device_rectangles": [
                {
                    "manufacturer": device.manufacturer,
                    "model": device.model,
                    "rows": device.rows,
                    "columns": device.columns,
                    "rectangles": [list(rectangle) for rectangle in device.rectangles],
                }
                for device in self.device_rectangles
            ],
            "safe_private": [
                [private.creator, f"{private.group:04X}", f"{private.element:02X}", private.vr]
                for private in self.safe_private
            ],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return the profile that ``to_json`` gave; raise InvalidValue for anything else."""
        try:
            return cls(
                name=str(stored["name"]),
                options=frozenset(Option(name) for name in stored.get("options", ())),
                device_rectangles=tuple(_device(device) for device in stored.get("device_rectangles", ())),
                safe_private=tuple(
                    SafePrivate(str(creator), int(group, 16), int(element, 16), str(vr))
                    for creator, group, element, vr in stored.get("safe_private", ())
                ),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidValue("This is no profile.") from error


def _device(stored: Mapping[str, Any]) -> DeviceRectangles:
    rectangles = []
    for rectangle in stored["rectangles"]:
        left, top, right, bottom = (int(edge) for edge in rectangle)
        rectangles.append((left, top, right, bottom))
    return DeviceRectangles(
        manufacturer=str(stored.get("manufacturer", "")),
        model=str(stored.get("model", "")),
        rows=int(stored.get("rows", 0)),
        columns=int(stored.get("columns", 0)),
        rectangles=tuple(rectangles),
    )


RELEASE_DEFAULT = Profile(
    "release",
    frozenset(
        {
            Option.CLEAN_PIXEL_DATA,
            Option.CLEAN_GRAPHICS,
            Option.CLEAN_STRUCTURED_CONTENT,
            Option.CLEAN_DESCRIPTORS,
            Option.RETAIN_MODIFIED_DATES,
            Option.RETAIN_PATIENT_CHARACTERISTICS,
            Option.RETAIN_SAFE_PRIVATE,
        }
    ),
)
"""What a release does unless its project says otherwise: good for science, joined to nothing."""
