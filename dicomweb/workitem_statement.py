"""What the conformance statement says of the Worklist Service beyond its resources."""

from pacs.workitems.attributes import DEFAULT_WORKLIST_LABEL
from pacs.workitems.subscriptions import MAX_SUBSCRIBERS
from pacs.workitems.worklist import KEPT_FOR

STATEMENT = f"""
Worklist Service, UPS-RS (PS3.18 11; PS3.4 CC), for UPS Push, Pull, Watch, Event and Query over HTTP only:

- Every transaction of PS3.18 11.4 to 11.13, also in `application/dicom+xml`; event reports in JSON over a WebSocket at
  `/subscribers/{{aetitle}}`. Any attribute can be matched, by keyword, tag or path; names as in QIDO-RS, date-times in
  ranges; `fuzzymatching=true` is answered with literal matching and a Warning. Attributes beside those of Table
  CC.2.5-3 are kept and returned.
- What is changed in a new item: type 2 attributes that are missing are empty, Worklist Label is
  `{DEFAULT_WORKLIST_LABEL}` if it has no value, an item without a UID gets one, Scheduled Procedure Step Modification
  DateTime is ours. In a canceled one: the cancellation time, if it has none.
- A missing or wrong Transaction UID is 409 with the Warning of PS3.18. Final State requirements of Table CC.2.5-3 are
  asked for, also for CANCELED. A request to cancel an item in progress is 202 and an event, whoever listens.
- Subscription requests are refused (403) beyond {MAX_SUBSCRIBERS} subscribers; deletion locks are granted and never
  removed by us. Items that ended are kept for {KEPT_FOR.days} days and while there is a lock, then unknown (404).
- Events are sent to who is connected, and are not queued. SCP Status Change is not sent: the channel closes.
- With `workitems.reports_complete`, the archive itself completes an item in SCHEDULED or IN PROGRESS whose Scheduled
  Workitem Code is 110005, 110006 or 110007 (DCM) when a report is stored for its study, and fills in Output Information
  and what else the final state needs.
"""
