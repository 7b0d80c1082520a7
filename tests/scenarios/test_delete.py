"""An instance is deleted over HTTP: what every door shows, who is told, and what becomes of it when it is sent again.

The row that the table of rejections (``test_rejection``) has not: a deletion hides as a note titled 113039 does.
"""

import httpx
import pytest

from tests.builders import build_ct
from tests.scenarios.process import free_port, serving
from tests.scenarios.test_forwarding import pacs, write_settings
from tests.scenarios.test_forwarding import push as store
from tests.scenarios.test_rejection import SETTINGS, Ward, build_study, commit, find, push, qido

pytestmark = pytest.mark.scenario


def test_deleted_is_gone_from_every_door_and_stored_anew_when_it_is_sent_again(tmp_path):
    port = free_port()
    config = write_settings(tmp_path / "pacs.toml", SETTINGS.format(port=port), "[http]\nmay_delete = true")
    ward = Ward()
    gone, left = build_study()
    study, both = gone.StudyInstanceUID, {gone.SOPInstanceUID, left.SOPInstanceUID}
    with ward.listening(port), serving(tmp_path / "data", config=config) as archive:
        assert push(archive, gone, left) == [0, 0]
        assert {ward.instance(), ward.instance()} == both
        ward.notice(study, dict.fromkeys(both, "ONLINE"))
        address = f"{archive.dicomweb}/studies/{study}/series/{gone.SeriesInstanceUID}/instances/{gone.SOPInstanceUID}"
        assert httpx.delete(address).status_code == httpx.codes.NO_CONTENT
        assert qido(archive, study) == find(archive, study) == {left.SOPInstanceUID}
        assert httpx.get(f"{address}/metadata").status_code == httpx.codes.NOT_FOUND
        ward.notice(study, {gone.SOPInstanceUID: "UNAVAILABLE", left.SOPInstanceUID: "ONLINE"})
        assert commit(archive, gone, left) == {gone.SOPInstanceUID: 0x0112, left.SOPInstanceUID: 0}
        assert push(archive, gone) == [0]
        assert qido(archive, study) == find(archive, study) == both
        assert ward.instance() == gone.SOPInstanceUID  # it is routed as anything new is
        ward.notice(study, dict.fromkeys(both, "ONLINE"))
        assert commit(archive, gone) == {gone.SOPInstanceUID: 0}


def test_deleting_over_http_is_off_until_the_settings_allow_it(tmp_path):
    image = build_ct()
    address = f"/studies/{image.StudyInstanceUID}"
    with serving(tmp_path / "data") as archive:
        store(archive, image)
        assert httpx.delete(archive.dicomweb + address).status_code == httpx.codes.FORBIDDEN
    with serving(tmp_path / "data", PACS_HTTP__MAY_DELETE="true") as archive:
        assert httpx.delete(archive.dicomweb + address).status_code == httpx.codes.NO_CONTENT
        assert image.StudyInstanceUID in archive.log.read_text()
    config = write_settings(tmp_path / "pacs.toml")
    done = pacs(tmp_path / "data", config, "withheld", "restore", "--study", image.StudyInstanceUID)
    assert (done.returncode, done.stdout) == (0, "1 restored.\n"), done.stderr
    with serving(tmp_path / "data") as archive:
        assert len(httpx.get(f"{archive.dicomweb}{address}/instances").json()) == 1
