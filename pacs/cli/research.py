"""``pacs research``: projects, their people, keys and escrow; objections; and the catalogue that cohorts ask."""

import argparse
import os
from datetime import date
from pathlib import Path
from typing import Any

import orjson

from pacs.app import open_archive
from pacs.cli import cohorts, releases
from pacs.cli.parsing import add_command, add_group
from pacs.cli.person import whoever_runs_this
from pacs.cli.terminal import print_table, progress
from pacs.config import Settings
from pacs.deid import RELEASE_DEFAULT, Profile
from pacs.errors import PacsError
from pacs.research.exclusions import Whom
from pacs.research.model import Approval, Exclusion, Project, ProjectRole
from pacs.research.projects import NewProject
from pacs.research.sealing import generate_key_pair


def add_commands(parsers: Any, common: argparse.ArgumentParser) -> None:
    """Declare the command and its orders."""
    orders = add_group(parsers, "research", "make and keep research projects, their keys and their cohorts")
    reasoned = argparse.ArgumentParser(add_help=False, parents=[common])
    reasoned.add_argument("--reason", required=True, metavar="TEXT", help="why; it goes on record")
    _add_projects(orders, common)
    _add_keys(orders, common, reasoned)
    _add_objections(orders, common, reasoned)
    order = add_command(orders, common, "catalogue", build_catalogue, "make what the catalogue of cohorts is missing")
    order.add_argument("--all", action="store_true", help="make all of it anew")
    cohorts.add_orders(orders, common, reasoned)
    releases.add_orders(orders, common)


def _add_projects(orders: Any, common: argparse.ArgumentParser) -> None:
    order = add_command(orders, common, "create", create, "make a project with a key of its own")
    order.add_argument("project", metavar="PROJECT", help="its short name, for addresses: a-z, 0-9 and hyphens")
    order.add_argument("--title", required=True)
    order.add_argument("--purpose", required=True)
    order.add_argument("--reference", required=True, help="of the approval: its number")
    order.add_argument("--authority", required=True, help="who approved: CNDP, an ethics committee")
    order.add_argument("--until", required=True, type=_day, metavar="YYYY-MM-DD", help="the last day of the approval")
    order.add_argument("--k", type=int, metavar="N", help="the smallest number of patients that is told of")
    order.add_argument("--escrow-key", type=Path, metavar="FILE", help="public key of `pacs research keygen`")
    order.add_argument("--profile", type=Path, metavar="FILE", help="JSON of a profile of de-identification")
    add_command(orders, common, "list", list_projects, "list projects")
    order = add_command(orders, common, "show", show_project, "show a project and who belongs to it")
    order.add_argument("project", metavar="PROJECT")
    order = add_command(orders, common, "add-member", add_member, "let somebody into a project, or change his role")
    order.add_argument("project", metavar="PROJECT")
    order.add_argument("name", metavar="NAME", help="of the account")
    order.add_argument("--role", default="researcher", choices=[role.value for role in ProjectRole])
    order = add_command(orders, common, "remove-member", remove_member, "let a member out of a project")
    order.add_argument("project", metavar="PROJECT")
    order.add_argument("name", metavar="NAME", help="of the account")


def _add_keys(orders: Any, common: argparse.ArgumentParser, reasoned: argparse.ArgumentParser) -> None:
    order = add_command(orders, common, "keygen", generate_keys, "make the keys of an escrow; not on the server")
    order.add_argument("file", type=Path, metavar="FILE", help="the private key; the public one is FILE.pub")
    order = add_command(orders, common, "set-escrow-key", set_escrow_key, "give a project the public key of its escrow")
    order.add_argument("project", metavar="PROJECT")
    order.add_argument("file", type=Path, metavar="FILE", help="the public key")
    order = add_command(orders, reasoned, "destroy-key", destroy_key, "destroy a project's key and escrow, for good")
    order.add_argument("project", metavar="PROJECT")
    order.add_argument("--confirm", required=True, metavar="PROJECT", help="its name once more: nothing undoes this")
    order = add_command(
        orders, reasoned, "confirm-backups-gone", confirm_backups, "put on record that no backup has the key any more"
    )
    order.add_argument("project", metavar="PROJECT")


