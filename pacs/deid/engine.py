"""One object, from the file it came in to the file that may leave: or nothing, and the reasons.

The order matters. Taking apart comes first, then whether a person has to look, then the data set, and what was made of
it is searched for what is known of the patient before a byte of it is written.
"""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import BinaryIO

from pydicom import uid

from pacs.deid.charsets import UNDECLARED, decode_text, encodings_of
from pacs.deid.codestreams import find_text
from pacs.deid.keys import ProjectKey, Subject, derive_subject, subject_identity
from pacs.deid.known import KnownValues
from pacs.deid.moments import age_between
from pacs.deid.pixels import (
    PHOTOMETRIC,
    FrameDecoder,
    Image,
    Lettering,
    Mask,
    as_picture,
    black_out,
    device_mask,
    iter_frames,
    ultrasound_mask,
)
from pacs.deid.profile import BASIC_CODE, Option, Profile
from pacs.deid.reading import UNDEFINED, Elements, ParsedFile, parse_file, swapped
from pacs.deid.reasons import Quarantine, Reason
from pacs.deid.report import Deed, Report
from pacs.deid.risk import (
    BURNED_IN_ANNOTATION,
    ENCAPSULATED_DOCUMENT,
    find_device,
    find_reasons,
    is_document,
    is_ultrasound,
    text_at,
)
from pacs.deid.rules import PATIENT_AGE, RuleBook
from pacs.deid.transforming import SPECIFIC_CHARACTER_SET, Transformer, gather
from pacs.deid.writing import encode_element, encode_file_meta, encode_pixel_header, encode_sequence

METHOD = "PACS de-identification 1"
SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_UID, SERIES_UID = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
PATIENT_NAME, PATIENT_ID, ISSUER, BIRTH_DATE = 0x00100010, 0x00100020, 0x00100021, 0x00100030
_IDENTITY_REMOVED, _METHOD, _METHOD_CODES, _TEMPORAL = 0x00120062, 0x00120063, 0x00120064, 0x00280303
_PERFORMED_STEP = 0x00081111
_STUDY_DATES = (0x00080020, 0x00080021, 0x00080022, 0x00080023)
_CHUNK = 1 << 20


@lru_cache(maxsize=64)
def _book_of(profile: Profile) -> RuleBook:
    return RuleBook(profile)


def deidentify(
    source: BinaryIO,
    target: BinaryIO,
    profile: Profile,
    key: ProjectKey,
    subject: Subject | None = None,
    *,
    released_reasons: Collection[Reason] = (),
    decode: FrameDecoder | None = None,
    lettering: Lettering | None = None,
) -> Report:
    """Write what may leave of ``source`` to ``target``, both of which can seek, and return what was done.

    ``subject`` is who the patient is in the project; without it, who the object says under the project's key.
    ``released_reasons`` are those that a person has looked at and waived. ``decode`` gives compressed frames native,
    where pixels have to be cleaned or read; ``lettering`` says whether text is read in one, as an alarm.

    Raises Quarantine with all the reasons; ``target`` is empty from where it stood then.
    """
    start = target.tell()
    try:
        parsed = parse_file(source)
        try:
            return _Object(parsed, profile, key, subject, released_reasons).write(target, decode, lettering)
        finally:
            parsed.close()
    except BaseException as error:
        with suppress(OSError):
            target.seek(start)
            target.truncate()
        if isinstance(error, Exception) and not isinstance(error, (Quarantine, OSError)):
            # Fail closed: an object that breaks the engine is held back like any that it cannot vouch for.
            raise Quarantine([Reason.ENGINE_FAILED]) from error
        raise


