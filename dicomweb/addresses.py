"""Addresses of what is stored, below the service's root (PS3.18 10.1): how they are spelled, and how they are read."""

import re

from dicomweb.errors import InvalidAddress
from pacs.model import InstanceRecord

STUDY = "/studies/{study}"
SERIES = STUDY + "/series/{series}"
INSTANCE = SERIES + "/instances/{instance}"
FRAMES = INSTANCE + "/frames/{frames}"

MAX_FRAMES = 20_000

_UID = re.compile(r"[0-9.]{1,64}")
_FRAME_LIST = re.compile(r"[0-9]{1,9}(,[0-9]{1,9})*")


def path_to(study_instance_uid: str, series_instance_uid: str = "", sop_instance_uid: str = "") -> str:
    """Return the address of a study, or of a series or an instance in it."""
    series = f"/series/{series_instance_uid}" if series_instance_uid else ""
    instance = f"/instances/{sop_instance_uid}" if sop_instance_uid else ""
    return f"/studies/{study_instance_uid}{series}{instance}"


def path_of(record: InstanceRecord) -> str:
    """Return the address of an instance."""
    return path_to(record.study_instance_uid, record.series_instance_uid, record.sop_instance_uid)


def is_uid(text: str) -> bool:
    """Whether an address can carry this UID: one as far as this archive stores them."""
    return _UID.fullmatch(text) is not None


def check_uid(uid: str) -> str:
    """Return a UID of an address as it is; raise InvalidAddress unless it is one as far as this archive stores them."""
    if not is_uid(uid):
        raise InvalidAddress("A UID in the address is malformed.")
    return uid


def check_uids(study: str, series: str = "", instance: str = "") -> tuple[str, str, str]:
    """Return the UIDs of an address as they are, empty below its level; raise InvalidAddress as ``check_uid`` does."""
    return check_uid(study), series and check_uid(series), instance and check_uid(instance)


def parse_frame_list(text: str) -> tuple[int, ...]:
    """Return the 1-based frame numbers of an address in their order; raise InvalidAddress for nonsense."""
    if not _FRAME_LIST.fullmatch(text):
        raise InvalidAddress("The frame list must be frame numbers separated by commas.")
    frame_numbers = tuple(map(int, text.split(",")))
    if 0 in frame_numbers:
        raise InvalidAddress("Frame numbers start at 1.")
    if len(frame_numbers) > MAX_FRAMES:
        raise InvalidAddress(f"No more than {MAX_FRAMES} frames can be asked for at once.")
    return frame_numbers
