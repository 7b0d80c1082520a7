"""Who comes in: known before anything else looks at the request."""

import pytest

from dicomweb.auth import Doorkeeper, is_loopback
from pacs.access import Permission, Role


def connection(**fields):
    headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    return {"type": "http", "headers": headers}


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "127.0.0.1", "localhost:9", "[::1]:8080", "127.3.2.1"])
def test_who_comes_from_this_machine_to_the_demo_may_do_everything_but_delete(host):
    principal = Doorkeeper(is_local=True).recall(connection(host=host))
    assert (principal.name, principal.roles) == ("local", frozenset(Role))
    assert principal.permissions == frozenset(Permission) - {Permission.DELETE}


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "pacs.example"},
        {"host": ""},
        {},
        {"host": "localhost.example:8080"},
        {"host": "[::1"},
        {"host": "localhost", "x_forwarded_for": "192.0.2.1"},
        {"host": "localhost", "via": "1.1 proxy"},
    ],
)
def test_who_was_passed_on_or_led_astray_to_the_demo_is_anybody(fields):
    principal = Doorkeeper(is_local=True).recall(connection(**fields))
    assert (principal.name, principal.roles) == ("http", frozenset())
    assert Permission.RESEARCH not in principal.permissions


@pytest.mark.parametrize("is_local", [True, False])
def test_whoever_comes_in_may_delete_where_the_settings_say_so(is_local):
    principal = Doorkeeper(is_local=is_local, may_delete=True).recall(connection(host="localhost"))
    assert Permission.DELETE in principal.permissions
    assert Permission.READ in principal.permissions


def test_loopback_is_an_address_or_the_name_of_one():
    assert all(is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "", "192.0.2.1", "localhost.example"))
