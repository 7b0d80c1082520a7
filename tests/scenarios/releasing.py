"""A release made and published by a running archive, over HTTP, by the people who do that."""

import time
from collections.abc import Callable

import httpx

from tests.research_site import SLUG, Site

PATIENCE_SECONDS = 120
PROJECT = f"/research/api/projects/{SLUG}"

Ask = Callable[..., httpx.Response]


def publish_release(site: Site, url: str, conditions: dict[str, str], seen: Callable[[httpx.Response], None]) -> int:
    """Count, save, request, approve, make, look through and publish; return the version.

    ``seen`` is given every answer on the way. What is kept back is refused.
    """
    with httpx.Client(base_url=url, timeout=60) as client:

        def ask(who: str, method: str, path: str, **body: object) -> dict:
            sent = {"json": body} if method == "POST" else {}
            answer = client.request(method, f"{PROJECT}{path}", headers=site.headers(who), **sent)
            seen(answer)
            assert answer.is_success, (path, answer.status_code, answer.text[:300])
            return answer.json()

        ask("rania", "POST", "/counts", conditions=conditions)
        cohort = ask("rania", "POST", "/cohorts", name="What is asked about", conditions=conditions)["id"]
        ask("rania", "POST", f"/cohorts/{cohort}/request")
        ask("samir", "POST", f"/cohorts/{cohort}/approve", remark="as approved")
        release = ask("samir", "POST", "/releases", cohort=cohort)
        version, deadline = release["version"], time.monotonic() + PATIENCE_SECONDS
        while release["state"] == "building":
            assert time.monotonic() < deadline, release
            time.sleep(0.1)
            release = ask("samir", "GET", f"/releases/{version}")
        kept = [one["id"] for one in ask("samir", "GET", f"/releases/{version}/quarantine")]
        if kept:
            for page in ("quarantine", f"quarantine/{kept[0]}/preview"):
                seen(client.get(f"/research/{SLUG}/releases/{version}/{page}", headers=site.headers("samir")))
            ask(
                "samir",
                "POST",
                f"/releases/{version}/quarantine",
                ids=kept,
                decision="refuse",
                remark="not vouched for",
            )
        assert ask("samir", "POST", f"/releases/{version}/publish")["state"] == "published"
    return version
