"""The metadata of a model file: one JSON document under the key `headstart`."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core.errors import ModelError
from headstart.core.text import json_text
from headstart.preprocess.spec import Preprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEY = "headstart"
SCHEMA = 1
MAX_CLASSES = 100_000


@dataclass(frozen=True)
class Golden:
    """A generated image with what the model made of it on the machine that trained it.

    Attributes:
        png: The image, a PNG file.
        probabilities: float32 (C,).
        embedding: float32 (D,).
    """

    png: bytes
    probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]


@dataclass(frozen=True)
class Metadata:
    """All that a model file says of itself.

    Attributes:
        classes: Names, in the order of the output ``probabilities``.
        preprocess: What the graph does to the pixels.
        recipe: All choices that the model follows from.
        backbone: ``name``, ``embedder`` (digest), ``weights`` (digest), ``embedding_size``, ``licence``.
        temperature: What the scores are divided by.
        counts: Images of each split and class.
        evaluation: The evaluation as JSON values; None where there was none.
        golden: Generated images with expected outputs.
        tolerance: Largest difference of a probability that `verify` accepts, and relative one of an embedding.
        version: Version of Headstart that wrote the file.
        schema: Version of this document.
    """

    classes: tuple[str, ...]
    preprocess: Preprocess
    recipe: dict[str, Any]
    backbone: dict[str, Any]
    temperature: float
    counts: dict[str, Any]
    evaluation: dict[str, Any] | None
    golden: tuple[Golden, ...] = ()
    tolerance: dict[str, float] = field(default_factory=dict)
    version: str = ""
    schema: int = SCHEMA

    def to_json(self) -> str:
        """The document."""
        record = {**self.__dict__, "classes": list(self.classes), "preprocess": self.preprocess.as_dict()}
        record["golden"] = [
            {
                "png": base64.b64encode(one.png).decode("ascii"),
                "probabilities": [float(f"{value:.9g}") for value in one.probabilities],
                "embedding": base64.b64encode(one.embedding.astype("<f4").tobytes()).decode("ascii"),
            }
            for one in self.golden
        ]
        return json_text(record, indent=None)

    @classmethod
    def from_json(cls, text: str) -> Metadata:
        """Read the document.

        Raises:
            ModelError: It is damaged, or written by a newer Headstart.
        """
        try:
            record = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ModelError(f"The model's metadata is not JSON: {str(error)[:100]}.") from error
        if not isinstance(record, dict):
            raise ModelError("The model's metadata is not a JSON object.")
        schema = record.get("schema")
        if not isinstance(schema, int) or schema < 1:
            raise ModelError(f"The model's metadata has no valid schema version: {schema!r:.50}.")
        if schema > SCHEMA:
            raise ModelError(
                f"The model was written by a newer Headstart (schema {schema}; this one reads up to {SCHEMA}).",
                "Upgrade: pip install --upgrade headstart",
            )
        return cls(
            classes=_classes(record.get("classes")),
            preprocess=Preprocess.from_dict(_mapping(record, "preprocess")),
            recipe=_mapping(record, "recipe"),
            backbone=_mapping(record, "backbone"),
            temperature=_positive(record.get("temperature"), "temperature"),
            counts=_mapping(record, "counts"),
            evaluation=None if record.get("evaluation") is None else _mapping(record, "evaluation"),
            golden=tuple(_golden(one) for one in _list(record, "golden")),
            tolerance={key: _positive(value, "tolerance") for key, value in _mapping(record, "tolerance").items()},
            version=str(record.get("version", ""))[:100],
            schema=schema,
        )


def _classes(names: Any) -> tuple[str, ...]:
    valid = isinstance(names, list) and 2 <= len(names) <= MAX_CLASSES and all(isinstance(name, str) for name in names)
    if not valid or len(set(names)) < len(names):
        raise ModelError("The model's metadata has no valid list of at least two different class names.")
    return tuple(names)


def _mapping(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = record.get(key)
    if not isinstance(value, dict):
        raise ModelError(f"The model's metadata has no valid {key}.")
    return value


def _list(record: Mapping[str, Any], key: str) -> list[Any]:
    value = record.get(key)
    if not isinstance(value, list):
        raise ModelError(f"The model's metadata has no valid {key}.")
    return value


def _positive(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ModelError(f"The model's metadata has no valid {name}: {value!r:.50}.")
    return float(value)


def _golden(record: Any) -> Golden:
    try:
        probabilities = np.array([float(value) for value in record["probabilities"]], np.float32)
        embedding = np.frombuffer(base64.b64decode(record["embedding"], validate=True), "<f4")
        return Golden(base64.b64decode(record["png"], validate=True), probabilities, embedding)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise ModelError(f"A golden image of the model is damaged ({error}).") from error
