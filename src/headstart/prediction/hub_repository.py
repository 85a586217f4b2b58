"""A repository of the Hugging Face Hub that a model is put into: looked at, made, written to in one commit.

By `huggingface_hub`. Files go over HTTP (Git LFS where they are large), which every server of this kind speaks.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from headstart.core import hub
from headstart.core.errors import HeadstartError, OfflineError, OptionError
from headstart.core.extras import require
from headstart.core.text import printable, quoted

REACH_SECONDS = 30  # for the first answer; the library itself waits for ever
MAIN = "main"  # the branch that a repository begins with


@dataclass(frozen=True)
class Found:
    """What is in a branch of a repository.

    Attributes:
        commit: Its last commit; empty for one that has none.
        files: Names of its files.
        private: Whether the repository is.
    """

    commit: str
    files: frozenset[str]
    private: bool


class Repository:
    """A repository of models.

    Args:
        name: ``USER/NAME`` or ``ORGANISATION/NAME``.
        branch: The branch that is written to.

    Raises:
        ExtraError: The extra `hub` is not installed.
    """

    def __init__(self, name: str, branch: str) -> None:
        purpose = "Pushing to the Hugging Face Hub"
        self._client = require("huggingface_hub", "hub", purpose)
        self._errors = require("huggingface_hub.errors", "hub", purpose)
        self.name = name
        self.branch = branch
        self._created = False

    @property
    def url(self) -> str:
        """Its page."""
        return f"{hub.endpoint()}/{self.name}"

    @cached_property
    def _api(self) -> Any:
        token = self._client.get_token()
        if not token:
            raise OptionError(
                "There is no token of the Hugging Face Hub on this computer.",
                f"Make one that may write at {hub.endpoint()}/settings/tokens, then run `hf auth login`, or set the "
                "variable HF_TOKEN.",
            )
        return self._client.HfApi(endpoint=hub.endpoint(), token=token)

    def look(self) -> Found | None:
        """What is there; None where there is no such repository, or none that the token may see.

        Raises:
            OptionError: There is no token.
            OfflineError: The server cannot be reached, or refuses the token.
        """
        with self._told():
            try:
                return self._found(self._info(self.branch))
            except self._errors.RevisionNotFoundError:
                return Found("", frozenset(), self._found(self._info(None)).private)
            except self._errors.RepositoryNotFoundError as error:
                if error.response.status_code == 401:
                    raise
                return None

    def _info(self, branch: str | None) -> Any:
        return self._api.model_info(self.name, revision=branch, timeout=REACH_SECONDS)

    @staticmethod
    def _found(info: Any) -> Found:
        return Found(info.sha or "", frozenset(one.rfilename for one in info.siblings or ()), bool(info.private))

    def create(self, *, private: bool) -> None:
        """Make it.

        Raises:
            OfflineError: The server cannot be reached, or refuses.
        """
        with self._told():
            self._api.create_repo(self.name, private=private)
        self._created = True

    def commit(self, contents: Mapping[str, bytes], message: str, *, after: str) -> str:
        """Write files in one commit: all of them, or none.

        Args:
            contents: Of each file, by its name.
            message: Of the commit.
            after: The commit that must be the last one until then; empty for none.

        Returns:
            The commit, 40 hexadecimal digits.

        Raises:
            OfflineError: The server cannot be reached, or refuses.
        """
        adds = [
            # A stream goes over HTTP: bytes would go by the Hub's own protocol, which other servers lack.
            self._client.CommitOperationAdd(path_in_repo=name, path_or_fileobj=io.BytesIO(content))
            for name, content in contents.items()
        ]
        with self._told():
            if not after and self.branch != MAIN:
                self._api.create_branch(self.name, branch=self.branch, exist_ok=True)
            made = self._api.create_commit(
                self.name, adds, commit_message=message, revision=self.branch, parent_commit=after or None
            )
        commit: str = made.oid
        return commit

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what a server or a network does into one error that says what stands now."""
        try:
            with hub.silently(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # advice on the card, which is ours
                yield
        except HeadstartError:
            raise
        except (KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
            raise self._refusal(_cause(error)) from error
        except Exception as error:
            if not hub.of_network(error):
                raise
            raise self._refusal(error) from error

    def _refusal(self, error: BaseException) -> OfflineError:
        response = getattr(error, "response", None)
        status = response.status_code if response is not None else 0
        said = printable(str(getattr(error, "server_message", None) or "").strip().partition("\n")[0])[:200]
        other = _FAILS if status >= 500 else _REFUSED if status else _CUT if hub.of_network(error) else _STRANGE
        what, hint = (
            text.format(
                server=hub.endpoint(), repo=quoted(self.name), branch=quoted(self.branch), status=status,
                reason=hub.reason(error), said=f" ({said.rstrip('.')})" if said else "",
            )
            for text in _WORDS.get(status, other)
        )  # fmt: skip
        if _asked_for_a_commit(error) and (status >= 500 or not status):
            return OfflineError(what, f"Look at {self.url}: the files may have arrived all the same. {hint}")
        stands = " The repository was created and is empty; the same command fills it." if self._created else ""
        return OfflineError(f"{what} Nothing was uploaded.", f"{hint}{stands}")


def _cause(error: BaseException) -> BaseException:
    """What a server or a network did, where the library tells of it in an error of its own."""
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    return next((one for one in causes if hub.of_network(one)), error)


def _asked_for_a_commit(error: BaseException) -> bool:
    """Whether the request that failed is the one that changes the repository."""
    try:
        return "/commit/" in str(getattr(getattr(error, "request", None), "url", ""))
    except RuntimeError:  # it belongs to no request
        return False


# Status -> what happened, and what to do.
_WORDS = {
    401: (
        "{server} does not accept the token{said}.",
        "Make one that may write at {server}/settings/tokens, then run `hf auth login`, or set HF_TOKEN.",
    ),
    403: (
        "The token may not write to {repo}{said}.",
        "Make one with the right to write at {server}/settings/tokens, and check that the name before the slash is "
        "yours or your organisation's.",
    ),
    404: ("There is no repository {repo} that the token may see{said}.", "Check the name."),
    409: ("{repo} was made or changed by somebody else just now{said}.", "Look at it, and run the command again."),
    412: ("{branch} of {repo} was changed by somebody else just now{said}.", "Look at it, and run the command again."),
    429: ("{server} takes no more requests for now{said}.", "Wait some minutes, and run the command again."),
}  # fmt: skip
_FAILS = ("{server} fails with status {status}{said}, in each attempt.", "Run the command again later.")
_REFUSED = ("{server} refuses with status {status}{said}.", "Check the name of the repository and its settings.")
_STRANGE = ("{server} does not answer like the Hub ({reason}).", "Check HF_ENDPOINT.")
_CUT = ("The connection to {server} failed: {reason}.", "Check the network and HF_ENDPOINT, and run the command again.")
