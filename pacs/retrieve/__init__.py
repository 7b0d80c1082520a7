"""What leaves the archive."""

from pacs.imaging.annotation import ANNOTATIONS
from pacs.imaging.encoders import VERSION as CODECS_VERSION
from pacs.imaging.grayscale import Shape, Window
from pacs.imaging.picture import DEFAULT_QUALITY, GIF, JPEG, MAX_VIEWPORT_PIXELS, RENDERED_TYPES, Appearance, Viewport
from pacs.imaging.profiles import Profile
from pacs.imaging.rendition import (
    DOCUMENT_TYPES,
    MP4,
    PDF,
    SHOWN_TYPES,
    XML,
    is_presentation_state,
    list_rendered_types,
)
from pacs.imaging.report import Reference
from pacs.imaging.report_page import CONTENT_SECURITY_POLICY, HTML, PLAIN_TEXT
from pacs.imaging.representation import ANY, DEFAULT, Acceptable, Frames, Representation
from pacs.retrieve.rendering import Renderer
from pacs.retrieve.retriever import DICOM, Coerce, Retriever, Revision
from pacs.retrieve.series_metadata import SeriesMetadata
from pacs.retrieve.thumbnails import THUMBNAIL, Thumbnails

__all__ = [
    "ANNOTATIONS",
    "ANY",
    "CODECS_VERSION",
    "CONTENT_SECURITY_POLICY",
    "DEFAULT",
    "DEFAULT_QUALITY",
    "DICOM",
    "DOCUMENT_TYPES",
    "GIF",
    "HTML",
    "JPEG",
    "MAX_VIEWPORT_PIXELS",
    "MP4",
    "PDF",
    "PLAIN_TEXT",
    "RENDERED_TYPES",
    "SHOWN_TYPES",
    "THUMBNAIL",
    "XML",
    "Acceptable",
    "Appearance",
    "Coerce",
    "Frames",
    "Profile",
    "Reference",
    "Renderer",
    "Representation",
    "Retriever",
    "Revision",
    "SeriesMetadata",
    "Shape",
    "Thumbnails",
    "Viewport",
    "Window",
    "is_presentation_state",
    "list_rendered_types",
]
