"""A project with an approved cohort in one line, and its releases made without a worker."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from pacs.access import Principal, Role, permissions_of
from pacs.app import Parts
from pacs.database.tables import instance, series, study
from pacs.ingest.incoming import Incoming
from pacs.model import CLINICAL_PARTITION, Door, Origin
from pacs.research.model import Approval, ProjectRole, Release, ReleaseState
from pacs.research.projects import NewProject
from tests.builders import as_part10, build_ct, new_uid

SLUG = "lung"
EVERYTHING: dict[str, str] = {"Modality": "CT"}


def somebody(name: str, *roles: Role) -> Principal:
    return Principal(name, permissions_of(roles), frozenset(roles))


ADMINISTRATOR = somebody("admin", Role.ADMINISTRATOR)
STEWARD = somebody("steward", Role.STEWARD)
RESEARCHER = somebody("researcher", Role.RESEARCHER)
OUTSIDER = somebody("outsider", Role.RESEARCHER, Role.STEWARD)


def store(parts: Parts, *datasets, origin: Origin = Origin(Door.IMPORT)) -> None:  # noqa: B008 - frozen
    for dataset in datasets:
        with parts.archive.ingest.open_spool() as spool:
            spool.write(as_part10(dataset))
            assert parts.archive.ingest.store(Incoming(spool, origin)).is_stored


def build_patients(count: int, instances: int = 2):
    """Return CT slices of so many patients, one series each."""
    datasets = []
    for number in range(count):
        uids = {"StudyInstanceUID": new_uid(), "SeriesInstanceUID": new_uid()}
        person = {"PatientID": f"MRN{number:07}", "PatientName": f"TAZI^PATIENT{number:03}"}
        for index in range(instances):
            datasets.append(build_ct(InstanceNumber=index + 1, **uids, **person))  # noqa: PERF401 - two loops
    return datasets


def make_project(parts: Parts, slug: str = SLUG) -> int:
    """Make a project with a steward and a researcher, and return the number of its approved cohort of everything."""
    research = parts.research
    approval = Approval("CE-2026-1", "Ethics committee", datetime.now(UTC).date() + timedelta(days=30))
    research.projects.create(ADMINISTRATOR, NewProject(slug, "Lungs", "To see what there is", approval))
    research.projects.add_member(ADMINISTRATOR, slug, STEWARD.name, ProjectRole.STEWARD)
    research.projects.add_member(ADMINISTRATOR, slug, RESEARCHER.name, ProjectRole.RESEARCHER)
    for _ in research.catalogue.iter_missing():
        pass
    cohort = research.cohorts.create(RESEARCHER, slug, "everything", EVERYTHING)
    research.cohorts.request(RESEARCHER, slug, cohort.id)
    return research.cohorts.approve(STEWARD, slug, cohort.id).id


def make(parts: Parts, cohort_id: int, slug: str = SLUG) -> Release:
    """Begin a release and make it, until people have to look at it."""
    return go_on(parts, parts.research.releases.start(STEWARD, slug, cohort_id), slug)


def go_on(parts: Parts, release: Release, slug: str = SLUG) -> Release:
    while parts.build_releases.go_on(release.id):
        pass
    return parts.research.releases.get(STEWARD, slug, release.version)


def publish(parts: Parts, cohort_id: int, slug: str = SLUG) -> Release:
    made = make(parts, cohort_id, slug)
    assert made.state is ReleaseState.QUARANTINE
    return parts.research.releases.publish(STEWARD, slug, made.version)


def clinical_uids(parts: Parts) -> set[str]:
    """Return every UID of the four levels that the clinical archive has."""
    return uids_of(parts, CLINICAL_PARTITION)


def uids_of(parts: Parts, partition_id: int) -> set[str]:
    statements = [
        select(table.c[name]).where(table.c.partition_id == partition_id)
        for table, name in (
            (study, "study_instance_uid"),
            (series, "series_instance_uid"),
            (instance, "sop_instance_uid"),
        )
    ]
    with parts.database.read() as connection:
        return {uid for statement in statements for uid in connection.execute(statement).scalars()}
