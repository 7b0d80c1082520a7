"""What the research database talks about: frozen values that every part of it and every edge share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum

from pacs.deid import Profile


class ProjectRole(StrEnum):
    """What a member is in one project; a steward decides there only if the site has made him a steward, too."""

    RESEARCHER = "researcher"
    STEWARD = "steward"


@dataclass(frozen=True, slots=True)
class Approval:
    """By whose leave a project works: the reference of ``authority`` (CNDP, an ethics committee), and its last day."""

    reference: str
    authority: str
    ends_on: date


@dataclass(frozen=True, slots=True)
class Project:
    """A research project. ``slug`` is its name in addresses and never changes. ``k`` is the smallest number shown.

    ``has_escrow``: pairs are sealed, so that two people can have told who somebody is.
    """

    id: int
    slug: str
    title: str
    purpose: str
    approval: Approval
    profile: Profile
    k: int
    created_by: str
    created_at: datetime
    has_escrow: bool = False
    key_destroyed_at: datetime | None = None
    backups_gone_at: datetime | None = None

    @property
    def is_anonymised(self) -> bool:
        """Whether nobody can tell any more who is who: the key and the escrow are gone, and no backup has them."""
        return self.key_destroyed_at is not None and self.backups_gone_at is not None

    @property
    def data_are(self) -> str:
        """The word for this project's data, which is no other before nobody can tell who is who."""
        return "anonymised" if self.is_anonymised else "pseudonymised"


@dataclass(frozen=True, slots=True)
class Member:
    """Who belongs to a project, by the name of his account."""

    name: str
    role: ProjectRole
    added_by: str
    added_at: datetime


class CohortState(StrEnum):
    """How far a cohort has come. A draft can be changed, and one that was refused becomes a draft when it is."""

    DRAFT = "draft"
    REQUESTED = "requested"
    APPROVED = "approved"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Cohort:
    """A saved query of one project. ``conditions`` by keyword, in their canonical form; ``remark`` is the steward's."""

    id: int
    project_id: int
    name: str
    conditions: Mapping[str, str]
    state: CohortState
    created_by: str
    created_at: datetime
    requested_by: str = ""
    requested_at: datetime | None = None
    decided_by: str = ""
    decided_at: datetime | None = None
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many there are, exactly: of what was released, never of what is only asked about."""

    patients: int = 0
    studies: int = 0
    series: int = 0
    instances: int = 0


@dataclass(frozen=True, slots=True)
class Shown:
    """A count as it may be shown: about so many, or, if ``number`` is None, fewer than ``k``."""

    number: int | None
    k: int

    def __str__(self) -> str:
        return f"fewer than {self.k}" if self.number is None else str(self.number)


@dataclass(frozen=True, slots=True)
class ShownCounts:
    """How many match, as it may be shown: disturbed on purpose, and in multiples of k (docs/research.md)."""

    patients: Shown
    studies: Shown
    series: Shown
    instances: Shown


@dataclass(frozen=True, slots=True)
class Facet:
    """How many patients have each value of one attribute; one patient may have several of them.

    What is rare is not named: what is left of it is counted as ``other``.
    """

    name: str
    values: tuple[tuple[str, Shown], ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One clinical series that a cohort holds, by its row and its UIDs; they never leave the server."""

    patient_row_id: int
    study_row_id: int
    series_row_id: int
    study_instance_uid: str
    series_instance_uid: str
    instance_count: int


class ReleaseState(StrEnum):
    """What a release is: being made, waiting for a person, there for its members, or not any more."""

    BUILDING = "building"
    QUARANTINE = "quarantine"
    PUBLISHED = "published"
    WITHDRAWN = "withdrawn"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Release:
    """One version of a project's data, which is never altered: only withdrawn. ``version`` counts from 1.

    Its objects have a partition of their own. ``done`` of ``total`` instances were looked at so far.
    """

    id: int
    project_id: int
    cohort_id: int
    version: int
    state: ReleaseState
    partition_id: int
    profile: Profile
    created_by: str
    created_at: datetime
    counts: Counts = field(default_factory=Counts)
    done: int = 0
    total: int = 0
    pending: int = 0
    published_by: str = ""
    published_at: datetime | None = None
    withdrawn_at: datetime | None = None
    problem: str = ""


class QuarantineState(StrEnum):
    """What a steward has said of an instance that no rule lets pass."""

    PENDING = "pending"
    RELEASED = "released"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One instance that waits for a steward, and why; nothing in it tells which clinical instance it is."""

    id: int
    release_id: int
    reasons: tuple[str, ...]
    state: QuarantineState
    modality: str
    sop_class_uid: str
    found_at: datetime
    decided_by: str = ""
    decided_at: datetime | None = None
    remark: str = ""


class ExclusionScope(StrEnum):
    """What is left out: all of a patient, or one study."""

    PATIENT = "patient"
    STUDY = "study"


@dataclass(frozen=True, slots=True)
class Exclusion:
    """An objection. Whom it concerns is kept as a keyed digest only; ``project_id`` of None is all of research."""

    id: int
    project_id: int | None
    scope: ExclusionScope
    reason: str
    excluded_by: str
    excluded_at: datetime


class ReidentificationState(StrEnum):
    """What has become of the question who somebody is."""

    ASKED = "asked"
    GRANTED = "granted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ReidentificationRequest:
    """Somebody's question, with his reason, who a pseudonym is; and what another one decided, with his."""

    id: int
    project_id: int
    pseudonym: str
    reason: str
    state: ReidentificationState
    asked_by: str
    asked_at: datetime
    decided_by: str = ""
    decided_at: datetime | None = None
    remark: str = ""
