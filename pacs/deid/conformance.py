"""The conformance text of a profile: what PS3.15 Annex E asks a Conformance Statement to say, from what is in force."""

from collections.abc import Iterable

from pydicom.datadict import keyword_for_tag

from pacs.deid.profile import BASIC_CODE, Option, Profile
from pacs.deid.rules import ALLOWED_TEXT, STRUCTURAL, RuleBook, dictionary_vrs
from pacs.deid.standard import load_standard

_HOW = {
    Option.CLEAN_PIXEL_DATA: (
        "Ultrasound images are blacked out outside the union of their Ultrasound Regions; images of devices named "
        "below are blacked out where the device writes text. What was compressed is written native then. Objects "
        "that may show text otherwise are held back until a person has looked at them."
    ),
    Option.CLEAN_VISUAL_FEATURES: (
        "Nothing is defaced: CT, MR and PET images that may show a face, by Body Part Examined, are held back until a "
        "person has looked at them."
    ),
    Option.CLEAN_GRAPHICS: (
        "Graphic annotations keep their geometry, their text is cleaned as descriptors are. Overlays and curves are "
        "removed."
    ),
    Option.CLEAN_STRUCTURED_CONTENT: (
        "Content items are handled by value type: PNAME is replaced; TEXT is cleaned; DATE, TIME and DATETIME follow "
        "the option for dates; UIDREF and references are mapped; CODE takes its meaning from the code; NUM, SCOORD, "
        "SCOORD3D and TCOORD are kept. The subject's birth date, and an age over 89, are removed."
    ),
    Option.CLEAN_DESCRIPTORS: (
        "Words of the DICOM dictionary, of the meanings of DICOM's codes and of a French, English and Arabic list of "
        "radiology are kept, all others are dropped, and so is every number."
    ),
    Option.RETAIN_FULL_DATES: "Dates and times are kept. The birth date is emptied all the same.",
    Option.RETAIN_MODIFIED_DATES: (
        "Dates move back by one to ten years, by whole days and by the same number for all of a patient's objects in a "
        "project, derived from the project's key. Times of day and offsets from UTC are kept. The birth date is "
        "emptied, and dates of a device, which many patients share, are removed unless its identity is retained."
    ),
    Option.RETAIN_PATIENT_CHARACTERISTICS: (
        "Age (computed from the birth date where it is absent; over 89 it is 090Y), sex, size, weight and the like are "
        "kept."
    ),
    Option.RETAIN_DEVICE_IDENTITY: "The attributes of this option are kept.",
    Option.RETAIN_UIDS: "UIDs are kept. Never used for a release.",
    Option.RETAIN_SAFE_PRIVATE: (
        "The private attributes of Table E.3.10-1, and those that the profile names, are kept, told by creator, group "
        "and element; their text is cleaned. Block Identifying Information in the object is not believed."
    ),
    Option.RETAIN_INSTITUTION_IDENTITY: "The attributes of this option are kept.",
}


def conformance_statement(profile: Profile) -> str:
    """Return what PS3.15 demands to be stated of de-identification with a profile, as Markdown."""
    standard = load_standard()
    parts = [
        f"# De-identification profile: {profile.name}",
        _CLAIM.format(standard.edition),
        "## Profile and options",
        _table(
            ("Code (DCM)", "Meaning", "Claimed", "How"),
            [
                (*BASIC_CODE, "yes", "All of Table E.1-1, at any depth."),
                *(
                    (option.code, option.meaning, "yes" if option in profile.options else "no", _HOW[option])
                    for option in Option
                ),
            ],
        ),
        "## What is done to every object",
        _EVERY_OBJECT,
        "## Text that is kept as it is",
        _names(ALLOWED_TEXT),
        "## UIDs that are kept, for they say what something is",
        _names(STRUCTURAL),
        *_devices(profile),
        "## Attributes",
        _attributes(profile),
    ]
    return "\n\n".join(parts) + "\n"


_CLAIM = (
    "The application is a de-identifier that claims conformance to the Basic Application Level Confidentiality Profile "
    "of PS3.15 Annex E as listed below. Tables: {}."
)
_EVERY_OBJECT = (
    "- A rule is an option's, else Table E.1-1's, else that of the value representation: sequences are entered; dates "
    "and times follow the option for dates; UIDs are mapped unless they are structural; numbers and coded strings are "
    "kept if they are such; person names, application entities, URIs and unknown octets are removed; other text is "
    "cleaned unless it is listed below.\n"
    "- An action that Table E.1-1 leaves to the attribute's Type is resolved to the one that suits every Type: D "
    "before Z before X; whole sequences go where they may be absent.\n"
    "- UIDs become 2.25 and 128 bits of an HMAC-SHA-256 under a key of the project, the same for all its instances. "
    "Patient ID and name become a pseudonym, the accession number and codes of private schemes a code of that key. "
    "No hash without a key is used. Until the key and its escrow are destroyed the data are pseudonymised.\n"
    "- The preamble and the file meta information are replaced. Private attributes, Original Attributes, digital "
    "signatures, icons, curves, overlays, their comments and unknown attributes are removed; ICC profiles lose their "
    "text; text in comments of compressed frames is blanked.\n"
    "- Specific Character Set is ISO_IR 192; attributes of VR UN that the dictionary knows are read as such.\n"
    "- Patient Identity Removed (0012,0062) is YES; De-identification Method (0012,0063) and its Code Sequence "
    "(0012,0064), Longitudinal Temporal Information Modified (0028,0303) and, if pixels were cleaned, Burned In "
    "Annotation (0028,0301) are set.\n"
    "- Objects of an unknown or private SOP Class, secondary captures, encapsulated documents, videos, recorded audio, "
    "images that may show text or a face, and objects that do not parse are held back. What was written is searched "
    "for the patient's known values before it leaves."
)


def _devices(profile: Profile) -> Iterable[str]:
    if not profile.device_rectangles:
        return ()
    rows = [
        (
            device.manufacturer or "any",
            device.model or "any",
            f"{device.columns or 'any'} x {device.rows or 'any'}",
            "; ".join(", ".join(str(edge) for edge in rectangle) for rectangle in device.rectangles) or "no text",
        )
        for device in profile.device_rectangles
    ]
    return (
        "## Devices whose text is blacked out",
        _table(("Manufacturer", "Model", "Size", "Left, top, right, bottom"), rows),
    )


def _attributes(profile: Profile) -> str:
    book = RuleBook(profile)
    standard = load_standard()
    rows = []
    for tag in sorted(standard.rows):
        vrs = dictionary_vrs(tag)
        if vrs:
            rule = book.find(tag, vrs[0])
            rows.append((f"({tag >> 16:04X},{tag & 0xFFFF:04X})", keyword_for_tag(tag), rule.deed.value, rule.name))
    return _table(("Tag", "Attribute", "What is done", "Rule"), rows)


def _names(tags: Iterable[int]) -> str:
    return ", ".join(f"{keyword_for_tag(tag)} ({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in sorted(tags)) + "."


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
