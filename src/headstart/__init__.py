"""Headstart: from a folder of labelled images to one model file that can be trusted and shipped.

Examples:
    >>> import headstart as hs
    >>> run = hs.train(hs.read("photos/"))  # doctest: +SKIP
    >>> run.save("runs/pets")  # doctest: +SKIP
    >>> hs.load("runs/pets/model.onnx").predict("cat.jpg").label  # doctest: +SKIP
    'cat'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.api import (
        Comparison,
        Match,
        Run,
        card,
        check,
        compare,
        draw_report,
        embed,
        embed_into,
        evaluate,
        explain,
        export,
        load,
        predict_into,
        push,
        read,
        resume,
        search,
        train,
        watch,
    )
    from headstart.checks import CheckReport
    from headstart.core.errors import (
        DeviceError,
        ExtraError,
        HeadstartError,
        ImageError,
        InputError,
        ModelError,
        OfflineError,
        OptionError,
        SourceError,
        StorageError,
        TrainingError,
    )
    from headstart.core.runtime import Runtime
    from headstart.data.readers import Columns
    from headstart.data.table import ImageTable
    from headstart.evaluation import Evaluation
    from headstart.evaluation.labels import LabelsEvaluation
    from headstart.features.embeddings import Embeddings
    from headstart.prediction.answers import Prediction
    from headstart.prediction.classifier import Classifier
    from headstart.prediction.explanation import Explanation, Neighbour
    from headstart.prediction.labels import LabelsPrediction
    from headstart.preprocess.spec import Preprocess
    from headstart.settings.recipe import Recipe
    from headstart.strategies.custom import Own

__version__ = "0.1.0"

# Public name -> module. Importing the package imports none of them.
_PUBLIC = {
    "CheckReport": "headstart.checks",
    "Classifier": "headstart.prediction.classifier",
    "Columns": "headstart.data.readers",
    "Comparison": "headstart.api",
    "DeviceError": "headstart.core.errors",
    "Embeddings": "headstart.features.embeddings",
    "Evaluation": "headstart.evaluation",
    "Explanation": "headstart.prediction.explanation",
    "ExtraError": "headstart.core.errors",
    "HeadstartError": "headstart.core.errors",
    "ImageError": "headstart.core.errors",
    "ImageTable": "headstart.data.table",
    "InputError": "headstart.core.errors",
    "LabelsEvaluation": "headstart.evaluation.labels",
    "LabelsPrediction": "headstart.prediction.labels",
    "Match": "headstart.api",
    "ModelError": "headstart.core.errors",
    "Neighbour": "headstart.prediction.explanation",
    "OfflineError": "headstart.core.errors",
    "OptionError": "headstart.core.errors",
    "Own": "headstart.strategies.custom",
    "Prediction": "headstart.prediction.answers",
    "Preprocess": "headstart.preprocess.spec",
    "Recipe": "headstart.settings.recipe",
    "Run": "headstart.api",
    "Runtime": "headstart.core.runtime",
    "SourceError": "headstart.core.errors",
    "StorageError": "headstart.core.errors",
    "TrainingError": "headstart.core.errors",
    "card": "headstart.api",
    "check": "headstart.api",
    "compare": "headstart.api",
    "draw_report": "headstart.api",
    "embed": "headstart.api",
    "embed_into": "headstart.api",
    "evaluate": "headstart.api",
    "explain": "headstart.api",
    "export": "headstart.api",
    "load": "headstart.api",
    "predict_into": "headstart.api",
    "push": "headstart.api",
    "read": "headstart.api",
    "resume": "headstart.api",
    "search": "headstart.api",
    "train": "headstart.api",
    "watch": "headstart.api",
}

__all__ = [
    "CheckReport",
    "Classifier",
    "Columns",
    "Comparison",
    "DeviceError",
    "Embeddings",
    "Evaluation",
    "Explanation",
    "ExtraError",
    "HeadstartError",
    "ImageError",
    "ImageTable",
    "InputError",
    "LabelsEvaluation",
    "LabelsPrediction",
    "Match",
    "ModelError",
    "Neighbour",
    "OfflineError",
    "OptionError",
    "Own",
    "Prediction",
    "Preprocess",
    "Recipe",
    "Run",
    "Runtime",
    "SourceError",
    "StorageError",
    "TrainingError",
    "__version__",
    "card",
    "check",
    "compare",
    "draw_report",
    "embed",
    "embed_into",
    "evaluate",
    "explain",
    "export",
    "load",
    "predict_into",
    "push",
    "read",
    "resume",
    "search",
    "train",
    "watch",
]


def __getattr__(name: str) -> Any:
    from headstart.core.tables import public

    return public("headstart", name, _PUBLIC, globals())


def __dir__() -> list[str]:
    return sorted(__all__)
