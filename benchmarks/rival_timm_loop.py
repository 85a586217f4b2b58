"""A plain PyTorch loop with a timm network, as a GPU owner would write it: bf16, channels_last, loader processes.

Random weights; the figure is speed, not accuracy. Prints one JSON line with train images a second, validation included.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import timm
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

SIZE_PX = 224


def main() -> None:
    """Run it on a folder with train/ and val/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", default="resnet50", help="timm's name")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=8)
    arguments = parser.parse_args()

    device = torch.device(arguments.device)
    to_input = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    random = [transforms.RandomResizedCrop(SIZE_PX), transforms.RandomHorizontalFlip()]
    central = [transforms.Resize(256), transforms.CenterCrop(SIZE_PX)]
    phases = {"train": transforms.Compose(random + to_input), "val": transforms.Compose(central + to_input)}
    folders = {phase: ImageFolder(arguments.folder / phase, transform) for phase, transform in phases.items()}
    loaders = {
        phase: DataLoader(
            images, arguments.batch_size, shuffle=phase == "train", num_workers=arguments.workers,
            pin_memory=device.type == "cuda", persistent_workers=arguments.workers > 0,
        )
        for phase, images in folders.items()
    }  # fmt: skip
    model = timm.create_model(arguments.network, pretrained=False, num_classes=len(folders["train"].classes))
    model = model.to(device, memory_format=torch.channels_last)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    epochs = []
    for _ in range(arguments.epochs):
        start = time.perf_counter()
        for phase, loader in loaders.items():
            model.train(phase == "train")
            total = torch.zeros((), device=device)
            for images, labels in loader:
                batch = images.to(device, memory_format=torch.channels_last, non_blocking=True)
                with torch.set_grad_enabled(phase == "train"), torch.autocast(device.type, torch.bfloat16):
                    loss = criterion(model(batch), labels.to(device, non_blocking=True))
                if phase == "train":
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                total += loss.detach()
            float(total)  # waits for the device
        epochs.append(time.perf_counter() - start)
    print(json.dumps({"epochs": epochs, "images_per_second": len(folders["train"]) * len(epochs) / sum(epochs)}))


if __name__ == "__main__":
    main()
