"""``pacs user``, ``pacs token`` and ``pacs audit``: what they print, and what they never do."""

import io
import json
import re

import pytest
from argon2 import PasswordHasher

from pacs.access import Permission, Role
from pacs.app import open_archive
from pacs.cli import accounts
from pacs.cli.main import main
from pacs.config import Settings
from pacs.identity import secrets

PASSWORD = "correct horse battery"


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Run a command with what is typed into it; return exit code, output and what else was said."""
    monkeypatch.setattr(secrets, "PasswordHasher", lambda: PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    monkeypatch.chdir(tmp_path)

    def run(*words, typed=""):
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        code = main([*words, "--data-dir", "archive"])
        said = capfd.readouterr()
        assert PASSWORD not in said.out + said.err
        return code, said.out, said.err

    return run


def test_an_account_from_its_first_day_to_its_last(run, tmp_path):
    code, out, _ = run("user", "add", "ilham", "--role", "radiologist", "--role", "steward", typed=f"{PASSWORD}\n")
    assert code == 0
    assert "ilham added: radiologist, steward." in out
    assert "first account" in out
    assert "first account" not in run("user", "add", "ct-1", "--role", "device", "--no-password")[1]
    out = run("user", "list")[1]
    assert re.search(r"ilham .*radiologist, steward.*password", out)
    assert re.search(r"ct-1 .*device.*tokens", out)
    with open_archive(Settings(data_dir=tmp_path / "archive")) as parts:
        assert parts.identity.logins.log_in("ilham", PASSWORD, "").principal.roles == {Role.RADIOLOGIST, Role.STEWARD}
    assert run("user", "set-roles", "ilham", "--role", "auditor")[0] == 0
    assert run("user", "set-password", "ilham", typed="another horse battery\n")[0] == 0
    assert run("user", "remove", "ilham")[0] == 0
    assert re.search(r"ilham .*auditor.*removed", run("user", "list")[1])
    assert run("user", "remove", "ilham") == (1, "", "pacs: There is no such account.\n")


def test_what_is_wrong_is_said_in_a_sentence(run):
    assert run("user", "list")[0] == 1
    assert run("user", "add", "Ilham", "--role", "auditor", "--no-password")[0] == 1
    code, _, said = run("user", "add", "ilham", "--role", "auditor", typed="short\n")
    assert (code, said) == (1, "pacs: A password has 12 to 512 characters.\n")
    assert run("token", "issue", "ilham", "--scope", "read")[0] == 1
    assert run("token", "revoke", "1")[0] == 1


def test_a_password_is_asked_for_twice_and_not_shown(run, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    answers = iter([PASSWORD, PASSWORD, PASSWORD, "another horse battery"])
    monkeypatch.setattr(accounts, "getpass", lambda _: next(answers))
    monkeypatch.setattr(accounts.sys, "stdin", Terminal())
    assert accounts._ask_password() == PASSWORD
    with pytest.raises(accounts.PacsError, match="not the same"):
        accounts._ask_password()


def test_a_token_is_shown_once(run, tmp_path):
    run("user", "add", "export", "--role", "device", "--no-password")
    code, secret, said = run("token", "issue", "export", "--label", "nightly", "--scope", "read", "--days", "3")
    assert code == 0
    assert re.fullmatch(r"pacs_[\w-]{43}\n", secret)
    assert "Token 1 of export" in said
    out = run("token", "list")[1]
    assert re.search(r"1 .*export.*nightly.*read", out)
    assert secret.strip() not in out
    assert run("token", "list", "another")[0] == 1
    assert run("token", "revoke", "1")[0] == 0
    kept = b"".join(path.read_bytes() for path in (tmp_path / "archive").rglob("*") if path.is_file())
    assert secret.strip().encode() not in kept
    assert PASSWORD.encode() not in kept


def test_every_scope_and_role_can_be_given(run):
    run("user", "add", "all", *(word for role in Role for word in ("--role", role)), "--no-password")
    scopes = [word for scope in Permission for word in ("--scope", scope)]
    assert run("token", "issue", "all", *scopes)[0] == 0


def test_what_was_done_is_in_the_log_and_the_log_is_whole(run):
    run("user", "add", "ilham", "--role", "auditor", typed=f"{PASSWORD}\n")
    run("user", "remove", "ilham")
    code, out, _ = run("audit", "verify")
    assert code == 0
    assert "2 entries verified, 0 problems, 0 not sealed yet." in out
    head = re.search(r"Head: (\S+)", out)[1]
    assert run("audit", "verify", "--head", head)[0] == 0
    entries = [json.loads(line) for line in run("audit", "export", "--kind", "account")[1].splitlines()]
    assert [(entry["kind"], entry["subject"]) for entry in entries] == [
        ("account.add", "ilham"),
        ("account.remove", "ilham"),
    ]
    code, out, said = run("audit", "report", "--subject", "ilham", "--by-subject", "--since", "2020-01-01")
    assert code == 0
    assert re.search(r"local .*account\.add.*ilham.*1 .*0", out)
    assert "UTC" in said
    assert run("audit", "report", "--project", "none-such", "--until", "2020-01-01")[0] == 1


@pytest.mark.parametrize("words", [("--head", "1:zz"), ("--head", "x")])
def test_a_head_that_is_none_is_wrong_use(run, words):
    with pytest.raises(SystemExit):
        run("audit", "verify", *words)


def test_a_log_that_was_touched_is_said_to_be(run, tmp_path):
    run("user", "add", "ilham", "--role", "auditor", typed=f"{PASSWORD}\n")
    (tmp_path / "archive" / "audit-head").write_text(f"7:{'0' * 64}\n")
    code, out, _ = run("audit", "verify")
    assert code == 1
    assert "The log has no entry 7 any more, and had one." in out
