"""De-identification by PS3.15 Annex E: an object in, an object that tells nobody out, and a report of what was done.

Pure: no index, no storage, no codec, no clock. Everything that could be guessed is keyed by the project.
"""

from pacs.deid.conformance import conformance_statement
from pacs.deid.engine import deidentify
from pacs.deid.keys import ProjectKey, Subject, derive_subject, subject_identity
from pacs.deid.pixels import FrameDecoder, Image, Lettering
from pacs.deid.profile import RELEASE_DEFAULT, DeviceRectangles, Option, Profile, SafePrivate
from pacs.deid.reasons import Quarantine, Reason
from pacs.deid.report import Action, Deed, Report

__all__ = [
    "RELEASE_DEFAULT",
    "Action",
    "Deed",
    "DeviceRectangles",
    "FrameDecoder",
    "Image",
    "Lettering",
    "Option",
    "Profile",
    "ProjectKey",
    "Quarantine",
    "Reason",
    "Report",
    "SafePrivate",
    "Subject",
    "conformance_statement",
    "deidentify",
    "derive_subject",
    "subject_identity",
]
