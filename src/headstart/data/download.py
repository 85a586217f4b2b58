"""Download one file: resumed where it was cut off, bounded, and put in its place whole."""

from __future__ import annotations

import contextlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO

from headstart.core.errors import OfflineError
from headstart.core.progress import Progress

TIMEOUT_SECONDS = 20
BLOCK_BYTES = 2**18
RANGE_NOT_SATISFIABLE = 416


def download(url: str, path: Path, progress: Progress, *, max_bytes: int) -> Path:
    """Download to a file, through a ``.part`` file beside it that a later call goes on with.

    Raises:
        OfflineError: The address cannot be reached, ended early, or sends more than `max_bytes`.
    """
    part = path.with_name(path.name + ".part")
    tag_file = path.with_name(path.name + ".etag")
    have = part.stat().st_size if part.exists() else 0
    tag = tag_file.read_text("utf-8") if have and tag_file.exists() else ""
    headers = {"User-Agent": "headstart"}
    if tag:  # only the same file may be resumed
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    if not url.startswith(("https://", "http://")):  # urllib would open local files too
        raise OfflineError(f"{url} is no web address; expected https:// or http://.")
    request = urllib.request.Request(url, headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
            resumed = response.status == http.client.PARTIAL_CONTENT
            if not resumed:
                have = 0
                tag_file.write_text(response.headers.get("ETag") or "", "utf-8")
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else None
            if total is not None and total > max_bytes:
                raise OfflineError(f"{url} sends {total:,} bytes, more than the {max_bytes:,} that were expected.")
            with part.open("ab" if resumed else "wb") as file:
                received = have + _copy(response, file, progress, (total or max_bytes) - have, max_bytes - have)
    except urllib.error.HTTPError as error:
        if error.code == RANGE_NOT_SATISFIABLE:  # the part is whole, or not of this file
            part.unlink(missing_ok=True)
        raise OfflineError(f"{url} answers {error.code} {error.reason}.", "Try again later.") from error
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OfflineError):
            raise
        reason = getattr(error, "reason", error)
        raise OfflineError(
            f"{url} cannot be reached ({reason}).",
            "Check the network and run the same command again: it goes on where it stopped. "
            "Without a network, `headstart demo` uses a set that is already here.",
        ) from error
    if total is not None and received != total:
        raise OfflineError(
            f"{url} ended early: {received:,} of {total:,} bytes.",
            "Run the same command again: it goes on from there.",
        )
    part.replace(path)
    with contextlib.suppress(OSError):
        tag_file.unlink()
    return path


def _copy(response: http.client.HTTPResponse, file: IO[bytes], progress: Progress, steps: int, limit: int) -> int:
    received = 0
    with progress.stage("Downloading", steps) as advance:
        while block := response.read(BLOCK_BYTES):
            received += len(block)
            if received > limit:
                raise OfflineError(f"The download is larger than the {limit:,} bytes that were expected.")
            file.write(block)
            advance(len(block))
    return received
