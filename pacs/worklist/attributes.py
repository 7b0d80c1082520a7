"""A worklist entry or a performed step from outside made safe to keep, and of bounded size."""

from pacs.attributes import clean as clean_data_set
from pacs.errors import InvalidEntry
from pacs.index.metadata import dump_text
from pacs.model import Attributes

MAX_CHARACTERS = 256 * 1024
"""Of one entry as JSON: what a person schedules or a device performs takes a few thousand."""


def clean(attributes: object) -> Attributes:
    """Return a data set as ``pacs.attributes.clean`` does; raise InvalidEntry also for one that is too large."""
    cleaned = clean_data_set(attributes)
    if len(dump_text(cleaned)) > MAX_CHARACTERS:
        raise InvalidEntry("The data set is too large.")
    return cleaned
