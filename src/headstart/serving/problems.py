"""Errors as problem documents (RFC 9457)."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from itertools import cycle

from starlette.responses import Response

from headstart.core.errors import HeadstartError
from headstart.core.text import json_text, portable

PROBLEM_TYPE = "application/problem+json"
# Clients that were refused together are told to come again one after the other, and not in the same second.
RETRY_SECONDS = (1, 2, 3, 4)
_next_wait: Iterator[int] = cycle(RETRY_SECONDS)


class Problem(Exception):  # noqa: N818  the word of RFC 9457
    """A request that cannot be answered.

    Args:
        status: The HTTP status.
        detail: What was found and what was expected.
        hint: What to do.
        more: Further members of the document, as JSON values.
    """

    def __init__(self, status: int, detail: str, hint: str = "", **more: object) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.hint = hint
        self.more = more

    @classmethod
    def of(cls, error: HeadstartError, status: int = 422) -> Problem:
        """The problem document for one of our errors."""
        return cls(status, error.message, error.hint)

    def document(self) -> dict[str, object]:
        """The document, as JSON values."""
        document: dict[str, object] = {
            "type": "about:blank",  # by RFC 9457: nothing more to say than the status
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": portable(self.detail),
            "error": portable(
                f"{self.detail} {self.hint}".rstrip()
            ),  # which clients of the Open Inference Protocol read
        }
        return document | ({"hint": portable(self.hint)} if self.hint else {}) | self.more

    def response(self) -> Response:
        """The answer to the client."""
        headers = {}
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = str(next(_next_wait))
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        return json_response(self.document(), self.status, PROBLEM_TYPE, headers)


def json_response(
    document: object, status: int = 200, media_type: str = "application/json", headers: dict[str, str] | None = None
) -> Response:
    """JSON that every parser accepts: no NaN, valid UTF-8."""
    return Response(json_text(document, indent=None), status, headers, media_type)


def busy(why: str = "All workers are busy and the queue is full.") -> Problem:
    """The problem of a server at its limits (503)."""
    return Problem(503, why, "Try again a little later.")
