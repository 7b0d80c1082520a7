"""``pacs user`` and ``pacs token``: who may come in over HTTP. A password is asked for, and never an argument."""

import argparse
import sys
from getpass import getpass
from typing import Any

from pacs.access import LOCAL, Permission, Role
from pacs.app import open_archive
from pacs.cli.parsing import add_command, add_group, positive
from pacs.cli.terminal import print_table
from pacs.config import Settings
from pacs.errors import PacsError

_DAYS = 90


def add_commands(parsers: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands of this module."""
    orders = add_group(parsers, "user", "add, change and remove accounts for HTTP")
    adding = add_command(
        orders, common, "add", add_user, "add an account; its password is asked for, or read from stdin"
    )
    adding.add_argument("name", metavar="NAME")
    _add_roles(adding)
    adding.add_argument("--no-password", action="store_true", help="it comes in by tokens only: a program, a device")
    add_command(orders, common, "list", list_users, "list accounts")
    changing = add_command(orders, common, "set-password", set_password, "give an account another password")
    changing.add_argument("name", metavar="NAME")
    roles = add_command(orders, common, "set-roles", set_roles, "give an account other roles")
    roles.add_argument("name", metavar="NAME")
    _add_roles(roles)
    removing = add_command(orders, common, "remove", remove_user, "let nobody in by an account any more")
    removing.add_argument("name", metavar="NAME")

    orders = add_group(parsers, "token", "issue and revoke tokens, by which programs come in over HTTP")
    issuing = add_command(orders, common, "issue", issue_token, "print a new token, which is shown this once")
    issuing.add_argument("name", metavar="NAME", help="the account that it acts for")
    issuing.add_argument("--label", default="", metavar="TEXT", help="what it is for")
    issuing.add_argument(
        "--scope", action="append", required=True, choices=list(map(str, Permission)), help="may be repeated"
    )
    issuing.add_argument("--days", type=positive, default=_DAYS, metavar="N", help=f"default: {_DAYS}")
    listing = add_command(orders, common, "list", list_tokens, "list tokens")
    listing.add_argument("name", nargs="?", default="", metavar="NAME", help="only those of this account")
    revoking = add_command(orders, common, "revoke", revoke_token, "let nobody in by a token any more")
    revoking.add_argument("id", type=positive, metavar="ID")


def add_user(settings: Settings, options: argparse.Namespace) -> int:
    """Add an account."""
    password = None if options.no_password else _ask_password()
    with open_archive(settings) as parts:
        accounts = parts.identity.accounts
        is_first = not accounts.find_all(LOCAL)
        account = accounts.add(LOCAL, options.name, map(Role, options.role), password)
        parts.audit.seal()
    print(f"{account.name} added: {', '.join(sorted(account.roles))}.")
    if is_first:
        print("This is the first account: from now on nobody comes in over HTTP without a login or a token.")
    return 0


def list_users(settings: Settings, _: argparse.Namespace) -> int:
    """Print every account; exit code 1 if there is none."""
    with open_archive(settings) as parts:
        found = parts.identity.accounts.find_all(LOCAL)
    print_table(
        ("Name", "Roles", "Comes in by", "Since"),
        [
            (
                one.name,
                ", ".join(sorted(one.roles)),
                "nothing: removed" if one.removed_at else "password" if one.has_password else "tokens",
                f"{one.created_at:%Y-%m-%d}",
            )
            for one in found
        ],
    )
    print(f"{len(found)} accounts.", file=sys.stderr)
    return 0 if found else 1


def set_password(settings: Settings, options: argparse.Namespace) -> int:
    """Give an account another password."""
    password = _ask_password()
    with open_archive(settings) as parts:
        parts.identity.accounts.set_password(LOCAL, options.name, password)
        parts.audit.seal()
    print(f"{options.name} has another password, and has to log in again.")
    return 0


def set_roles(settings: Settings, options: argparse.Namespace) -> int:
    """Give an account other roles instead of those that it has."""
    with open_archive(settings) as parts:
        parts.identity.accounts.set_roles(LOCAL, options.name, map(Role, options.role))
        parts.audit.seal()
    print(f"{options.name} is {', '.join(sorted(set(options.role)))} now.")
    return 0


def remove_user(settings: Settings, options: argparse.Namespace) -> int:
    """Remove an account; its name stays its own."""
    with open_archive(settings) as parts:
        parts.identity.accounts.remove(LOCAL, options.name)
        parts.audit.seal()
    print(f"{options.name} removed, with its sessions and tokens.")
    return 0


def issue_token(settings: Settings, options: argparse.Namespace) -> int:
    """Print a new token alone on the standard output, and the rest beside it."""
    with open_archive(settings) as parts:
        scopes = map(Permission, options.scope)
        secret, token = parts.identity.tokens.issue(LOCAL, options.name, options.label, scopes, options.days)
        parts.audit.seal()
    print(
        f"Token {token.id} of {token.account}, until {token.expires_at:%Y-%m-%d}. It is shown this once:",
        file=sys.stderr,
    )
    print(secret)
    return 0


def list_tokens(settings: Settings, options: argparse.Namespace) -> int:
    """Print every token without what it is; exit code 1 if there is none."""
    with open_archive(settings) as parts:
        found = parts.identity.tokens.find_all(LOCAL, options.name)
    print_table(
        ("ID", "Account", "For", "Scopes", "Until", "Revoked"),
        [
            (
                str(one.id),
                one.account,
                one.label,
                ", ".join(sorted(one.scopes)),
                f"{one.expires_at:%Y-%m-%d %H:%M}",
                f"{one.revoked_at:%Y-%m-%d %H:%M}" if one.revoked_at else "",
            )
            for one in found
        ],
    )
    print(f"{len(found)} tokens. Times are in UTC.", file=sys.stderr)
    return 0 if found else 1


def revoke_token(settings: Settings, options: argparse.Namespace) -> int:
    """Revoke a token."""
    with open_archive(settings) as parts:
        parts.identity.tokens.revoke(LOCAL, options.id)
        parts.audit.seal()
    print(f"Token {options.id} is revoked.")
    return 0


def _add_roles(parser: Any) -> None:
    parser.add_argument("--role", action="append", required=True, choices=list(map(str, Role)), help="may be repeated")


def _ask_password() -> str:
    """Return a password from a person, twice and unseen, or the first line of what is piped in."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass("Password: ")
    if getpass("Once more: ") != password:
        raise PacsError("The two passwords are not the same.")
    return password
