import json

import pytest

from pacs.config import describe, load_settings
from pacs.errors import InvalidSetting


def load(tmp_path, text="", environment=None, overrides=None):
    file = tmp_path / "pacs.toml"
    file.write_text(text)
    return load_settings(file, environment or {}, overrides)


def test_without_any_setting_both_doors_listen_on_loopback(tmp_path):
    settings = load(tmp_path)
    assert (settings.http.host, settings.http.port) == ("127.0.0.1", 8080)
    assert (settings.dimse.host, settings.dimse.port, settings.dimse.ae_title) == ("127.0.0.1", 11112, "PACS")


def test_defaults_live_in_the_data_directory(tmp_path):
    settings = load(tmp_path, f'data_dir = "{tmp_path}"')
    assert settings.storage_url == f"file://{tmp_path}/objects"
    assert settings.database_url == f"sqlite:///{tmp_path}/index.sqlite"


def test_environment_wins_over_file_and_command_line_over_both(tmp_path):
    settings = load(
        tmp_path,
        "[http]\nport = 1001\n[dimse]\nport = 1002\nae_title = 'FILE'",
        {"PACS_HTTP__PORT": "2001", "PACS_DIMSE__PORT": "2002"},
        {"dimse": {"port": 3002}},
    )
    assert (settings.http.port, settings.dimse.port, settings.dimse.ae_title) == (2001, 3002, "FILE")


@pytest.mark.parametrize(
    ("text", "environment", "named"),
    [
        ("[http]\nport = 70000", {}, "http.port"),
        ("[http]\nprot = 80", {}, "http.prot"),
        ("", {"PACS_DIMSE__AE_TITLE": "MORE THAN 16 CHARACTERS"}, "PACS_DIMSE__AE_TITLE"),
        ("", {"PACS_HTTP__PORT": "eighty"}, "PACS_HTTP__PORT"),
        ("[ingest]\nduplicate_policy = 'guess'", {}, "ingest.duplicate_policy"),
        ("[http", {}, "TOML"),
    ],
)
def test_wrong_setting_is_one_sentence_that_names_it(tmp_path, text, environment, named):
    with pytest.raises(InvalidSetting) as caught:
        load(tmp_path, text, environment)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidSetting, match=r"absent\.toml"):
        load_settings(tmp_path / "absent.toml", {})


def test_variables_that_a_container_platform_sets_are_not_ours(tmp_path):
    assert load(tmp_path, "", {"PACS_SERVICE_HOST": "10.0.0.1", "PACS_PORT": "tcp://10.0.0.1:80"}) == load(tmp_path)


def test_printed_settings_hide_every_secret(tmp_path):
    secret = "s3cret-and-long"
    settings = load(
        tmp_path,
        "",
        {
            "PACS_STORAGE__SECRET_KEY": secret,
            "PACS_DATABASE__URL": f"postgresql://pacs:{secret}@db.example/pacs",
        },
    )
    printed = json.dumps(describe(settings))
    assert secret not in printed
    assert "db.example/pacs" in printed
    assert secret not in repr(settings)


def test_origins_of_pages_come_from_the_environment_separated_by_commas(tmp_path):
    one, two = "https://viewer.example", "https://reading.example"
    given = load(tmp_path, environment={"PACS_HTTP__CORS_ORIGINS": f"{one}, {two}"})
    listed = load(tmp_path, f"[http]\ncors_origins = ['{one}', '{two}']")
    assert given.http.cors_origins == listed.http.cors_origins == (one, two)
