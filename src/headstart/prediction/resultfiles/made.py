"""What a file of predictions was made with: a hidden record beside it, without which nothing is added to it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from headstart.core.digest import digest_bytes
from headstart.core.errors import StorageError
from headstart.core.files import durable_write, storage_error
from headstart.core.text import quoted
from headstart.prediction.classifier import Classifier
from headstart.prediction.record import Wanted

_WORDS = {
    "model": "model file", "format": "format", "top": "--top", "coverage": "--coverage", "allow_empty": "--allow-empty",
    "abstain": "--abstain", "max_megapixels": "--max-megapixels",
}  # fmt: skip
_VERSION = 1
_ANEW = "Start over with --overwrite, or choose another file with --out."


@dataclass(frozen=True, kw_only=True)
class Made:
    """All that decides what stands in a file of predictions, besides the images.

    Attributes:
        model: SHA-256 of the model file, hexadecimal.
        format: A name of `headstart.prediction.resultfiles.FORMS`.
        top: As in `Wanted`; so are the next three.
        coverage: See `top`.
        allow_empty: See `top`.
        abstain: See `top`.
        max_megapixels: The limit of the classifier.
    """

    model: str
    format: str
    top: int
    coverage: float | None
    allow_empty: bool
    abstain: bool
    max_megapixels: int

    @classmethod
    def by(cls, classifier: Classifier, format: str, wanted: Wanted) -> Made:
        """The record of a classifier, and of what is asked of it."""
        return cls(
            model=digest_bytes(classifier.content),
            format=format,
            top=wanted.top,
            coverage=wanted.coverage,
            allow_empty=wanted.allow_empty,
            abstain=wanted.abstain,
            max_megapixels=classifier.max_megapixels,
        )

    def write(self, path: Path) -> None:
        """Put the record beside a file.

        Raises:
            StorageError: It cannot be written.
        """
        durable_write(beside(path), json.dumps({"headstart": "predictions", "version": _VERSION, **asdict(self)}))

    def refuse_other(self, path: Path) -> None:
        """Say that a file was made with something else, or that nobody knows with what.

        Raises:
            StorageError: It is so.
        """
        try:
            found = json.loads(beside(path).read_bytes())
        except FileNotFoundError as error:
            raise StorageError(
                f"{quoted(str(path))} cannot be continued: the record of how it was made,  "
                f"{quoted(beside(path).name)}, is missing.",
                _ANEW,
            ) from error
        except OSError as error:
            raise storage_error(error, beside(path)) from error
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or found.get("version") != _VERSION:
            raise StorageError(f"{quoted(str(beside(path)))} is not a record that this version can read.", _ANEW)
        differ = [name for name, value in asdict(self).items() if found.get(name) != value]
        if differ:
            told = [
                _WORDS[name] if name == "model" else f"{_WORDS[name]} ({found.get(name)}, now {getattr(self, name)})"
                for name in differ
            ]
            raise StorageError(
                f"{quoted(str(path))} was made with another {' and another '.join(told)}.",
                f"Use the same to continue. {_ANEW}",
            )


def beside(path: Path) -> Path:
    """Where the record of a file is."""
    return path.with_name(f".{path.name}.headstart")
