"""``/login`` and ``/logout``: where a person says who he is, and that he leaves."""

import re
from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dicomweb.auth import LOGIN, SESSION_COOKIE, address_of, credential_of, principal_of
from dicomweb.context import Context
from dicomweb.login_texts import TEXTS
from dicomweb.threads import OwnThreads
from pacs.identity import Identity
from pacs.identity.problems import LoginFailed, TooManyAttempts
from pacs.identity.recognition import Kind

LOGIN_THREADS = 2
"""Passwords that are looked at together, at 64 MiB each; who comes meanwhile waits without a thread of requests."""
_OWN_PATH = re.compile(r"/(?![/\\])[!-~]{0,2000}")


def build_router(context: Context, identity: Identity) -> APIRouter:
    """Return both pages; neither is part of the HTTP interface that is described to programs."""
    router = APIRouter(include_in_schema=False, default_response_class=Response)
    pages = context.pages
    threads = OwnThreads(LOGIN_THREADS)

    def show(request: Request, wanted: str, *, name: str = "", problem: str = "", status: int = 200) -> Response:
        return pages.render(request, "login.html", TEXTS, status=status, wanted=wanted, name=name, problem=problem)

    @router.get(LOGIN)
    def show_login(request: Request) -> Response:
        return show(request, request.query_params.get("next", ""))

    @router.post(LOGIN)
    async def log_in(request: Request) -> Response:
        fields = await pages.read_form(request)
        name, wanted = fields.get("name", "").strip().lower(), fields.get("next", "")
        log_in = partial(identity.logins.log_in, name, fields.get("password", ""), address_of(request.scope))
        try:
            login = await threads.run(log_in)
        except LoginFailed:
            return show(request, wanted, name=name, problem="wrong", status=401)
        except TooManyAttempts as error:
            answer = show(request, wanted, name=name, problem="wait", status=429)
            answer.headers["Retry-After"] = str(error.seconds)
            return answer
        answer = RedirectResponse(wanted if _OWN_PATH.fullmatch(wanted) else "/", 303, {"Cache-Control": "no-store"})
        pages.set_cookie(request, answer, SESSION_COOKIE, login.cookie)
        return answer

    @router.get("/logout")
    def show_logout(request: Request) -> Response:
        return pages.render(request, "logout.html", TEXTS)

    @router.post("/logout")
    async def log_out(request: Request) -> Response:
        await pages.read_form(request)
        credential = credential_of(request.scope)
        if credential is not None and credential.kind is Kind.SESSION:
            await threads.run(partial(identity.logins.log_out, principal_of(request), credential.secret))
            identity.recogniser.forget(credential)
        answer = RedirectResponse(LOGIN, 303, {"Cache-Control": "no-store"})
        answer.delete_cookie(SESSION_COOKIE, httponly=True, samesite="lax")
        return answer

    return router
