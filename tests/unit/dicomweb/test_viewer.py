"""The viewer's door: what is served, what never is, and what the browser is told to forbid."""

import asyncio
import base64
import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import httpx
import pytest
from starlette.types import ASGIApp

from dicomweb import ohif
from dicomweb.ohif import MARKER, VERSION, ViewerUnavailable, fetch_viewer, is_current, unpack
from dicomweb.viewer import build_config, create_viewer
from pacs.imaging.syntaxes import lookup

INLINE = "window.PUBLIC_URL='/'"
INDEX = f"<!doctype html><script>{INLINE}</script><script defer src='/app.bundle.0123456789abcdef.js'></script>"
SCRIPT = "console.log('viewer');" * 500


class Client:
    """httpx over ASGI, in step with the test; Starlette's own test client warns about httpx."""

    def __init__(self, app: ASGIApp) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=True)

    def request(self, method: str, path: str, **options) -> httpx.Response:
        async def send() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://archive.test") as client:
                return await client.request(method, path, **options)

        return asyncio.run(send())

    def get(self, path: str, **options) -> httpx.Response:
        return self.request("GET", path, **options)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "viewer"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(INDEX)
    (folder / "app-config.js").write_text("window.config = {'from': 'the package'}")
    (folder / "app.bundle.0123456789abcdef.js").write_text(SCRIPT)
    (folder / "app.bundle.0123456789abcdef.js.gz").write_bytes(gzip.compress(SCRIPT.encode()))
    (folder / "app.bundle.css").write_text("body {}")
    (folder / "5130ccb17e3f3f5b.wasm").write_bytes(b"\0asm")
    (folder / MARKER).write_text(VERSION)
    (tmp_path / "secret.txt").write_text("secret")
    return folder


@pytest.fixture
def client(directory: Path) -> Client:
    return Client(create_viewer(directory))


@pytest.mark.parametrize("path", ["/", "/index.html", "/viewer?StudyInstanceUIDs=1.2.3", "/segmentation/dicomweb"])
def test_pages_of_the_viewers_router_are_its_index(client: Client, path: str):
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.text == INDEX
    assert answer.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "path",
    ["/dicom-web/nowhere", "/docs/x", "/healthz", "/readyz", "/metrics", "/openapi.json", "/missing.js", "/a/b.png"],
)
def test_unknown_address_of_a_service_or_a_file_is_404_not_a_page(client: Client, path: str):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "path", ["/../secret.txt", "/%2e%2e/secret.txt", "/assets/..%2f..%2fsecret.txt", f"/{MARKER}", "/%00.js"]
)
def test_nothing_outside_the_folder_and_nothing_hidden_is_served(client: Client, path: str):
    answer = client.get(path)
    assert answer.status_code == 404
    assert "secret" not in answer.text


def test_hashed_bundles_are_kept_for_ever_and_other_files_are_asked_for_again(client: Client):
    assert "immutable" in client.get("/app.bundle.0123456789abcdef.js").headers["Cache-Control"]
    assert "immutable" in client.get("/5130ccb17e3f3f5b.wasm").headers["Cache-Control"]
    assert client.get("/app.bundle.css").headers["Cache-Control"] == "no-cache"
    assert client.get("/app-config.js").headers["Cache-Control"] == "no-cache"


def test_compressed_twin_is_sent_to_who_can_read_it(client: Client):
    small = client.get("/app.bundle.0123456789abcdef.js", headers={"Accept-Encoding": "gzip"})
    plain = client.get("/app.bundle.0123456789abcdef.js", headers={"Accept-Encoding": "identity"})
    assert small.headers["Content-Encoding"] == "gzip"
    assert int(small.headers["Content-Length"]) < len(SCRIPT)
    assert "Content-Encoding" not in plain.headers
    assert small.text == plain.text == SCRIPT
    for answer in (small, plain):
        assert answer.headers["Content-Type"].startswith("text/javascript")
        assert answer.headers["Vary"] == "Accept-Encoding"
    assert small.headers["ETag"] != plain.headers["ETag"]


