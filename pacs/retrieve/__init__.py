"""What leaves the archive."""

from pacs.imaging.representation import ANY, DEFAULT, Acceptable, Frames, Representation
from pacs.retrieve.retriever import DICOM, Coerce, Retriever

__all__ = ["ANY", "DEFAULT", "DICOM", "Acceptable", "Coerce", "Frames", "Representation", "Retriever"]
