"""Logging that cannot carry a patient's value.

Our own messages hold UIDs and counts by convention; what other libraries say may quote a data set, so of their records
only the place is logged, and of an exception only its type and where it was raised.
"""

import logging
import sys
import traceback
from types import TracebackType

_OWN = ("pacs", "dicomweb", "storage")
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {
    code: f"\\u{code:04x}" for code in (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
_TRUSTED = (*_OWN, "uvicorn.error", "alembic")


class RedactingFormatter(logging.Formatter):
    """One line a record: time, level, logger, message; a traceback without exception texts."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text, redacted if it is not ours."""
        if not _is_from(record.name, _TRUSTED):
            record = logging.makeLogRecord(record.__dict__ | {"args": None, "msg": _place(record)})
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """Return the line with control characters escaped: an AE title with a line break must not make a record."""
        return super().formatMessage(record).translate(_ESCAPES)

    def formatException(  # noqa: N802 - the name is logging's
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        """Return where the exception came from and its type; its text may quote a data set."""
        kind, _, trace = ei
        places = [f"  {frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]
        return "\n".join([*places, f"  {kind.__module__}.{kind.__qualname__}" if kind else "  no exception"])


def configure_logging(level: str = "INFO") -> None:
    """Send every record to standard error through the redacting formatter; call once, when a process starts."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter())
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _OWN:
        logging.getLogger(name).setLevel(level)
    # Both report every oddity of a data set, and pynetdicom every association; what matters of it we log ourselves.
    for name in ("pydicom", "py.warnings", "pynetdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _is_from(name: str, owners: tuple[str, ...]) -> bool:
    return any(name == owner or name.startswith(f"{owner}.") for owner in owners)


def _place(record: logging.LogRecord) -> str:
    return f"at {record.filename}:{record.lineno} (text withheld: it may quote a data set)"
