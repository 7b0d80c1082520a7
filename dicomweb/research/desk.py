"""What every page of research needs: its services, its words, and a page too for what goes wrong."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dicomweb.context import Context
from dicomweb.errors import RequestError, problem_for, status_of
from dicomweb.pages import HEADERS
from dicomweb.plain_route import undeclared
from dicomweb.research.words import TEXTS, word_for
from pacs.access import Principal
from pacs.errors import PacsError
from pacs.research import Research

_SEE_OTHER = 303
_TITLES = {403: "Not permitted", 404: "Not found"}

_REPAIRABLE = (400, 409)
"""Statuses of what the form's own page says, for it to be sent again."""

Form = dict[str, str]
Show = Callable[..., Response]


@dataclass(frozen=True, slots=True)
class Said:
    """What a form said, and why that could not be done."""

    form: Form
    problem: str = ""
    status: int = 200


NOTHING = Said({})


class Desk:
    """Where people of research are attended to. Its decorators make endpoints of what answers one page or one form."""

    def __init__(self, context: Context, research: Research) -> None:
        self.context = context
        self.research = research

    def principal(self, request: Request) -> Principal:
        """Return on whose behalf a request acts."""
        return self.context.principal(request)

    def render(self, request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
        """Return a page of ``templates/research``."""
        name = f"research/{template}.html"
        return self.context.pages.render(request, name, TEXTS, status=status, word=word_for(request), **values)

    def page(self, show: Show) -> Show:
        """Make an endpoint of what shows a page; what goes wrong is a page, too, the same for all that is not there."""

        @undeclared
        def answer(request: Request, **given: str) -> Response:
            try:
                return show(request, **given)
            except PacsError as error:
                return self.problem(request, error)

        return answer

    def form(self, act: Callable[..., str], again: Show | None = None) -> Callable[..., Awaitable[Response]]:
        """Make an endpoint of what obeys a form and returns the address to go to next.

        What cannot be done is said on the page that ``again`` shows, which is told what was ``said``.
        """

        @undeclared
        async def answer(request: Request, **given: str) -> Response:
            fields: Form = {}
            try:
                fields = _checked(await self.context.pages.read_form(request))
                address = await run_in_threadpool(partial(act, request, fields, **given))
            except PacsError as error:
                if again is None or status_of(error) not in _REPAIRABLE:
                    return await run_in_threadpool(self.problem, request, error)
                said = Said(fields, str(error), status_of(error))
                return await run_in_threadpool(partial(self.page(partial(again, said=said)), request, **given))
            return RedirectResponse(address, _SEE_OTHER, HEADERS)

        return answer

    def problem(self, request: Request, error: PacsError) -> Response:
        """Return the page that says what went wrong: of all that is not there, the same one."""
        status = status_of(error)
        if status >= 500:
            return problem_for(error)
        title = _TITLES.get(status, "This is not possible")
        sentence = "There is nothing here." if status == 404 else str(error)
        return self.render(request, "problem", status=status, title=title, sentence=sentence)


def _checked(form: Form) -> Form:
    """Return the form; raise RequestError for what no text can hold that is kept."""
    if any("\0" in value for value in form.values()):
        raise RequestError
    return form
