"""The container files keep their promises as far as files can: no engine runs them here."""

import re
from pathlib import Path
from typing import Any

import pytest

from pacs.config import load_settings

yaml = pytest.importorskip("yaml", reason="needs PyYAML (pip install pyyaml)")

PROJECT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LASTING = {name: service for name, service in SERVICES.items() if service["restart"] != "no"}
SECRETS = {"POSTGRES_PASSWORD", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"}
INSTRUCTIONS = [
    line
    for line in (PROJECT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    if line.strip() and not line.startswith("#")
]

every_service = pytest.mark.parametrize("name", SERVICES)
every_lasting_service = pytest.mark.parametrize("name", LASTING)


def text_of(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


@every_service
def test_service_is_hardened(name: str):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert "pid" not in service
    assert service.get("network_mode", "none") == "none"


@every_lasting_service
def test_service_runs_as_somebody_without_privileges_and_comes_back(name: str):
    service = SERVICES[name]
    user, _, group = service["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert "cap_add" not in service
    assert service["restart"] == "unless-stopped"


def test_the_one_step_that_runs_as_root_may_only_change_an_owner_and_has_no_network():
    (name,) = SERVICES.keys() - LASTING.keys()
    service = SERVICES[name]
    assert service["cap_add"] == ["CHOWN"]
    assert service["network_mode"] == "none"
    assert "ports" not in service


@every_service
def test_image_is_pinned_to_a_version(name: str):
    _, _, tag = SERVICES[name]["image"].rpartition(":")
    assert re.search(r"\d", tag)
    assert tag != "latest"


@every_lasting_service
def test_service_says_when_it_is_healthy(name: str):
    if name == "archive":
        assert any(line.startswith("HEALTHCHECK") and "/readyz" in line for line in INSTRUCTIONS)
    else:
        assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_archive_waits_until_database_and_objects_are_healthy():
    conditions = {name: wait["condition"] for name, wait in SERVICES["archive"]["depends_on"].items()}
    assert conditions == {"database": "service_healthy", "objects": "service_healthy"}


def test_only_the_archive_publishes_ports_and_only_on_loopback_by_default():
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["archive"]
    for port in SERVICES["archive"]["ports"]:
        assert port.startswith("${PACS_PUBLISH_ADDRESS:-127.0.0.1}:")


def test_database_and_objects_have_no_way_out():
    assert COMPOSE["networks"]["back"] == {"internal": True}
    assert SERVICES["database"]["networks"] == ["back"]
    assert SERVICES["objects"]["networks"] == ["back"]


def test_what_must_last_is_in_named_volumes():
    named = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    assert named == set(COMPOSE["volumes"]) == {"database", "objects", "spool"}


def variables(text: str) -> list[tuple[str, str]]:
    return re.findall(r"\$\{(\w+)(:?[?+-])?[^}]*\}", text)


def test_compose_refuses_to_start_without_each_secret():
    used = variables(text_of("compose.yaml"))
    assert {name for name, _ in used} >= SECRETS
    for name, operator in used:
        assert operator == (":?" if name in SECRETS else ":-"), name


def test_no_password_is_written_anywhere():
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|ACCESS_KEY", key):
                assert value.startswith("${"), key
    assert ".env\n" in text_of(".gitignore")
    assert text_of(".dockerignore").split("\n")[1] == "*"


def test_env_example_names_every_secret_with_a_sentence_and_no_value():
    assignments = dict(re.findall(r"^(\w+)=(.*)$", text_of(".env.example"), re.MULTILINE))
    assert assignments == dict.fromkeys(SECRETS, "")
    for name in SECRETS:
        assert re.search(rf"^# .+\.\n{name}=$", text_of(".env.example"), re.MULTILINE), name


def test_archive_settings_are_settings_that_exist():
    environment = {
        key: re.sub(r"\$\{\w+(?::-([^}]*)|[^}]*)\}", lambda found: found[1] or "value", text)
        for key, text in SERVICES["archive"]["environment"].items()
    }
    in_image = dict(re.findall(r"(PACS_\w+)=(\S+)", next(line for line in INSTRUCTIONS if "PACS_DATA_DIR" in line)))
    settings = load_settings(None, in_image | environment)
    assert settings.storage_url == "s3://objects:9000/pacs?secure=false"
    assert settings.http.host == settings.dimse.host == "0.0.0.0"
    assert settings.dimse.port == 11112
    assert settings.http.port == 8080
    assert not settings.dimse.promiscuous


def test_image_is_built_from_pinned_bases_and_pinned_packages():
    stages = [line.split()[1::2] for line in INSTRUCTIONS if line.startswith("FROM")]
    names = {name for _, *name_of in stages for name in name_of}
    assert all(re.search(r":\d+\.\d+\.\d+-", base) for base, *_ in stages if base not in names)
    assert any("--constraint constraints.txt" in line for line in INSTRUCTIONS)


def test_image_runs_as_a_user_with_a_number_and_its_last_stage_installs_nothing():
    last_stage = INSTRUCTIONS[max(index for index, line in enumerate(INSTRUCTIONS) if line.startswith("FROM")) :]
    users = [line.split()[1] for line in last_stage if line.startswith("USER")]
    assert users == [SERVICES["archive"]["user"]]
    assert not [line for line in last_stage if re.search(r"apt-get|pip install|curl|wget", line)]
    assert not [line for line in INSTRUCTIONS if line.startswith("ADD")]
    assert any(line.startswith("ENTRYPOINT [") for line in last_stage)


def test_everything_that_the_image_copies_exists_and_is_let_through_to_the_builder():
    let_through = {line[1:] for line in text_of(".dockerignore").splitlines() if line.startswith("!")}
    for line in INSTRUCTIONS:
        if line.startswith("COPY") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert source in let_through, source
                assert (PROJECT / source).exists(), source
