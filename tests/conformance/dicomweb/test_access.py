"""Every route of the archive as it is served, for everybody who may come: what one may not see is not there."""

import re
from itertools import count

import httpx
import pytest
from argon2 import PasswordHasher
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from dicomweb import auth, login_texts
from dicomweb.pages import LANGUAGES
from dicomweb.rules import Rules
from pacs.access import LOCAL, Permission, Role, permissions_of
from pacs.app import open_archive
from pacs.app.web import build_http
from pacs.audit.log import Chosen
from pacs.config import Settings, StorageSettings
from pacs.errors import Unavailable
from pacs.identity import attempts
from tests.builders import as_part10, build_ct, new_uid
from tests.conformance.dicomweb.service import MULTIPART_DICOM, multipart_body, serving

CLINICAL = {Role.RADIOLOGIST, Role.TECHNICIAN, Role.ADMINISTRATOR, Role.DEVICE}
PEOPLE = set(Role) - {Role.DEVICE}
CORRECTORS = {Role.TECHNICIAN, Role.ADMINISTRATOR}
ADMINISTRATORS = {Role.ADMINISTRATOR}

WHO = {
    # An address: who sees what is there, and who may change it
    "/healthz": (None, None),
    "/readyz": (None, None),
    "/style": (None, None),
    "/login": (None, None),
    "/logout": (None, None),
    "/docs": (set(Role), set(Role)),
    "/openapi.json": (set(Role), set(Role)),
    "/dicom-web": (CLINICAL, CLINICAL),
    "/wado": (CLINICAL, CLINICAL),
    "/worklist": (CLINICAL, CLINICAL),
    "/corrections": (CLINICAL, CORRECTORS),
    "/conflicts": (CLINICAL, CORRECTORS),
    "/withheld": (CLINICAL, CORRECTORS),
    "/queue": (CLINICAL, ADMINISTRATORS),
    "/changes": (CLINICAL, ADMINISTRATORS),
    "/research": (PEOPLE, PEOPLE),
}
"""None is everybody. What one sees and may change is still for each use case to allow: these are the doors."""

