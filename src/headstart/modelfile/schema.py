"""The metadata of a model file: one JSON document under the key `headstart`."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from hashlib import sha256
from typing import Any

from headstart.core.errors import ModelError
from headstart.core.text import json_text, portable
from headstart.modelfile import golden_records, prediction_sets
from headstart.modelfile.familiarity import Familiarity
from headstart.modelfile.golden_records import Golden
from headstart.modelfile.prediction_sets import Conformal
from headstart.modelfile.untrusted import integer, mapping, number, positive, text_of
from headstart.preprocess.spec import Preprocess
from headstart.settings.recipe import MAX_MEGAPIXELS
from headstart.targets import CLASSES, TARGETS, Calibration, calibration_of

# 1 had no reasons, familiarity and conformal scores, and no outputs for them; 3 has thresholds, where an image has any
# number of labels.
SCHEMA = 3
OUTPUTS = ["probabilities", "embedding"]  # of every model
DISTANCE, FEATURE_MAP = "distance", "feature_map"  # of some
FINGERPRINT_BYTES = 8  # among a million images two share one with a chance of 1 to 37 million
MAX_CLASSES = 100_000
MAX_REASONS = 100
# 64 MiB of empty lists would take 1.5 GiB; 100,000 classes with an evaluation have two million values.
MAX_JSON_VALUES = 4_000_000


@dataclass(frozen=True)
class Backbone:
    """The network that gives the embeddings; empty where a model file does not say.

    Attributes:
        name: As in a recipe.
        embedder: Digest of the graph from pixels to embeddings.
        weights: SHA-256 of its weights, hexadecimal.
        embedding_size: Width D of an embedding.
        licence: Of the weights.
    """

    name: str = "unknown"
    embedder: str = ""
    weights: str = ""
    embedding_size: int = 0
    licence: str = "unknown"


@dataclass(frozen=True)
class Metadata:
    """Everything that a model file says about itself.

    Attributes:
        classes: Names, in the order of the output ``probabilities``.
        preprocess: What the graph does to the pixels.
        recipe: All choices that the model follows from, as JSON values: another version may have written them.
        backbone: The network that gives the embeddings.
        temperature: What the scores are divided by.
        counts: Images of each split and class, likewise.
        evaluation: The evaluation as JSON values; None where there was none.
        golden: Generated images with expected outputs.
        tolerance: Largest difference of a probability that `verify` accepts, and relative one of an embedding.
        reasons: Sentences that say why the strategy, the backbone and the fit are what they are.
        familiarity: What the output ``distance`` means; None if the model cannot say.
        conformal: Scores of held-out images for prediction sets; or None.
        learnt_from: First 8 bytes of the SHA-256 of each image file that was learnt from, in order.
        version: Version of Headstart that wrote the file.
        schema: Version of this document.
        task: What the names in `classes` tell of an image, a row of `headstart.targets.TARGETS`; written only where it
            is not exactly one class.
        thresholds: From what probability on each name is true of an image, (C,), in 0..1; empty where the task has
            none.
    """

    classes: tuple[str, ...]
    preprocess: Preprocess
    recipe: Mapping[str, object]
    backbone: Backbone
    temperature: float
    counts: Mapping[str, object]
    evaluation: Mapping[str, object] | None
    golden: tuple[Golden, ...] = ()
    tolerance: dict[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    familiarity: Familiarity | None = None
    conformal: Conformal | None = None
    learnt_from: bytes = b""
    version: str = ""
    schema: int = SCHEMA
    task: str = CLASSES
    thresholds: tuple[float, ...] = ()

    @property
    def calibration(self) -> Calibration:
        """What makes probabilities of scores, and names of these."""
        made = calibration_of(self.task)
        return made(self.temperature, self.thresholds) if self.thresholds else made(self.temperature)

    @property
    def max_megapixels(self) -> int:
        """Of an image that is not refused before it is decoded."""
        limit = self.recipe["max_megapixels"]
        assert isinstance(limit, int)  # `from_json` has refused others
        return limit

    @property
    def precision(self) -> str:
        """Arithmetic of the backbone; empty where the file does not say."""
        return text_of(self.recipe.get("precision"))

    @property
    def strategy(self) -> str:
        """How it was learnt; empty where the file does not say."""
        return text_of(self.recipe.get("strategy"))

    def to_json(self) -> str:
        """The document."""
        record: dict[str, object] = {one.name: getattr(self, one.name) for one in fields(self)}
        record |= {
            "classes": list(self.classes),
            "preprocess": self.preprocess.as_dict(),
            "backbone": asdict(self.backbone),
            "reasons": list(self.reasons),
            "conformal": self.conformal.as_dict() if self.conformal else None,
            "familiarity": self.familiarity.as_dict() if self.familiarity else None,
        }
        record["golden"] = [one.as_dict() for one in self.golden]
        if self.task == CLASSES:
            del record["task"]
        if self.thresholds:
            record["thresholds"] = [float(f"{value:.9g}") for value in self.thresholds]
        else:
            del record["thresholds"]
        record["learnt_from"] = base64.b64encode(self.learnt_from).decode("ascii")
        return json_text(record, indent=None)

    @cached_property
    def _learnt_from(self) -> frozenset[bytes]:
        size = FINGERPRINT_BYTES
        return frozenset(self.learnt_from[at : at + size] for at in range(0, len(self.learnt_from), size))

    def knows(self, file: bytes) -> bool:
        """Whether an image file, given by its bytes, is one that was learnt from."""
        return bool(self.learnt_from) and sha256(file).digest()[:FINGERPRINT_BYTES] in self._learnt_from

    @classmethod
    def from_json(cls, text: str) -> Metadata:
        """Read the document.

        Raises:
            ModelError: It is damaged, or written by a newer Headstart.
        """
        if sum(text.count(mark) for mark in ",[{") > MAX_JSON_VALUES:
            raise ModelError("The model's metadata holds more values than any model has; refused.")
        try:
            record = json.loads(text, parse_int=integer, parse_float=number, parse_constant=number)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"The model's metadata is not JSON: {str(error)[:100]}.") from error
        if not isinstance(record, dict):
            raise ModelError("The model's metadata is not a JSON object.")
        schema = record.get("schema")
        if type(schema) is not int or schema < 1:
            raise ModelError(f"The model's metadata has no valid schema version: {schema!r:.50}.")
        if schema > SCHEMA:
            raise ModelError(
                f"The model was written by a newer Headstart (schema {schema}; this one reads up to {SCHEMA}).",
                "Upgrade: pip install --upgrade headstart",
            )
        return cls(
            classes=_classes(record.get("classes"), least=2 if TARGETS[_task(record)].exclusive else 1),
            preprocess=Preprocess.from_dict(mapping(record, "preprocess")),
            recipe=_recipe(record),
            backbone=_backbone(mapping(record, "backbone")),
            temperature=positive(record.get("temperature"), "temperature"),
            counts=mapping(record, "counts"),
            evaluation=None if record.get("evaluation") is None else mapping(record, "evaluation"),
            golden=golden_records.parse(record.get("golden")),
            tolerance=_tolerance(record),
            reasons=_reasons(record),
            familiarity=None
            if record.get("familiarity") is None
            else Familiarity.from_dict(mapping(record, "familiarity")),
            conformal=prediction_sets.parse(record.get("conformal")),
            learnt_from=_fingerprints(record),
            version=text_of(record.get("version")),
            schema=schema,
            task=_task(record),
            thresholds=_thresholds(record),
        )


def _classes(names: Any, least: int) -> tuple[str, ...]:
    valid = isinstance(names, list) and least <= len(names) <= MAX_CLASSES
    if not valid or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        wanted = "at least two different class names" if least == 2 else "different names"
        raise ModelError(f"The model's metadata has no valid list of {wanted}.")
    try:
        "".join(names).encode("utf-8")
    except UnicodeEncodeError as error:  # JSON can escape half a character, which no terminal and no file can show
        raise ModelError("The model's metadata has class names that are not valid text.") from error
    return tuple(names)


def _task(record: Mapping[str, object]) -> str:
    task = record.get("task", CLASSES)
    if not isinstance(task, str) or task not in TARGETS:
        raise ModelError(
            f"The model's metadata names a task that this Headstart does not know: {task!r:.50}.",
            "If a newer Headstart wrote it: pip install --upgrade headstart",
        )
    if record.get("conformal") is not None and not TARGETS[task].exclusive:
        raise ModelError(f"The model has scores for prediction sets, which the task {task} does not have; refused.")
    return task


def _thresholds(record: Mapping[str, Any]) -> tuple[float, ...]:
    """The threshold of each label; `_task` and `_classes` have been read."""
    found, wanted = record.get("thresholds", []), TARGETS[_task(record)].thresholds
    valid = isinstance(found, list) and all(type(one) in {int, float} and 0 <= one <= 1 for one in found)
    if not valid or len(found) != (len(record["classes"]) if wanted else 0):
        raise ModelError("The model's metadata has no valid thresholds, one in 0 to 1 for each label.")
    return tuple(map(float, found))


def _recipe(record: Mapping[str, object]) -> Mapping[str, object]:
    recipe = mapping(record, "recipe")
    limit = recipe.get("max_megapixels")
    if type(limit) is not int or not 1 <= limit <= MAX_MEGAPIXELS:
        raise ModelError(f"The model's metadata has no valid max_megapixels: {limit!r:.50}.")
    return recipe


def _backbone(record: Mapping[str, Any]) -> Backbone:
    known = {one.name: record[one.name] for one in fields(Backbone) if record.get(one.name) is not None}
    for name, value in known.items():
        if type(value) is not type(getattr(Backbone, name)):
            raise ModelError(f"The model's metadata has no valid {name} of the backbone: {value!r:.50}.")
    return Backbone(**known)


def _reasons(record: Mapping[str, Any]) -> tuple[str, ...]:
    reasons = record.get("reasons", [])
    valid = isinstance(reasons, list) and len(reasons) <= MAX_REASONS and all(isinstance(one, str) for one in reasons)
    if not valid:
        raise ModelError("The model's metadata has no valid list of reasons.")
    return tuple(portable(one) for one in reasons)


def _fingerprints(record: Mapping[str, Any]) -> bytes:
    try:
        fingerprints = base64.b64decode(record.get("learnt_from", ""), validate=True)
    except (TypeError, ValueError) as error:
        raise ModelError("The model's metadata has no valid learnt_from.") from error
    if len(fingerprints) % FINGERPRINT_BYTES:
        raise ModelError("The model's metadata has no valid learnt_from.")
    return fingerprints


def _tolerance(record: Mapping[str, object]) -> dict[str, float]:
    tolerance = mapping(record, "tolerance")
    if not set(tolerance) <= {"probability", "embedding", "distance"}:
        raise ModelError("The model's metadata has no valid tolerance.")
    return {key: positive(value, "tolerance") for key, value in tolerance.items()}
