"""Power cuts while instances arrive, are corrected, rejected, restored, committed to and forwarded, all at once."""

import gc
import random
import socket
import threading
from dataclasses import dataclass, field

import httpx
import pytest
from pynetdicom.association import Association
from sqlalchemy import text

from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.config import DatabaseSettings, Settings
from pacs.index.commitments import Role
from pacs.jobs import queue
from pacs.maintenance.verification import verify_copies
from pacs.model import CLINICAL_PARTITION
from tests.builders import build_ct, new_uid
from tests.key_objects import QUALITY, build_key_objects
from tests.scenarios.process import free_port, serving
from tests.scenarios.pushing import Pusher
from tests.scenarios.test_commitment_restart import ask
from tests.scenarios.test_forwarding import wait_until
from tests.scenarios.test_rejection import push
from tests.unit.pacs.test_services_at_once import IMPOSSIBLE

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.slow,
    # pynetdicom leaves the socket of an association open that is cut off
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

KILLS = 4
SECONDS = 60

SETTINGS = """
[commitment]
wait_seconds = 0
[[dimse.peers]]
ae_title = "CT1"
may_reject = true
address = "127.0.0.1"
port = {port}
[[routing.destinations]]
name = "CLOUD"
url = "http://127.0.0.1:{port}/dicom-web"
[[routing.rules]]
to = ["CLOUD"]
"""


@dataclass
class Staff:
    """People at work until the lights go out, and what they were told is done."""

    study: str = field(default_factory=new_uid)
    rejected: set[str] = field(default_factory=set)
    restored: set[str] = field(default_factory=set)
    corrected: list[int] = field(default_factory=list)
    committed: set[str] = field(default_factory=set)

    def at_work(self, archive):
        acts = (self.reject, self.correct, self.commit)
        threads = [threading.Thread(target=self._work, args=(act, archive)) for act in acts]
        for thread in threads:
            thread.start()
        return threads

    def _work(self, act, archive):
        while archive.process.poll() is None:
            try:
                act(archive)
            except Exception:  # noqa: BLE001 - the archive is gone, in whatever words a library says so
                archive.process.wait(SECONDS)

    def reject(self, archive):
        images = [build_ct(StudyInstanceUID=self.study, PatientID="REJECTED") for _ in range(2)]
        note = build_key_objects(QUALITY, images)
        assert push(archive, *images, note) == [0, 0, 0]
        self.rejected |= {image.SOPInstanceUID for image in images}
        order = {"sop_instance_uid": images[0].SOPInstanceUID}
        answer = httpx.post(f"{archive.url}/withheld/restore", json=order, timeout=SECONDS)
        assert answer.status_code == httpx.codes.OK, answer.text
        self.restored.add(images[0].SOPInstanceUID)

    def correct(self, archive):
        body = {"kind": "correct-study", "study_instance_uid": self.study, "reason": "A test"}
        body["values"] = {"AccessionNumber": new_uid()[:16]}
        answer = httpx.post(f"{archive.url}/corrections", json=body, timeout=SECONDS)
        if answer.status_code == httpx.codes.CREATED:
            self.corrected.append(answer.json()["id"])

    def commit(self, archive):
        self.committed.add(ask(archive.dicom_port, build_ct()))


def close_left_sockets():
    """Close what pynetdicom leaves open of associations that were cut off; what listens is somebody else's."""
    for association in [one for one in gc.get_objects() if isinstance(one, Association)]:
        association.kill()
    for left in [one for one in gc.get_objects() if isinstance(one, socket.socket) and one.fileno() >= 0]:
        if left.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            continue
        try:
            left.getpeername()
        except OSError:
            left.close()


def assert_nothing_lost(parts, staff, pushed):
    with parts.database.read() as connection:
        for name, statement in IMPOSSIBLE.items():
            assert connection.execute(text(statement)).all() == [], name
        shown = set(connection.execute(text("SELECT sop_instance_uid FROM instance")).scalars())
        hidden = set(connection.execute(text("SELECT sop_instance_uid FROM withheld_instance")).scalars())
        unreported = [
            uid
            for uid in staff.committed
            if parts.archive.commit.find(Role.SCP, "CT1", uid) is None
            or queue.find_job(connection, "commitment-report", "CT1", uid) is None
        ]
        accession = connection.execute(
            text("SELECT accession_number FROM study WHERE study_instance_uid = :study"), {"study": staff.study}
        ).scalar()
    assert pushed <= shown
    assert staff.restored <= shown
    # One whose restoration was not acknowledged any more may show all the same.
    assert staff.rejected - staff.restored <= hidden | shown
    assert len((staff.rejected - staff.restored) & shown) <= KILLS
    assert unreported == []
    listed = {one.id: one for one in parts.archive.correct.list_corrections(LOCAL, limit=1000)}
    assert set(staff.corrected) <= listed.keys()
    if accession and staff.corrected:
        assert listed[max(listed)].changes["00080050"]["Value"] == [accession]
    assert not [one for one in verify_copies(parts.database, parts.store, CLINICAL_PARTITION) if one.problem]


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_kills_while_everything_runs_lose_nothing_acknowledged(tmp_path, request, database):
    url = request.getfixturevalue("postgres_url") if database == "postgres" else ""
    environment = {"PACS_DATABASE__URL": url} if url else {}
    config = tmp_path / "pacs.toml"
    config.write_text(SETTINGS.format(port=free_port()))
    settings = Settings(data_dir=tmp_path / "data", database=DatabaseSettings(url=url))
    chance = random.Random(database)
    staff, pushed = Staff(), set()
    for _ in range(KILLS):
        with serving(tmp_path / "data", config=config, **environment) as archive:
            pusher = Pusher(archive.dicom_port)
            pusher.start()
            working = staff.at_work(archive)
            pusher.wait_for(chance.randrange(5, 60))
            archive.kill()
            pusher.finish()
            for thread in working:
                thread.join(60)
            pushed |= pusher.acknowledged.keys()
        with open_archive(settings) as parts:
            assert_nothing_lost(parts, staff, pushed)
    assert staff.rejected
    assert staff.restored
    assert staff.corrected
    assert staff.committed

    def forwarded():
        with open_archive(settings) as parts, parts.database.read() as connection:
            statement = text("SELECT key FROM job WHERE kind = 'send' AND lane = 'CLOUD'")
            return pushed <= set(connection.execute(statement).scalars())

    with serving(tmp_path / "data", config=config, **environment):
        wait_until(forwarded)
    close_left_sockets()
