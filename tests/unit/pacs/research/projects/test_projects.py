"""Projects: who may make one, who may know of it, and what whoever may not is told."""

import re
from datetime import date

import pytest
from sqlalchemy import Engine, event

from pacs.access import LOCAL
from pacs.deid import Option, Profile
from pacs.errors import InvalidProject, MemberNotFound, NotPermitted, ProjectExists, ProjectNotFound
from pacs.research.exclusions import Whom
from pacs.research.model import Approval, ProjectRole
from pacs.research.projects import NewProject
from tests.unit.pacs.research.projects.conftest import (
    ADMINISTRATOR,
    APPROVAL,
    AUDITOR,
    OTHER,
    RESEARCHER,
    STEWARD,
    on_both_engines,
)


@on_both_engines
def test_a_project_is_made_by_an_administrator_and_known_to_its_members(research, project):
    assert project.approval == APPROVAL
    assert project.k == 5
    assert project.has_escrow
    assert research.projects.get(RESEARCHER, "lungs") == project
    assert research.projects.list_all(STEWARD) == [project]
    assert research.projects.list_all(AUDITOR) == [project]
    assert [(one.name, one.role) for one in research.projects.list_members(RESEARCHER, "lungs")] == [
        ("rachid", ProjectRole.RESEARCHER),
        ("salma", ProjectRole.STEWARD),
    ]


def test_nobody_else_makes_a_project(research):
    for principal in (STEWARD, RESEARCHER, AUDITOR):
        with pytest.raises(NotPermitted):
            research.projects.create(principal, NewProject("own", "Own", "For me.", APPROVAL))


def test_a_name_is_given_once(research, project):
    with pytest.raises(ProjectExists):
        research.projects.create(ADMINISTRATOR, NewProject("lungs", "Again", "Again.", APPROVAL))


NOT_A_PROJECT = (
    {"slug": "Lungs"},
    {"slug": "a"},
    {"slug": "a--b"},
    {"slug": "-ab"},
    {"slug": "api"},
    {"slug": "x" * 41},
    {"title": " "},
    {"purpose": "a\x00b"},
    {"approval": Approval("", "CNDP", date(2099, 1, 1))},
    {"approval": Approval("1", "", date(2099, 1, 1))},
    {"approval": Approval("1", "CNDP", date(2020, 1, 1))},
    {"k": 4},
    {"k": 101},
    {"profile": Profile("own", frozenset({Option.RETAIN_UIDS}))},
    {"profile": Profile("own", frozenset({Option.RETAIN_FULL_DATES}))},
)


def test_what_is_not_described_as_it_has_to_be_is_refused(research):
    for values in NOT_A_PROJECT:
        known = {"slug": "lungs", "title": "Lungs", "purpose": "To see.", "approval": APPROVAL}
        with pytest.raises(InvalidProject):
            research.projects.create(ADMINISTRATOR, NewProject(**known | values))
    assert research.projects.list_all(ADMINISTRATOR) == []


def everything(research, principal, slug):
    """Every call that names a project, as (name, function)."""
    projects, cohorts, exclusions, again = (
        research.projects,
        research.cohorts,
        research.exclusions,
        research.reidentification,
    )
    return {
        "get": lambda: projects.get(principal, slug),
        "role_of": lambda: projects.role_of(principal, slug),
        "change": lambda: projects.change(principal, slug, title="x"),
        "members": lambda: projects.list_members(principal, slug),
        "add": lambda: projects.add_member(principal, slug, "eve", ProjectRole.STEWARD),
        "remove": lambda: projects.remove_member(principal, slug, "rachid"),
        "destroy": lambda: projects.destroy_key(principal, slug, reason="x"),
        "backups": lambda: projects.confirm_backups_gone(principal, slug, reason="x"),
        "cohorts": lambda: cohorts.list_all(principal, slug),
        "cohort": lambda: cohorts.get(principal, slug, 1),
        "create": lambda: cohorts.create(principal, slug, "x", {}),
        "change cohort": lambda: cohorts.change(principal, slug, 1, {}),
        "remove cohort": lambda: cohorts.remove(principal, slug, 1),
        "request": lambda: cohorts.request(principal, slug, 1),
        "approve": lambda: cohorts.approve(principal, slug, 1),
        "refuse": lambda: cohorts.refuse(principal, slug, 1, "x"),
        "count": lambda: research.counting.count(principal, slug, {}),
        "facets": lambda: research.counting.count_by_facet(principal, slug, {}),
        "exclude": lambda: exclusions.exclude(principal, slug, Whom("P1"), reason="x"),
        "exclusions": lambda: exclusions.list_all(principal, slug),
        "lift": lambda: exclusions.lift(principal, slug, 1, reason="x"),
        "ask": lambda: again.ask(principal, slug, "X", reason="x"),
        "requests": lambda: again.list_all(principal, slug),
        "decide": lambda: again.decide(principal, slug, 1, grants=True, reason="x"),
        "hand out": lambda: again.hand_out(principal, slug, 1),
    }


