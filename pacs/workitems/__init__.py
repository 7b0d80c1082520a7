"""The unified worklist (UPS, PS3.4 CC): work items, who performs them, who watches, and reports that complete them."""

from pacs.workitems.attributes import read_transaction_uid
from pacs.workitems.problems import InvalidWorkitem, SubscriptionNotFound, WorkitemExists, WorkitemProblem
from pacs.workitems.requirements import RETURNED, RETURNED_IF_PRESENT
from pacs.workitems.states import State, parse_state
from pacs.workitems.subscriptions import FILTERED_WORKLIST, WORKLIST
from pacs.workitems.worklist import UnifiedWorklist

__all__ = [
    "FILTERED_WORKLIST",
    "RETURNED",
    "RETURNED_IF_PRESENT",
    "WORKLIST",
    "InvalidWorkitem",
    "State",
    "SubscriptionNotFound",
    "UnifiedWorklist",
    "WorkitemExists",
    "WorkitemProblem",
    "parse_state",
    "read_transaction_uid",
]
