"""An instance as one JSON object, so that another copy can take its place and be taken out again later."""

from base64 import b64decode, b64encode
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row, bindparam, select

from pacs.database.tables import instance, instance_header, series, study
from pacs.index.conflicts import origin_of
from pacs.index.metadata import read_header
from pacs.index.rows import NewInstance, PreparedInstance, origin_text, prepare
from pacs.index.writer import Existing
from pacs.model import BulkValue, ByteRange, Door, Header, Location, Origin, PixelElement
from pacs.overlay import StudyOverlay, load_steps


def dump_instance(connection: Connection, existing: Existing) -> dict[str, Any]:
    """Return what ``load_instance`` needs to publish an instance as it stands; its bytes stay where they are."""
    header = read_header(connection, existing.row_id)
    beside = connection.execute(_BESIDE, {"row_id": existing.row_id}).one()
    pixels = header.pixels
    return {
        "transfer_syntax_uid": existing.transfer_syntax_uid,
        "location": [existing.location.blob_key, existing.location.offset, existing.location.length_bytes],
        "dataset_digest": existing.dataset_digest,
        "stored_at": existing.stored_at.isoformat(),
        "origin": received_origin_text(beside),
        "steps": beside.overlay,
        "attributes": orjson.loads(header.attributes),
        "layout": b64encode(header.layout).decode(),
        "bulk": [[value.path, value.vr, value.range.start, value.range.end] for value in header.bulk],
        "dataset_offset": header.dataset_offset,
        "is_deflated": header.is_deflated,
        "pixels": pixels and [pixels.tag, pixels.vr, pixels.range.start, pixels.range.end, pixels.is_encapsulated],
    }


def load_instance(partition_id: int, content: dict[str, Any]) -> PreparedInstance:
    """Return the instance as rows again."""
    pixels = content["pixels"]
    header = Header(
        transfer_syntax_uid=content["transfer_syntax_uid"],
        dataset_offset=content["dataset_offset"],
        attributes=content["attributes"],
        bulk=tuple(BulkValue(path, vr, ByteRange(start, end)) for path, vr, start, end in content["bulk"]),
        pixels=pixels and PixelElement(pixels[0], pixels[1], ByteRange(pixels[2], pixels[3]), pixels[4]),
        is_deflated=content["is_deflated"],
    )
    return prepare(
        NewInstance(
            partition_id=partition_id,
            header=header,
            layout=b64decode(content["layout"]),
            location=Location(*content["location"]),
            dataset_digest=content["dataset_digest"],
            origin=origin_of(content["origin"]),
            stored_at=datetime.fromisoformat(content["stored_at"]),
            steps=load_steps(content["steps"]),
        )
    )


def received_origin_text(row: Row[*tuple[Any, ...]]) -> str:
    """Return, as JSON, where the instance of a row with ``ORIGIN_COLUMNS`` came from.

    Of one stored before that was kept only the issuer is known that made its patient.
    """
    if row.origin:
        return str(row.origin)
    received = StudyOverlay.load(row.study_overlay).received
    issuer = received["issuer"] if received else row.issuer_of_patient_id or ""
    return origin_text(Origin(Door.IMPORT, issuer_of_patient_id=issuer))


ORIGIN_COLUMNS = (instance_header.c.origin, study.c.overlay.label("study_overlay"), study.c.issuer_of_patient_id)

_BESIDE = (
    select(instance_header.c.overlay, *ORIGIN_COLUMNS)
    .join_from(instance_header, instance, instance_header.c.instance_row_id == instance.c.id)
    .join(series, instance.c.series_row_id == series.c.id)
    .join(study, series.c.study_row_id == study.c.id)
    .where(instance.c.id == bindparam("row_id"))
)