NOTHING = b'{"status":404,"error":"HttpError","message":"There is nothing here."}'
VALUES = {"study": "1.2", "series": "1.2.3", "instance": "1.2.3.4", "frames": "1", "path": "7FE00010", "aetitle": "AE"}
VALUES |= {"workitem": "1.2.5", "step_id": "1", "correction_id": "1", "conflict_id": "1", "name": "pages.css"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The application of a site with an account for each role, its server's address, and a token for each account."""
    folder = tmp_path_factory.mktemp("site")
    settings = Settings(data_dir=folder, storage=StorageSettings(url="memory:"))
    with pytest.MonkeyPatch.context() as patched, open_archive(settings) as parts:
        for logins in (parts.identity.accounts, parts.identity.logins):  # passwords in a thousandth of the time
            patched.setattr(logins._passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        tokens = {}
        for role in Role:
            parts.identity.accounts.add(LOCAL, role.value, [role], None)
            tokens[role], _ = parts.identity.tokens.issue(LOCAL, role.value, "", permissions_of([role]), 1)
        app = build_http(settings, parts, on_ready=lambda: None, on_stop=lambda: None).config.app
        with serving(app, ws="websockets-sansio") as address:
            yield app, address, tokens, parts


@pytest.fixture
def ask(site):
    """Ask as somebody with a role, or as nobody in particular."""
    _, address, tokens, _ = site

    def ask(role, method, path, **options):
        headers = {"Authorization": f"Bearer {tokens[role]}"} if role else {}
        return httpx.request(
            method, address + path, headers=headers | options.pop("headers", {}), timeout=30, **options
        )

    return ask


def iter_routes(routes):
    """Yield (method, path) of every route, whichever router it belongs to; the viewer's mount has neither."""
    for route in routes:
        if hasattr(route, "original_router"):
            yield from iter_routes(route.original_router.routes)
        elif getattr(route, "methods", None):
            for method in sorted(route.methods - {"HEAD"}):
                yield method, re.sub(r"\{(\w+)(?::\w+)?\}", lambda match: VALUES.get(match[1], "1"), route.path)


REFUSALS = ("nothing there", "not permitted")


def row_of(path):
    return WHO["/" + path.split("/")[1]]


def test_every_route_has_a_row_in_the_table_of_rules_and_in_this_one(site):
    app, *_ = site
    routes = list(iter_routes(app.routes))
    assert len(routes) > 60
    rules = Rules("/dicom-web")
    assert [path for _, path in routes if rules.find_row(path) is None] == []
    assert {"/" + path.split("/")[1] for _, path in routes} <= set(WHO)


@pytest.mark.parametrize("role", [None, *Role], ids=lambda role: role or "nobody")
def test_what_each_route_answers_to(site, ask, role):
    app, *_ = site
    found, expected = {}, {}
    may_delete = role is not None and Permission.DELETE in permissions_of([role])
    for method, path in iter_routes(app.routes):
        see, change = row_of(path)
        response = ask(role, method, path)
        key = f"{method} {path}"
        found[key] = kind_of(response)
        if see is None or method == "OPTIONS":
            expected[key] = "let in"
        elif role is None:
            expected[key] = "log in"
        elif role not in see:
            expected[key] = "nothing there"
        elif (method != "GET" and role not in change) or (needs_delete(method, path) and not may_delete):
            expected[key] = "not permitted"
        else:
            expected[key] = "let in"
        if expected[key] == "let in" and path.startswith("/research") and found[key] in REFUSALS:
            expected[key] = found[key]  # who may do what in which project is for the projects to say
        if path in ("/login", "/logout") and method == "POST":
            expected[key] = found[key] = "a form"
    assert found == expected


def needs_delete(method, path):
    return method == "DELETE" and path.startswith("/dicom-web/studies/")


def kind_of(response):
    if response.status_code == 401:
        assert response.headers["WWW-Authenticate"] == "Bearer"
        return "log in"
    if response.status_code == 403:
        return "not permitted"
    if response.status_code == 404 and response.content == NOTHING:
        return "nothing there"
    return "let in"


@pytest.mark.parametrize("role", [None, *sorted(set(Role) - CLINICAL)], ids=lambda role: role or "nobody")
def test_what_is_there_and_what_is_not_are_told_apart_by_no_byte(site, ask, role):
    dataset = build_ct()
    body = multipart_body(as_part10(dataset))
    assert ask(Role.DEVICE, "POST", "/dicom-web/studies", content=body, headers={"Content-Type": MULTIPART_DICOM})
    there, absent = str(dataset.StudyInstanceUID), new_uid()
    assert ask(Role.RADIOLOGIST, "GET", f"/dicom-web/studies/{there}/metadata").status_code == 200
    assert ask(Role.RADIOLOGIST, "GET", f"/dicom-web/studies/{absent}/metadata").status_code == 404
    for template in (
        "/dicom-web/studies/{}/metadata",
        "/dicom-web/studies/{}",
        "/dicom-web/studies?StudyInstanceUID={}",
    ):
        for method in ("GET", "HEAD", "POST", "DELETE"):
            first, second = (ask(role, method, f"/dicom-web/{template.format(uid)}") for uid in (there, absent))
            assert without_date(first) == without_date(second)
    nowhere = ask(role, "GET", "/dicom-web/nowhere")
    assert without_date(nowhere) == without_date(ask(role, "GET", f"/dicom-web/studies/{there}"))


def without_date(response):
    return response.status_code, [pair for pair in response.headers.items() if pair[0] != "date"], response.content


@pytest.mark.parametrize(
    ("role", "status"),
    [(None, 401), (Role.RESEARCHER, 404), (Role.RADIOLOGIST, 101)],
    ids=["nobody", "blind", "clinical"],
)
def test_a_websocket_is_a_door_as_well(site, role, status):
    _, address, tokens, _ = site
    headers = {"Authorization": f"Bearer {tokens[role]}"} if role else {}
    url = f"{address.replace('http', 'ws', 1)}/dicom-web/subscribers/AE"
    if status == 101:
        with connect(url, additional_headers=headers):
            return
    with pytest.raises(InvalidStatus) as refused:
        connect(url, additional_headers=headers)
    assert refused.value.response.status_code == status


def test_a_wrong_token_is_nobody(site, ask):
    for value in ("Bearer wrong", "Bearer", "Basic YTpi", "bearer pacs_x y", b"Bearer \xe9"):
        response = ask(None, "GET", "/dicom-web/studies", headers={"Authorization": value})
        assert response.status_code == 401


def test_a_token_may_do_no_more_than_what_it_is_for(site):
    _, address, _, parts = site
    secret, _ = parts.identity.tokens.issue(LOCAL, "administrator", "", [Permission.READ], 1)
    headers = {"Authorization": f"Bearer {secret}"}
    assert httpx.get(f"{address}/dicom-web/studies", headers=headers).is_success
    for method, path in (
        ("POST", "/dicom-web/studies"),
        ("POST", "/corrections"),
        ("DELETE", "/dicom-web/studies/1.2"),
    ):
        assert httpx.request(method, address + path, headers=headers).status_code == 403
    assert httpx.get(f"{address}/research", headers=headers).status_code == 404


def test_a_token_that_is_revoked_is_nobodys_within_seconds(site, monkeypatch):
    _, address, _, parts = site
    monkeypatch.setattr("pacs.identity.recognition.KEPT_SECONDS", 0.0)
    secret, token = parts.identity.tokens.issue(LOCAL, "radiologist", "", [Permission.READ], 1)
    headers = {"Authorization": f"Bearer {secret}"}
    assert httpx.get(f"{address}/dicom-web/studies", headers=headers).is_success
    parts.identity.tokens.revoke(LOCAL, token.id)
    assert httpx.get(f"{address}/dicom-web/studies", headers=headers).status_code == 401


# People

PASSWORD = "correct horse battery"
_NUMBERS = count()


@pytest.fixture
def browser(site):
    """A browser that follows no redirection by itself."""
    _, address, *_ = site
    with httpx.Client(base_url=address, headers={"Accept": "text/html,*/*", "Accept-Language": "en"}) as opened:
        yield opened


@pytest.fixture
def person(site):
    """The name of a new account with a password."""
    *_, parts = site

    def add(*roles):
        name = f"person{next(_NUMBERS)}"
        parts.identity.accounts.add(LOCAL, name, roles or [Role.RADIOLOGIST], PASSWORD)
        return name

    return add


def send_login(browser, name, password=PASSWORD, **fields):
    page = browser.get("/login")
    token = re.search(r'name="form_token" value="(\w+)"', page.text)[1]
    return browser.post("/login", data={"form_token": token, "name": name, "password": password} | fields)


def test_who_comes_to_the_viewer_is_led_to_the_login_and_back(browser, person):
    response = browser.get("/viewer?StudyInstanceUIDs=1.2&lang=en")
    assert response.status_code == 303
    login_page = browser.get(response.headers["Location"])
    wanted = re.search(r'name="next" value="([^"]*)"', login_page.text)[1].replace("&amp;", "&")
    assert wanted == "/viewer?StudyInstanceUIDs=1.2&lang=en"
    response = send_login(browser, person(), next=wanted)
    assert (response.status_code, response.headers["Location"]) == (303, wanted)
    assert browser.get(wanted).status_code == 200
    assert browser.get("/dicom-web/studies", headers={"Accept": "application/dicom+json"}).is_success


def test_the_cookie_is_for_no_script_and_no_other_site(browser, person):
    cookie = next(
        value
        for value in send_login(browser, person()).headers.get_list("Set-Cookie")
        if value.startswith("pacs_session")
    )
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie  # over plain HTTP a browser would not keep it


def test_the_cookie_is_for_https_only_where_the_page_came_by_it(site, person):
    _, address, *_ = site
    with httpx.Client(base_url=address, headers={"X-Forwarded-Proto": "https"}) as browser:
        name = person()
        page = browser.get("/login")
        token = re.search(r'name="form_token" value="(\w+)"', page.text)[1]
        form_cookie = page.headers["Set-Cookie"]
        assert "Secure" in form_cookie
        headers = {"Cookie": form_cookie.partition(";")[0]}
        response = browser.post(
            "/login", data={"form_token": token, "name": name, "password": PASSWORD}, headers=headers
        )
        assert response.status_code == 303
        assert "Secure" in response.headers["Set-Cookie"]


@pytest.mark.parametrize(
    "wanted", ["//evil.example/", "https://evil.example/", "/\\evil.example", "", "javascript:x", "/a\r\nb"]
)
def test_a_login_leads_to_no_other_site(browser, person, wanted):
    assert send_login(browser, person(), next=wanted).headers["Location"] == "/"


def test_a_wrong_password_and_a_wrong_name_look_alike(browser, person):
    first, second = send_login(browser, person(), "wrong"), send_login(browser, "nobody-there", "wrong")
    assert first.status_code == second.status_code == 401
    strip = re.compile(r'value="[^"]*"')
    assert strip.sub("", first.text) == strip.sub("", second.text)
    assert "Name or password is wrong." in first.text


def test_many_wrong_passwords_cost_a_wait(browser, person, monkeypatch):
    name = person()
    monkeypatch.setattr(attempts, "FREE_BY_NAME", -6)  # as if six more had been wrong: minutes, not a second
    assert send_login(browser, name, "wrong").status_code == 401
    response = send_login(browser, name)
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) >= 1
    assert "too many wrong passwords" in response.text


def test_a_login_needs_the_form_of_the_page(browser, person):
    assert browser.post("/login", data={"name": person(), "password": PASSWORD}).status_code == 403


def test_who_leaves_is_out(browser, person):
    send_login(browser, person())
    page = browser.get("/logout")
    token = re.search(r'name="form_token" value="(\w+)"', page.text)[1]
    cookie = browser.cookies["pacs_session"]
    assert browser.post("/logout", data={"form_token": token}).headers["Location"] == "/login"
    assert "pacs_session" not in browser.cookies
    browser.cookies["pacs_session"] = cookie
    assert browser.get("/dicom-web/studies", headers={"Accept": "application/dicom+json"}).status_code == 401


def test_a_page_of_another_origin_does_nothing_with_the_cookie(browser, person):
    send_login(browser, person(Role.ADMINISTRATOR))
    for origin, status in (("http://evil.example", 403), ("null", 403), (str(browser.base_url).rstrip("/"), 400)):
        response = browser.post("/queue/drop", headers={"Origin": origin}, content=b"x")
        assert (response.status_code == 403) == (status == 403), origin


def test_who_only_studies_is_led_to_research(browser, person):
    send_login(browser, person(Role.RESEARCHER))
    response = browser.get("/")
    assert (response.status_code, response.headers["Location"]) == (303, "/research")
    assert browser.get("/viewer").status_code == 404
    assert browser.get("/app-config.js").content == NOTHING


def test_programs_are_not_led_to_a_page(browser):
    assert browser.get("/", headers={"Accept": "*/*"}).status_code == 401
    assert browser.get("/dicom-web/studies").status_code == 401
    assert browser.post("/research").status_code == 401


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_pages_speak_the_languages(browser, language):
    page = browser.get(f"/login?lang={language}")
    assert login_texts.TEXTS[language]["title"] in page.text
    assert f'lang="{language}" dir="{"rtl" if language == "ar" else "ltr"}"' in page.text
    assert len({frozenset(sentences) for sentences in login_texts.TEXTS.values()}) == 1


def test_what_was_typed_is_in_no_log(browser, person, caplog):
    caplog.set_level("DEBUG")
    name = person()
    send_login(browser, name, "a wrong password")
    send_login(browser, name)
    assert "pacs_session" in browser.cookies
    said = "".join(record.getMessage() for record in caplog.records if not record.name.startswith("http"))
    assert not [word for word in (PASSWORD, "a wrong password", browser.cookies["pacs_session"]) if word in said]


# What is written down


@pytest.fixture
def study(ask):
    """The path of a study, and its UID."""
    dataset = build_ct()
    body = multipart_body(as_part10(dataset))
    assert ask(Role.DEVICE, "POST", "/dicom-web/studies", content=body, headers={"Content-Type": MULTIPART_DICOM})
    return str(dataset.StudyInstanceUID)


def test_who_sees_a_study_is_written_down_once_before_he_does(site, browser, person, study, monkeypatch):
    *_, parts = site
    name = person()
    send_login(browser, name)
    headers = {"Accept": "application/dicom+json"}
    assert browser.get(f"/dicom-web/studies/{new_uid()}/metadata", headers=headers).status_code == 404
    assert seen_by(parts, name) == []
    with monkeypatch.context() as patched:
        patched.setattr(type(parts.database), "write", unavailable)
        response = browser.get(f"/dicom-web/studies/{study}/metadata", headers=headers)
        assert (response.status_code, response.json()["error"]) == (503, "Unavailable")
        assert study not in response.text
    for path in ("metadata", "series", "instances", "metadata", "thumbnail"):
        assert browser.get(f"/dicom-web/studies/{study}/{path}", headers={"Accept": "*/*"}).is_success
    assert seen_by(parts, name) == [("study.read", study, {})]


def test_who_searched_is_written_down_without_what_for(site, browser, person, study):
    *_, parts = site
    name = person()
    send_login(browser, name)
    headers = {"Accept": "application/dicom+json"}
    for query in ("", "?PatientName=SECRET*&limit=2", "?limit=3&PatientName=OTHER", "?PatientID=1&StudyDate=20200101"):
        assert browser.get(f"/dicom-web/studies{query}", headers=headers).is_success
    assert seen_by(parts, name) == [
        ("study.search", "", {}),
        ("study.search", "", {"by": ["PatientName"]}),
        ("study.search", "", {"by": ["PatientID", "StudyDate"]}),
    ]


def test_a_study_by_wado_uri_and_by_a_token_is_seen_as_well(site, ask, study):
    *_, parts = site
    dataset = ask(Role.TECHNICIAN, "GET", f"/dicom-web/studies/{study}/instances").json()[0]
    series, instance = (dataset[tag]["Value"][0] for tag in ("0020000E", "00080018"))
    before = len(seen_by(parts, "radiologist"))
    path = f"/wado?requestType=WADO&studyUID={study}&seriesUID={series}&objectUID={instance}"
    assert ask(Role.RADIOLOGIST, "GET", f"{path}&contentType=application/dicom").is_success
    assert seen_by(parts, "radiologist")[before:] == [("study.read", study, {})]


def unavailable(*_):
    raise Unavailable


def seen_by(parts, name):
    parts.audit.seal()
    found = parts.audit.iter_entries(LOCAL, Chosen(principal=name, kind="study"))
    return [(entry["kind"], entry["subject"], entry["facts"]) for entry in found]


# Before there is any account


def test_without_an_account_all_is_as_if_there_were_no_login(parts):
    settings = Settings(data_dir="unused")
    app = build_http(settings, parts, on_ready=lambda: None, on_stop=lambda: None).config.app
    with serving(app) as address:
        assert httpx.get(f"{address}/dicom-web/studies").is_success
        assert httpx.delete(f"{address}/dicom-web/studies/1.2").status_code == 403
        assert httpx.get(address, headers={"Accept": "text/html"}).status_code == 200
        elsewhere = {"Host": "pacs.example"}
        assert httpx.get(f"{address}/dicom-web/studies", headers=elsewhere).is_success
        assert httpx.get(f"{address}/research", headers=elsewhere).content == NOTHING


def test_a_page_of_another_origin_does_nothing_in_the_demo_unless_it_is_allowed(parts):
    settings = Settings(data_dir="unused", http={"cors_origins": ["https://viewer.example"]})
    app = build_http(settings, parts, on_ready=lambda: None, on_stop=lambda: None).config.app
    with serving(app) as address:
        for origin, status in (
            ("http://evil.example", 403),
            ("https://viewer.example", 200),
            (address, 200),
            (None, 200),
        ):
            headers = {"Origin": origin} if origin else {}
            response = httpx.post(f"{address}/queue/requeue", headers=headers)
            assert (response.status_code == 403) == (status == 403), (origin, response.text)


def test_without_an_account_no_request_asks_for_one(parts, monkeypatch):
    asked = []
    monkeypatch.setattr("pacs.identity.recognition.KEPT_SECONDS", 1e9)
    recognise = parts.identity.recogniser.recognise
    monkeypatch.setattr(
        type(parts.identity.recogniser), "recognise", lambda _, credential: asked.append(1) or recognise(credential)
    )
    app = build_http(Settings(data_dir="unused"), parts, on_ready=lambda: None, on_stop=lambda: None).config.app
    with serving(app) as address, httpx.Client(base_url=address) as client:
        for _ in range(20):
            assert client.get("/dicom-web/studies").is_success
            assert client.get("/healthz").is_success
    assert len(asked) == 1


def test_a_failing_database_lets_nobody_in_and_says_so(site, ask, monkeypatch):
    *_, parts = site

    def fail(_self, _credential):
        raise auth.PacsError

    monkeypatch.setattr(type(parts.identity.recogniser), "recognise", fail)
    monkeypatch.setattr(type(parts.identity.recogniser), "recall", lambda _self, _credential: None)
    assert ask(Role.RADIOLOGIST, "GET", "/dicom-web/studies").status_code == 500
    assert ask(None, "GET", "/healthz").status_code == 200
