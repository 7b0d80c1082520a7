"""The states of a work item and who may move it (PS3.4 CC.1.1, Table CC.1.1-2). CANCELED is spelled with one L."""

from enum import StrEnum

from pacs.workitems.problems import (
    InvalidWorkitem,
    NotClaimed,
    TransactionUidIncorrect,
    TransactionUidMissing,
    WorkitemConflict,
    WorkitemEnded,
)


class State(StrEnum):
    """Procedure Step State (0074,1000)."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"

    @property
    def is_final(self) -> bool:
        """Whether nothing comes after it."""
        return self in (State.COMPLETED, State.CANCELED)


def parse_state(text: str) -> State:
    """Return the state that a request asks for; raise InvalidWorkitem unless it is one that can be asked for.

    Nothing becomes SCHEDULED but by being created (PS3.4 C303).
    """
    if text not in (State.IN_PROGRESS, State.COMPLETED, State.CANCELED):
        raise InvalidWorkitem("ProcedureStepState must be IN PROGRESS, COMPLETED or CANCELED.")
    return State(text)


def check_change(state: State, requested: State, held_by: str, transaction_uid: str) -> bool:
    """Return whether an item is to move; False if it is in that state already, and its holder asks (B304, B306).

    ``held_by`` is the Transaction UID that it was claimed with. Raises TransactionUidMissing or TransactionUidIncorrect
    (C301) and WorkitemConflict (C300, C302, C310). Final state requirements are asked for elsewhere.
    """
    if not transaction_uid:
        raise TransactionUidMissing
    if requested is State.IN_PROGRESS:
        if state is State.SCHEDULED:
            return True
        raise WorkitemConflict(f"The work item is {state.value} already.")
    if state is State.SCHEDULED:
        raise WorkitemConflict("The work item is not in progress yet; claim it first.")
    if transaction_uid != held_by:
        raise TransactionUidIncorrect
    if state is requested:
        return False
    if state.is_final:
        raise WorkitemConflict(f"The work item is {state.value} already; it may no longer be changed.")
    return True


def check_update(state: State, held_by: str, transaction_uid: str) -> None:
    """Raise unless an item in this state may be updated with this Transaction UID (PS3.4 CC.2.6.3).

    Raises WorkitemEnded, NotClaimed, TransactionUidMissing or TransactionUidIncorrect.
    """
    if state.is_final:
        raise WorkitemEnded
    if state is State.SCHEDULED:
        if transaction_uid:
            raise NotClaimed
        return
    if not transaction_uid:
        raise TransactionUidMissing
    if transaction_uid != held_by:
        raise TransactionUidIncorrect
