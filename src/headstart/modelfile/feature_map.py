"""The last feature map of a network as an output of its model file, where the embedding is its mean over space.

Which value that is follows from the graph, so that it is the same for lite0, for exported networks and for the backbone
of another model file. Nothing is computed for it: measured on lite0, a run takes as long with the output as without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headstart.modelfile.schema import FEATURE_MAP

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

EMBEDDING = "embedding"
# The axes of space, of four, where channels come first, and where they come last (as in Swin).
_SPACE_LAST, _SPACE_FIRST = {2, 3}, {1, 2}


def expose(model: ModelProto, first: int, shapes: dict[str, list[int]]) -> None:
    """Make the feature map an output ``feature_map``, float32 (N, D, h, w); nothing where the network has none.

    Args:
        model: A model with a value ``embedding``; it is changed.
        first: Number of its nodes that prepare pixels.
        shapes: The shape of each value after those, for one image.
    """
    from onnx import TensorProto, helper

    nodes = list(model.graph.node)[first:]
    computed = {node.output[0]: node for node in nodes}
    pool = computed.get(EMBEDDING)
    while pool is not None and pool.op_type in {"Flatten", "Reshape"}:
        pool = computed.get(pool.input[0])
    if pool is None or pool.input[0] not in computed:
        return
    name, space = pool.input[0], _averaged(model, pool, shapes)
    if space == _SPACE_LAST:
        dims = shapes[name][1:]
        for node in nodes:
            node.input[:] = [FEATURE_MAP if one == name else one for one in node.input]
            node.output[:] = [FEATURE_MAP if one == name else one for one in node.output]
    elif space == _SPACE_FIRST:
        height, width, channels = shapes[name][1:]
        dims = [channels, height, width]
        model.graph.node.append(
            helper.make_node("Transpose", [name], [FEATURE_MAP], name=FEATURE_MAP, perm=[0, 3, 1, 2])
        )
    else:
        return
    model.graph.output.append(helper.make_tensor_value_info(FEATURE_MAP, TensorProto.FLOAT, ["N", *dims]))


def _averaged(model: ModelProto, node: NodeProto, shapes: dict[str, list[int]]) -> set[int]:
    """The axes of a value of rank 4 over which a node takes the mean; empty where it does something else."""
    rank = len(shapes[node.input[0]])
    if rank != 4:
        return set()
    if node.op_type == "GlobalAveragePool":
        return _SPACE_LAST
    if node.op_type != "ReduceMean" or len(node.input) < 2:
        return set()
    axes = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    return {axis % rank for axis in np.frombuffer(axes.raw_data, "<i8").tolist()}
