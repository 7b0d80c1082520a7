"""Resources that read their request themselves, answered without what FastAPI does for those that do not.

They are declared and described as all others: OpenAPI, and whatever is read from it, is made of the same routes.
"""

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from inspect import Parameter, Signature, iscoroutinefunction
from typing import Any, TypeVar

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from dicomweb.errors import problem_for
from dicomweb.sending import THREADS
from dicomweb.threads import REQUEST_THREADS, OwnThreads
from pacs.errors import PacsError

E = TypeVar("E", bound=Callable[..., Any])


class PlainRoute(APIRoute):
    """Calls its endpoint with the request and what the address holds, as text; it returns a response.

    It is called in a thread, unless it is a coroutine and sees to that itself. Nothing is parsed, checked or injected:
    what an endpoint is declared to take beside these is not given to it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        endpoint: Callable[..., Any] = self.endpoint
        finds_thread = iscoroutinefunction(endpoint)

        async def answer(request: Request) -> Response:
            call = partial(endpoint, request, **request.path_params)
            response: Response = await (call() if finds_thread else request.scope[THREADS].run(call))
            return response

        return answer


def undeclared(endpoint: E) -> E:
    """Return the endpoint of a plain route as FastAPI shall see it: taking the request and nothing else.

    What its address holds it is given all the same; the OpenAPI document has to be told of that.
    """
    request = Parameter("request", Parameter.POSITIONAL_OR_KEYWORD, annotation=Request)
    endpoint.__signature__ = Signature([request])  # type: ignore[attr-defined]
    return endpoint


class PlainFirst:
    """Looks for a plain route before FastAPI's routers are walked, which takes longer than most of these answers.

    Of several that fit the first one is it, as there; what fits none, or has another method, is FastAPI's to answer.
    All of them find the threads of ``scope[THREADS]``.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute], threads: OwnThreads | None = None) -> None:
        self._app = app
        self._threads = threads or OwnThreads(REQUEST_THREADS)
        self._plain = [
            (route.path_regex, route.get_route_handler())
            for route in routes
            if isinstance(route, PlainRoute) and "GET" in (route.methods or ())
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        scope[THREADS] = self._threads
        if scope["type"] == "http" and scope["method"] == "GET" and not scope.get("root_path"):
            for regex, answer in self._plain:
                match = regex.match(scope["path"])
                if match is not None:
                    scope["path_params"] = match.groupdict()
                    try:
                        response = await answer(Request(scope, receive, send))
                    except PacsError as error:
                        response = problem_for(error)
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)
