"""Rival: Ray Data as its guides show it: `read_images`, then `map_batches` with a class that holds PyTorch's network.

Prints one JSON line. The whole process is timed from outside. Ray gives each actor one CPU and one thread of PyTorch,
and has as many actors as images wait for, up to the number of CPUs, beside those that read.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
import torch

BATCH = 32


class Embedder:
    """The network, once in each actor."""

    def __init__(self) -> None:
        import timm.data

        from rival_lite0 import lite0

        self.model = lite0().eval()
        config = timm.data.resolve_data_config({}, model=self.model)
        self.transform = timm.data.create_transform(**config, is_training=False)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Add the embeddings (N, D) of a batch of images (N, H, W, 3), and leave the pixels out."""
        from PIL import Image

        images = torch.stack([self.transform(Image.fromarray(image)) for image in batch.pop("image")])
        with torch.inference_mode():
            batch["embedding"] = self.model(images).numpy().astype(np.float32)
        return batch


def main() -> None:
    """Run it on a folder of class folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cpus", type=int, default=2, help="of the cluster, which is started here")
    arguments = parser.parse_args()
    ray.init("local", num_cpus=arguments.cpus, include_dashboard=False, log_to_driver=False)
    images = ray.data.read_images(str(arguments.folder), mode="RGB", include_paths=True)
    actors = ray.data.ActorPoolStrategy(min_size=1, max_size=arguments.cpus)
    images.map_batches(Embedder, batch_size=BATCH, compute=actors).write_parquet(str(arguments.out))
    print(json.dumps({"images": ray.data.read_parquet(str(arguments.out)).count()}))


if __name__ == "__main__":
    main()
