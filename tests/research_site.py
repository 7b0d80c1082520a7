"""A site with a research project, made before it is served: accounts, tokens, members, and chests to study."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydicom.dataset import Dataset

from pacs.access import LOCAL, Permission, Role
from pacs.app import open_archive
from pacs.config import Settings
from pacs.ingest.incoming import Incoming
from pacs.model import Door, Origin
from pacs.research.model import Approval, ProjectRole
from pacs.research.projects import NewProject
from tests.builders import as_part10, build_ct, build_mr, new_uid

SLUG = "chest"
PASSWORD = "correct horse battery staple"
PATIENTS, SLICES = 24, 2
"""So many that no noise takes what is shown of them below k."""
SECRETS = ("TAZI", "BENALI", "MRN00", "HOPITAL-X")
"""What no answer of research may hold."""

ROLES = {
    "admin": (Role.ADMINISTRATOR,),
    "rania": (Role.RESEARCHER,),
    "samir": (Role.STEWARD,),
    "stranger": (Role.RESEARCHER, Role.STEWARD),
    "auditor": (Role.AUDITOR,),
    "reader": (Role.RADIOLOGIST,),
}


_SCOPES = {"auditor": (Permission.AUDIT,), "reader": (Permission.READ,)}
"""What their tokens are good for besides research."""


@dataclass
class Site:
    """What was made: where, and by which tokens who comes in."""

    data_dir: Path
    tokens: dict[str, str] = field(default_factory=dict)
    clinical_uids: set[str] = field(default_factory=set)

    def headers(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[name]}"}


def build_crowd(count: int):
    """Yield an image each of so many patients of all ages, by several devices: something to look at in charts."""
    for number in range(count):
        made = build_mr if number % 4 == 1 else build_ct
        yield made(
            StudyInstanceUID=new_uid(),
            SeriesInstanceUID=new_uid(),
            PatientID=f"CROWD{number:05}",
            PatientAge=f"{20 + (number * 7 + number // 3) % 68:03}Y",
            PatientSex="MFF"[number % 3],
            Manufacturer=("SIEMENS", "GE MEDICAL SYSTEMS", "SIEMENS", "PHILIPS")[number % 7 % 4],
            BodyPartExamined=("CHEST", "CHEST", "HEAD", "ABDOMEN", "CHEST")[number % 5],
            ContrastBolusAgent="IOHEXOL" if number % 3 == 0 else None,
            StudyDate=f"{2019 + number % 6}0315",
            StudyDescription="CT THORAX",
        )


def build_patients():
    """Yield the slices of CT of the chest, a study a patient, and of the last patient a screen shot as well."""
    for number in range(PATIENTS):
        uids = {"StudyInstanceUID": new_uid(), "SeriesInstanceUID": new_uid(), "FrameOfReferenceUID": new_uid()}
        person = {
            "PatientID": f"MRN00{number:05}",
            "PatientName": f"TAZI^BENALI{number}",
            "PatientAge": f"{30 + number:03}Y",
            "PatientSex": "FM"[number % 2],
            "InstitutionName": "HOPITAL-X",
            "StudyDescription": "CT THORAX TAZI",
            "StudyDate": f"2024{number % 12 + 1:02}15",
        }
        for index in range(SLICES):
            position = ["-100.5", "-100.5", str(12.25 + index)]
            yield build_ct(InstanceNumber=index + 1, ImagePositionPatient=position, **uids, **person)
        if number == PATIENTS - 1:
            shot = uids | {"SeriesInstanceUID": new_uid()}
            burned = {"BurnedInAnnotation": "YES", "ImageType": ["DERIVED", "SECONDARY"]}
            yield build_ct(InstanceNumber=1, **shot, **person, **burned)


def build_site(data_dir: Path, datasets: Iterable[Dataset] | None = None) -> Site:
    """Make it in ``data_dir``, which nobody serves yet, with these data sets or chests of its own."""
    site = Site(data_dir)
    with open_archive(Settings(data_dir=data_dir)) as parts:
        for dataset in build_patients() if datasets is None else datasets:
            with parts.archive.ingest.open_spool() as spool:
                spool.write(as_part10(dataset))
                assert parts.archive.ingest.store(Incoming(spool, Origin(Door.IMPORT))).is_stored
            site.clinical_uids |= {dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID}
        for name, roles in ROLES.items():
            parts.identity.accounts.add(LOCAL, name, roles, PASSWORD)
            scopes = {Permission.RESEARCH, *_SCOPES.get(name, ())}
            site.tokens[name], _ = parts.identity.tokens.issue(LOCAL, name, "test", scopes, 1)
        approval = Approval("D-123/2026", "CNDP", datetime.now(UTC).date() + timedelta(days=365))
        purpose = "To tell whether slices are thick enough to find nodules, and thin enough to measure them."
        parts.research.projects.create(LOCAL, NewProject(SLUG, "Lung nodules in CT of the chest", purpose, approval))
        parts.research.projects.add_member(LOCAL, SLUG, "rania", ProjectRole.RESEARCHER)
        parts.research.projects.add_member(LOCAL, SLUG, "samir", ProjectRole.STEWARD)
        for _ in parts.research.catalogue.iter_missing():
            pass
    return site