def _add_objections(orders: Any, common: argparse.ArgumentParser, reasoned: argparse.ArgumentParser) -> None:
    project = {"metavar": "PROJECT", "help": "of one project only (default: of all research)"}
    order = add_command(orders, reasoned, "exclude", exclude, "leave a patient or a study out, also after a release")
    order.add_argument("--project", **project)
    order.add_argument("--patient", default="", metavar="ID", help="Patient ID")
    order.add_argument("--issuer", default="", metavar="ISSUER", help="of the Patient ID (default: any)")
    order.add_argument("--study", default="", metavar="UID", help="Study Instance UID")
    order = add_command(orders, common, "exclusions", list_exclusions, "list what is left out, without telling whom")
    order.add_argument("--project", **project)
    order = add_command(orders, reasoned, "lift", lift_exclusion, "take an exclusion back")
    order.add_argument("id", type=int, metavar="ID", help="as listed")
    order.add_argument("--project", **project)


def create(settings: Settings, options: argparse.Namespace) -> int:
    """Make a project."""
    new = NewProject(
        options.project,
        options.title,
        options.purpose,
        Approval(options.reference, options.authority, options.until),
        profile=_read_profile(options.profile) if options.profile else RELEASE_DEFAULT,
        k=options.k,
        escrow_key=_read(options.escrow_key) if options.escrow_key else b"",
    )
    with open_archive(settings) as parts:
        project = parts.research.projects.create(whoever_runs_this(), new)
    print(f"Made the project {project.slug}. Its key is kept under the master key in {settings.master_key_file}:")
    print("back that file up, in another place than the database; without it the project cannot go on.")
    if not project.has_escrow:
        print("It has no escrow: nobody can ever tell who a pseudonym is (pacs research set-escrow-key).")
    return 0


def list_projects(settings: Settings, _: argparse.Namespace) -> int:
    """Print the projects."""
    with open_archive(settings) as parts:
        projects = parts.research.projects.list_all(whoever_runs_this())
    rows = [(one.slug, one.title, one.approval.reference, str(one.approval.ends_on), one.data_are) for one in projects]
    print_table(("project", "title", "approval", "until", "data are"), rows)
    return 0


def show_project(settings: Settings, options: argparse.Namespace) -> int:
    """Print a project and its members."""
    person = whoever_runs_this()
    with open_archive(settings) as parts:
        project = parts.research.projects.get(person, options.project)
        members = parts.research.projects.list_members(person, options.project)
    _print_project(project)
    print_table(("member", "role", "since (UTC)"), [(m.name, m.role.value, f"{m.added_at:%Y-%m-%d}") for m in members])
    return 0


def add_member(settings: Settings, options: argparse.Namespace) -> int:
    """Let somebody into a project."""
    with open_archive(settings) as parts:
        role = ProjectRole(options.role)
        member = parts.research.projects.add_member(whoever_runs_this(), options.project, options.name, role)
    print(f"{member.name} is a {member.role.value} of {options.project}.")
    return 0


def remove_member(settings: Settings, options: argparse.Namespace) -> int:
    """Let a member out of a project."""
    with open_archive(settings) as parts:
        parts.research.projects.remove_member(whoever_runs_this(), options.project, options.name)
    print(f"{options.name} does not belong to {options.project} any more.")
    return 0


def generate_keys(_: Settings, options: argparse.Namespace) -> int:
    """Make the key pair of an escrow; raise PacsError if one of the files is there already."""
    private, public = generate_key_pair()
    public_file = options.file.with_name(f"{options.file.name}.pub")
    for file in (options.file, public_file):
        if file.exists():
            raise PacsError(f"{file} is there already; nothing was made.")
    _write_new(options.file, private, 0o600)
    _write_new(public_file, public, 0o644)
    print(f"Made {options.file}: keep it off the server; who has it can tell who is who.")
    print(f"Made {public_file}: for pacs research create --escrow-key or pacs research set-escrow-key.")
    return 0


