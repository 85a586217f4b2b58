"""Applied to every request: access policy, security headers, metrics, and a response if the server fails."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from headstart.serving.problems import Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from headstart.serving.counters import Metrics
    from headstart.serving.policy import Policy

_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}


class Gate:
    """Surrounds the application (ASGI).

    Args:
        app: The application.
        policy: Who may ask.
        metrics: Where requests are counted.
        refuse_when_full: Called before an image is accepted, so that refusing one costs next to nothing: under
            overload, health probes wait behind it.
    """

    def __init__(
        self, app: ASGIApp, policy: Policy, metrics: Metrics, refuse_when_full: Callable[[], None] = lambda: None
    ) -> None:
        self._app = app
        self._refuse_when_full = refuse_when_full
        self._policy = policy
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        begun, status = time.perf_counter(), 0
        origin = Headers(scope=scope).get("origin", "")

        async def send_safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _SAFE.items():
                    if name not in headers:
                        headers[name] = value
                if origin in self._policy.origins and "Access-Control-Allow-Origin" not in headers:
                    # The page of a site that may ask must be able to read refusals too, which never reach the
                    # application: without this a 503 with Retry-After is a failure of the network to it.
                    headers["Access-Control-Allow-Origin"] = origin
                    headers["Access-Control-Expose-Headers"] = "Retry-After"
                    headers.add_vary_header("Origin")
            await send(message)

        try:
            await self._answer(scope)(scope, receive, send_safely)
        except Problem as problem:
            await problem.response()(scope, receive, send_safely)
        except Exception as error:  # the one place where a fault of ours becomes an answer
            traceback.print_exception(error, file=sys.stderr)
            if status:
                raise
            fault = Problem(500, "The server failed on this request.", "Its log says why: please report it.")
            await fault.response()(scope, receive, send_safely)
        finally:
            route = _route(scope)
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - begun)

    def _answer(self, scope: Scope) -> ASGIApp:
        """The application that answers a request, if the request is allowed.

        Raises:
            Problem: It may not.
        """
        method, path, headers = scope["method"], scope["path"], Headers(scope=scope)
        self._policy.check_host(headers)
        if cookie := self._policy.asks_for_cookie(method, path, scope["query_string"].decode("latin-1")):
            return Response(status_code=303, headers={"Location": quote(path), "Set-Cookie": cookie})
        self._policy.check(method, path, headers)
        if method == "POST":
            self._refuse_when_full()
        return self._app


def _route(scope: dict[str, Any] | Scope) -> str:
    """The pattern of the route, of which there are few, and not the path, of which there can be any number."""
    return str(getattr(scope.get("route"), "path", "none"))