def asked_of_the_database(call):
    """Return the statements of a call, without their values, and what it raised."""
    statements = []

    def note(_connection, _cursor, statement, *_):
        statements.append(re.sub(r"\s+", " ", statement))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        with pytest.raises(ProjectNotFound) as raised:
            call()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    return statements, str(raised.value)


@on_both_engines
def test_what_is_none_of_his_business_is_what_is_not_there(research, project):
    research.cohorts.create(RESEARCHER, "lungs", "all", {})
    forbidden, absent = everything(research, OTHER, "lungs"), everything(research, OTHER, "nothing")
    for name, call in forbidden.items():
        assert asked_of_the_database(call) == asked_of_the_database(absent[name]), name
    assert research.projects.list_all(OTHER) == []


def test_a_member_without_the_right_is_told_so(research, project):
    for call in (
        lambda: research.projects.add_member(STEWARD, "lungs", "eve", ProjectRole.STEWARD),
        lambda: research.projects.destroy_key(STEWARD, "lungs", reason="x"),
        lambda: research.exclusions.exclude(RESEARCHER, "lungs", Whom("P1"), reason="x"),
        lambda: research.cohorts.approve(RESEARCHER, "lungs", 1),
        lambda: research.counting.count(ADMINISTRATOR, "lungs", {}),
        lambda: research.counting.count(AUDITOR, "lungs", {}),
    ):
        with pytest.raises(NotPermitted):
            call()


def test_a_steward_of_the_project_who_is_none_of_the_site_decides_nothing(research, project):
    research.projects.add_member(ADMINISTRATOR, "lungs", RESEARCHER.name, ProjectRole.STEWARD)
    with pytest.raises(NotPermitted):
        research.cohorts.approve(RESEARCHER, "lungs", 1)


@on_both_engines
def test_members_go_and_come_in_another_role(research, project):
    research.projects.remove_member(ADMINISTRATOR, "lungs", RESEARCHER.name)
    with pytest.raises(ProjectNotFound):
        research.projects.get(RESEARCHER, "lungs")
    with pytest.raises(MemberNotFound):
        research.projects.remove_member(ADMINISTRATOR, "lungs", RESEARCHER.name)
    research.projects.add_member(ADMINISTRATOR, "lungs", RESEARCHER.name, ProjectRole.STEWARD)
    assert research.projects.role_of(RESEARCHER, "lungs") is ProjectRole.STEWARD


def test_a_project_is_described_anew_and_each_step_is_on_record(research, project, audited):
    longer = Approval("A-13/2027", "CNDP", date(2101, 1, 1))
    changed = research.projects.change(LOCAL, "lungs", title="Lungs, again", approval=longer)
    assert (changed.title, changed.approval, changed.purpose) == ("Lungs, again", longer, project.purpose)
    assert audited() == [
        "research.project.create",
        "research.member.add",
        "research.member.add",
        "research.project.view",
        "research.project.change",
    ]
    assert {row.project for row in audited("research.member.add")} == {"lungs"}
