"""Push: a model and its card into a repository of the Hugging Face Hub."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from headstart import __version__
from headstart.api.describing import card
from headstart.core.arguments import must_be, must_be_flags, must_be_path
from headstart.core.errors import OptionError, StorageError
from headstart.core.marks import MODEL_FILE
from headstart.core.text import listed, quoted
from headstart.modelfile.location import model_name, model_path
from headstart.prediction.classifier import Classifier
from headstart.prediction.hub_repository import MAIN, Found, Repository

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_BRANCH = re.compile(r"[A-Za-z0-9][\w./-]{0,99}", re.ASCII)
CARD, LABELS = "README.md", "labels.json"


@dataclass(frozen=True)
class Pushed:
    """A model in a repository.

    Attributes:
        repository: ``USER/NAME``.
        url: Its page.
        branch: Which branch was written to.
        files: Size of each file in bytes, by its name there.
        created: The repository was made now.
        commit: The commit, 40 hexadecimal digits; None where nothing was uploaded (`dry_run`).
    """

    repository: str
    url: str
    branch: str
    files: dict[str, int]
    created: bool
    commit: str | None


def push(
    model: str | os.PathLike[str],
    repository: str,
    *,
    name: str | None = None,
    licence: str | None = None,
    private: bool = False,
    branch: str = MAIN,
    message: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> Pushed:
    """Upload ``model.onnx``, its card (``README.md``) and ``labels.json`` to the Hugging Face Hub, in one commit.

    The repository is made where there is none. The token is that of `hf auth login` or of the variable ``HF_TOKEN``;
    ``HF_ENDPOINT`` names another server.

    Args:
        model: The model file, or the run folder that it is in.
        repository: ``USER/NAME`` or ``ORGANISATION/NAME``.
        name: What the card calls the model; None for the name of the run folder or of the file.
        licence: That you give the model away under, such as ``apache-2.0``; None leaves it out of the card.
        private: Make a private repository. One that is there already, and public, is refused.
        branch: Of the repository; it is made where there is none.
        message: Of the commit.
        overwrite: Replace files of these names that are in the branch; their history stays.
        dry_run: Ask no server: only prepare the files.

    Raises:
        ModelError: There is no such model file, or it is refused.
        OptionError: A name is none, there is no token, or a repository that should be private is public.
        ExtraError: The extra `hub` is not installed.
        StorageError: There are such files in the branch.
        OfflineError: The server cannot be reached, or refuses.

    Example:
        >>> headstart.push("runs/pets", "me/pets", private=True).url  # doctest: +SKIP
        'https://huggingface.co/me/pets'
    """
    must_be_path("model", model)
    must_be("repository", repository, str, "USER/NAME")
    must_be("branch", branch, str, "the name of a branch")
    must_be("message", message, str | None, "a text")
    must_be_flags(private=private, overwrite=overwrite, dry_run=dry_run)
    _check_names(repository, branch)
    contents = _contents(model, card(model, name=name, licence=licence))
    there = Repository(repository, branch)
    sizes = {file: len(content) for file, content in contents.items()}
    if dry_run:
        return Pushed(repository, there.url, branch, sizes, created=False, commit=None)
    found = there.look()
    if found is None:
        there.create(private=private)
    else:
        _refuse_public(there, found, private=private)
        _refuse_existing(repository, branch, found.files & contents.keys(), overwrite=overwrite)
    about = message or f"{name or model_name(model_path(Path(model)))}: a model of Headstart {__version__}"
    commit = there.commit(contents, about, after=found.commit if found else "")
    return Pushed(repository, there.url, branch, sizes, created=found is None, commit=commit)


def _contents(model: str | os.PathLike[str], text: str) -> dict[str, bytes]:
    classifier = Classifier.load(model)
    labels = json.dumps(list(classifier.classes), indent=1)
    return {MODEL_FILE: classifier.content, CARD: text.encode(), LABELS: f"{labels}\n".encode()}


def _check_names(repository: str, branch: str) -> None:
    if not _REPOSITORY.fullmatch(repository):
        raise OptionError(
            f"The repository is {quoted(repository)}; expected USER/NAME, of letters, digits, dots, dashes and "
            "underscores."
        )
    if not _BRANCH.fullmatch(branch):
        raise OptionError(f"The branch is {quoted(branch)}; expected a name such as main or v2.")


def _refuse_public(there: Repository, found: Found, *, private: bool) -> None:
    if private and not found.private:
        raise OptionError(
            f"The repository {quoted(there.name)} is there already, and public.",
            f"Make it private in its settings ({there.url}/settings), or choose another name.",
        )


def _refuse_existing(repository: str, branch: str, names: frozenset[str], *, overwrite: bool) -> None:
    if names and not overwrite:
        raise StorageError(
            f"In {quoted(branch)} of {quoted(repository)} there is already {listed(sorted(names))}.",
            "Replace what is there with --overwrite (overwrite=True; its history stays), or write to a branch of its "
            "own with --branch.",
        )
