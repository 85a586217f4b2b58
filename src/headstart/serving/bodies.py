"""Images in a request body: a form with files, or the bytes of one image. Bounded in size, and kept in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from headstart.core.text import counted, portable, quoted
from headstart.serving.limits import PART_HEADERS_BYTES, Limits
from headstart.serving.problems import Problem, busy

P = ParamSpec("P")
T = TypeVar("T")
FIELD = "files"
_LARGE_BYTES = 1_000_000  # of these a form is parsed in 10 ms at most
_UNNAMED = "image"  # what a file without a name is called
_FORM = "multipart/form-data"
_NOT_IMAGES = ("application/json", "text/")  # curl calls any bytes a form of another kind, so that this is none


@dataclass(frozen=True)
class File:
    """One file of a request.

    Attributes:
        name: The name that the client gave it.
        content: Its bytes.
    """

    name: str
    content: bytes


class Budget:
    """Counts the bytes of all request bodies in memory. Used by the event loop only.

    Args:
        most: The maximum.
    """

    def __init__(self, most: int) -> None:
        self._left = most

    def take(self, size: int) -> None:
        """Take bytes.

        Raises:
            Problem: Fewer bytes than that are left.
        """
        if size > self._left:
            raise busy("Too much data is being uploaded at the moment.")
        self._left -= size

    def give_back(self, size: int) -> None:
        """Give bytes back."""
        self._left += size


@asynccontextmanager
async def body(request: Request, limits: Limits, budget: Budget) -> AsyncIterator[bytes]:
    """The body of a request, which counts towards the budget until the context ends.

    Raises:
        Problem: It is too large, arrives too slowly, or there is no memory for it at the moment.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limits.body_bytes:
        raise _too_large(limits)
    taken = 0
    parts: list[bytes] = []
    try:
        try:
            async with asyncio.timeout(limits.seconds):
                async for part in request.stream():
                    if taken + len(part) > limits.body_bytes:
                        raise _too_large(limits)
                    budget.take(len(part))
                    taken += len(part)
                    parts.append(part)
        except TimeoutError as error:
            raise Problem(
                408, f"The request body did not arrive within {limits.seconds} seconds.", "Send less data at once."
            ) from error
        except ClientDisconnect as error:
            raise Problem(400, "The connection was closed before the request body had arrived.") from error
        parts[:] = [b"".join(parts)]
        yield parts.pop()  # no name here holds it, so that whoever asked can let go of it
    finally:
        budget.give_back(taken)


async def parsed(parse: Callable[Concatenate[bytes, P], T], content: bytes, *more: P.args, **named: P.kwargs) -> T:
    """Apply a function to a body, in another thread if the body is so large that it would block the event loop."""
    if len(content) < _LARGE_BYTES:
        return parse(content, *more, **named)
    return await asyncio.to_thread(parse, content, *more, **named)


def files(content: bytes, content_type: str, limits: Limits) -> list[File]:
    """The files in a body.

    Args:
        content: The body.
        content_type: The Content-Type that the client declares.
        limits: Among others, how many files are allowed.

    Raises:
        Problem: There are none or too many, or the body is not a form.
    """
    kind, options = parse_options_header(content_type)
    kind_name = kind.decode("latin-1").lower()
    if kind_name == _FORM:
        found = _form_files(content, options.get(b"boundary", b""), limits)
    elif kind_name.startswith(_NOT_IMAGES):
        raise Problem(
            415,
            f"The request body has the type {quoted(kind_name)}; expected {_FORM}, or the bytes of one image.",
            _how_to(),
        )
    else:
        found = [File(_UNNAMED, content)] if content else []
    if not found:
        raise Problem(422, "The request contains no image.", _how_to())
    return found


class _Form:
    """Collects the files of a form. The parser calls `add` with what it finds."""

    def __init__(self, limits: Limits) -> None:
        self.files: list[File] = []
        self.ended = False
        self._limits = limits
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value, self._header_bytes = bytearray(), bytearray(), 0
        self._content = bytearray()

    def begin(self) -> None:
        if len(self.files) >= self._limits.files:
            raise Problem(
                413, f"More than {counted(self._limits.files, 'file')} in one request.", "Send fewer at once."
            )
        self._headers, self._header_bytes = {}, 0
        self._content = bytearray()

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._value += data[start:end]

    def header_end(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def add(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def part_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        field = options.get(b"name", b"").decode("utf-8", "replace")
        if field != FIELD:
            raise Problem(422, f"The form has a field {quoted(field[:100])}; expected {quoted(FIELD)}.", _how_to())
        name = options.get(b"filename", b"").decode("utf-8", "surrogateescape")
        self.files.append(File(portable(name)[:1000] or _UNNAMED, bytes(self._content)))
        self._content = bytearray()

    def end(self) -> None:
        self.ended = True

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > PART_HEADERS_BYTES:
            raise Problem(400, f"A part of the form has headers of more than {PART_HEADERS_BYTES:,} bytes.")


def _form_files(content: bytes, boundary: bytes, limits: Limits) -> list[File]:
    form = _Form(limits)
    try:
        if not boundary:
            raise FormParserError("it has no boundary")
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": form.begin,
                "on_header_field": form.header_name,
                "on_header_value": form.header_value,
                "on_header_end": form.header_end,
                "on_part_data": form.add,
                "on_part_end": form.part_end,
                "on_end": form.end,
            },
        )
        parser.write(content)
        parser.finalize()
    except FormParserError as error:
        raise Problem(400, f"The request body is not a form of type {_FORM}: {error}.", _how_to()) from error
    if not form.ended:
        raise Problem(400, "The form ends early: its last boundary is missing.", _how_to())
    return form.files


def _how_to() -> str:
    one = "curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' URL"
    return f"For example: curl -F {FIELD}=@photo.jpg URL, or {one}"


def _too_large(limits: Limits) -> Problem:
    return Problem(
        413, f"The request body is larger than the limit of {limits.megabytes:,} MB.", "Send fewer images at once."
    )
