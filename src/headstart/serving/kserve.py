"""The Open Inference Protocol, version 2 (KServe, Triton), with the same results as REST."""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from starlette.responses import Response

from headstart import __version__
from headstart.core.errors import ImageError
from headstart.prediction.answers import Result
from headstart.serving import bodies, documents, exchange, tensors
from headstart.serving.desk import Desk
from headstart.serving.models import Served
from headstart.serving.problems import Problem, json_response
from headstart.serving.rest import Name
from headstart.serving.tensors import Tensor

VERSION = "1"  # a name is served in one version: that of its file


class KServe:
    """The routes.

    Args:
        desk: What they share.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def add_to(self, app: FastAPI) -> None:
        """Add the routes to an application."""
        problems = documents.problems

        def add(path: str, endpoint: Any, *statuses: int, **more: Any) -> None:
            tags: list[str | Enum] = ["Open Inference Protocol"]
            app.add_api_route(
                path, endpoint, tags=tags, response_model=documents.Document, responses=problems(*statuses), **more
            )

        add("/v2", self.server)
        add("/v2/health/live", self.live)
        add("/v2/health/ready", self.ready, 503)
        add("/v2/models/{name}", self.metadata, 404, 422)
        add("/v2/models/{name}/ready", self.model_ready, 404, 422, 503)
        add(
            "/v2/models/{name}/infer", self.infer, 400, 403, 404, 408, 413, 422, 503, methods=["POST"],
            openapi_extra=documents.JSON_BODY,
        )  # fmt: skip
        for path, endpoint in (("", self.metadata), ("/ready", self.model_ready)):
            app.add_api_route(f"/v2/models/{{name}}/versions/{VERSION}{path}", endpoint, include_in_schema=False)
        versioned = f"/v2/models/{{name}}/versions/{VERSION}/infer"
        app.add_api_route(versioned, self.infer, methods=["POST"], include_in_schema=False)

    async def server(self) -> Response:
        """Name and version of the server, and the extensions that it supports."""
        return json_response({"name": "headstart", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def live(self) -> Response:
        """Whether the server is alive."""
        return json_response({"live": True})

    async def ready(self) -> Response:
        """Whether the server can classify an image now."""
        if not self._desk.ready:
            raise Problem(503, "No model is loaded, or no worker is up.", "Try again a little later.")
        return json_response({"ready": True})

    async def model_ready(self, name: Name) -> Response:
        """Whether a model can classify an image now."""
        served = self._desk.model(name)
        if not self._desk.ready:
            raise Problem(503, "No worker is up.", "Try again a little later.")
        return json_response({"name": served.name, "ready": True})

    async def metadata(self, name: Name) -> Response:
        """Inputs and outputs of a model. A request provides one of the inputs: pixels or image files."""
        served = self._desk.model(name)
        classes = len(served.classifier.classes)
        width = served.classifier.metadata.backbone.embedding_size or -1
        kinds = {"label": ("BYTES", [-1]), "probabilities": ("FP32", [-1, classes]), "embedding": ("FP32", [-1, width])}
        kinds["distance"] = ("FP32", [-1, 1])
        return json_response({
            "name": served.name,
            "versions": [VERSION],
            "platform": "onnxruntime_onnx",
            "inputs": [
                {"name": tensors.PIXELS, "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
                {"name": tensors.FILE, "datatype": "BYTES", "shape": [-1]},
            ],
            "outputs": [
                {"name": one, "datatype": kinds[one][0], "shape": kinds[one][1]} for one in _outputs(served)
            ],
            "parameters": {"classes": list(served.labels)},
        })  # fmt: skip

    async def infer(self, name: Name, request: Request) -> Response:
        """Classify images: pixels (`image`, UINT8 [N, H, W, 3]) or files (`file`, BYTES [N], base64 in JSON)."""
        desk = self._desk
        served = desk.model(name)
        length = request.headers.get(tensors.LENGTH_HEADER)
        async with bodies.body(request, desk.limits, desk.budget) as content:
            asked = await bodies.parsed(tensors.read, content, length, _outputs(served), desk.limits.files)
            del content
            _check_size(asked.shape, served)
            images = [exchange.Image(served.key, one, asked.shape) for one in asked.images]
            results = await desk.run(served, images)
        found: list[Result] = []
        for number, result in enumerate(results):
            if isinstance(result, ImageError):
                raise Problem(422, f"Image {number} cannot be read: {result}.")
            found.append(result)
        head: dict[str, object] = {"model_name": served.name, "model_version": VERSION}
        head |= {"id": asked.id} if asked.id else {}
        body, json_length = tensors.write(_tensors(found, served), asked.outputs, head)
        if json_length is None:
            return Response(body, media_type="application/json")
        return Response(body, media_type="application/octet-stream", headers={tensors.LENGTH_HEADER: str(json_length)})


def _outputs(served: Served) -> list[str]:
    distance = ["distance"] if served.classifier.metadata.familiarity else []
    return ["label", "probabilities", "embedding", *distance]


def _check_size(shape: tuple[int, int, int] | None, served: Served) -> None:
    if shape is not None and shape[0] * shape[1] > served.most_megapixels * 1_000_000:
        raise Problem(
            413, f"{shape[1]} x {shape[0]} pixels, more than the limit of {served.most_megapixels} megapixels."
        )


def _tensors(results: list[Result], served: Served) -> list[Tensor]:
    probabilities = np.stack([one.probabilities for one in results])
    found = [
        Tensor("label", [served.labels[number] for number in probabilities.argmax(1)]),
        Tensor("probabilities", probabilities),
        Tensor("embedding", np.stack([one.embedding for one in results])),
    ]
    if served.classifier.metadata.familiarity:
        distances = [[np.nan if one.distance is None else one.distance] for one in results]
        found.append(Tensor("distance", np.array(distances, np.float32)))
    return found
