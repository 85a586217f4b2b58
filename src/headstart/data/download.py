"""Download one file: resumed where it was cut off, bounded, and put in its place whole."""

from __future__ import annotations

import contextlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from headstart.core.errors import HeadstartError, OfflineError
from headstart.core.files import storage_error
from headstart.core.progress import Progress
from headstart.core.text import printable

TIMEOUT_SECONDS = 20
BLOCK_BYTES = 2**18
RANGE_NOT_SATISFIABLE = 416


def download(url: str, path: Path, progress: Progress, *, max_bytes: int) -> Path:
    """Download to a file, through a ``.part`` file beside it that a later call goes on with.

    Raises:
        OfflineError: The address cannot be reached, ended early, or sends more than `max_bytes`.
        StorageError: The file cannot be written.
    """
    if not url.startswith(("https://", "http://")):  # urllib would open local files too
        raise OfflineError(f"{printable(url)} is not a web address; expected https:// or http://.")
    part = path.with_name(path.name + ".part")
    tag_file = path.with_name(path.name + ".etag")
    try:
        have, response = _open(url, part, tag_file)
        with response:
            length = response.headers.get("Content-Length") or ""
            total = have + int(length) if length.isdecimal() else None
            if total is not None and total > max_bytes:
                _forget(part, tag_file)
                raise _too_large(url, f"{total:,} bytes", max_bytes)
            with part.open("ab") as file, progress.stage("Downloading", (total or max_bytes) - have) as advance:
                while block := _block(url, response):
                    have += len(block)
                    if have > max_bytes:
                        _forget(part, tag_file)
                        raise _too_large(url, "more", max_bytes)
                    file.write(block)
                    advance(len(block))
                file.flush()
                os.fsync(file.fileno())
        if total is not None and have != total:
            raise OfflineError(
                f"{printable(url)} ended early: {have:,} of {total:,} bytes.",
                "Run the same command again: it resumes from there.",
            )
        part.replace(path)
        tag_file.unlink(missing_ok=True)
    except OSError as error:
        if isinstance(error, HeadstartError):
            raise
        raise storage_error(error, path) from error
    return path


def _open(url: str, part: Path, tag_file: Path) -> tuple[int, http.client.HTTPResponse]:
    """The bytes that are here already and stay, and the answer that brings the others."""
    have = part.stat().st_size if part.exists() else 0
    tag = tag_file.read_text("utf-8") if have and tag_file.exists() else ""
    if tag:  # only the same file may be resumed
        with _network(url):
            try:
                response = _request(url, {"Range": f"bytes={have}-", "If-Range": tag})
            except urllib.error.HTTPError as error:
                error.close()
                if error.code != RANGE_NOT_SATISFIABLE:  # where it is, the part is whole, or not of this file
                    raise
            else:
                begin = response.headers.get("Content-Range") or ""
                if (
                    response.status == http.client.PARTIAL_CONTENT
                    and begin.startswith(f"bytes {have}-")
                    and response.headers.get("ETag") in {tag, None}
                ):
                    return have, response
                response.close()
    with _network(url):
        response = _request(url, {})
    _forget(part, tag_file)
    tag_file.write_text(response.headers.get("ETag") or "", "utf-8")
    return 0, response


def _request(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": "headstart", **headers})  # noqa: S310
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310
    return response


def _block(url: str, response: http.client.HTTPResponse) -> bytes:
    with _network(url):
        return response.read(BLOCK_BYTES)


@contextlib.contextmanager
def _network(url: str) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise OfflineError(
            f"{printable(url)} answers {error.code} {printable(str(error.reason))}.",
            "Check the address, or try again later.",
        ) from error
    # ValueError: an address with a host or port that cannot be.
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = printable(str(getattr(error, "reason", error)) or type(error).__name__)
        raise OfflineError(
            f"{printable(url)} cannot be reached ({reason}).",
            "Check the network and run the same command again: it resumes where it stopped. "
            "Without a network, `headstart demo` uses a data set that is already installed.",
        ) from error


def _forget(part: Path, tag_file: Path) -> None:
    """The part goes first: no part may ever lie beside the tag of another file."""
    part.unlink(missing_ok=True)
    tag_file.unlink(missing_ok=True)


def _too_large(url: str, size: str, limit: int) -> OfflineError:
    return OfflineError(
        f"{printable(url)} sends {size}, where at most {limit:,} bytes were expected.", "Check the address."
    )
