"""The ASGI application: all routes, behind the gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from headstart import __version__
from headstart.serving.browser import Browser
from headstart.serving.documents import ProblemDocument
from headstart.serving.gate import Gate
from headstart.serving.kserve import KServe
from headstart.serving.manual import Manual
from headstart.serving.problems import Problem
from headstart.serving.rest import Rest
from headstart.serving.tensors import LENGTH_HEADER

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from headstart.serving.desk import Desk
    from headstart.serving.policy import Policy

_WORDS = "Image classifiers made with Headstart. Errors are problem documents (RFC 9457)."


def application(desk: Desk, policy: Policy) -> ASGIApp:
    """The application that a server runs.

    Args:
        desk: What the routes share.
        policy: Who may ask.
    """
    app = FastAPI(
        title="Headstart", version=__version__, description=_WORDS, docs_url=None, redoc_url=None,
        redirect_slashes=False,
    )  # fmt: skip
    Rest(desk).add_to(app)
    KServe(desk).add_to(app)
    Browser(desk).add_to(app)
    Manual(app).add_to(app)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _fault)
    app.openapi_schema = _with_problems(app.openapi())
    if policy.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(policy.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", LENGTH_HEADER],
            expose_headers=["Retry-After", LENGTH_HEADER],
        )
    return Gate(app, policy, desk.metrics, desk.refuse_when_full)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = "There is no page at this address." if error.status_code == 404 else str(error.detail)
    response = Problem(error.status_code, detail, "/docs lists all endpoints.").response()
    response.headers.update(error.headers or {})
    return response


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    words = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in found[:5]]
    return Problem(422, f"Not a valid request: {'; '.join(words)}.", "See /docs for what is expected.").response()


async def _fault(request: Request, error: Exception) -> Response:
    return Problem(500, "The server failed on this request.", "The cause is in its log; please report it.").response()


def _with_problems(schema: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document, in which problem documents replace FastAPI's own error schemas."""
    parts = schema["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        parts.pop(name, None)
    parts["ProblemDocument"] = ProblemDocument.model_json_schema()
    return schema
