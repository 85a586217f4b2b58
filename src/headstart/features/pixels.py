"""The pixels that a network sees, made by the very nodes that a model file begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headstart.core.graph import Graph
from headstart.modelfile.session import Session
from headstart.preprocess.nodes import add_preprocess
from headstart.preprocess.spec import Preprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PixelSession:
    """The preprocessing alone, in ONNX Runtime on one thread: what is trained on is what the model file will see.

    Args:
        preprocess: The record.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess
        side = preprocess.size_px
        graph = Graph()
        flat = graph.node("Flatten", [add_preprocess(graph, preprocess)], "pixels", axis=1)
        self._session = Session(graph.model({flat: ("N", 3 * side * side)}).SerializeToString())

    def run(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Prepare one image, uint8 (H, W, 3) to float32 (3, S, S).

        Raises:
            ImageError: The runtime failed on this image, for example for lack of memory.
        """
        (flat,) = self._session.run(image)
        return flat.reshape(3, self.preprocess.size_px, self.preprocess.size_px)
