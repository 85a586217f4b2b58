"""Rival (b): embed all images once with timm in eager PyTorch, then fit scikit-learn's LogisticRegressionCV.

Prints one JSON line. The whole process is timed from outside; the stages in the line say where the time went.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import timm.data
import torch
from sklearn.linear_model import LogisticRegressionCV
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from rival_lite0 import lite0


def embed(model: Any, images: Any, workers: int) -> tuple[Any, Any]:
    """Embeddings (N, D) and labels (N,) of all images of a folder."""
    loader = DataLoader(images, batch_size=32, num_workers=workers)
    features, labels = [], []
    with torch.inference_mode():
        for batch, targets in loader:
            features.append(model(batch).numpy())
            labels.append(targets.numpy())
    return np.concatenate(features), np.concatenate(labels)


def main() -> None:
    """Run it on a folder with train/ and val/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()

    start = time.perf_counter()
    model = lite0().eval()
    config = timm.data.resolve_data_config({}, model=model)
    transform = timm.data.create_transform(**config, is_training=False)
    folders = {part: ImageFolder(arguments.folder / part, transform) for part in ("train", "val")}
    ready = time.perf_counter()
    train, train_labels = embed(model, folders["train"], arguments.workers)
    val, val_labels = embed(model, folders["val"], arguments.workers)
    embedded = time.perf_counter()
    head = LogisticRegressionCV(max_iter=1000).fit(train, train_labels)
    accuracy = float((head.predict(val) == val_labels).mean())
    fitted = time.perf_counter()
    seconds = {"setup": ready - start, "embed": embedded - ready, "fit": fitted - embedded}
    print(json.dumps({"accuracy": accuracy, "images": len(train) + len(val), "seconds": seconds}))


if __name__ == "__main__":
    main()
