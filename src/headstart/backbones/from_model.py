"""The backbone inside a model file of ours, ``file:model.onnx``, as an embedder for the strategy `probe`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.core.digest import digest_bytes
from headstart.core.errors import ModelError, OptionError
from headstart.core.graph import Graph
from headstart.core.text import quoted
from headstart.modelfile import guard
from headstart.preprocess.nodes import add_preprocess
from headstart.preprocess.spec import Preprocess
from headstart.settings.recipe import Fit

if TYPE_CHECKING:
    from onnx import ModelProto

EMBEDDING = "embedding"


@dataclass(frozen=True)
class Part:
    """The backbone of a model file with the preprocessing that it is used with.

    Attributes:
        preprocess: What happens to the pixels first.
        width: Size D of the embedding.
        digest: SHA-256 of the model file.
        model: ``image`` uint8 (N, H, W, 3) to ``embedding`` float32 (N, D).
        weights: Digest of the weights that its training began with.
        licence: Of those.
    """

    preprocess: Preprocess
    width: int
    digest: str
    model: bytes
    weights: str
    licence: str


def is_model_file(backbone: str) -> bool:
    """Whether the name of a backbone is that of a model file."""
    return backbone.startswith("file:") and backbone.endswith(".onnx")


def backbone_of(backbone: str, fit: Fit) -> Part:
    """Cut the backbone out of a model file.

    Args:
        backbone: ``file:PATH``.
        fit: How images are brought to its square, which may differ from the file's own.

    Raises:
        ModelError: The file is missing, or refused.
        OptionError: Its backbone computes in int8.
    """
    path = Path(backbone.removeprefix("file:"))
    name = quoted(str(path))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"The model file {name} cannot be read: {error.strerror}.") from error
    facts = guard.check(content, name)
    if facts.recipe.get("precision") != "float32":
        raise OptionError(
            f"The backbone in {name} computes in {facts.recipe.get('precision')}.",
            "Use --backbone lite0, or train that model with --precision float32.",
        )
    spec = dataclasses.replace(facts.preprocess, fit=fit)
    model = _cut(content, facts.preprocess, spec)
    return Part(
        preprocess=spec,
        width=model.graph.output[0].type.tensor_type.shape.dim[1].dim_value,
        digest=digest_bytes(content),
        model=model.SerializeToString(deterministic=True),
        weights=facts.backbone.weights,
        licence=facts.backbone.licence,
    )


def _cut(content: bytes, before: Preprocess, after: Preprocess) -> ModelProto:
    """The nodes that the embedding depends on, behind the preprocessing `after` in the place of `before`."""
    import onnx

    old, graph = Graph(), Graph()
    new_pixels, old_pixels = add_preprocess(graph, after), add_preprocess(old, before)
    source = onnx.load_from_string(content).graph
    used, nodes = {EMBEDDING}, []
    for node in reversed(source.node[len(old.nodes) :]):
        if node.output[0] in used:
            used.update(node.input)
            node.input[:] = [new_pixels if name == old_pixels else name for name in node.input]
            nodes.append(node)
    graph.nodes += reversed(nodes)
    graph.constants |= {
        tensor.name: tensor for tensor in source.initializer if tensor.name in used and tensor.name not in old.constants
    }
    (width,) = [output.type.tensor_type.shape.dim[1].dim_value for output in source.output if output.name == EMBEDDING]
    return graph.model({EMBEDDING: ("N", width)})
