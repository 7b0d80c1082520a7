"""Accounts, sessions and tokens: who comes in, who does not any more, and what of it the audit log says."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest
from argon2 import PasswordHasher
from sqlalchemy import select, update

from pacs.access import LOCAL, Permission, Principal, Role
from pacs.database.identity_tables import access_token, account, audit, login_attempt, session
from pacs.database.opener import open_database
from pacs.errors import NotPermitted
from pacs.identity import attempts, build_identity, secrets
from pacs.identity.problems import (
    AccountExists,
    AccountNotFound,
    InvalidAccount,
    InvalidPassword,
    LoginFailed,
    TokenNotFound,
    TooManyAttempts,
)
from pacs.identity.recognition import KEPT_SECONDS, NOBODY, OPEN, Credential, Kind, Recogniser
from pacs.identity.secrets import Passwords

PASSWORD = "correct horse battery"
ADDRESS = "192.0.2.7"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request, tmp_path):
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'index.sqlite'}"
    else:
        template = request.getfixturevalue("postgres_template")
        url = request.getfixturevalue("postgres").create_database(template=template)
    opened = open_database(url)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Passwords that take a thousandth of the time."""
    monkeypatch.setattr(secrets, "PasswordHasher", lambda: PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
def identity(database):
    return build_identity(database)


@pytest.fixture
def ilham(identity):
    """An identity that knows one account."""
    identity.accounts.add(LOCAL, "ilham", [Role.RADIOLOGIST], PASSWORD)
    return identity


def log_in(identity, password=PASSWORD, name="ilham", address=ADDRESS):
    return identity.logins.log_in(name, password, address)


def show(identity, kind, secret):
    return identity.recogniser.recognise(Credential(kind, secret)).principal


def entries(database):
    with database.read() as connection:
        return [(row.kind, row.outcome, row.principal, row.subject) for row in connection.execute(select(audit))]


def hold_the_clock(database):
    """Let the last wrong password be one of a minute ahead, so that the wait does not pass while the test runs."""
    at = datetime.now(UTC) + timedelta(minutes=1)
    database.write(lambda connection: connection.execute(update(login_attempt).values(last_at=at)))


# Accounts


def test_whoever_has_the_password_comes_in_with_the_roles_of_the_account(database, ilham):
    login = log_in(ilham)
    principal = show(ilham, Kind.SESSION, login.cookie)
    assert principal == login.principal
    assert (principal.name, principal.roles, principal.session) == (
        "ilham",
        {Role.RADIOLOGIST},
        login.principal.session,
    )
    assert Permission.READ in principal.permissions
    assert Permission.DELETE not in principal.permissions
    assert entries(database) == [("account.add", "success", "local", "ilham"), ("login", "success", "ilham", "ilham")]


def test_a_name_is_never_given_twice(ilham):
    with pytest.raises(AccountExists):
        ilham.accounts.add(LOCAL, "ilham", [Role.AUDITOR], PASSWORD)
    ilham.accounts.remove(LOCAL, "ilham")
    with pytest.raises(AccountExists):
        ilham.accounts.add(LOCAL, "ilham", [Role.AUDITOR], PASSWORD)


@pytest.mark.parametrize("name", ["", "Ilham", "a b", "-a", "local", "http", "unknown", "a" * 65, "a\n", "إلهام"])
def test_a_name_is_plain_and_none_of_the_archives_own(identity, name):
    with pytest.raises(InvalidAccount):
        identity.accounts.add(LOCAL, name, [Role.AUDITOR], PASSWORD)


@pytest.mark.parametrize(
    "password", ["", "short", "x" * 600, "ilham-ilham-ilham", "My name is Ilham", "abababababababab"]
)
def test_a_password_is_long_and_not_easy_to_guess(identity, password):
    with pytest.raises(InvalidPassword):
        identity.accounts.add(LOCAL, "ilham", [Role.AUDITOR], password)


def test_an_account_has_a_role(ilham):
    with pytest.raises(InvalidAccount):
        ilham.accounts.set_roles(LOCAL, "ilham", [])


def test_two_spellings_of_one_password_are_one(identity):
    identity.accounts.add(LOCAL, "ilham", [Role.AUDITOR], "du th\u00e9 \u00e0 la menthe")
    assert log_in(identity, "du the\u0301 a\u0300 la menthe")


def test_what_is_kept_lets_nobody_in(database, ilham):
    cookie = log_in(ilham).cookie
    secret, _ = ilham.tokens.issue(LOCAL, "ilham", "", [Permission.READ], 1)
    with database.read() as connection:
        kept = repr([connection.execute(select(table)).all() for table in (account, session, access_token, audit)])
    assert not [word for word in (PASSWORD, cookie, secret) if word in kept]
    assert cookie not in repr(Credential(Kind.SESSION, cookie))


def test_only_an_administrator_touches_accounts_and_tokens(ilham):
    nobody = Principal("amine", frozenset(Permission) - {Permission.ADMINISTER})
    for call in (
        lambda: ilham.accounts.add(nobody, "x", [Role.AUDITOR], None),
        lambda: ilham.accounts.find_all(nobody),
        lambda: ilham.accounts.remove(nobody, "ilham"),
        lambda: ilham.accounts.set_password(nobody, "ilham", PASSWORD),
        lambda: ilham.accounts.set_roles(nobody, "ilham", [Role.AUDITOR]),
        lambda: ilham.tokens.issue(nobody, "ilham", "", [Permission.READ], 1),
        lambda: ilham.tokens.find_all(nobody),
        lambda: ilham.tokens.revoke(nobody, 1),
    ):
        with pytest.raises(NotPermitted):
            call()


def test_who_was_removed_is_out_at_once(database, ilham):
    cookie = log_in(ilham).cookie
    secret, _ = ilham.tokens.issue(LOCAL, "ilham", "", [Permission.READ], 1)
    ilham.accounts.remove(LOCAL, "ilham")
    assert show(ilham, Kind.SESSION, cookie) is None
    assert show(ilham, Kind.TOKEN, secret) is None
    with pytest.raises(LoginFailed):
        log_in(ilham)
    with pytest.raises(AccountNotFound):
        ilham.accounts.remove(LOCAL, "ilham")
    (removed,) = ilham.accounts.find_all(LOCAL)
    assert removed.removed_at
    assert not removed.has_password
    assert ("account.remove", "success", "local", "ilham") in entries(database)


def test_another_password_ends_the_sessions(ilham):
    cookie = log_in(ilham).cookie
    ilham.accounts.set_password(LOCAL, "ilham", "another horse battery")
    assert show(ilham, Kind.SESSION, cookie) is None
    with pytest.raises(LoginFailed):
        log_in(ilham)
    assert log_in(ilham, "another horse battery")


def test_other_roles_count_for_sessions_and_tokens_that_there_are(ilham):
    cookie = log_in(ilham).cookie
    secret, _ = ilham.tokens.issue(LOCAL, "ilham", "", [Permission.READ], 1)
    ilham.accounts.set_roles(LOCAL, "ilham", [Role.RESEARCHER])
    assert show(ilham, Kind.SESSION, cookie).roles == {Role.RESEARCHER}
    assert show(ilham, Kind.TOKEN, secret).permissions == frozenset()


# Sessions


def test_a_session_ends_with_its_logout_and_with_its_time(database, ilham):
    first, second = log_in(ilham), log_in(ilham)
    ilham.logins.log_out(first.principal, first.cookie)
    assert show(ilham, Kind.SESSION, first.cookie) is None
    assert show(ilham, Kind.SESSION, second.cookie)
    past = datetime.now(UTC) - timedelta(seconds=1)
    database.write(lambda connection: connection.execute(update(session).values(expires_at=past)))
    assert show(ilham, Kind.SESSION, second.cookie) is None
    log_in(ilham)
    with database.read() as connection:
        assert len(connection.execute(select(session)).all()) == 1
    assert ("logout", "success", "ilham", "ilham") in entries(database)


def test_a_cookie_is_no_token_and_no_token_a_cookie(ilham):
    cookie = log_in(ilham).cookie
    secret, _ = ilham.tokens.issue(LOCAL, "ilham", "", [Permission.READ], 1)
    assert show(ilham, Kind.TOKEN, cookie) is None
    assert show(ilham, Kind.SESSION, secret) is None


# Wrong passwords


@pytest.mark.parametrize("name", ["ilham", "nobody-there"])
def test_wrong_passwords_cost_a_wait_whether_there_is_the_account_or_not(database, ilham, name):
    for _ in range(attempts.FREE_BY_NAME):
        with pytest.raises(LoginFailed):
            log_in(ilham, "wrong", name)
    hold_the_clock(database)
    with pytest.raises(TooManyAttempts) as raised:
        log_in(ilham, PASSWORD, name)
    assert raised.value.seconds >= 1


def test_the_wait_grows_and_has_an_end_and_passes(database, ilham):
    attempt = attempts.Attempt("ilham", ADDRESS)

    def wait_after(failures, seconds):
        at = datetime.now(UTC) - timedelta(seconds=seconds)
        database.write(
            lambda connection: connection.execute(update(login_attempt).values(failures=failures, last_at=at))
        )
        with database.read() as connection:
            return attempts.seconds_to_wait(connection, attempt)

    with pytest.raises(LoginFailed):
        log_in(ilham, "wrong")
    assert wait_after(4, 0) == 0
    assert wait_after(9, 0) > wait_after(7, 0) > 0
    assert wait_after(100, 0) <= attempts.LONGEST_WAIT_SECONDS + 1
    assert wait_after(9, 20) == 0
    assert wait_after(10_000, 3601) == 0


def test_the_right_password_is_forgiven_the_wrong_ones(ilham):
    for _ in range(3):
        for _ in range(attempts.FREE_BY_NAME - 1):
            with pytest.raises(LoginFailed):
                log_in(ilham, "wrong")
        log_in(ilham)


def test_one_address_cannot_try_every_name(database, ilham, monkeypatch):
    monkeypatch.setattr(attempts, "FREE_BY_ADDRESS", 3)
    for number in range(3):
        with pytest.raises(LoginFailed):
            log_in(ilham, "wrong", f"name{number}")
    hold_the_clock(database)
    with pytest.raises(TooManyAttempts):
        log_in(ilham)
    assert log_in(ilham, address="192.0.2.8")


def test_a_failed_login_is_recorded_without_what_was_typed_for_a_name(database, ilham):
    with pytest.raises(LoginFailed):
        log_in(ilham, "wrong")
    with pytest.raises(LoginFailed):
        log_in(ilham, "ilham", "my secret password")
    assert entries(database)[1:] == [("login", "refused", "ilham", "ilham"), ("login", "refused", "unknown", "")]


def test_an_account_without_a_password_has_no_login(identity):
    identity.accounts.add(LOCAL, "ct-1", [Role.DEVICE], None)
    for password in ("", "wrong"):
        with pytest.raises(LoginFailed):
            log_in(identity, password, "ct-1")


def test_a_password_of_an_account_that_is_not_there_is_looked_at_all_the_same(monkeypatch):
    passwords, looked_at = Passwords(), []
    monkeypatch.setattr(type(passwords._hasher), "verify", lambda _, kept, __: looked_at.append(kept) or True)
    assert not passwords.is_right("right", "")
    assert looked_at == [passwords._nobodys]


# Tokens


def test_a_token_may_do_what_it_is_for_and_what_its_account_may(database, ilham):
    secret, token = ilham.tokens.issue(LOCAL, "ilham", "export", [Permission.READ, Permission.RESEARCH], 30)
    principal = show(ilham, Kind.TOKEN, secret)
    assert (principal.name, principal.session) == ("ilham", f"token-{token.id}")
    assert principal.permissions == {Permission.READ, Permission.RESEARCH}
    assert ilham.tokens.find_all(LOCAL) == [token]
    assert ilham.tokens.find_all(LOCAL, "another") == []
    with database.read() as connection:
        facts = connection.execute(select(audit.c.facts).where(audit.c.kind == "token.issue")).scalar_one()
    assert orjson.loads(facts) == {"token": token.id, "scopes": ["read", "research"], "days": 30}


def test_a_token_of_a_scope_brings_no_role_that_has_nothing_of_it(identity):
    identity.accounts.add(LOCAL, "ilham", [Role.RADIOLOGIST, Role.STEWARD, Role.AUDITOR], None)
    secret, _ = identity.tokens.issue(LOCAL, "ilham", "", [Permission.READ], 1)
    assert show(identity, Kind.TOKEN, secret).roles == {Role.RADIOLOGIST}


def test_a_token_ends_with_its_day_or_before(database, ilham):
    secret, token = ilham.tokens.issue(LOCAL, "ilham", "", [Permission.READ], 1)
    other, _ = ilham.tokens.issue(LOCAL, "ilham", "", [Permission.READ], 1)
    ilham.tokens.revoke(LOCAL, token.id)
    assert show(ilham, Kind.TOKEN, secret) is None
    past = datetime.now(UTC) - timedelta(seconds=1)
    assert show(ilham, Kind.TOKEN, other)
    database.write(lambda connection: connection.execute(update(access_token).values(expires_at=past)))
    assert show(ilham, Kind.TOKEN, other) is None
    with pytest.raises(TokenNotFound):
        ilham.tokens.revoke(LOCAL, token.id)
    assert entries(database)[-1] == ("token.revoke", "success", "local", "ilham")


def test_a_token_has_bounds(ilham):
    for wrong in (
        {"scopes": []},
        {"scopes": [Permission.DELETE]},
        {"days": 0},
        {"days": 400},
        {"label": "x" * 101},
        {"label": "\x1b[2J"},
    ):
        asked = {"label": "", "scopes": [Permission.READ], "days": 1} | wrong
        with pytest.raises(InvalidAccount):
            ilham.tokens.issue(LOCAL, "ilham", **asked)


# Recognising


def test_without_any_account_the_archive_is_open_and_asks_seldom(database):
    now = [0.0]
    identity = build_identity(database)
    recogniser = Recogniser(database, lambda: now[0])
    assert recogniser.recall(None) is None
    assert recogniser.recognise(None) is OPEN
    identity.accounts.add(LOCAL, "ilham", [Role.RADIOLOGIST], PASSWORD)
    assert recogniser.recall(None) is OPEN
    now[0] += KEPT_SECONDS
    assert recogniser.recall(None) is None
    assert recogniser.recognise(None) is NOBODY
    assert recogniser.recall(None) is NOBODY
    identity.accounts.remove(LOCAL, "ilham")
    assert recogniser.recognise(None) is NOBODY
    assert Recogniser(database).recognise(None) is NOBODY


def test_who_was_recognised_is_remembered_for_some_seconds(database, ilham):
    now = [0.0]
    recogniser = Recogniser(database, lambda: now[0])
    login = log_in(ilham)
    credential = Credential(Kind.SESSION, login.cookie)
    assert recogniser.recall(credential) is None
    recogniser.recognise(credential)
    ilham.logins.log_out(login.principal, login.cookie)
    assert recogniser.recall(credential).principal == login.principal
    now[0] += KEPT_SECONDS
    assert recogniser.recall(credential) is None
    assert recogniser.recognise(credential) is NOBODY


def test_what_is_forgotten_is_asked_for_again(database, ilham):
    login = log_in(ilham)
    credential = Credential(Kind.SESSION, login.cookie)
    ilham.recogniser.recognise(credential)
    ilham.recogniser.forget(credential)
    assert ilham.recogniser.recall(credential) is None


def test_what_is_remembered_has_an_end(database, ilham, monkeypatch):
    monkeypatch.setattr("pacs.identity.recognition.MAX_KEPT", 3)
    for _ in range(8):
        ilham.recogniser.recognise(Credential(Kind.SESSION, log_in(ilham).cookie))
    assert len(ilham.recogniser._kept) <= 3
