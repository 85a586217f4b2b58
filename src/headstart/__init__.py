"""Headstart: from a folder of labelled images to one model file that can be trusted and shipped.

Example:
    >>> import headstart as hs
    >>> run = hs.train(hs.read("photos/"))  # doctest: +SKIP
    >>> run.save("runs/pets")  # doctest: +SKIP
    >>> hs.load("runs/pets/model.onnx").predict("cat.jpg").label  # doctest: +SKIP
    'cat'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.api import Run, evaluate, load, read, train
    from headstart.artifact.classifier import Classifier, Prediction
    from headstart.core.errors import (
        HeadstartError,
        ImageError,
        InputError,
        ModelError,
        OfflineError,
        OptionError,
        SourceError,
        StorageError,
    )
    from headstart.core.options import Runtime
    from headstart.core.recipe import Recipe
    from headstart.data.readers import Columns
    from headstart.data.table import ImageTable
    from headstart.evaluation import Evaluation

__version__ = "0.1.0"

# Public name -> module. Importing the package imports none of them.
_PUBLIC = {
    "Classifier": "headstart.artifact.classifier",
    "Columns": "headstart.data.readers",
    "Evaluation": "headstart.evaluation",
    "HeadstartError": "headstart.core.errors",
    "ImageError": "headstart.core.errors",
    "ImageTable": "headstart.data.table",
    "InputError": "headstart.core.errors",
    "ModelError": "headstart.core.errors",
    "OfflineError": "headstart.core.errors",
    "OptionError": "headstart.core.errors",
    "Prediction": "headstart.artifact.classifier",
    "Recipe": "headstart.core.recipe",
    "Run": "headstart.api",
    "Runtime": "headstart.core.options",
    "SourceError": "headstart.core.errors",
    "StorageError": "headstart.core.errors",
    "evaluate": "headstart.api",
    "load": "headstart.api",
    "read": "headstart.api",
    "train": "headstart.api",
}

__all__ = [
    "Classifier",
    "Columns",
    "Evaluation",
    "HeadstartError",
    "ImageError",
    "ImageTable",
    "InputError",
    "ModelError",
    "OfflineError",
    "OptionError",
    "Prediction",
    "Recipe",
    "Run",
    "Runtime",
    "SourceError",
    "StorageError",
    "__version__",
    "evaluate",
    "load",
    "read",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'headstart' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