def test_unchanged_file_is_not_sent_again(client: Client):
    first = client.get("/app.bundle.css")
    again = client.get("/app.bundle.css", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    assert again.headers["Cache-Control"] == first.headers["Cache-Control"]


def test_wasm_has_the_type_that_browsers_demand(client: Client):
    assert client.get("/5130ccb17e3f3f5b.wasm").headers["Content-Type"] == "application/wasm"


def test_only_reading_is_allowed(client: Client):
    assert client.request("POST", "/").status_code == 405
    assert client.request("DELETE", "/app.bundle.css").status_code == 405
    assert client.request("HEAD", "/").status_code == 200


@pytest.mark.parametrize("path", ["/", "/app.bundle.css", "/missing.js", "/app-config.js"])
def test_every_answer_carries_the_security_headers(client: Client, path: str):
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert "default-src 'self'" in headers["Content-Security-Policy"]


def directives(answer: httpx.Response) -> dict[str, list[str]]:
    parts = (part.split() for part in answer.headers["Content-Security-Policy"].split(";"))
    return {name: sources for name, *sources in parts}


def test_page_may_run_its_own_inline_scripts_and_no_others(client: Client):
    digest = base64.b64encode(hashlib.sha256(INLINE.encode()).digest()).decode()
    sources = directives(client.get("/"))["script-src"]
    assert sources == ["'self'", "'wasm-unsafe-eval'", "'unsafe-eval'", f"'sha256-{digest}'"]


def test_policy_names_no_other_host(client: Client):
    for path in ("/", "/app.bundle.css"):
        for sources in directives(client.get(path)).values():
            assert not [source for source in sources if "." in source or source == "*" or source.startswith("http")]


def test_config_makes_this_archive_the_only_source(client: Client):
    text = client.get("/app-config.js").text
    assert text == build_config()
    assert "://" not in text
    config, _, tail = text.removeprefix("window.config = ").partition(";\n")
    (source,) = json.loads(config)["dataSources"]
    assert source["configuration"]["imageRendering"] == "wadors"
    assert source["configuration"]["supportsFuzzyMatching"] is True
    assert 'window.location.origin + "/dicom-web"' in tail


def test_config_asks_for_progressive_frames_first_and_uncompressed_ones_before_anything_lossy():
    config = json.loads(build_config().removeprefix("window.config = ").partition(";\n")[0])
    asked = config["dataSources"][0]["configuration"]["acceptHeader"]
    syntaxes = [parameter.split("=")[1] for _, _, parameter in (one.split("; ") for one in asked)]
    assert syntaxes[:2] == ["1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.1"]
    assert not any(lookup(syntax).is_lossless for syntax in syntaxes[2:])


@pytest.mark.parametrize("nothing", [None, "absent"])
def test_without_a_viewer_the_page_says_what_is_here_and_how_to_get_one(tmp_path: Path, nothing: str | None):
    client = Client(create_viewer(tmp_path / nothing if nothing else None))
    answer = client.get("/")
    assert answer.status_code == 200
    assert "pacs fetch-viewer" in answer.text
    assert "/dicom-web" in answer.text
    assert client.get("/app.bundle.js").status_code == 404


def test_viewer_that_comes_later_is_served_without_a_restart(tmp_path: Path, directory: Path):
    client = Client(create_viewer(tmp_path / "later"))
    assert "pacs fetch-viewer" in client.get("/").text
    directory.rename(tmp_path / "later")
    assert client.get("/").text == INDEX
    assert client.get("/app.bundle.css").text == "body {}"


def package(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


GOOD = (
    ("package/package.json", b"{}"),
    ("package/dist/index.html", INDEX.encode()),
    ("package/dist/app.bundle.js", SCRIPT.encode()),
    ("package/dist/app.bundle.js.map", b"map"),
    ("package/dist/assets/logo.svg", b"<svg/>"),
    ("package/dist/sw.js", b"importScripts('https://cdn.example')"),
    ("package/dist/ort/ort.wasm", b"\0asm"),
)


def pin(monkeypatch: pytest.MonkeyPatch, tarball: Path) -> None:
    """Make ``tarball`` the pinned package, as if the registry had sent it."""
    digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    monkeypatch.setattr(ohif, "TARBALL_SHA512", digest)
    monkeypatch.setattr(ohif, "TARBALL_BYTES", tarball.stat().st_size)
    monkeypatch.setattr(ohif, "TARBALL_URL", tarball.as_uri())
    monkeypatch.setenv("PATH", "")


def test_fetched_viewer_holds_what_is_served_and_compressed_twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pin(monkeypatch, package(tmp_path / "app.tgz", *GOOD))
    heard: list[tuple[int, int]] = []
    target = fetch_viewer(tmp_path / "data" / "viewer", lambda done, total: heard.append((done, total)))
    files = sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
    assert files == [MARKER, "app.bundle.js", "app.bundle.js.gz", "assets/logo.svg", "index.html"]
    assert gzip.decompress((target / "app.bundle.js.gz").read_bytes()) == SCRIPT.encode()
    assert heard[-1] == (ohif.TARBALL_BYTES, ohif.TARBALL_BYTES)
    assert is_current(target)
    assert list(target.parent.iterdir()) == [target]


def test_viewer_that_is_there_is_not_fetched_again(tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ohif, "TARBALL_URL", (tmp_path / "absent").as_uri())
    monkeypatch.setenv("PATH", "")
    assert fetch_viewer(directory, lambda *_: pytest.fail("nothing is to be fetched")) == directory


def test_older_viewer_is_replaced(tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch):
    pin(monkeypatch, package(tmp_path / "app.tgz", *GOOD))
    (directory / MARKER).write_text("3.0.0")
    fetch_viewer(directory, lambda *_: None)
    assert is_current(directory)
    assert not (directory / "5130ccb17e3f3f5b.wasm").exists()


def test_folder_with_other_files_is_left_alone(tmp_path: Path):
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(ViewerUnavailable, match="other files"):
        fetch_viewer(tmp_path, lambda *_: None)
    assert (tmp_path / "letters.txt").read_text() == "mine"


def test_package_with_another_digest_is_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tarball = package(tmp_path / "app.tgz", *GOOD)
    pin(monkeypatch, tarball)
    package(tarball, *GOOD, ("package/dist/more.js", b"1"))
    monkeypatch.setattr(ohif, "TARBALL_BYTES", tarball.stat().st_size)
    with pytest.raises(ViewerUnavailable, match="not what was pinned"):
        fetch_viewer(tmp_path / "data" / "viewer", lambda *_: None)
    assert list((tmp_path / "data").iterdir()) == []


def test_no_network_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ohif, "TARBALL_URL", "http://127.0.0.1:9/app.tgz")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ViewerUnavailable, match="could not be downloaded; is there a network"):
        fetch_viewer(tmp_path / "viewer", lambda *_: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["package/dist/../../evil.js", "package/dist/..\\evil.js", "package/dist/C:evil.js"])
def test_member_that_would_leave_the_folder_is_refused(tmp_path: Path, name: str):
    tarball = package(tmp_path / "app.tgz", *GOOD, (name, b"evil"))
    with pytest.raises(ViewerUnavailable, match="no place in it"):
        unpack(tarball, tmp_path / "viewer")
    assert not list(tmp_path.rglob("*evil*"))


def test_links_are_not_unpacked(tmp_path: Path):
    tarball = tmp_path / "app.tgz"
    with tarfile.open(tarball, "w:gz") as archive:
        for name, content in GOOD:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("package/dist/link.js")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    unpack(tarball, tmp_path / "viewer")
    assert not (tmp_path / "viewer" / "link.js").exists()


@pytest.mark.parametrize("content", [b"", b"not a tarball", b"\x1f\x8b\x08\x00"])
def test_package_that_is_no_package_is_one_sentence(tmp_path: Path, content: bytes):
    tarball = tmp_path / "app.tgz"
    tarball.write_bytes(content)
    with pytest.raises(ViewerUnavailable, match="cannot be unpacked"):
        unpack(tarball, tmp_path / "viewer")
