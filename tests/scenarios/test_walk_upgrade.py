"""An archive of the first release goes on with this one: everything stored answers, and can be corrected."""

import httpx
import pytest
from alembic import command
from sqlalchemy import MetaData, create_engine, func, insert, make_url, select, text

from pacs.database.migrate import _config
from tests.builders import build_ct, build_mr, new_uid
from tests.scenarios.process import serving
from tests.scenarios.test_forwarding import fetch_all, push, queue, wait_until, web_destination, write_settings

pytestmark = [pytest.mark.scenario, pytest.mark.slow]

RULE = '[[routing.rules]]\nto = ["CLOUD"]\n'


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def old_url(request, tmp_path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'old.sqlite'}"


def make_first_release(url, filled_url):
    """Make the first release's schema at ``url``, and copy into it what its tables had of a filled index of today."""
    address = make_url(url)
    engine = create_engine(address.set(drivername="postgresql+psycopg") if "postgres" in url else address)
    filled = create_engine(filled_url)
    tables = MetaData()
    with engine.begin() as connection:
        command.upgrade(_config(connection), "0001")
        tables.reflect(connection)
        with filled.connect() as source:
            for table in tables.sorted_tables:
                if table.name != "alembic_version":
                    columns = ", ".join(f'"{column.name}"' for column in table.columns)
                    found = source.execute(text(f'SELECT {columns} FROM "{table.name}"')).mappings().all()
                    if found:
                        connection.execute(insert(table), [dict(row) for row in found])
                    _go_on_counting(connection, table)
    engine.dispose()
    filled.dispose()


def _go_on_counting(connection, table):
    """Let PostgreSQL give out the keys after those that were copied."""
    for column in table.primary_key.columns if connection.dialect.name == "postgresql" else ():
        if column.identity is not None:
            sequence = func.pg_get_serial_sequence(table.name, column.name)
            highest = select(func.coalesce(func.max(column), 0) + 1).scalar_subquery()
            connection.execute(select(func.setval(sequence, highest, False)))


def answers(archive):
    """Return everything that a client sees of an archive, by what it asked for."""
    seen = {"files": fetch_all(archive)}
    for level in ("patients", "studies", "series", "instances"):
        answer = httpx.get(f"{archive.dicomweb}/{level}", params={"includefield": "all", "limit": 100})
        seen[level] = answer.json() if answer.status_code == httpx.codes.OK else answer.status_code
    for study in seen["studies"]:
        uid = study["0020000D"]["Value"][0]
        seen[uid] = httpx.get(f"{archive.dicomweb}/studies/{uid}/metadata").json()
    for name in ("Helene", "Essay Helen", "Bilt Tast", "تست"):
        fuzzy = httpx.get(f"{archive.dicomweb}/studies", params={"PatientName": name, "fuzzymatching": "true"})
        seen[name] = fuzzy.json() if fuzzy.status_code == httpx.codes.OK else fuzzy.status_code
    seen["conflicts"] = httpx.get(f"{archive.url}/conflicts").json()
    return seen


def without_address(archive, seen):
    return str(seen).replace(archive.url, "")


def test_index_of_the_first_release_answers_as_before_and_takes_what_is_new(tmp_path, old_url):
    study = new_uid()
    first = build_ct(StudyInstanceUID=study, PatientID="OLD", PatientName="Essai^Hélène")
    with serving(tmp_path / "data") as today:
        push(today, first, build_mr(PatientID="OLD2"))
        before = without_address(today, answers(today))
        assert today.stop() == 0
    make_first_release(old_url, f"sqlite:///{tmp_path / 'data' / 'index.sqlite'}")

    config = write_settings(tmp_path / "pacs.toml", web_destination("http://127.0.0.1:9/dicom-web"), RULE)
    with serving(tmp_path / "data", config=config, PACS_DATABASE__URL=old_url) as upgraded:
        assert without_address(upgraded, answers(upgraded)) == before
        correction = {"kind": "correct-patient", "patient": {"patient_id": "OLD"}, "reason": "Identity card"}
        made = httpx.post(f"{upgraded.url}/corrections", json=correction | {"values": {"PatientName": "Essai^Aïcha"}})
        assert made.status_code == httpx.codes.CREATED, made.text
        new = build_ct()
        push(upgraded, new)
        found = httpx.get(f"{upgraded.dicomweb}/studies", params={"PatientName": "ESSAI^AICHA"}).json()
        assert [match["0020000D"]["Value"] for match in found] == [[study]]
        # What was stored before there were rules is not forwarded.
        wait_until(lambda: queue(upgraded))
        assert [job["key"] for job in queue(upgraded)] == [new.SOPInstanceUID]
        assert upgraded.stop() == 0
