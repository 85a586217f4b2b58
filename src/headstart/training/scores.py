"""What a trained network says of images, on the device that it was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from headstart.core.runtime import Runtime
from headstart.settings.recipe import Recipe
from headstart.training.devices import accelerator
from headstart.training.memory import keeping_memory, memory_guard
from headstart.training.network import Network
from headstart.training.pixel_feed import PLAIN, Images, PixelFeed, batches

if TYPE_CHECKING:
    from numpy.typing import NDArray


def scores(
    network: Network, images: Images, rows: NDArray[np.int64], recipe: Recipe, runtime: Runtime
) -> NDArray[np.float32]:
    """Class scores of images that are prepared as for prediction, (n, C), in float32 as in a model file.

    Args:
        network: On the CPU, in evaluation mode; it stays so.
        images: The images.
        rows: Which of them, (n,).
        recipe: Size of the batches.
        runtime: Device, workers, progress.

    Raises:
        DeviceError: Its memory is too small.
    """
    parts = batches(rows, recipe.batch_size)
    found = []
    with (
        memory_guard(recipe),
        keeping_memory(),
        accelerator(recipe, runtime) as accelerate,
        runtime.progress.stage("Predicting", len(rows)) as advance,
        torch.no_grad(),
    ):
        feed = PixelFeed(images, np.zeros(len(images.table), np.int64), accelerate.device, runtime.workers)
        network.to(accelerate.device, memory_format=torch.channels_last)
        for batch in feed(parts, PLAIN):
            found.append(network(*batch.values).float().cpu().numpy())
            advance(len(batch.labels))
        network.to("cpu", memory_format=torch.contiguous_format)
    return np.concatenate(found)
