"""The models that are served: their names and files."""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from headstart.core.errors import ModelError, OptionError
from headstart.core.marks import MODEL_FILE
from headstart.core.text import listed, nearest, portable, quoted
from headstart.modelfile.location import holds_runs, model_name, model_path
from headstart.prediction.activation_map import has_map
from headstart.prediction.classifier import Classifier


@dataclass(frozen=True, eq=False)
class Served:
    """A model that is served.

    Attributes:
        name: What requests call it.
        path: Its file.
        classifier: Its metadata; the model itself runs in the workers.
        key: SHA-256 of its file, hexadecimal.
        max_megapixels: Larger images are refused; None for the limit that it was trained with.
        since: When it was loaded, in seconds since 1970.
    """

    name: str
    path: Path
    classifier: Classifier
    key: str
    max_megapixels: int | None
    since: float

    @property
    def labels(self) -> tuple[str, ...]:
        """Its class names, in valid UTF-8."""
        return tuple(portable(label) for label in self.classifier.classes)

    @cached_property
    def mapped(self) -> bool:
        """Whether it has class activation maps."""
        return has_map(self.classifier)

    @property
    def most_megapixels(self) -> int:
        """Larger images are refused."""
        return self.max_megapixels or self.classifier.metadata.max_megapixels


class Models:
    """The models that are served, by name. Thread-safe: the whole table is replaced at once."""

    def __init__(self, served: Sequence[Served] = ()) -> None:
        self._served = {one.name: one for one in served}

    def __len__(self) -> int:
        return len(self._served)

    def all(self) -> list[Served]:
        """All models, in the order in which they were added."""
        return list(self._served.values())

    def find(self, name: str) -> Served | None:
        """The model with a name, or None."""
        return self._served.get(name)

    def suggestion(self, name: str) -> str:
        """A hint for a name that does not exist."""
        return f"{nearest(name, self._served)}There are {listed(self._served)}." if self._served else ""

    def keys(self) -> frozenset[str]:
        """The keys of all models."""
        return frozenset(one.key for one in self._served.values())

    def take(self, model: Served) -> None:
        """Serve a model, replacing one of the same name; requests that have begun keep the old one."""
        self._served = self._served | {model.name: model}


def load_all(arguments: Sequence[str], max_megapixels: int | None) -> list[Served]:
    """The models named on the command line.

    Args:
        arguments: Model files and run folders; ``NAME=PATH`` sets another name.
        max_megapixels: Images of more are refused; None for the limit that each was trained with.

    Raises:
        ModelError: There is no such model file, or it is refused.
        OptionError: Two have the same name.
    """
    found: dict[str, Served] = {}
    for argument in arguments:
        name, path = _named(argument)
        if name in found:
            raise OptionError(
                f"Two models are called {quoted(name)}: {quoted(str(found[name].path))} and {quoted(str(path))}.",
                f"Give one of them another name: NAME={argument.removeprefix(f'{name}=')}",
            )
        found[name] = load(path, name, max_megapixels)
    return list(found.values())


def load(path: Path, name: str, max_megapixels: int | None) -> Served:
    """Load a model file.

    Raises:
        ModelError: There is no such model file, or it is refused.
    """
    classifier = Classifier.load(path, max_megapixels=max_megapixels)
    key = hashlib.sha256(classifier.content).hexdigest()
    return Served(name, path, classifier, key, max_megapixels, time.time())


def _named(argument: str) -> tuple[str, Path]:
    path = Path(argument)
    name, equals, rest = argument.partition("=")
    chosen = ""
    if equals and name and rest and not path.exists():
        if "/" in name:
            raise ModelError(f"{quoted(name)} cannot be the name of a model: it contains a slash.", "Give NAME=PATH.")
        chosen, path = portable(name), Path(rest)
    if path.is_dir() and not (path / MODEL_FILE).exists() and holds_runs(path):
        raise ModelError(
            f"{quoted(str(path))} is a folder of runs.",
            f"Serve all of them: headstart serve --watch {shlex.quote(str(path))}",
        )
    path = model_path(path)
    return chosen or portable(model_name(path)), path
