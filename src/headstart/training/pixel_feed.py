"""The images of a training: decoded once, in an order and with augmentations that follow from seed and epoch alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from headstart.core.errors import ImageError, SourceError
from headstart.core.text import quoted
from headstart.data.decode import decode
from headstart.data.table import ImageTable
from headstart.features.pixels import PixelSession
from headstart.preprocess.spec import Preprocess
from headstart.settings.recipe import Recipe
from headstart.training.augment import Augment

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Decoded images that are kept in the memory of a process; a thousand photos of the size that is needed take 0.6 GB.
KEPT_BYTES = 2**30
MAX_WORKERS = 8
# The view that is prepared as for prediction.
PLAIN = -1


class Key(NamedTuple):
    """One image as a step wants it.

    Attributes:
        row: Row of the table.
        view: Number of the augmented view, or `PLAIN`.
        side_px: Side S of the square; 0 for the backbone's own.
    """

    row: int
    view: int
    side_px: int = 0


@dataclass(frozen=True)
class Batch:
    """What one process takes in at once.

    Attributes:
        values: What the network takes: normalised pixels (n, 3, S, S), or what was kept of the frozen part.
        labels: Class indices, int64 (n,).
    """

    values: tuple[torch.Tensor, ...]
    labels: torch.Tensor


class Images(Dataset[torch.Tensor]):
    """Images of a table as normalised pixels.

    Args:
        table: The images; all of them could be read before.
        recipe: Augmentation, seed, and the largest image.
        preprocess: How pixels are prepared for the backbone.
    """

    def __init__(self, table: ImageTable, recipe: Recipe, preprocess: Preprocess) -> None:
        self.table = table
        self.recipe = recipe
        self.preprocess = preprocess
        self.augment = Augment(recipe, preprocess)
        self._smaller: dict[int, tuple[Preprocess, Augment]] = {}
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._bytes = 0
        self._local = _Local(table)

    def __getitem__(self, key: tuple[int, int] | Key) -> torch.Tensor:
        """Normalised pixels, float32 (3, S, S), of a row in a view; see `Key`.

        Raises:
            SourceError: The image cannot be read any more.
        """
        row, view, side_px = Key(*key)
        image = self.decoded(row)
        preprocess, augment = self._at(side_px)

        def plain() -> torch.Tensor:
            return torch.from_numpy(self._local.session(preprocess).run(image))

        return plain() if view == PLAIN else augment(image, plain, [self.recipe.seed, view, row])

    def _at(self, side_px: int) -> tuple[Preprocess, Augment]:
        """How images are prepared and changed for a side of the square."""
        if not side_px:
            return self.preprocess, self.augment
        if side_px not in self._smaller:
            preprocess = replace(self.preprocess, size_px=side_px)
            self._smaller[side_px] = (preprocess, Augment(self.recipe, preprocess))
        return self._smaller[side_px]

    def decoded(self, row: int) -> NDArray[np.uint8]:
        """Decoded pixels, uint8 (H, W, 3)."""
        if row in self._kept:
            return self._kept[row]
        path = self.table.rows[row].path
        try:
            data = self._local.storage.read(path)
            image = decode(
                data,
                max_megapixels=self.recipe.max_megapixels,
                enough_px=self.preprocess.enough_px,
                white_level=self.preprocess.white_level,
            ).pixels
        except ImageError as error:
            raise SourceError(
                f"{quoted(path)} could be read before the training, but cannot be read now: {error.message}.",
                "Put it back, and resume from the last epoch with --resume.",
            ) from error
        if self._bytes + image.nbytes <= KEPT_BYTES:
            self._kept[row] = image
            self._bytes += image.nbytes
        return image


class _Local:
    """What a worker process must have of its own: the session, and the open file of a zip source."""

    def __init__(self, table: ImageTable) -> None:
        self._table = table
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._sessions: dict[Preprocess, PixelSession] = {}
        self.storage = table.storage

    def session(self, preprocess: Preprocess) -> PixelSession:
        with self._lock:
            if preprocess not in self._sessions:
                self._sessions[preprocess] = PixelSession(preprocess)
            return self._sessions[preprocess]

    def renew(self) -> None:
        """Reopen what a forked process shares with its parent."""
        if os.getpid() != self._process:
            self._lock, self._sessions = threading.Lock(), {}
            self.storage = self._table.storage.reopened()


def order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of an epoch, a permutation (count,): it follows from seed and epoch alone."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def batches(rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Rows in batches of this size; the last one may be smaller."""
    return [rows[at : at + size] for at in range(0, len(rows), size)]


