"""What an administrator does from the documentation alone: options in any place, changes that go out."""

import subprocess
import sys

import httpx
import pytest

from pacs.cli.main import build_parser
from tests.builders import build_ct, new_uid
from tests.scenarios.process import serving
from tests.scenarios.test_forwarding import push, queue, wait_until, web_destination, write_settings

pytestmark = pytest.mark.scenario

EVERYTHING_TO_CLOUD = '[[routing.rules]]\nto = ["CLOUD"]\n'
OUTWARD = """
[[coercion]]
direction = "out"
to = ["CLOUD"]
set = { InstitutionName = "Hôpital Central" }
fill = { AccessionNumber = "FILLED" }
remove = ["PatientComments"]
"""


def find_metadata(archive, study_instance_uid):
    answer = httpx.get(f"{archive.dicomweb}/studies/{study_instance_uid}/metadata")
    assert answer.status_code == httpx.codes.OK, answer.text
    (instance,) = answer.json()
    return instance


def test_coercion_on_the_way_out_reaches_a_dicomweb_destination_and_stays_out_of_the_archive(tmp_path):
    study = new_uid()
    dataset = build_ct(
        StudyInstanceUID=study, InstitutionName="Before", AccessionNumber="", PatientComments="to be taken out"
    )
    with serving(tmp_path / "cloud") as cloud:
        config = write_settings(tmp_path / "pacs.toml", web_destination(cloud.dicomweb), EVERYTHING_TO_CLOUD, OUTWARD)
        with serving(tmp_path / "site", config=config) as site:
            push(site, dataset)
            wait_until(lambda: queue(site, state="finished"))
            sent, kept = find_metadata(cloud, study), find_metadata(site, study)
            (found,) = httpx.get(f"{cloud.dicomweb}/studies", params={"AccessionNumber": "FILLED"}).json()
    assert found["0020000D"]["Value"] == [study]
    assert sent["00080080"]["Value"] == ["Hôpital Central"]
    assert sent["00104000"] == {"vr": "LT"}
    (original,) = sent["04000561"]["Value"]
    (before,) = original["04000550"]["Value"]
    assert before["00080080"]["Value"] == ["Before"]
    assert before["00104000"]["Value"] == ["to be taken out"]
    assert "Value" not in before["00080050"]
    assert kept["00080080"]["Value"] == ["Before"]
    assert kept["00104000"]["Value"] == ["to be taken out"]
    assert "04000561" not in kept


@pytest.mark.parametrize(
    "words",
    [
        ["find", "NOBODY", "--level", "series", "Modality=CT", "PatientID="],
        ["correct", "study", "1.2.3", "--reason", "Typed by hand", "AccessionNumber=A77"],
        ["send", "NOBODY", "--study", "1.2.3", "one.dcm", "two.dcm"],
    ],
)
def test_options_may_stand_among_other_words(words):
    options = build_parser().parse_args(words)
    assert words[-1] in (getattr(options, "keys", None) or getattr(options, "values", None) or map(str, options.paths))


@pytest.mark.parametrize("before", [True, False])
def test_an_option_before_an_order_is_never_forgotten(tmp_path, before):
    options = ["--config", str(write_settings(tmp_path / "other.toml", "[nonsense]"))]
    order = ["queue", *options, "list"] if before else ["queue", "list", *options]
    command = [sys.executable, "-m", "pacs.cli.main", *order]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
