import io
import logging

import pytest

from pacs.observe import RedactingFormatter

CANARY = "CANARY^PHI"


@pytest.fixture
def log():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(RedactingFormatter())
    loggers = [logging.getLogger(name) for name in ("pacs.test", "someone.else")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    yield stream
    for logger in loggers:
        logger.removeHandler(handler)
        logger.propagate = True


def test_our_own_messages_are_logged(log):
    logging.getLogger("pacs.test").warning("stored %s", "1.2.3")
    assert "stored 1.2.3" in log.getvalue()


def test_texts_of_other_libraries_are_withheld(log):
    logging.getLogger("someone.else").error("cannot convert '%s'", CANARY)
    assert CANARY not in log.getvalue()
    assert "test_observe.py" in log.getvalue()


def test_exceptions_are_logged_by_place_and_type_only(log):
    try:
        int(CANARY)
    except ValueError:
        logging.getLogger("pacs.test").exception("failed")
    assert CANARY not in log.getvalue()
    assert "ValueError" in log.getvalue()


def test_a_line_break_in_a_message_begins_no_line(log):
    logging.getLogger("pacs.test").warning("from %s", "A\n2026 forged\x1b[31m\u2028B")
    assert log.getvalue().count("\n") == 1
    assert "A\\x0a2026 forged\\x1b[31m\\u2028B" in log.getvalue()
