"""As what an instance can be shown (PS3.18 Table 8.7.4-1), by its SOP class and transfer syntax alone."""

from pacs.imaging.grayscale import number_of
from pacs.imaging.picture import RENDERED_TYPES
from pacs.imaging.report_page import HTML, PLAIN_TEXT
from pacs.model import Attributes
from pacs.tags import values_of

PDF, MP4, XML = "application/pdf", "video/mp4", "text/xml"

DOCUMENT_TYPES = (HTML, PLAIN_TEXT, PDF, XML)
"""What is one document, whatever it is asked at: it has no frames, no window and no viewport."""

SHOWN_TYPES = (*RENDERED_TYPES, HTML, PLAIN_TEXT, PDF, XML, MP4)
"""Everything that this archive renders to."""

_FRAME_MILLISECONDS = 100.0
_RATES = ("RecommendedDisplayFrameRate", "CineRate")

_REPORTS = "1.2.840.10008.5.1.4.1.1.88."  # PS3.4 Table B.5-1: every SR document, Key Object Selection among them
_DOCUMENTS = {"1.2.840.10008.5.1.4.1.1.104.1": (PDF,), "1.2.840.10008.5.1.4.1.1.104.2": (XML,)}
_STATES = frozenset({"1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.11.2"})  # grayscale, colour


def list_rendered_types(sop_class_uid: str) -> tuple[str, ...]:
    """Return the media types that instances of a SOP class are rendered to, the default first.

    An image's are given for whatever is not known to be something else; whether there is one, the instance knows.
    """
    if sop_class_uid.startswith(_REPORTS):
        return HTML, PLAIN_TEXT
    return _DOCUMENTS.get(sop_class_uid, (*RENDERED_TYPES, MP4))


def is_presentation_state(sop_class_uid: str) -> bool:
    """Whether it shows images of other instances, and how (PS3.3 A.33.1, A.33.2)."""
    return sop_class_uid in _STATES


def frame_milliseconds(attributes: Attributes) -> float:
    """Return how long a frame is shown (PS3.3 C.7.6.5, C.7.6.6): as recommended, as acquired, else a tenth of a second.

    It is never less than 8 ms or more than 10 s. Of a Frame Time Vector it is the mean: whatever plays it has one rate.
    """
    rate = next((number for keyword in _RATES if (number := number_of(attributes, keyword))), None)
    time = 1000 / rate if rate and rate > 0 else number_of(attributes, "FrameTime")
    if time is None:
        steps = [step for step in values_of(attributes, "FrameTimeVector")[1:] if isinstance(step, int | float)]
        time = sum(steps) / len(steps) if steps else None
    return min(max(time, 8.0), 10_000.0) if time is not None and time > 0 else _FRAME_MILLISECONDS
