"""The formats that a model can be exported to: a row and a file for each.

What makes a form is called with the classifier, the name of the model and images to look at, and gives the files: by
their names below the folder to be written, or one file under the empty name. What opens a form takes these files and
gives the runner that they are proved with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Files = Mapping[str, bytes]
    # Runs a form on one image, uint8 (H, W, 3): the probabilities, float32 (C,).
    Runner = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class ExporterSpec:
    """A format, described without importing what writes it.

    Attributes:
        make: What makes it, as ``module:name``: takes a `Classifier`, a name and pixels of images, gives the files.
        help: What it is, in a few words.
        suffix: Of the file; of the folder, where it is one.
        folder: It is a folder.
        next_step: What to do with it.
        run: What opens it, as ``module:name``; empty for a form that proves itself where it is opened.
        bound: The largest difference of a probability that is handed out; larger ones are refused.
        computes: The precision that it computes in; empty for that of the model.
        learns: It is made by looking at training images, unless the model stays as it is.
        keeps: The precision of models that stay as they are, to the byte.
        extra: What must be installed for it, as the name of an extra and of its package.
    """

    make: str
    help: str
    suffix: str
    folder: bool = False
    next_step: str
    run: str = ""
    bound: float = 0.0
    computes: str = ""
    learns: bool = False
    keeps: str = ""
    extra: str = ""

    def rounds(self, precision: str) -> bool:
        """Whether the rounding of int8 lies between it and a model of a precision."""
        return bool(self.computes) and (self.computes == "int8") != (precision == "int8")


_GRAPHS = "headstart.prediction.exporters.graphs"
_TORCH = "headstart.training.portable.program"  # the one room that imports PyTorch
_ONNX_NEXT = "It runs in ONNX Runtime: the input `image` is uint8 (N, H, W, 3), the output `probabilities` (N, C)."
EXPORTERS = {
    "html": ExporterSpec(
        make="headstart.prediction.exporters.page:page",
        help="one file that classifies in any browser, without a network or a server",
        suffix=".html",
        next_step="Open it in a browser, or mail it: it needs no network, no server and no installation.",
    ),
    "web": ExporterSpec(
        make="headstart.prediction.exporters.page:site",
        help="the same as a folder for a web host, which works offline after the first visit",
        suffix="-web",
        folder=True,
        next_step="Put the folder on a web host (https); to try it here: python -m http.server -d FOLDER",
    ),
    "onnx": ExporterSpec(
        make=f"{_GRAPHS}:in_float32",
        help="ONNX in float32, for other runtimes and converters",
        suffix=".float32.onnx",
        next_step=_ONNX_NEXT,
        run=f"{_GRAPHS}:session",
        bound=0.1,
        computes="float32",
        keeps="float32",
    ),
    "onnx-fp16": ExporterSpec(
        make=f"{_GRAPHS}:in_float16",
        help="ONNX in float16, half as large, for GPUs and phones",
        suffix=".float16.onnx",
        next_step=_ONNX_NEXT,
        run=f"{_GRAPHS}:session",
        bound=0.1,
        computes="float16",
    ),
    "onnx-int8": ExporterSpec(
        make=f"{_GRAPHS}:in_int8",
        help="ONNX in int8, a quarter as large, for CPUs",
        suffix=".int8.onnx",
        next_step=_ONNX_NEXT,
        run=f"{_GRAPHS}:session",
        bound=0.1,
        computes="int8",
        learns=True,
        keeps="int8",
    ),
    "ort": ExporterSpec(
        make="headstart.prediction.exporters.ort:make",
        help="the format of ONNX Runtime Mobile",
        suffix=".ort",
        next_step="Load it with ONNX Runtime, in the same version or a later one, on a phone or elsewhere.",
        run="headstart.prediction.exporters.graphs:session",
        bound=0.001,
    ),
    "torch": ExporterSpec(
        make=f"{_TORCH}:make",
        help="an ExportedProgram of PyTorch in float32, and its weights as safetensors (extra torch)",
        suffix="-torch",
        folder=True,
        next_step="Run it: torch.export.load('model.pt2').module()(image), with image uint8 (N, H, W, 3) on the CPU.",
        run=f"{_TORCH}:opened",
        bound=0.1,
        computes="float32",
        extra="torch",
    ),
}