class _Object:
    """One object on its way through the engine."""

    def __init__(
        self,
        parsed: ParsedFile,
        profile: Profile,
        key: ProjectKey,
        subject: Subject | None,
        released_reasons: Collection[Reason],
    ) -> None:
        self._parsed = parsed
        self._elements = parsed.elements
        self._profile = profile
        self._key = key
        self._released = frozenset(reason for reason in released_reasons if reason.is_releasable)
        self._waived: set[Reason] = set()
        self._require_uids()
        self._subject = subject or derive_subject(key, identity_of(self._elements))
        self._image = Image.of(self._elements)
        self._known = KnownValues()
        self._blank: list[tuple[int, int]] = []

    def write(self, target: BinaryIO, decode: FrameDecoder | None, lettering: Lettering | None) -> Report:
        """Write the object; raise Quarantine if a person has to look at it first."""
        hidden = self._judge()
        if lettering is not None and self._parsed.pixels is not None:
            self._look_for_text(hidden, decode, lettering)
        book = _book_of(self._profile)
        gather(self._elements, book, self._known)
        released = frozenset({ENCAPSULATED_DOCUMENT} if Reason.DOCUMENT in self._waived else ())
        transformer = Transformer(book, self._key, self._subject, self._known, released)
        kept = transformer.transform(self._elements)
        self._put_own(kept, transformer, is_cleaned=hidden is not None)
        frames = None
        if hidden is not None:
            frames = iter_frames(self._parsed, self._image, decode)
            first, photometric = next(frames)
            if photometric != self._image.photometric_interpretation:
                kept[PHOTOMETRIC] = encode_element(PHOTOMETRIC, "CS", photometric.encode())
        syntax = self._target_syntax(is_cleaned=hidden is not None)
        pixels = self._parsed.pixels
        if pixels is not None and pixels.is_encapsulated and hidden is None:
            self._find_text_in_frames(transformer)
        report = self._report(transformer, syntax, is_cleaned=hidden is not None)
        before = b"".join([kept[tag] for tag in sorted(kept) if pixels is None or tag < pixels.tag])
        after = b"".join([kept[tag] for tag in sorted(kept) if pixels is not None and tag > pixels.tag])
        needles = self._known.needles()
        if needles.is_in(before) or needles.is_in(after):
            self._hold_back({Reason.RESIDUE})
        target.write(encode_file_meta(report.sop_class_uid, report.sop_instance_uid, syntax))
        target.write(before)
        if hidden is not None and frames is not None:
            self._write_cleaned(target, first, photometric, hidden)
            target.writelines(black_out(frame, kind, self._image, hidden) for frame, kind in frames)
            self._pad(target, self._image.total_bytes)
        elif pixels is not None:
            self._write_pixels(target)
        target.write(after)
        return replace(report, released_reasons=tuple(sorted(self._waived)))

    def _require_uids(self) -> None:
        for tag in (SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_UID, SERIES_UID):
            if not text_at(self._elements, tag):
                raise Quarantine([Reason.NO_UIDS])

    def _judge(self) -> Mask | None:
        """Return what to black out, None for nothing; raise Quarantine if a person has to look."""
        parsed, image = self._parsed, self._image
        has_pixels = parsed.pixels is not None
        device = find_device(self._elements, self._profile)
        reasons = find_reasons(
            self._elements,
            parsed.transfer_syntax_uid,
            self._profile,
            has_pixels=has_pixels,
            is_device_known=device is not None,
        )
        hidden: Mask | None = None
        may_clean = Option.CLEAN_PIXEL_DATA in self._profile.options
        if has_pixels:
            reasons |= self._doubts_about_pixels()
            if is_ultrasound(self._elements) and device is None:
                hidden = ultrasound_mask(self._elements, image) if may_clean else None
                if hidden is None:
                    reasons.add(Reason.NO_REGIONS)
            elif device is not None and device.rectangles:
                if may_clean:
                    hidden = device_mask(device, image)
                    hidden = hidden if hidden.any() else None
                else:
                    reasons.add(Reason.BURNED_IN)
        self._hold_back(reasons)
        return hidden

    def _doubts_about_pixels(self) -> set[Reason]:
        pixels, image = self._parsed.pixels, self._image
        reasons = set()
        if pixels is not None and not pixels.is_encapsulated and not 0 < image.total_bytes <= pixels.length:
            reasons.add(Reason.PIXEL_LENGTH)
        for tag, element in self._elements.items():
            # (60xx,0102) Overlay Bit Position: retired, the overlay lies in unused bits of the pixels then.
            if 0x6000 <= tag >> 16 <= 0x60FF and tag & 0xFFFF == 0x0102 and element.value[:2] not in (b"", b"\0\0"):
                reasons.add(Reason.OVERLAY_IN_PIXELS)
        return reasons

    def _hold_back(self, reasons: set[Reason]) -> None:
        self._waived |= reasons & self._released
        if reasons - self._released:
            raise Quarantine(reasons - self._released)

    def _find_text_in_frames(self, transformer: Transformer) -> None:
        pixels = self._parsed.pixels
        assert pixels is not None
        try:
            self._blank = find_text(self._parsed.stream, pixels)
        except Quarantine as found:
            self._hold_back(set(found.reasons))
        if self._blank:
            transformer.note(f"{pixels.tag:08X}", Deed.CLEANED, "text segments of compressed frames")

    def _look_for_text(self, hidden: Mask | None, decode: FrameDecoder | None, lettering: Lettering) -> None:
        for frame, photometric in iter_frames(self._parsed, self._image, decode):
            image = replace(self._image, photometric_interpretation=photometric)
            seen = frame if hidden is None else black_out(frame, photometric, image, hidden)
            picture = as_picture(seen, image)
            if picture is not None and lettering(picture):
                self._hold_back({Reason.LETTERING})
                return

    def _put_own(self, kept: dict[int, bytes], transformer: Transformer, *, is_cleaned: bool) -> None:
        """Put in what the engine says of itself and of the subject."""
        pseudonym = self._subject.pseudonym.encode()
        options = self._profile.options
        own = {
            SPECIFIC_CHARACTER_SET: encode_element(SPECIFIC_CHARACTER_SET, "CS", b"ISO_IR 192"),
            PATIENT_NAME: encode_element(PATIENT_NAME, "PN", pseudonym),
            PATIENT_ID: encode_element(PATIENT_ID, "LO", pseudonym),
            _IDENTITY_REMOVED: encode_element(_IDENTITY_REMOVED, "CS", b"YES"),
            _METHOD: encode_element(_METHOD, "LO", METHOD.encode()),
            _METHOD_CODES: encode_sequence(
                _METHOD_CODES,
                [_encode_code(*BASIC_CODE)] + [_encode_code(option.code, option.meaning) for option in sorted(options)],
            ),
            _TEMPORAL: encode_element(_TEMPORAL, "CS", _temporal_state(options)),
        }
        if is_cleaned:
            own[BURNED_IN_ANNOTATION] = encode_element(BURNED_IN_ANNOTATION, "CS", b"NO")
        age = self._age() if Option.RETAIN_PATIENT_CHARACTERISTICS in options and PATIENT_AGE not in kept else ""
        if age:
            own[PATIENT_AGE] = encode_element(PATIENT_AGE, "AS", age.encode())
        for tag in own:
            transformer.note(f"{tag:08X}", Deed.REPLACED if tag in self._elements else Deed.ADDED, "the engine's own")
        kept.update(own)
        # Type 2 in documents and Type 3 in images (PS3.3 C.17.1 and C.7.3.1): empty here, absent there.
        if _PERFORMED_STEP in self._elements and is_document(self._elements):
            kept[_PERFORMED_STEP] = encode_sequence(_PERFORMED_STEP, [])

    def _age(self) -> str:
        birth = text_at(self._elements, BIRTH_DATE)
        for tag in _STUDY_DATES:
            if age := age_between(birth, text_at(self._elements, tag)):
                return age
        return ""

    def _target_syntax(self, *, is_cleaned: bool) -> str:
        """Return the transfer syntax that is written: native is Explicit VR LE, compressed stays what it was."""
        pixels = self._parsed.pixels
        if pixels is not None and pixels.is_encapsulated and not is_cleaned:
            return self._parsed.transfer_syntax_uid
        return str(uid.ExplicitVRLittleEndian)

    def _report(self, transformer: Transformer, syntax: str, *, is_cleaned: bool) -> Report:
        keeps = Option.RETAIN_UIDS in self._profile.options
        instance, study, series = (
            found if keeps else transformer.map_uid(found)
            for found in (text_at(self._elements, tag) for tag in (SOP_INSTANCE_UID, STUDY_UID, SERIES_UID))
        )
        return Report(
            sop_class_uid=text_at(self._elements, SOP_CLASS_UID),
            sop_instance_uid=instance,
            study_instance_uid=study,
            series_instance_uid=series,
            transfer_syntax_uid=syntax,
            profile=self._profile.name,
            cleaned_pixels=is_cleaned,
            released_reasons=(),
            actions=tuple(transformer.actions),
        )

    def _write_cleaned(self, target: BinaryIO, first: bytes, photometric: str, hidden: Mask) -> None:
        pixels = self._parsed.pixels
        assert pixels is not None
        vr = "OW" if self._image.bits_allocated > 8 else "OB"
        length = self._image.total_bytes
        if length >= UNDEFINED:
            raise Quarantine([Reason.TOO_LARGE])
        target.write(encode_pixel_header(pixels.tag, vr, length + length % 2))
        target.write(black_out(first, photometric, self._image, hidden))

    def _write_pixels(self, target: BinaryIO) -> None:
        """Copy the pixels as they are; what native ones are longer than the image is left out."""
        pixels, stream = self._parsed.pixels, self._parsed.stream
        assert pixels is not None
        stream.seek(pixels.offset)
        if pixels.is_encapsulated:
            target.write(encode_pixel_header(pixels.tag, "OB", UNDEFINED))
            end = pixels.offset + pixels.length
            for offset, length in sorted(self._blank):
                _copy(stream, target, offset - stream.tell(), 1)
                target.write(bytes(length))
                stream.seek(offset + length)
            _copy(stream, target, end - stream.tell(), 1)
            return
        length = min(pixels.length, self._image.total_bytes or pixels.length)
        width = {"OW": 2, "OF": 4, "OD": 8}.get(pixels.vr, 1) if self._parsed.is_big_endian else 1
        # The last byte of an odd number stands before its padding in a word of the other order.
        length += length % 2 if width > 1 else 0
        target.write(encode_pixel_header(pixels.tag, pixels.vr, length + length % 2))
        _copy(stream, target, length, width)
        self._pad(target, length)

    @staticmethod
    def _pad(target: BinaryIO, length: int) -> None:
        if length % 2:
            target.write(b"\0")


