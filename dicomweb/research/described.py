"""What research talks about, as JSON has it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from pacs.research.counting import Answer
from pacs.research.model import (
    Cohort,
    Exclusion,
    Facet,
    Member,
    Project,
    Quarantined,
    ReidentificationRequest,
    Release,
    Shown,
    ShownCounts,
)

Plain = dict[str, Any]


def describe_project(project: Project) -> Plain:
    """Return a project."""
    return {
        "slug": project.slug,
        "title": project.title,
        "purpose": project.purpose,
        "data_are": project.data_are,
        "approval": {
            "reference": project.approval.reference,
            "authority": project.approval.authority,
            "ends_on": project.approval.ends_on.isoformat(),
        },
        "profile": project.profile.to_json(),
        "k": project.k,
        "has_escrow": project.has_escrow,
        "created_by": project.created_by,
        "created_at": project.created_at.isoformat(),
        "key_destroyed_at": _moment(project.key_destroyed_at),
        "backups_gone_at": _moment(project.backups_gone_at),
    }


def describe_member(member: Member) -> Plain:
    """Return a member of a project."""
    return {
        "name": member.name,
        "role": member.role.value,
        "added_by": member.added_by,
        "added_at": member.added_at.isoformat(),
    }


def describe_exclusion(exclusion: Exclusion) -> Plain:
    """Return an objection, which does not say whom it concerns."""
    return {
        "id": exclusion.id,
        "is_of_project": exclusion.project_id is not None,
        "scope": exclusion.scope.value,
        "reason": exclusion.reason,
        "excluded_by": exclusion.excluded_by,
        "excluded_at": exclusion.excluded_at.isoformat(),
    }


def describe_request(request: ReidentificationRequest) -> Plain:
    """Return somebody's question who a pseudonym is."""
    return {
        "id": request.id,
        "pseudonym": request.pseudonym,
        "reason": request.reason,
        "state": request.state.value,
        "asked_by": request.asked_by,
        "asked_at": request.asked_at.isoformat(),
        "decided_by": request.decided_by,
        "decided_at": _moment(request.decided_at),
        "remark": request.remark,
    }


def describe_cohort(cohort: Cohort) -> Plain:
    """Return a cohort."""
    return {
        "id": cohort.id,
        "name": cohort.name,
        "conditions": dict(cohort.conditions),
        "state": cohort.state.value,
        "created_by": cohort.created_by,
        "created_at": cohort.created_at.isoformat(),
        "requested_by": cohort.requested_by,
        "requested_at": _moment(cohort.requested_at),
        "decided_by": cohort.decided_by,
        "decided_at": _moment(cohort.decided_at),
        "remark": cohort.remark,
    }


def describe_answer(answer: Answer) -> Plain:
    """Return what may be known of conditions; a number that may not be told is null, and is fewer than ``k``."""
    return {
        "conditions": dict(answer.spelling),
        "counts": _describe_counts(answer.counts),
        "facets": _describe_facets(answer.facets),
    }


def describe_release(release: Release) -> Plain:
    """Return a release."""
    return {
        "version": release.version,
        "cohort": release.cohort_id,
        "state": release.state.value,
        "counts": asdict(release.counts),
        "progress": {"done": release.done, "total": release.total, "pending": release.pending},
        "profile": release.profile.to_json(),
        "created_by": release.created_by,
        "created_at": release.created_at.isoformat(),
        "published_by": release.published_by,
        "published_at": _moment(release.published_at),
        "withdrawn_at": _moment(release.withdrawn_at),
        "problem": release.problem,
    }


def describe_quarantined(one: Quarantined) -> Plain:
    """Return an object that was kept back, and why; nothing in it tells which clinical one it is."""
    return {
        "id": one.id,
        "reasons": list(one.reasons),
        "state": one.state.value,
        "modality": one.modality,
        "sop_class_uid": one.sop_class_uid,
        "found_at": one.found_at.isoformat(),
        "decided_by": one.decided_by,
        "decided_at": _moment(one.decided_at),
        "remark": one.remark,
    }


def _describe_counts(counts: ShownCounts) -> Plain:
    levels: Mapping[str, Shown] = {
        "patients": counts.patients,
        "studies": counts.studies,
        "series": counts.series,
        "instances": counts.instances,
    }
    return {level: shown.number for level, shown in levels.items()} | {"k": counts.patients.k}


def _describe_facets(facets: Iterable[Facet]) -> Plain:
    return {
        facet.name: [{"value": value, "patients": shown.number} for value, shown in facet.values] for facet in facets
    }


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