def set_escrow_key(settings: Settings, options: argparse.Namespace) -> int:
    """Give a project the public key of its escrow."""
    key = _read(options.file)
    with open_archive(settings) as parts:
        parts.research.projects.set_escrow_key(whoever_runs_this(), options.project, key)
    print("From the next release on pairs are sealed to this key.")
    return 0


def destroy_key(settings: Settings, options: argparse.Namespace) -> int:
    """Destroy a project's key and escrow."""
    if options.confirm != options.project:
        raise PacsError("Nothing was destroyed: --confirm must repeat the name of the project.")
    with open_archive(settings) as parts:
        project = parts.research.projects.destroy_key(whoever_runs_this(), options.project, reason=options.reason)
    print(
        f"The key and the escrow of {project.slug} are destroyed here. Backups may still hold them: until they are gone"
    )
    print("(pacs research confirm-backups-gone) its data are pseudonymised.")
    return 0


def confirm_backups(settings: Settings, options: argparse.Namespace) -> int:
    """Put on record that no backup has the key of a project any more."""
    with open_archive(settings) as parts:
        projects = parts.research.projects
        project = projects.confirm_backups_gone(whoever_runs_this(), options.project, reason=options.reason)
    print(f"The data of {project.slug} are {project.data_are}.")
    return 0


def exclude(settings: Settings, options: argparse.Namespace) -> int:
    """Leave a patient or a study out."""
    whom = Whom(options.patient, options.issuer, options.study)
    with open_archive(settings) as parts:
        exclusions = parts.research.exclusions
        scope = exclusions.exclude(whoever_runs_this(), options.project, whom, reason=options.reason)
    print(f"The {scope.value} is left out of {options.project or 'all research'}, from the next release on.")
    return 0


def list_exclusions(settings: Settings, options: argparse.Namespace) -> int:
    """Print what is left out."""
    with open_archive(settings) as parts:
        found = parts.research.exclusions.list_all(whoever_runs_this(), options.project)
    rows = [
        (
            str(one.id),
            one.scope.value,
            _extent(one),
            f"{one.excluded_at:%Y-%m-%d}",
            one.excluded_by,
            one.reason,
        )
        for one in found
    ]
    print_table(("ID", "what", "of", "at (UTC)", "by", "reason"), rows)
    return 0


def lift_exclusion(settings: Settings, options: argparse.Namespace) -> int:
    """Take an exclusion back."""
    with open_archive(settings) as parts:
        exclusions = parts.research.exclusions
        exclusions.lift(whoever_runs_this(), options.project, options.id, reason=options.reason)
    print(f"Exclusion {options.id} is taken back.")
    return 0


def build_catalogue(settings: Settings, options: argparse.Namespace) -> int:
    """Make the rows of the catalogue that are missing, or not of their series as it is now. May be interrupted."""
    with open_archive(settings) as parts, progress() as bar:
        if options.all:
            parts.research.catalogue.forget()
        task = bar.add_task("Cataloguing", total=parts.research.catalogue.count_missing())
        done = 0
        for count in parts.research.catalogue.iter_missing():
            done += count
            bar.advance(task, count)
    print(f"{done} series catalogued.")
    return 0


def _print_project(project: Project) -> None:
    approval = project.approval
    print(f"{project.slug}: {project.title}")
    print(f"  purpose   {project.purpose}")
    print(f"  approval  {approval.reference}, {approval.authority}, until {approval.ends_on}")
    print(f"  profile   {project.profile.name}: {', '.join(sorted(project.profile.options))}")
    print(f"  k         {project.k}")
    print(f"  escrow    {'sealed to a public key' if project.has_escrow else 'none'}")
    print(f"  data are  {project.data_are}")


def _extent(one: Exclusion) -> str:
    return "all research" if one.project_id is None else "the project"


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("it must be a day as YYYY-MM-DD") from None


def _read_profile(file: Path) -> Profile:
    try:
        return Profile.from_json(orjson.loads(_read(file)))
    except orjson.JSONDecodeError:
        raise PacsError(f"{file} is no JSON.") from None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise PacsError(f"{file} cannot be read: {error.strerror}.") from None


def _write_new(file: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        raise PacsError(f"{file} cannot be made: {error.strerror}.") from None
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
