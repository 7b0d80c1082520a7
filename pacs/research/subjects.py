"""Who a patient is in a project: fixed when something of him is first released, and the same ever after.

It is found again by keyed digests of his identity and of his studies. So a study keeps its subject when its patient is
merged into another or it is moved, and what is stored for the patient that he is now joins him. The days that his dates
move by are kept under the project's key, and who he is only as a box that this server cannot open.
"""

import base64
import secrets
from collections.abc import Sequence

import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, Row, bindparam, select, update

from pacs.database.research_tables import research_project, research_subject, research_subject_key
from pacs.database.tables import patient, study
from pacs.deid import ProjectKey, Subject, derive_subject
from pacs.errors import StudyNotFound
from pacs.index.inserting import insert_missing, insert_once
from pacs.model import CLINICAL_PARTITION
from pacs.research.identities import Identities
from pacs.research.model import Project
from pacs.research.sealing import open_box, seal

_NONCE_BYTES = 12


def fix_subject(connection: Connection, project: Project, key: ProjectKey, study_instance_uid: str) -> Subject:
    """Return who the patient of a clinical study is in the project, and keep it in the caller's write transaction.

    Raises StudyNotFound. It may be called again and again: what is known already costs two look-ups.
    """
    row = connection.execute(_PATIENT_OF, {"study_instance_uid": study_instance_uid}).first()
    if row is None:
        raise StudyNotFound
    of_study = key.derive("subject-of-study", study_instance_uid)
    found = _find(connection, project, [of_study])
    if found is None:
        identities = Identities.of_patient(connection, row.id, row.identity)
        digests = [key.derive("subject-of-identity", identity) for identity in identities]
        found = _find(connection, project, digests) or _make(connection, project, key, row)
        keys = [{"project_row_id": project.id, "digest": digest} for digest in (of_study, digests[0])]
        insert_missing(connection, research_subject_key, [one | {"subject_row_id": found.id} for one in keys])
    if found.escrow is None and project.has_escrow:
        _seal_escrow(connection, project, found, row)
    return Subject(found.pseudonym, _open_shift(key, found))


def find_pseudonyms(connection: Connection, project: Project, key: ProjectKey, identities: Sequence[str]) -> list[str]:
    """Return what patients are called in a project by their identities, whether or not the archive has them still."""
    digests = [key.derive("subject-of-identity", identity) for identity in identities]
    parameters = {"project_row_id": project.id, "digests": digests}
    return [row.pseudonym for row in connection.execute(_BY_DIGESTS, parameters)]


def find_escrow(connection: Connection, project: Project, pseudonym: str) -> bytes | None:
    """Return the sealed pair of a pseudonym; None if the project has no such pseudonym, nothing if it is not sealed."""
    row = connection.execute(_BY_PSEUDONYM, {"project_row_id": project.id, "pseudonym": pseudonym}).first()
    return None if row is None else bytes(row.escrow or b"")


def open_pair(private_key: bytes, project: str, text: str) -> dict[str, str]:
    """Return what a sealed pair says, as handed out; it needs the private key, and so not this server.

    Raises InvalidValue for another key, another project, or a text that is no sealed pair.
    """
    try:
        box = base64.b64decode(text, validate=True)
    except ValueError:
        box = b""
    pair: dict[str, str] = orjson.loads(open_box(private_key, box, project))
    return pair


def _make(
    connection: Connection, project: Project, key: ProjectKey, row: Row[*tuple[str, ...]]
) -> Row[*tuple[str, ...]]:
    subject = derive_subject(key, row.identity)
    values = {
        "project_row_id": project.id,
        "pseudonym": subject.pseudonym,
        "sealed_shift": _seal_shift(key, subject),
        "escrow": None,
    }
    insert_once(connection, research_subject, values)  # whoever came first has made the same
    by_pseudonym = {"project_row_id": project.id, "pseudonym": subject.pseudonym}
    return connection.execute(_BY_PSEUDONYM, by_pseudonym).one()


def _seal_escrow(
    connection: Connection, project: Project, found: Row[*tuple[str, ...]], row: Row[*tuple[str, ...]]
) -> None:
    public_key = connection.execute(_ESCROW_KEY, {"id": project.id}).scalar()
    if public_key is None:
        return
    pair = {
        "project": project.slug,
        "pseudonym": found.pseudonym,
        "patient_id": row.patient_id,
        "issuer_of_patient_id": row.issuer_of_patient_id,
    }
    if not row.patient_id:
        pair["study_instance_uid"] = row.study_instance_uid
    box = seal(bytes(public_key), orjson.dumps(pair), project.slug)
    connection.execute(update(research_subject).where(research_subject.c.id == found.id).values(escrow=box))


def _find(connection: Connection, project: Project, digests: Sequence[bytes]) -> Row[*tuple[str, ...]] | None:
    """Return the subject of the first of these digests that has one, the one that was fixed first."""
    found = connection.execute(_BY_DIGESTS, {"project_row_id": project.id, "digests": list(digests)}).all()
    return found[0] if found else None


def _cipher(key: ProjectKey) -> AESGCM:
    return AESGCM(key.derive("seal-shift", ""))


def _seal_shift(key: ProjectKey, subject: Subject) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    padded = f"{subject.shift_days:8}".encode()
    return nonce + _cipher(key).encrypt(nonce, padded, subject.pseudonym.encode())


def _open_shift(key: ProjectKey, found: Row[*tuple[str, ...]]) -> int:
    sealed = bytes(found.sealed_shift)
    return int(_cipher(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], found.pseudonym.encode()))


_PATIENT_OF = (
    select(
        patient.c.id,
        patient.c.identity,
        patient.c.patient_id,
        patient.c.issuer_of_patient_id,
        study.c.study_instance_uid,
    )
    .join_from(study, patient, study.c.patient_row_id == patient.c.id)
    .where(study.c.partition_id == CLINICAL_PARTITION, study.c.study_instance_uid == bindparam("study_instance_uid"))
)
_BY_PSEUDONYM = select(research_subject).where(
    research_subject.c.project_row_id == bindparam("project_row_id"),
    research_subject.c.pseudonym == bindparam("pseudonym"),
)
_BY_DIGESTS = (
    select(research_subject)
    .join_from(research_subject_key, research_subject, research_subject_key.c.subject_row_id == research_subject.c.id)
    .where(
        research_subject_key.c.project_row_id == bindparam("project_row_id"),
        research_subject_key.c.digest.in_(bindparam("digests", expanding=True)),
    )
    .order_by(research_subject.c.id)
)
_ESCROW_KEY = select(research_project.c.escrow_key).where(research_project.c.id == bindparam("id"))
