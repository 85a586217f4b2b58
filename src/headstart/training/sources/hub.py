"""What can go wrong while a library fetches weights, in one error that says what to fetch and where to put it."""

from __future__ import annotations

import contextlib
import http.client
import pickle
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator

from headstart.backbones import catalog
from headstart.core.errors import HeadstartError, ModelError, OfflineError
from headstart.core.hub import endpoint, of_network, reason, silently
from headstart.core.text import quoted
from headstart.settings.backbones import BackboneSpec

REACH_SECONDS = 10


@contextlib.contextmanager
def fetching(row: BackboneSpec) -> Iterator[None]:
    """Turn errors of the libraries into ours, without progress bars.

    Raises:
        OfflineError: The weights could not be fetched.
        ModelError: They were refused.
    """
    try:
        with silently():
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
                f"The weights of {quoted(row.name)} cannot be loaded: {reason(error)}.",
                f"If the file in the library's cache is damaged, delete it: {_place(row)}.",
            ) from error
        raise missing(row, reason(error)) from error


def reach(row: BackboneSpec) -> None:
    """Say at once that a server cannot be reached; the libraries try for a minute, or wait for ever.

    Raises:
        OfflineError: It cannot be reached.
    """
    if not row.address or catalog.is_local(row):
        return
    url = endpoint() if row.weights.startswith("hf:") else row.weights
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310  of the listing, or the user's own endpoint
    try:
        urllib.request.urlopen(request, timeout=REACH_SECONDS).close()  # noqa: S310
    except urllib.error.HTTPError:
        return  # it answers; what it says is for the library
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(getattr(error, "reason", error), ssl.SSLError):  # the library may have other certificates
            return
        raise missing(row, f"{url} cannot be reached ({reason(error)})") from error


def missing(row: BackboneSpec, why: str) -> OfflineError:
    """The error for weights that are not here."""
    message = f"The weights of {quoted(row.name)} are not on this computer, and could not be downloaded: {why}."
    if not row.address:
        return OfflineError(message, "Connect to the network, or name a file with --weights PATH.")
    if row.weights.startswith("hf:"):
        repository, file = catalog.repository(row), catalog.hub_files(row)[0]
        return OfflineError(
            message,
            f"With a network, run `hf download {repository} {file}`, which puts it in {catalog.target(row)}; "
            f"or download {endpoint()}/{repository}/resolve/main/{file} and name it with --weights PATH.",
        )
    return OfflineError(
        message, f"Download {row.weights} and put it at {catalog.target(row)}, or name it with --weights PATH."
    )


def _place(row: BackboneSpec) -> str:
    return str(catalog.target(row)) if row.address else "see the library's documentation"


def _of_network(error: BaseException) -> bool:
    """Whether an error, or what caused it, came from a network, a server or a full disk."""
    # PyTorch's own check of a download
    return of_network(error) or (isinstance(error, RuntimeError) and "invalid hash value" in str(error))
