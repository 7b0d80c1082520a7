"""What can be wrong with a request about a work item; ``warning`` is the sentence for the header (PS3.18 11)."""

from pacs.errors import InvalidEntry, NotFound, PacsError


class InvalidWorkitem(InvalidEntry):
    """The work item is not complete."""


class WorkitemExists(PacsError):
    """There is a work item with this UID already."""


class WorkitemProblem(PacsError):
    """The work item is in no state for this."""

    warning = "The submitted request is inconsistent with the current state of the Workitem."


class WorkitemEnded(WorkitemProblem):
    """The work item is completed or canceled; it may no longer be updated."""


class WorkitemConflict(WorkitemProblem):
    """The work item is in another state than the request expects."""

    warning = "The submitted request is inconsistent with the state of the UPS Instance."


class TransactionUidMissing(WorkitemConflict):
    """The work item is in progress, and the Transaction UID of its performer is missing."""

    warning = "The Transaction UID is missing."


class TransactionUidIncorrect(WorkitemConflict):
    """The Transaction UID is not that of the work item's performer."""

    warning = "The Transaction UID is incorrect."


class NotClaimed(WorkitemConflict):
    """The work item is not in progress, so that no Transaction UID can be its performer's."""

    warning = "The target URI did not reference a claimed Workitem."


class SubscriptionNotFound(NotFound):
    """There is no such subscription."""