def identity_of(elements: Elements) -> str:
    """Return what the patient of an object is told by (``subject_identity``)."""
    charset = elements.get(SPECIFIC_CHARACTER_SET)
    encodings = encodings_of(charset.value) if charset is not None else UNDECLARED
    issuer, patient_id = (
        decode_text(elements[tag].value, encodings).strip(" \0") if tag in elements else ""
        for tag in (ISSUER, PATIENT_ID)
    )
    return subject_identity(issuer, patient_id, text_at(elements, STUDY_UID))


def _temporal_state(options: frozenset[Option]) -> bytes:
    if Option.RETAIN_FULL_DATES in options:
        return b"UNMODIFIED"
    return b"MODIFIED" if Option.RETAIN_MODIFIED_DATES in options else b"REMOVED"


def _encode_code(value: str, meaning: str) -> bytes:
    return (
        encode_element(0x00080100, "SH", value.encode())
        + encode_element(0x00080102, "SH", b"DCM")
        + encode_element(0x00080104, "LO", meaning.encode())
    )


def _copy(source: BinaryIO, target: BinaryIO, length: int, width: int) -> None:
    while length > 0:
        chunk = source.read(min(_CHUNK, length))
        if not chunk:
            raise Quarantine([Reason.PARSE_ERROR])
        target.write(swapped(chunk, width) if width > 1 else chunk)
        length -= len(chunk)
