"""What leaves the archive."""

from pacs.imaging.representation import ANY, DEFAULT, Acceptable, Frames, Representation
from pacs.retrieve.retriever import DICOM, Retriever

__all__ = ["ANY", "DEFAULT", "DICOM", "Acceptable", "Frames", "Representation", "Retriever"]
