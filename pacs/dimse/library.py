"""pynetdicom's and pydicom's globals, always set to the same values: there is no way to set them for one server."""

import pydicom.config
from pynetdicom import _config


def configure_library() -> None:
    """Set what has to be so wherever pynetdicom is used in this process; a second time changes nothing."""
    # Whatever is odd in a command or an answer, a UID with a leading zero first, pydicom would warn about and quote.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    # Both default to on, and write the patient data of every C-FIND to the log.
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    # Its handlers format every PDU and message, only to log it below our level.
    _config.LOG_HANDLER_LEVEL = "none"
