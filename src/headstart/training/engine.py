"""Embedding on a GPU: PyTorch, in batches, in half precision.

Many workers decode and prepare images as they do on the CPU, each one image at a time, and wait for its embedding. One
thread takes what is waiting, up to a batch, and passes it through the network.
"""

from __future__ import annotations

import copy
import queue
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from headstart.core.errors import ImageError
from headstart.features.pixels import PixelSession
from headstart.preprocess.spec import Preprocess
from headstart.settings.recipe import Recipe
from headstart.training.devices import check_device, default_device
from headstart.training.sources import load

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Request = tuple[NDArray[np.float32], Future[NDArray[np.float32]]]

BATCH = 64


def find(recipe: Recipe, preprocess: Preprocess, device: str) -> TorchEngine | None:
    """The engine of a recipe's network on a device; None where ``auto`` finds no GPU.

    Raises:
        DeviceError: The device was asked for, and is not there.
    """
    check_device(device)
    device = default_device() if device == "auto" else device
    if device == "cpu":
        return None
    loaded = load(recipe.backbone, pretrained=recipe.pretrained, weights=recipe.weights, seed=recipe.seed)
    return TorchEngine(loaded.module, preprocess, device)


class TorchEngine:
    """Runs a network for many threads at once; made like `headstart.modelfile.session.Session`.

    Args:
        module: The network, (N, 3, S, S) to (N, D), in evaluation mode.
        preprocess: How pixels are prepared for it: by the nodes of the model file, on the CPU.
        device: Where it runs.
    """

    def __init__(self, module: nn.Module, preprocess: Preprocess, device: str) -> None:
        self.workers = BATCH  # as many as a batch takes, since each waits for its embedding
        self.name = f"torch {device.partition(':')[0]} bf16"
        self._device = torch.device(device)
        self._module = module.to(self._device, memory_format=torch.channels_last).eval()
        self._pixels = PixelSession(preprocess)
        self._waiting: queue.SimpleQueue[Request] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="headstart-gpu", daemon=True).start()

    def __reduce__(self) -> tuple[object, ...]:
        # Another process has a thread of its own, and moves the network to its own device.
        return TorchEngine, (copy.deepcopy(self._module).cpu(), self._pixels.preprocess, str(self._device))

    def run(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """The embedding of one image, uint8 (H, W, 3), as a list of one array (D,).

        Raises:
            ImageError: The network failed on the batch that the image was in, for example for lack of memory.
        """
        future: Future[NDArray[np.float32]] = Future()
        self._waiting.put((self._pixels.run(image), future))
        try:
            return [future.result()]
        except RuntimeError as error:
            raise ImageError(f"the network failed on it: {str(error)[:200]}") from error

    def _serve(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < BATCH and not self._waiting.empty():
                batch.append(self._waiting.get())
            try:
                embeddings = self._embed(np.stack([pixels for pixels, _ in batch]))
            except RuntimeError as error:
                for _, future in batch:
                    future.set_exception(error)
                continue
            for (_, future), embedding in zip(batch, embeddings, strict=True):
                future.set_result(embedding)

    def _embed(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        tensor = torch.from_numpy(pixels).to(self._device, memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16):
            result: NDArray[np.float32] = self._module(tensor).float().cpu().numpy()
        return result
