"""The output of the frozen part for a few views of each image, computed once and kept."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from headstart.core.files import storage_error
from headstart.training.pixel_feed import PLAIN, Batch, PixelFeed, batches

if TYPE_CHECKING:
    from numpy.typing import NDArray

# More than this goes to a file, which the system keeps in memory as far as there is room.
IN_MEMORY_BYTES = 2**29
BATCH = 32


class ViewFeed:
    """Gives batches of what the frozen part made of the images.

    A view is computed when it is first asked for. Epoch e asks for view e modulo their number.

    Args:
        pixels: Gives the images.
        frozen: The frozen part: pixels (N, 3, S, S) to a tuple of tensors (N, ...).
        labels: Class index of each row of the table, (N,).
        device: Where the batches go.
        views: Number of augmented views; with no augmentation one is all there are.
        folder: Where files go that are too large for the memory; None for the system's temporary folder.
    """

    def __init__(
        self,
        pixels: PixelFeed,
        frozen: nn.Module,
        labels: NDArray[np.int64],
        device: torch.device,
        views: int,
        folder: Path | None,
    ) -> None:
        augment = pixels.images.augment
        self.views = 1 if augment.plain and not augment.flip else views
        self._pixels = pixels
        self._frozen = frozen
        self._labels = torch.from_numpy(labels)
        self._device = device
        self._folder = folder
        self._kept: dict[int, _View] = {}

    def prepare(self, rows: NDArray[np.int64], view: int) -> None:
        """Compute a view of these rows where that was not done yet.

        Raises:
            StorageError: The disk is full.
        """
        number = self._number(view)
        kept = self._kept.setdefault(number, _View({}, []))
        missing = np.array([row for row in rows.tolist() if row not in kept.places], np.int64)
        if not len(missing):
            return
        # Always the same rows together, so that a resumed training computes the same sums.
        parts = batches(np.sort(missing), BATCH)
        block: list[NDArray[np.float32]] = []
        done = 0
        self._frozen.eval()
        with torch.no_grad():
            for chunk, batch in zip(parts, self._pixels(parts, number), strict=True):
                values = self._frozen(*batch.values)
                if not block:
                    block = [self._room((len(missing), *value.shape[1:])) for value in values]
                for store, value in zip(block, values, strict=True):
                    store[done : done + len(chunk)] = value.float().cpu().numpy()
                done += len(chunk)
        for place, row in enumerate(np.sort(missing).tolist()):
            kept.places[row] = (len(kept.blocks), place)
        kept.blocks.append(block)

    def __call__(self, shares: Sequence[NDArray[np.int64]], view: int, side_px: int = 0) -> Iterator[Batch]:
        """The batches of these rows in one view, which was prepared for them; kept outputs have the size they have."""
        kept = self._kept[self._number(view)]
        for rows in shares:
            labels = self._labels[torch.from_numpy(rows)].to(self._device)
            yield Batch(tuple(self._moved(value) for value in kept.take(rows)), labels)

    def _number(self, view: int) -> int:
        return PLAIN if view == PLAIN else view % self.views

    def _moved(self, values: NDArray[np.float32]) -> torch.Tensor:
        tensor = torch.from_numpy(values).to(self._device)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    def _room(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if 4 * int(np.prod(shape)) * (self.views + 1) <= IN_MEMORY_BYTES:
            return np.empty(shape, np.float32)
        folder = self._folder or Path(tempfile.gettempdir())
        try:
            # Without a name: it goes with the process, however that ends.
            with tempfile.TemporaryFile(dir=folder) as file:
                _reserve(file.fileno(), 4 * int(np.prod(shape)))
                return np.memmap(file, np.float32, "r+", shape=shape)
        except OSError as error:
            raise storage_error(error, folder) from error


def _reserve(descriptor: int, size: int) -> None:
    """Take the room now: a full disk is an error here, and kills the process where a mapped page finds no room."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)


class _View:
    """What is kept of one view: blocks of rows, each a list of arrays (n, ...), and the place of each row."""

    def __init__(self, places: dict[int, tuple[int, int]], blocks: list[list[NDArray[np.float32]]]) -> None:
        self.places = places
        self.blocks = blocks

    def take(self, rows: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        found = [self.places[row] for row in rows.tolist()]
        width = len(self.blocks[0])
        return [np.stack([self.blocks[block][value][place] for block, place in found]) for value in range(width)]
