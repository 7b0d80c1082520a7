"""Where releases are kept and how they are looked through, as the settings say."""

import logging

import pytest

from pacs.app import open_archive
from pacs.app.releases import PartitionOpener
from pacs.config import ResearchSettings, Settings
from pacs.deid import Reason
from pacs.errors import InvalidSetting
from pacs.research.model import QuarantineState
from pacs.research.releases import kept_back
from tests.releases import RESEARCHER, SLUG, STEWARD, build_patients, go_on, make, make_project, publish, store


def files_below(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.s3
def test_releases_lie_in_a_store_of_their_own_and_only_there(tmp_path, minio_server):
    url = f"s3://{minio_server.endpoint}/{minio_server.bucket}/{tmp_path.name}?secure=false"
    keys = {"access_key": minio_server.access_key, "secret_key": minio_server.secret_key}
    settings = Settings(data_dir=tmp_path / "archive", research=ResearchSettings(storage_url=url, **keys))
    with open_archive(settings) as parts:
        datasets = build_patients(6)
        store(parts, *datasets)
        before = files_below(tmp_path / "archive" / "objects")
        release = publish(parts, make_project(parts))
        assert release.counts.instances == len(datasets)
        _, chunks = parts.research.releases.open_manifest(RESEARCHER, SLUG)
        assert len(b"".join(chunks).splitlines()) == len(datasets)
        assert files_below(tmp_path / "archive" / "objects") == before
        assert not (tmp_path / "archive" / "research-objects").exists()
        parts.research.releases.withdraw(STEWARD, SLUG, release.version, reason="The end")
        parts.research.releases.abandon(STEWARD, SLUG, release.version, reason="The end")
        go_on(parts, release)
        opener: PartitionOpener = parts.build_releases._open_partition
        assert list(opener._stores.durable.iter_keys()) == []


def test_a_store_without_its_credentials_is_refused_by_name(tmp_path):
    settings = Settings(data_dir=tmp_path / "archive", research=ResearchSettings(storage_url="s3://127.0.0.1:9/b"))
    with pytest.raises(InvalidSetting, match=r"research\.storage_url \(PACS_RESEARCH__STORAGE_URL\) is wrong"):
        open_archive(settings).__enter__()


def test_text_cannot_be_read_without_what_reads_it(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    settings = Settings(data_dir=tmp_path / "archive", research=ResearchSettings(reads_text=True))
    with pytest.raises(InvalidSetting, match=r"research\.reads_text .* tesseract"):
        open_archive(settings).__enter__()


def test_text_that_is_read_in_pixels_keeps_an_object_back(tmp_path, monkeypatch):
    monkeypatch.setattr("pacs.app.research.open_lettering", lambda: lambda _: True)
    settings = Settings(data_dir=tmp_path / "archive", research=ResearchSettings(reads_text=True))
    with open_archive(settings) as parts:
        store(parts, *build_patients(5, instances=1))
        made = make(parts, make_project(parts))
        held = parts.research.releases.list_quarantine(STEWARD, SLUG, made.version)
        assert [one.reasons for one in held] == [("lettering",)] * 5
        numbers = [one.id for one in held]
        parts.research.releases.decide(STEWARD, SLUG, made.version, numbers, QuarantineState.RELEASED)
        assert go_on(parts, made).pending == 0


def test_no_value_of_a_patient_is_in_the_log_of_a_release(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with open_archive(Settings(data_dir=tmp_path / "archive")) as parts:
        store(parts, *build_patients(5, instances=1))
        caplog.clear()
        publish(parts, make_project(parts))
    assert "TAZI" not in caplog.text
    assert "MRN" not in caplog.text


def test_every_reason_has_a_sentence_and_the_engine_says_which_can_be_set_aside():
    for reason in [*kept_back.OWN_REASONS, *(reason.value for reason in Reason)]:
        assert kept_back.sentence_of(reason).endswith(".")
    assert all(kept_back.is_releasable(reason) for reason in kept_back.OWN_REASONS)
    assert not kept_back.is_releasable(Reason.PARSE_ERROR.value)
