"""Forwarding as a hospital sees it: destinations that are down for a while, power cuts, and what people mend."""

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import pytest

from tests.builders import as_part10, build_ct, new_uid
from tests.conformance.dicomweb.service import MULTIPART_DICOM, multipart_body
from tests.scenarios.process import free_port, serving
from tests.scenarios.pushing import Pusher, dataset_of

pytestmark = [pytest.mark.scenario, pytest.mark.slow]


def wait_until(holds, seconds=180):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def pacs(data_dir, config, *arguments):
    command = [sys.executable, "-m", "pacs.cli.main", *arguments, "--data-dir", str(data_dir), "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "200"})


def write_settings(path, *tables):
    path.write_text("\n".join(tables))
    return path


def web_destination(url):
    return f'[[routing.destinations]]\nname = "CLOUD"\nurl = "{url}"\ntoken = "secret"\n'


RULE = '[[routing.rules]]\nwhen = {{ Modality = "CT" }}\nto = ["{}"]\n'


def push(archive, *datasets):
    body = multipart_body(*(as_part10(dataset) for dataset in datasets))
    answer = httpx.post(f"{archive.dicomweb}/studies", content=body, headers={"Content-Type": MULTIPART_DICOM})
    assert answer.status_code == httpx.codes.OK, answer.text


def queue(archive, **filters):
    """Return the deliveries that an archive lists: what it does for itself, thumbnails for one, is listed with them."""
    answer = httpx.get(f"{archive.url}/queue", params={"limit": 1000} | filters)
    assert answer.status_code == httpx.codes.OK, answer.text
    return [job for job in answer.json() if job["kind"] in ("send", "webhook")]


def fetch_all(archive):
    """Return the data set of every instance of an archive by its UID, as stored."""
    fetched = {}
    for found in httpx.get(f"{archive.dicomweb}/instances", params={"limit": 5000}).json():
        study, series, uid = (found[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018"))
        url = f"{archive.dicomweb}/studies/{study}/series/{series}/instances/{uid}"
        fetched[uid] = dataset_of(httpx.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"}).content)
    return fetched


@contextmanager
def storescp(port, folder):
    """DCMTK's receiver, which writes what it receives bit for bit."""
    program = shutil.which("storescp") or "storescp"
    if program == "storescp" and os.environ.get("CI") != "true":
        pytest.skip("storescp is not installed: apt-get install dcmtk")
    folder.mkdir()
    command = [program, "--bit-preserving", "+xa", "-aet", "STATION", "-od", str(folder), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_a_station_that_was_down_gets_everything_exactly_as_stored(tmp_path):
    port = free_port()
    peer = f'[[dimse.peers]]\nae_title = "STATION"\naddress = "127.0.0.1"\nport = {port}\n'
    config = write_settings(tmp_path / "pacs.toml", peer, RULE.format("STATION"))
    study = new_uid()
    datasets = [build_ct(StudyInstanceUID=study, InstanceNumber=number) for number in range(1, 61)]
    with serving(tmp_path / "data", config=config) as archive:
        push(archive, *datasets)
        wait_until(lambda: any(job["problem"] for job in queue(archive, state="waiting")))
        wait_until(lambda: len(queue(archive, state="waiting", lane="STATION")) == len(datasets))
        with storescp(port, tmp_path / "received"):
            wait_until(lambda: len(queue(archive, state="finished")) == len(datasets))
        stored = fetch_all(archive)
        received = [dataset_of(path.read_bytes()) for path in (tmp_path / "received").iterdir()]
    assert sorted(received) == sorted(stored.values())
    assert len(received) == len(datasets)


@pytest.mark.postgres
def test_two_processes_on_one_database_share_the_work_and_send_each_instance_once(tmp_path, postgres_url):
    port = free_port()
    peer = f'[[dimse.peers]]\nae_title = "STATION"\naddress = "127.0.0.1"\nport = {port}\n'
    config = write_settings(tmp_path / "pacs.toml", peer, RULE.format("STATION"))
    shared = {"PACS_DATABASE__URL": postgres_url, "PACS_STORAGE__URL": f"file://{tmp_path / 'objects'}"}
    datasets = [build_ct(InstanceNumber=number) for number in range(1, 41)]
    with (
        storescp(port, tmp_path / "received"),
        serving(tmp_path / "first", config=config, **shared) as first,
        serving(tmp_path / "second", config=config, **shared) as second,
    ):
        for one, other in zip(datasets[::2], datasets[1::2], strict=True):
            push(first, one)
            push(second, other)
        wait_until(lambda: len(queue(second, state="finished")) == len(datasets))
        assert {job["attempts"] for job in queue(first)} == {1}
        assert fetch_all(first) == fetch_all(second)
    assert len(list((tmp_path / "received").iterdir())) == len(datasets)


def test_power_cuts_while_forwarding_lose_nothing(tmp_path):
    with serving(tmp_path / "centre") as centre:
        config = write_settings(tmp_path / "pacs.toml", web_destination(centre.dicomweb), RULE.format("CLOUD"))
        acknowledged = {}
        for kill_after in (5, 40):
            with serving(tmp_path / "site", config=config) as site:
                pusher = Pusher(site.dicom_port)
                pusher.start()
                pusher.wait_for(kill_after)
                site.kill()
                pusher.finish()
                acknowledged |= pusher.acknowledged
        with serving(tmp_path / "site", config=config) as site:
            wait_until(lambda: acknowledged.keys() <= {job["key"] for job in queue(site, state="finished")})
            wait_until(lambda: not queue(site, state="waiting"))
            assert queue(site, state="dead") == []
            assert fetch_all(site).keys() == (arrived := fetch_all(centre)).keys()
    assert {uid: arrived[uid] for uid in acknowledged} == acknowledged


def test_dead_letters_are_seen_and_requeued_by_command_line_and_rest(tmp_path):
    nowhere = f"http://127.0.0.1:{free_port()}/dicom-web"
    data, config = tmp_path / "data", tmp_path / "pacs.toml"
    first, second = build_ct(), build_ct()
    write_settings(config, web_destination(nowhere), RULE.format("CLOUD"))
    with serving(data, config=config) as archive:
        push(archive, first, second)
        wait_until(lambda: len(queue(archive, lane="CLOUD")) == 2)
    write_settings(config)  # the destination is taken out of the settings
    with serving(data, config=config) as archive:
        wait_until(lambda: len(queue(archive, state="dead")) == 2)

    listed = pacs(data, config, "queue", "list", "--state", "dead", "--to", "CLOUD")
    assert listed.returncode == 0, listed.stderr
    assert first.SOPInstanceUID in listed.stdout
    assert "There is no such destination in the settings." in listed.stdout
    assert pacs(data, config, "queue", "requeue").returncode == 1
    assert pacs(data, config, "queue", "requeue", "--to", "NOBODY").returncode == 1

    with serving(tmp_path / "cloud") as cloud:
        write_settings(config, web_destination(cloud.dicomweb), RULE.format("CLOUD"))
        with serving(data, config=config) as archive:
            dead = {job["key"]: job["id"] for job in queue(archive, state="dead")}
            done = pacs(data, config, "queue", "requeue", str(dead[first.SOPInstanceUID]))
            assert (done.returncode, done.stdout) == (0, "1 requeued.\n"), done.stderr
            answer = httpx.post(f"{archive.url}/queue/requeue", json={"lane": "CLOUD"})
            assert (answer.status_code, answer.json()) == (200, {"count": 1})
            wait_until(lambda: len(queue(archive, state="finished")) == 2)
        assert fetch_all(cloud).keys() == {first.SOPInstanceUID, second.SOPInstanceUID}


def test_settings_that_make_no_sense_are_refused_at_start_in_one_sentence(tmp_path):
    config = write_settings(tmp_path / "pacs.toml", RULE.format("NOWHERE"))
    refused = pacs(tmp_path / "data", config, "serve", "--http-port", "0", "--dicom-port", "0")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "NOWHERE" in refused.stderr
