"""The PyTorch transfer-learning tutorial's loop, with lite0 in place of ResNet-18.

https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html: "ConvNet as fixed feature extractor", or
with ``--train all`` "Finetuning the ConvNet". The normalisation is the one that lite0 was trained with. Prints one
JSON line; its seconds are those of the epochs alone, so imports and setup are free.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from torch import nn, optim
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from rival_lite0 import lite0

SIZE_PX = 224


def main() -> None:
    """Run it on a folder with train/ and val/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--train", choices=["head", "all"], default="head")
    parser.add_argument("--epochs", type=int, default=1)
    arguments = parser.parse_args()

    to_input = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    random = [transforms.RandomResizedCrop(SIZE_PX), transforms.RandomHorizontalFlip()]
    central = [transforms.Resize(256), transforms.CenterCrop(SIZE_PX)]
    phases = {"train": transforms.Compose(random + to_input), "val": transforms.Compose(central + to_input)}
    folders = {phase: ImageFolder(arguments.folder / phase, transform) for phase, transform in phases.items()}
    loaders = {
        phase: DataLoader(images, batch_size=4, shuffle=True, num_workers=arguments.workers)
        for phase, images in folders.items()
    }
    backbone = lite0()
    for parameter in backbone.parameters():
        parameter.requires_grad = arguments.train == "all"
    model = nn.Sequential(backbone, nn.Linear(backbone.num_features, len(folders["train"].classes)))
    criterion = nn.CrossEntropyLoss()
    trained = model if arguments.train == "all" else model[1]
    optimizer = optim.SGD(trained.parameters(), lr=0.001, momentum=0.9)
    schedule = optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)

    epochs, accuracies = [], []
    best = -1
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        for _ in range(arguments.epochs):
            right = dict.fromkeys(phases, 0)
            start = time.perf_counter()
            for phase, loader in loaders.items():
                model.train(phase == "train")
                for batch, labels in loader:
                    optimizer.zero_grad()
                    with torch.set_grad_enabled(phase == "train"):
                        outputs = model(batch)
                        loss = criterion(outputs, labels)
                        if phase == "train":
                            loss.backward()
                            optimizer.step()
                    right[phase] += int((outputs.argmax(1) == labels).sum())
            epochs.append(time.perf_counter() - start)
            accuracies.append(right["val"] / len(folders["val"]))
            schedule.step()
            if right["val"] > best:
                best = right["val"]
                torch.save(model.state_dict(), Path(folder) / "best.pt")
        training = time.perf_counter() - begun
    images = sum(len(folder) for folder in folders.values())
    print(json.dumps({
        "accuracy": best / len(folders["val"]), "correct": best, "n": len(folders["val"]), "images": images,
        "seconds": {"epoch": sum(epochs) / len(epochs)}, "epochs": epochs, "accuracies": accuracies,
        "training": training,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
