"""A model as PyTorch runs it without Headstart: an ExportedProgram, with the weights as safetensors beside it.

ExportedProgram: https://docs.pytorch.org/docs/stable/export.html. It holds a graph of PyTorch's own operators and
their weights; nothing of the code that is here.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from safetensors.torch import save
from torch import Tensor, nn

from headstart.core.graph import Graph
from headstart.modelfile.wire import KEY
from headstart.prediction.exporters.graphs import as_float32
from headstart.preprocess.nodes import add_preprocess
from headstart.training.portable.network import Network
from headstart.training.portable.pixels import Pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.prediction.classifier import Classifier
    from headstart.prediction.exporters import Files, Runner

PROGRAM, WEIGHTS = "model.pt2", "weights.safetensors"
ABOUT = f"{KEY}.json"  # the metadata of the model file, beside the program in its archive
# What the program is traced with: no size is special (0 and 1 would be), and none is another.
_EXAMPLE = (2, 41, 59, 3)


class Portable(nn.Module):
    """``image`` uint8 (N, H, W, 3), decoded and upright, to the outputs of a model file by their names.

    Args:
        classifier: The model.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        preprocess = Graph()
        name = add_preprocess(preprocess, classifier.metadata.preprocess)
        self.pixels = Pixels(classifier.metadata.preprocess)
        model = onnx.load_from_string(as_float32(classifier))
        self.network = Network(model, len(preprocess.nodes), name)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Prepare the pixels and classify them."""
        outputs: dict[str, Tensor] = self.network(self.pixels(image))
        return outputs


def make(classifier: Classifier, name: str, images: Sequence[NDArray[np.uint8]]) -> Files:
    """The program and the weights, both with the metadata of the model file."""
    program = _traced(Portable(classifier).eval())
    about = classifier.metadata.to_json()
    archive = io.BytesIO()
    torch.export.save(program, archive, extra_files={ABOUT: about})
    weights = {key: value.detach().contiguous() for key, value in program.state_dict.items()}
    return {PROGRAM: archive.getvalue(), WEIGHTS: save(weights, metadata={KEY: about})}


def _traced(module: Portable) -> torch.export.ExportedProgram:
    """Any number of images of any size; `pixels` and `network` can be had alone, by `torch.export.unflatten`."""
    anything = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's to itself
        program = torch.export.export(
            module,
            (torch.zeros(_EXAMPLE, dtype=torch.uint8),),
            dynamic_shapes=(dict.fromkeys(range(3), anything),),
            preserve_module_call_signature=("pixels", "network"),
        )
    program.example_inputs = None
    return program


def opened(files: Files) -> Runner:
    """What runs a program from its bytes, on one thread."""
    module = torch.export.load(io.BytesIO(files[PROGRAM])).module()

    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                found: NDArray[np.float32] = module(torch.from_numpy(pixels[None].copy()))["probabilities"][0].numpy()
        finally:
            torch.set_num_threads(threads)
        return found

    return run
