"""One entry of the audit log, and how it gets there: by the transaction of what it tells of, which has both or neither.

It has no place in the chain yet; the sealer gives it one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import Connection, insert

from pacs.access import Principal
from pacs.database.identity_tables import audit
from pacs.database.prepared import Prepared


class Outcome(StrEnum):
    """How it ended (the Event Outcome Indicator of PS3.15 A.5)."""

    SUCCESS = "success"
    REFUSED = "refused"
    """He may not, or was not believed."""
    FAILURE = "failure"
    """The archive could not."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What somebody did. ``kind`` names it, in words from the widest to the narrowest: ``research.release.publish``.

    ``subject`` is what it was done to: a UID, an account, a cohort. ``project`` is the one of research that it belongs
    to, by the name that its page has. ``facts`` is what JSON can hold, and no value of a patient.
    """

    kind: str
    principal: Principal
    subject: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    project: str = ""
    outcome: Outcome = Outcome.SUCCESS


def record(connection: Connection, entry: Entry) -> None:
    """Append an entry in the caller's transaction; it costs one statement."""
    principal = entry.principal
    _APPEND.run(
        connection,
        {
            "at": datetime.now(UTC),
            "kind": entry.kind,
            "outcome": entry.outcome.value,
            "principal": principal.name,
            "address": principal.address,
            "session": principal.session,
            "project": entry.project,
            "subject": entry.subject,
            "facts": dump_canonical(entry.facts).decode(),
        },
    )


def dump_canonical(value: Mapping[str, Any]) -> bytes:
    """Return the one spelling of ``value`` as JSON: keys in order, no space, UTF-8."""
    return orjson.dumps(dict(value), option=orjson.OPT_SORT_KEYS)


_APPEND = Prepared(insert(audit).inline())
