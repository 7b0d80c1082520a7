"""The worklist: scheduled steps kept, found, changed and removed, for every door that fills or reads it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Row

from pacs.access import Principal
from pacs.database.base import Database
from pacs.errors import InvalidEntry, ScheduledStepExists, ScheduledStepNotFound
from pacs.index import worklist as rows
from pacs.index.worklist import Narrowing, Position, key_text
from pacs.query import AnyOf, Condition, Equals, InRange
from pacs.worklist.entries import (
    OPEN_STATES,
    Entry,
    ScheduledStep,
    StepState,
    give_study,
    parse_entries,
    with_state,
)
from pacs.worklist.matching import Conditions, WorklistQuery, holds

T = TypeVar("T")

PAGE_SIZE = 100
"""Rows held in memory at a time; an answer may be as long as it likes."""


class Worklist:
    """The scheduled steps of one partition. Any number of threads may use it at once."""

    def __init__(self, database: Database, partition_id: int, *, lists_in_progress: bool = True) -> None:
        self._database = database
        self._partition_id = partition_id
        begun = {StepState.IN_PROGRESS} if not lists_in_progress else set()
        self.listed_states = tuple(state for state in OPEN_STATES if state not in begun)
        """The states in which a step is on the list that modalities see."""

    def find(
        self, principal: Principal, query: WorklistQuery, states: Sequence[StepState] | None = None
    ) -> Iterator[ScheduledStep]:
        """Yield the steps that match, by start date and time; those on the list unless ``states`` says which.

        Rows are read page by page while the caller goes on; a step that changes meanwhile is yielded as it was or as it
        is. No database connection is held between two steps.
        """
        del principal  # whoever is known may see every step, until there are policies to ask
        wanted = self.listed_states if states is None else states
        narrowing = _narrow(query.conditions, wanted)
        after: Position | None = None
        while True:
            with self._database.read() as connection:
                page = rows.read_page(connection, self._partition_id, narrowing, after, PAGE_SIZE)
            for row in page:
                step = _step_of(row)
                if holds(query.conditions, step.attributes):
                    yield step
            if len(page) < PAGE_SIZE:
                return
            after = (page[-1].start_date, page[-1].start_time, page[-1].id)

    def get(self, principal: Principal, step_id: int) -> ScheduledStep:
        """Return a step; raise ScheduledStepNotFound."""
        del principal
        with self._database.read() as connection:
            return _step_of(self._find(connection, step_id))

    def find_studies(self, principal: Principal, step: ScheduledStep) -> list[str]:
        """Return the UIDs of the stored studies that belong to a step, by its Study UID or its accession number.

        Looked up anew each time: what is stored or corrected later counts at once.
        """
        del principal
        with self._database.read() as connection:
            return rows.find_studies(connection, self._partition_id, step.attributes)

    def add(self, principal: Principal, attributes: object) -> tuple[ScheduledStep, ...]:
        """Keep a new entry and return its steps, one for every Scheduled Procedure Step item; all or none is kept.

        Raises InvalidEntry, and as ``add_entries``.
        """
        return self.add_entries(principal, parse_entries(attributes))

    def add_entries(self, principal: Principal, entries: Sequence[Entry]) -> tuple[ScheduledStep, ...]:
        """Keep new steps that were parsed already, all or none, and return them.

        Those without Study Instance UID get one together. Raises ScheduledStepExists if a step with the same procedure,
        step and study is there.
        """
        del principal
        complete = give_study(entries)
        now = datetime.now(UTC)

        def keep(connection: Connection) -> tuple[ScheduledStep, ...]:
            return tuple(self._insert(connection, entry, "", now) for entry in complete)

        return self._database.write(keep)

    def replace(self, principal: Principal, step_id: int, attributes: object) -> ScheduledStep:
        """Replace the whole entry of one step, which keeps its study if the new one names none, and return it.

        A step that has begun goes on unless the entry itself says otherwise. Raises ScheduledStepNotFound,
        InvalidEntry, or ScheduledStepExists if it would become another step.
        """
        del principal
        entries = parse_entries(attributes)
        if len(entries) != 1:
            raise InvalidEntry("A step is replaced by an entry with one item in ScheduledProcedureStepSequence.")
        return self._database.write(partial(self._replace, step_id=step_id, entry=entries[0], now=datetime.now(UTC)))

    def set_state(self, principal: Principal, step_id: int, state: StepState) -> ScheduledStep:
        """Say how far a step is, also back from its end; raise ScheduledStepNotFound."""
        del principal
        now = datetime.now(UTC)

        def change(connection: Connection) -> ScheduledStep:
            step = _step_of(self._find(connection, step_id))
            values = {"state": state.value, "updated_at": now}
            rows.update_step(connection, self._partition_id, step_id, values)
            return replace(step, state=state, attributes=with_state(step.attributes, state), updated_at=now)

        return self._database.write(change)

    def remove(self, principal: Principal, step_id: int) -> None:
        """Forget a step; raise ScheduledStepNotFound."""
        del principal
        removed = self._database.write(
            lambda connection: rows.delete_steps(connection, self._partition_id, [step_id]),
        )
        if not removed:
            raise ScheduledStepNotFound

    def read_sources(self) -> set[str]:
        """Return the sources of all steps that came from files: the file's digest, a colon, its content's digest."""
        with self._database.read() as connection:
            return {row.source for row in rows.read_sources(connection, self._partition_id)}

    def sync_source(self, file_digest: str, content_digest: str, entries: Sequence[Entry]) -> None:
        """Make the steps that came from one file those that it has now; none if it is gone.

        A step that stays keeps how far it is, and the study it was given. Raises ScheduledStepExists, and then nothing
        has changed.
        """
        now = datetime.now(UTC)
        self._database.write(partial(self._sync, file=file_digest, content=content_digest, entries=entries, now=now))

    def _sync(self, connection: Connection, file: str, content: str, entries: Sequence[Entry], now: datetime) -> None:
        known = {_identity(row): row for row in rows.read_sources(connection, self._partition_id, f"{file}:")}
        studies = [known[one].study_instance_uid for one in map(_identity_of, entries) if one in known]
        kept = set()
        for entry in give_study(entries, studies[0] if studies else ""):
            row = known.get(_identity_of(entry))
            if row is None or row.id in kept:
                self._insert(connection, entry, f"{file}:{content}", now)
            else:
                kept.add(row.id)
                self._replace(connection, row.id, entry, now, source=f"{file}:{content}")
        gone = [row.id for row in known.values() if row.id not in kept]
        rows.delete_steps(connection, self._partition_id, gone)

    def _insert(self, connection: Connection, entry: Entry, source: str, now: datetime) -> ScheduledStep:
        row = rows.step_row(entry.attributes) | {"state": entry.state.value, "source": source, "updated_at": now}
        step_id = rows.insert_step(connection, self._partition_id, row)
        if step_id is None:
            raise ScheduledStepExists
        return ScheduledStep(step_id, entry.state, with_state(entry.attributes, entry.state), bool(source), now)

    def _replace(
        self, connection: Connection, step_id: int, entry: Entry, now: datetime, source: str | None = None
    ) -> ScheduledStep:
        old = self._find(connection, step_id)
        (entry,) = give_study([entry], old.study_instance_uid)
        state = entry.state if entry.state.has_begun else _kept_state(StepState(old.state), entry.state)
        source = old.source if source is None else source
        row = rows.step_row(entry.attributes) | {"state": state.value, "source": source, "updated_at": now}
        if rows.has_other_step(connection, self._partition_id, step_id, row):
            raise ScheduledStepExists
        rows.update_step(connection, self._partition_id, step_id, row)
        return ScheduledStep(step_id, state, with_state(entry.attributes, state), bool(source), now)

    def _find(self, connection: Connection, step_id: int) -> Row[Any]:
        row = rows.find_step(connection, self._partition_id, step_id) if 0 < step_id < 1 << 63 else None
        if row is None:
            raise ScheduledStepNotFound
        return row


def _kept_state(old: StepState, new: StepState) -> StepState:
    return old if old.has_begun else new


def _step_of(row: Row[Any]) -> ScheduledStep:
    state = StepState(row.state)
    attributes = with_state(rows.load_attributes(row), state)
    return ScheduledStep(row.id, state, attributes, bool(row.source), row.updated_at)


def _identity(row: Row[Any]) -> tuple[str, str]:
    return row.requested_procedure_id, row.scheduled_procedure_step_id


def _identity_of(entry: Entry) -> tuple[str, str]:
    row = rows.step_row(entry.attributes)
    return row["requested_procedure_id"], row["scheduled_procedure_step_id"]


def _narrow(conditions: Conditions, states: Sequence[StepState]) -> Narrowing:
    """Return what columns can say of the conditions; never more than they do."""
    step = conditions.step
    date, moments = step.of("ScheduledProcedureStepStartDate"), step.moments
    first = date.first if isinstance(date, InRange) else moments.first[:8] if moments else ""
    last = date.last if isinstance(date, InRange) else moments.last[:8] if moments else ""
    return Narrowing(
        states=tuple(state.value for state in states),
        first_date=first,
        last_date=last,
        modalities=tuple(value.upper() for value in _exact(step.of("Modality"))),
        station_ae_title=_single(step.of("ScheduledStationAETitle")),
        study_instance_uids=_exact(conditions.of("StudyInstanceUID")),
        accession_number=_single(conditions.of("AccessionNumber")),
        patient_id=_single(conditions.of("PatientID")),
        requested_procedure_id=_single(conditions.of("RequestedProcedureID")),
        scheduled_procedure_step_id=_single(step.of("ScheduledProcedureStepID")),
    )


def _exact(condition: Condition | None) -> tuple[str, ...]:
    """Return the values of which one has to be there; none if any other value may do as well."""
    if isinstance(condition, Equals):
        return (key_text(condition.value),)
    if isinstance(condition, AnyOf) and not any("*" in value or "?" in value for value in condition.values):
        return tuple(key_text(value) for value in condition.values)
    return ()


def _single(condition: Condition | None) -> str:
    values = _exact(condition)
    return values[0] if len(values) == 1 else ""