def share(batch: NDArray[np.int64], rank: int, world: int) -> NDArray[np.int64]:
    """The rows of a batch that one of several processes takes; of a batch with fewer rows, none for some."""
    return batch[rank::world]


class Feed(Protocol):
    """Gives the batches of an epoch."""

    def prepare(self, rows: NDArray[np.int64], view: int) -> None:
        """Do now what must be done once for these rows in this view."""
        ...

    def __call__(self, shares: Sequence[NDArray[np.int64]], view: int, side_px: int = 0) -> Iterator[Batch]:
        """The batches of these rows (none of which is empty) in one view; see `Key`."""
        ...


class PixelFeed:
    """Gives batches of pixels, decoded and augmented again in each epoch.

    Args:
        images: The images.
        labels: Class index of each row of the table, (N,).
        device: Where the batches go.
        workers: Processes that prepare images beside a GPU; on the CPU, which has no time to spare, none.
    """

    def __init__(self, images: Images, labels: NDArray[np.int64], device: torch.device, workers: int) -> None:
        self.images = images
        self._labels = torch.from_numpy(labels)
        self._device = device
        self._keys = _Keys()
        beside = min(workers, MAX_WORKERS) if device.type != "cpu" else 0
        self._loader: DataLoader[torch.Tensor] = DataLoader(
            images,
            batch_sampler=self._keys,
            num_workers=beside,
            persistent_workers=beside > 0,
            pin_memory=device.type == "cuda",
            # Else each pass would draw from the global generator, which dropout draws from.
            generator=torch.Generator(),
            worker_init_fn=_renew if beside else None,
        )

    def prepare(self, rows: NDArray[np.int64], view: int) -> None:
        """See `Feed`: pixels are made when they are asked for."""

    def __call__(self, shares: Sequence[NDArray[np.int64]], view: int, side_px: int = 0) -> Iterator[Batch]:
        """See `Feed`."""
        self._keys.lists = [[Key(int(row), view, side_px) for row in rows] for rows in shares]
        for rows, pixels in zip(shares, self._loader, strict=True):
            moved = pixels.to(self._device, memory_format=torch.channels_last, non_blocking=True)
            yield Batch((moved,), self._labels[torch.from_numpy(rows)].to(self._device))


class ArrayFeed:
    """Gives batches of embeddings.

    Args:
        features: float32 (N, D).
        labels: Class index of each row, (N,).
        device: Where the batches go.
    """

    def __init__(self, features: NDArray[np.float32], labels: NDArray[np.int64], device: torch.device) -> None:
        self._features = torch.from_numpy(features)
        self._labels = torch.from_numpy(labels)
        self._device = device

    def prepare(self, rows: NDArray[np.int64], view: int) -> None:
        """See `Feed`: all is there."""

    def __call__(self, shares: Sequence[NDArray[np.int64]], view: int, side_px: int = 0) -> Iterator[Batch]:
        """See `Feed`; there is one view, and embeddings have no size."""
        for rows in map(torch.from_numpy, shares):
            yield Batch((self._features[rows].to(self._device),), self._labels[rows].to(self._device))


class _Keys(Sampler[list[Key]]):
    """Hands the batches that were put in it to the loader."""

    def __init__(self) -> None:
        self.lists: list[list[Key]] = []

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.lists)

    def __len__(self) -> int:
        return len(self.lists)


def _renew(worker: int) -> None:
    from torch.utils.data import get_worker_info

    info: Any = get_worker_info()
    info.dataset._local.renew()
    torch.set_num_threads(1)
