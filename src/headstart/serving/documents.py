"""Response schemas for the OpenAPI document; the responses themselves are made by `headstart.prediction.record`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from headstart.serving.problems import PROBLEM_TYPE


class Document(BaseModel):
    """A JSON object; more keys may be added."""

    model_config = ConfigDict(extra="allow")


class Label(Document):
    """A class with its probability."""

    label: str
    probability: float


class TrainingImage(Document):
    """A training image similar to the image; `picture` is a small JPEG file in base64."""

    path: str
    label: str
    similarity: float
    picture: str | None


class ActivationMap(Document):
    """The class activation map of the most probable class or label: which regions of the image are evidence for it.

    `values` are the rows of a grid from the top. Their mean is the log-odds of the class against the others, or of the
    label, but for a constant; what is above 0 speaks for it. The grid covers a square on the image, whose edges are
    given as shares of the image's sides: 0 is the top or left edge, 1 the bottom or right one.
    """

    label: str
    values: list[list[float]]
    top: float
    left: float
    bottom: float
    right: float


class PredictionRecord(Document):
    """The prediction for one image, as in `headstart predict --json`, or the reason why it could not be read."""

    path: str
    label: str | None = None
    probability: float | None = None
    familiar: bool | None = None
    distance: float | None = None
    top: list[Label] | None = None
    labels: list[str] | None = None
    abstained: str | None = None
    neighbours: list[TrainingImage] | None = None
    activation_map: ActivationMap | None = None
    error: str | None = None


class Skipped(Document):
    """A file that could not be read."""

    path: str
    reason: str


class Predictions(Document):
    """The response of predict: a record for each file, in the order of the request."""

    model: str
    predictions: list[PredictionRecord]
    skipped: list[Skipped]


class ModelEntry(Document):
    """A model in the list."""

    name: str
    sha256: str
    classes: int
    since: str


class ModelList(Document):
    """All models."""

    models: list[ModelEntry]


class Card(Document):
    """Facts about a model, with its model card."""

    name: str
    sha256: str
    since: str
    classes: list[str]
    max_megapixels: int
    familiarity: bool
    sets: bool
    maps: bool
    card: list[dict[str, Any]]


class ProblemDocument(Document):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    error: str
    hint: str | None = None


class Health(Document):
    """The state of the server in one word."""

    status: str


_WORDS = {
    400: "The request or its body is malformed.",
    401: "A token is needed.",
    403: "The request comes from a page of a site that is not allowed.",
    404: "There is no model with this name.",
    408: "The request body arrived too slowly.",
    413: "The request body is too large.",
    415: "The request body has a type that is not an image.",
    421: "The request names a host that is not this server.",
    422: "An image cannot be read, or an option has an invalid value.",
    500: "Internal error of the server.",
    503: "All workers are busy: try again after the time in Retry-After.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, in addition to those that all routes have."""
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {
        status: {"description": _WORDS[status], "content": {PROBLEM_TYPE: {"schema": schema}}}
        for status in sorted({401, 421, 500, *statuses})
    }


UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "image/*": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"enum": ["image", "file"]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}},
        "datatype": {"enum": ["UINT8", "BYTES"]},
        "data": {"type": "array"},
        "parameters": {"type": "object"},
    },
}
_INFERENCE = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": _TENSOR},
        "outputs": {"type": "array", "items": {"type": "object"}},
        "parameters": {"type": "object"},
    },
}
JSON_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": _INFERENCE}}}}
