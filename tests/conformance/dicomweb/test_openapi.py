"""schemathesis over the OpenAPI document: whatever is asked, no answer is a failure of ours.

Every case goes out twice: as it was made up, and with the identifiers of what is stored, so that it comes further than
to a 404. ``make fuzz`` tries more.
"""

from datetime import UTC, datetime, timedelta

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from dicomweb.app import create_app
from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.config import Settings, StorageSettings
from pacs.research.model import Approval, ProjectRole
from pacs.research.projects import NewProject
from tests.builders import build_ct, build_multiframe, build_sr
from tests.conformance.dicomweb.conftest import store_at
from tests.conformance.dicomweb.service import serving
from tests.fuzz.amount import FACTOR

EXAMPLES = 6 * FACTOR
INTENDED = {501, 503}
"""What says that something is not there, or not now; that is no failure."""

CINE = build_multiframe(3)
PROJECT = "lung"
STORED = {
    "project": PROJECT,
    "cohort": "1",
    "version": "1",
    "number": "1",
    "exclusion": "1",
    "study": CINE.StudyInstanceUID,
    "series": CINE.SeriesInstanceUID,
    "instance": CINE.SOPInstanceUID,
    "frames": "2",
    "path": "7FE00010",
    "requestType": "WADO",
    "studyUID": CINE.StudyInstanceUID,
    "seriesUID": CINE.SeriesInstanceUID,
    "objectUID": CINE.SOPInstanceUID,
}


def make_project(parts):
    """Make a project with somebody in it, so that what is asked of research comes further than to a 404."""
    approval = Approval("D-1", "CNDP", datetime.now(UTC).date() + timedelta(days=30))
    parts.research.projects.create(LOCAL, NewProject(PROJECT, "Lungs", "To see what there is", approval))
    parts.research.projects.add_member(LOCAL, PROJECT, LOCAL.name, ProjectRole.STEWARD)
    parts.research.cohorts.create(LOCAL, PROJECT, "everything", {})


@schemathesis.serializer("multipart/related", "application/dicom", "application/dicom+json", "application/dicom+xml")
def serialize(_context, value):
    """Return a body that no sender of DICOM would send; what senders do is tested elsewhere."""
    return str(value).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    configured = Settings(data_dir=tmp_path_factory.mktemp("archive"), storage=StorageSettings(url="memory:"))
    with (
        open_archive(configured) as parts,
        serving(
            create_app(parts.archive, is_ready=dict, may_delete=True, is_local=True, research=parts.research)
        ) as served,
        httpx.Client(base_url=f"{served}/dicom-web", timeout=30) as client,
    ):
        store_at(client, CINE, build_ct(), build_sr())
        make_project(parts)
        yield served


def test_no_request_makes_the_archive_fail(address):
    operations = [found.ok() for found in schemathesis.openapi.from_url(f"{address}/openapi.json").get_all_operations()]
    assert len(operations) > 40
    for operation in operations:
        attempt(operation)


def attempt(operation):
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def send(case):
        check(case)
        if case.method == "DELETE":
            return
        for given_values in (case.path_parameters, case.query):
            for name in given_values or {}:
                given_values[name] = STORED.get(name, given_values[name])
        check(case)

    send()


def check(case):
    response = case.call(timeout=30)
    assert response.status_code < 500 or response.status_code in INTENDED, f"{case.as_curl_command()}\n{response.text}"
