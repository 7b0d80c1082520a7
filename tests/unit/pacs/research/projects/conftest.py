"""An archive with research on both engines, people of a project, and a way to store what a cohort may find."""

from datetime import date

import pytest
from sqlalchemy import select

from pacs.access import Principal, Role
from pacs.app import open_archive
from pacs.config import DatabaseSettings, Settings, StorageSettings
from pacs.database.identity_tables import audit
from pacs.research.model import Approval, ProjectRole
from pacs.research.projects import NewProject
from pacs.research.sealing import generate_key_pair
from tests.builders import build_dataset

ADMINISTRATOR = Principal("amina", roles=frozenset({Role.ADMINISTRATOR}))
STEWARD = Principal("salma", roles=frozenset({Role.STEWARD}))
RESEARCHER = Principal("rachid", roles=frozenset({Role.RESEARCHER}))
OTHER = Principal("omar", roles=frozenset({Role.RESEARCHER, Role.STEWARD}))
AUDITOR = Principal("aicha", roles=frozenset({Role.AUDITOR}))
APPROVAL = Approval("A-12/2026", "CNDP", date(2099, 12, 31))
PRIVATE_KEY, PUBLIC_KEY = generate_key_pair()


def on_both_engines(test):
    """Mark a test to be run over PostgreSQL, too: one that asks of the database what engines may answer otherwise."""
    test.is_on_both_engines = True
    return test


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        postgres = [pytest.param("postgresql", marks=pytest.mark.postgres)]
        others = postgres if getattr(metafunc.function, "is_on_both_engines", False) else []
        metafunc.parametrize("engine", ["sqlite", *others])


@pytest.fixture
def parts(request, engine, tmp_path):
    """An archive over an engine, its objects in memory."""
    url = ""
    if engine == "postgresql":
        template = request.getfixturevalue("postgres_template")
        url = request.getfixturevalue("postgres").create_database(template=template)
    settings = Settings(
        data_dir=tmp_path / "archive", storage=StorageSettings(url="memory:"), database=DatabaseSettings(url=url)
    )
    with open_archive(settings) as opened:
        yield opened


@pytest.fixture
def research(parts):
    return parts.research


@pytest.fixture
def make_project(research):
    """Make a project with a researcher and a steward."""

    def make(slug="lungs", **values):
        new = NewProject(slug, "Lungs", "To see how lungs age.", APPROVAL, **{"escrow_key": PUBLIC_KEY} | values)
        research.projects.create(ADMINISTRATOR, new)
        research.projects.add_member(ADMINISTRATOR, slug, RESEARCHER.name, ProjectRole.RESEARCHER)
        research.projects.add_member(ADMINISTRATOR, slug, STEWARD.name, ProjectRole.STEWARD)
        return research.projects.get(ADMINISTRATOR, slug)

    return make


@pytest.fixture
def project(make_project):
    return make_project()


@pytest.fixture
def store_patients(store, research):
    """Store one small study for each of some patients, and catalogue it; ``values`` of a number are its patient's."""

    def store_patients(numbers, **values):
        datasets = []
        for number in numbers:
            own = {name: value(number) if callable(value) else value for name, value in values.items()}
            known = {"PatientID": f"P{number}", "PatientName": f"ZAHRAOUI{number}^TEST", "Modality": "CT"}
            datasets.append(build_dataset(**known | own))
        store(*datasets)
        for _ in research.catalogue.iter_missing():
            pass
        return datasets

    return store_patients


@pytest.fixture
def audited(parts):
    """Return the kinds of all entries of the audit log, or the entries of one kind."""

    def audited(kind=None):
        with parts.database.read() as connection:
            rows = connection.execute(select(audit).order_by(audit.c.id)).all()
        return [row.kind for row in rows] if kind is None else [row for row in rows if row.kind == kind]

    return audited
