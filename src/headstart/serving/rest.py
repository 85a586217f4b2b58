"""The REST API: the public record of a prediction over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request
from starlette.responses import Response

from headstart.core.errors import ImageError, OptionError
from headstart.prediction.answers import Result
from headstart.prediction.model_card import sections
from headstart.prediction.record import Wanted, record_of
from headstart.preprocess.frame import frame
from headstart.serving import bodies, documents, exchange
from headstart.serving.counters import CONTENT_TYPE_LATEST
from headstart.serving.desk import Desk
from headstart.serving.models import Served
from headstart.serving.problems import Problem, json_response

Name = Annotated[str, Path(description="Name of the model, as listed by GET /v1/models.")]
Top = Annotated[int, Query(ge=1, le=1000, description="How many of the most probable classes to return.")]
Coverage = Annotated[
    float | None,
    Query(
        gt=0, lt=1, description="Return prediction sets that contain the true class with this probability, such as 0.9."
    ),
]
AllowEmpty = Annotated[bool, Query(description="Allow empty prediction sets.")]
Neighbours = Annotated[
    int,
    Query(ge=0, le=20, description="How many of the most similar training images to return, if they are known."),
]
Abstain = Annotated[
    bool,
    Query(
        description="Name no class for images unlike the training images or, with coverage, for sets of more or fewer "
        "than one class."
    ),
]
WithMap = Annotated[
    bool, Query(description="Return the class activation map of the most probable class, if the model has maps.")
]


class Rest:
    """The routes.

    Args:
        desk: What they share.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def add_to(self, app: FastAPI) -> None:
        """Add the routes to an application."""
        add, problems = app.add_api_route, documents.problems
        add("/healthz", self.health, response_model=documents.Health, responses=problems(), tags=["State"])
        add("/readyz", self.ready, response_model=documents.Health, responses=problems(503), tags=["State"])
        add("/metrics", self.metrics, response_class=Response, responses=_METRICS | problems(), tags=["State"])
        add("/v1/models", self.models, response_model=documents.ModelList, responses=problems(), tags=["Models"])
        add(
            "/v1/models/{name}", self.card, response_model=documents.Card, responses=problems(404, 422), tags=["Models"]
        )
        add(
            "/v1/models/{name}/predict",
            self.predict,
            methods=["POST"],
            response_model=documents.Predictions,
            responses=problems(400, 403, 404, 408, 413, 415, 422, 503),
            openapi_extra=documents.UPLOAD,
            tags=["Models"],
        )

    async def health(self) -> Response:
        """Whether the server is alive."""
        return json_response({"status": "ok"})

    async def ready(self) -> Response:
        """Whether the server can classify an image now: a model is loaded and a worker is running."""
        if not self._desk.ready:
            raise Problem(503, "No model is loaded, or no worker is up.", "Try again a little later.")
        return json_response({"status": "ready"})

    async def metrics(self) -> Response:
        """Metrics for Prometheus."""
        return Response(self._desk.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def models(self) -> Response:
        """The models that are served."""
        entries = [
            {"name": one.name, "sha256": one.key, "classes": len(one.classifier.classes), "since": _time(one)}
            for one in self._desk.models.all()
        ]
        return json_response({"models": entries})

    async def card(self, name: Name) -> Response:
        """A model's classes and its model card: accuracy with its interval, and how it was trained."""
        served = self._desk.model(name)
        metadata = served.classifier.metadata
        return json_response({
            "name": served.name,
            "sha256": served.key,
            "since": _time(served),
            "classes": list(served.labels),
            "max_megapixels": served.most_megapixels,
            "familiarity": metadata.familiarity is not None,
            "sets": metadata.conformal is not None,
            "maps": served.mapped,
            "card": [section.as_dict() for section in sections(served.classifier)],
        })  # fmt: skip

    async def predict(
        self,
        name: Name,
        request: Request,
        top: Top = 5,
        coverage: Coverage = None,
        allow_empty: AllowEmpty = False,
        abstain: Abstain = False,
        neighbours: Neighbours = 0,
        activation_map: WithMap = False,
    ) -> Response:
        """Predict the class of each image: a form with one or more fields `files`, or the bytes of one image.

        If some files cannot be read, their records have `error` in place of a class. If none can be read, the response
        is a problem document (422), which has the records too.
        """
        desk = self._desk
        served = desk.model(name)
        wanted = _wanted(served, top, coverage, allow_empty=allow_empty, abstain=abstain)
        if activation_map and not served.mapped:
            raise Problem(
                422, "This model has no class activation maps.", "They need a linear head, and a network that averages."
            )
        async with bodies.body(request, desk.limits, desk.budget) as content:
            kind = request.headers.get("content-type", "")
            files = await bodies.parsed(bodies.files, content, kind, desk.limits)
            del content
            images = [exchange.Image(served.key, file.content, mapped=activation_map) for file in files]
            results = await desk.run(served, images)
        records: list[dict[str, object]] = []
        for file, result in zip(files, results, strict=True):
            if isinstance(result, ImageError):
                records.append(record_of(file.name, result, wanted))
                continue
            said = served.classifier.prediction(result, wanted.top, wanted.most, allow_empty=wanted.allow_empty)
            records.append(record_of(file.name, said, wanted))
            if neighbours:
                records[-1]["neighbours"] = await desk.nearest(served, result, neighbours)
            if activation_map:
                records[-1]["activation_map"] = _map(served, result)
        skipped = [{"path": one["path"], "reason": one["error"]} for one in records if "error" in one]
        if len(skipped) == len(records):
            first = skipped[0]
            detail = (
                "The image cannot be read" if len(records) == 1 else f"None of the {len(records)} images can be read"
            )
            raise Problem(422, f"{detail}: {first['reason']}.", predictions=records, skipped=skipped)
        return json_response({"model": served.name, "predictions": records, "skipped": skipped})


_METRICS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


def _wanted(served: Served, top: int, coverage: float | None, *, allow_empty: bool, abstain: bool) -> Wanted:
    if allow_empty and coverage is None:
        raise Problem(422, "Empty sets are allowed, but no sets are asked for.", "Give coverage too, such as 0.9.")
    try:
        return Wanted.of(served.classifier, top, coverage=coverage, allow_empty=allow_empty, abstain=abstain)
    except OptionError as error:
        raise Problem.of(error) from error


def _map(served: Served, result: Result) -> dict[str, object] | None:
    """The class activation map of a result, as JSON values; None where it would not be exact."""
    if not isinstance(result, exchange.Mapped):
        return None
    where = frame(served.classifier.metadata.preprocess, *result.size)
    return {
        "label": served.labels[int(result.probabilities.argmax())],
        "values": [[round(float(value), 6) for value in row] for row in result.grid],
        "top": where.top, "left": where.left, "bottom": where.bottom, "right": where.right,
    }  # fmt: skip


def _time(served: Served) -> str:
    return datetime.fromtimestamp(served.since, UTC).isoformat(timespec="seconds")
