"""What leaves the archive."""

from pacs.imaging.grayscale import Shape, Window
from pacs.imaging.picture import DEFAULT_QUALITY, GIF, MAX_VIEWPORT_PIXELS, RENDERED_TYPES, Appearance, Viewport
from pacs.imaging.representation import ANY, DEFAULT, Acceptable, Frames, Representation
from pacs.retrieve.rendering import Renderer
from pacs.retrieve.retriever import DICOM, Coerce, Retriever, Revision

__all__ = [
    "ANY",
    "DEFAULT",
    "DEFAULT_QUALITY",
    "DICOM",
    "GIF",
    "MAX_VIEWPORT_PIXELS",
    "RENDERED_TYPES",
    "Acceptable",
    "Appearance",
    "Coerce",
    "Frames",
    "Renderer",
    "Representation",
    "Retriever",
    "Revision",
    "Shape",
    "Viewport",
    "Window",
]
