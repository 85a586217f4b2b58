"""A model in ONNX at another precision: float32, float16 or int8.

Only the network between the preprocessing and the head changes: pixels are prepared as before, to the bit, and the head
computes in float32 as it did.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import ModelError
from headstart.core.graph import Graph
from headstart.modelfile import golden, guard
from headstart.modelfile.schema import SCHEMA
from headstart.modelfile.session import Session
from headstart.modelfile.writer import ModelFile
from headstart.prediction.exporters.float16 import halve
from headstart.prediction.exporters.int8 import dequantise, quantised
from headstart.preprocess.nodes import add_preprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

    from headstart.prediction.classifier import Classifier
    from headstart.prediction.exporters import Files, Runner

NO_IMAGES = "Give a folder of images like those that the model will see: --check FOLDER (check=...)."


def in_float32(classifier: Classifier, name: str, images: Sequence[NDArray[np.uint8]]) -> Files:
    """The model in float32; one that is in float32 already stays as it is, to the byte."""
    return {"": as_float32(classifier)}


def in_float16(classifier: Classifier, name: str, images: Sequence[NDArray[np.uint8]]) -> Files:
    """The model with its network in float16; what goes in and what comes out stays in its types."""
    import onnx

    model = onnx.load_from_string(as_float32(classifier))
    halve(model, set(_outside(model, classifier)))
    return {"": model.SerializeToString(deterministic=True)}


def in_int8(classifier: Classifier, name: str, images: Sequence[NDArray[np.uint8]]) -> Files:
    """The model with its network in int8, whose ranges are those of the images; see `onnxruntime.quantization`.

    Raises:
        ModelError: There are no images to find the ranges with.
    """
    if _is_int8(classifier):
        return {"": classifier.content}
    if not images:
        raise ModelError("An export to int8 needs images to determine the value ranges.", NO_IMAGES)
    import onnx

    model = onnx.load_from_string(classifier.content)
    made = quantised(classifier.content, _outside(model, classifier), images)
    return {"": _with_precision(made, classifier, "int8")}


def session(files: Files) -> Runner:
    """What runs an ONNX file."""
    opened = Session(files[""])
    return lambda pixels: opened.run(pixels, ["probabilities"])[0]


def _is_int8(classifier: Classifier) -> bool:
    return classifier.metadata.precision == "int8"


def as_float32(classifier: Classifier) -> bytes:
    """The model file in float32: as it is, or what computes in int8 without rounding."""
    if not _is_int8(classifier):
        return classifier.content
    import onnx

    model = onnx.load_from_string(classifier.content)
    dequantise(model)
    return _with_precision(model, classifier, "float32")


def _with_precision(model: ModelProto, classifier: Classifier, precision: str) -> bytes:
    """A model file of Headstart with the same metadata, but for its precision and what follows from it."""
    del model.metadata_props[:]
    graph = model.SerializeToString(deterministic=True)
    metadata = dataclasses.replace(
        classifier.metadata,
        recipe=dict(classifier.metadata.recipe) | {"precision": precision},
        golden=golden.make(Session(graph)),
        tolerance=golden.TOLERANCES[precision],
        schema=SCHEMA,
    )
    content = ModelFile(graph, metadata).content
    guard.check(content)
    return content


def _outside(model: ModelProto, classifier: Classifier) -> list[str]:
    """Names of the nodes that are not the network's: those of the preprocessing, and those behind the embedding."""
    preprocess = Graph()
    add_preprocess(preprocess, classifier.metadata.preprocess)
    first = {node.name for node in preprocess.nodes}
    behind, values = [], {"embedding"}
    for node in model.graph.node:
        if values & set(node.input):
            values.update(node.output)
            behind.append(node.name)
    return [node.name for node in model.graph.node if node.name in first] + behind
