"""fastai's `fine_tune` of lite0, with fastai's own defaults. Needs fastai and timm, and no Headstart.

The weights come from a file that `rival_lite0.py` writes. One epoch trains the new head (fastai's own, with two
hidden layers of batch norm and dropout) on the frozen network, and all others train all layers, as `fine_tune` does.
Prints one JSON line; its seconds are those of the epochs alone, so imports and setup are free.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from fastai.vision.all import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
    Callback,
    ImageDataLoaders,
    Resize,
    accuracy,
    aug_transforms,
    vision_learner,
)


class Clock(Callback):  # type: ignore[misc,unused-ignore]
    """Seconds of each epoch, training and validation, and its accuracy."""

    order = 60  # after the recorder, whose values it reads

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.accuracies: list[float] = []
        self._start = 0.0

    def before_epoch(self) -> None:
        """An epoch begins."""
        self._start = time.perf_counter()

    def after_epoch(self) -> None:
        """An epoch ends."""
        self.seconds.append(time.perf_counter() - self._start)
        self.accuracies.append(float(self.recorder.values[-1][-1]))


def main() -> None:
    """Run it on a folder with train/ and val/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="state dict of timm's tf_efficientnet_lite0")
    parser.add_argument("--epochs", type=int, default=5, help="of all epochs; the first trains the head alone")
    parser.add_argument("--batch-size", type=int, default=64, help="64 is fastai's default")
    arguments = parser.parse_args()

    loaders = ImageDataLoaders.from_folder(
        arguments.folder, train="train", valid="val", bs=arguments.batch_size,
        item_tfms=Resize(224), batch_tfms=aug_transforms(),
    )  # fmt: skip
    learner: Any = vision_learner(
        loaders, "tf_efficientnet_lite0", metrics=accuracy, pretrained_cfg_overlay={"file": str(arguments.weights)}
    )
    clock = Clock()
    start = time.perf_counter()
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(max(1, arguments.epochs - 1), cbs=clock)
    training = time.perf_counter() - start
    share = float(learner.recorder.values[-1][-1])
    n = len(loaders.valid_ds)
    print(json.dumps({
        "accuracy": share, "correct": round(share * n), "n": n, "images": n + len(loaders.train_ds),
        "seconds": {"epoch": sum(clock.seconds) / len(clock.seconds)}, "epochs": clock.seconds,
        "accuracies": clock.accuracies, "training": training,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
