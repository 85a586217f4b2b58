"""What can go wrong while a library fetches weights, in one error that says what to fetch and where to put it."""

from __future__ import annotations

import contextlib
import http.client
import importlib
import os
import pickle
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator

from headstart.backbones import catalog
from headstart.core.errors import HeadstartError, ModelError, OfflineError
from headstart.core.text import printable, quoted
from headstart.settings.backbones import BackboneSpec

# Packages whose errors are those of a network. Their versions have them under different names.
_NETWORK = {"huggingface_hub", "httpx", "httpx2", "httpcore", "requests", "urllib3", "urllib"}
REACH_SECONDS = 10
DEFAULT_ENDPOINT = "https://huggingface.co"


@contextlib.contextmanager
def fetching(row: BackboneSpec) -> Iterator[None]:
    """Turn errors of the libraries into ours, without progress bars.

    Raises:
        OfflineError: The weights could not be fetched.
        ModelError: They were refused.
    """
    try:
        with _no_bars():
            reach(row)
            yield
    except HeadstartError:
        raise
    except pickle.UnpicklingError as error:
        from headstart.training.sources.weights import refusal

        raise refusal(error, f"The weights of {quoted(row.name)} in the library's cache") from error
    except Exception as error:
        if not _of_network(error):
            raise ModelError(
                f"The weights of {quoted(row.name)} cannot be loaded: {_reason(error)}.",
                f"If the file in the library's cache is damaged, delete it: {_place(row)}.",
            ) from error
        raise missing(row, _reason(error)) from error


def reach(row: BackboneSpec) -> None:
    """Say at once that a server cannot be reached; the libraries try for a minute, or wait for ever.

    Raises:
        OfflineError: It cannot be reached.
    """
    if not row.address or catalog.is_local(row):
        return
    url = _endpoint() if row.weights.startswith("hf:") else row.weights
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310  of the listing, or the user's own endpoint
    try:
        urllib.request.urlopen(request, timeout=REACH_SECONDS).close()  # noqa: S310
    except urllib.error.HTTPError:
        return  # it answers; what it says is for the library
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(getattr(error, "reason", error), ssl.SSLError):  # the library may have other certificates
            return
        raise missing(row, f"{url} cannot be reached ({_reason(error)})") from error


def missing(row: BackboneSpec, reason: str) -> OfflineError:
    """The error for weights that are not here."""
    message = f"The weights of {quoted(row.name)} are not on this computer, and could not be downloaded: {reason}."
    if not row.address:
        return OfflineError(message, "Connect to the network, or name a file with --weights PATH.")
    if row.weights.startswith("hf:"):
        repository, file = catalog.repository(row), catalog.hub_files(row)[0]
        return OfflineError(
            message,
            f"With a network, run `hf download {repository} {file}`, which puts it in {catalog.target(row)}; "
            f"or download {_endpoint()}/{repository}/resolve/main/{file} and name it with --weights PATH.",
        )
    return OfflineError(
        message, f"Download {row.weights} and put it at {catalog.target(row)}, or name it with --weights PATH."
    )


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", DEFAULT_ENDPOINT).rstrip("/")


def _place(row: BackboneSpec) -> str:
    return str(catalog.target(row)) if row.address else "see the library's documentation"


def _of_network(error: BaseException) -> bool:
    """Whether an error, or what caused it, came from a network, a server or a full disk."""
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _NETWORK:
        return True
    # PyTorch's own check of a download
    return isinstance(error, RuntimeError) and "invalid hash value" in str(error)


def _reason(error: BaseException) -> str:
    """The first line of what an error says, which may be long and many."""
    lines = str(error).strip().splitlines()
    return printable((lines[0] if lines else type(error).__name__).rstrip("."))[:200]


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    try:
        utils = importlib.import_module("huggingface_hub.utils")
    except ModuleNotFoundError:  # then nothing is fetched with it
        yield
        return
    if utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()
