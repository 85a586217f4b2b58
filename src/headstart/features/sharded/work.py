"""The unit of work on many images: the rows of one shard, computed and written by whoever runs it."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from headstart.core.errors import ImageError, StorageError
from headstart.core.text import quoted
from headstart.core.work import Threads
from headstart.data.ahead import ahead
from headstart.data.storage import Storage
from headstart.features.look import Look
from headstart.features.sharded import embedding_rows
from headstart.features.sharded.description import Description
from headstart.features.sharded.embedding_rows import Found
from headstart.features.sharded.folder import description_file
from headstart.features.sharded.plan import Reference
from headstart.features.sharded.writing import part_metadata, write_part

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Job:
    """A shard to be written.

    Attributes:
        shard: Its number.
        references: Its rows to be.
        digest: Of the references.
    """

    shard: int
    references: tuple[Reference, ...]
    digest: str

    def between(self, begin: int, end: int) -> Job:
        """A part of it, to be tried and not to be written."""
        return replace(self, references=self.references[begin:end])

    def condemned(self, reasons: dict[int, str]) -> Job:
        """The same, without looking at some images again, by their numbers, for these reasons."""
        rows = [replace(one, reason=reasons.get(number, one.reason)) for number, one in enumerate(self.references)]
        return replace(self, references=tuple(rows))  # the digest stays that of what was asked for


@dataclass(frozen=True)
class Receipt:
    """What came of a shard.

    Attributes:
        shard: Its number.
        rows: How many it has.
        unusable: Those with an error: path and reason, at most `SHOWN`.
        errors: How many there are.
        size_bytes: Of its file.
        host: The machine that computed it, and the process.
    """

    shard: int
    rows: int
    unusable: tuple[tuple[str, str], ...]
    errors: int
    size_bytes: int
    host: str


SHOWN = 20


class Form(Protocol):
    """How rows become a table."""

    def __call__(self, references: Sequence[Reference], found: Sequence[Any], metadata: dict[str, str], /) -> Any:
        """The table of pyarrow; what was found of an image is a value, or the reason why there is none."""
        ...


class Ask(Protocol[T_co]):
    """What is done to one image."""

    @property
    def storage(self) -> Storage:
        """Where the images are."""
        ...

    def reading(self, storage: Storage, /) -> Ask[T_co]:
        """The same, with the images from there."""
        ...

    def __call__(self, reference: Reference, /) -> T_co:
        """What was found.

        Raises:
            ImageError: It cannot be used.
        """
        ...


@dataclass(frozen=True)
class _One(Generic[T]):
    """The unit of work on one row: nothing is asked of an image that is known to be unusable."""

    ask: Ask[T]

    def __call__(self, reference: Reference, /) -> T:
        if reference.reason is not None:
            raise ImageError(reference.reason)
        return self.ask(reference)


@dataclass(frozen=True)
class WriteShard(Generic[T]):
    """Compute the rows of a shard, and write its file.

    Attributes:
        folder: That of the shards; whoever runs this reaches it by this path.
        description: What is in the folder.
        ask: What is done to one image.
        form: How its rows become a table.
        threads: Images at once.
    """

    folder: Path
    description: Description
    ask: Ask[T]
    form: Form
    threads: int = 1

    def __call__(self, job: Job, /) -> Receipt:
        """Write a shard.

        Raises:
            StorageError: It cannot be written.
        """
        found = self.attempt(job)
        table = self.form(job.references, found, part_metadata(self.description, job.shard, job.digest))
        size = write_part(self.folder, job.shard, table)
        bad = [(one.path, reason) for one, reason in zip(job.references, found, strict=True) if isinstance(reason, str)]
        host = f"{socket.gethostname()}, process {os.getpid()}"
        return Receipt(job.shard, len(found), tuple(bad[:SHOWN]), len(bad), size, host)

    def ready(self) -> None:
        """Say that this process does not reach the folder, or the images.

        Raises:
            StorageError: It does not.
            SourceError: As the storage of the images says.
            OfflineError: As the storage of the images says.
        """
        if not (self.folder / description_file(self.description.kind)).is_file():
            raise StorageError(
                f"The machine {quoted(socket.gethostname())} does not see the folder {quoted(str(self.folder))}.",
                "Choose one with --out on storage that all machines share, by the same path.",
            )
        self.ask.storage.ready()

    def attempt(self, job: Job) -> list[T | str]:
        """What was found of each image, or why it cannot be used; nothing is written."""
        paths = [one.path for one in job.references if one.reason is None]
        with ahead(self.ask.storage, paths, self.threads) as storage:
            one = _One(self.ask.reading(storage))
            with closing(Threads(self.threads).run(one, job.references)) as results:
                return [str(one.message) if isinstance(one, ImageError) else one for one in results]


@dataclass(frozen=True)
class EmbedRow:
    """Look at one image, and embed it.

    Attributes:
        look: What looks, with a network.
        dtype: Of the embedding.
    """

    look: Look
    dtype: str

    @property
    def storage(self) -> Storage:
        """See `Ask`."""
        return self.look.storage

    def reading(self, storage: Storage, /) -> EmbedRow:
        """See `Ask`."""
        return replace(self, look=replace(self.look, storage=storage))

    def __call__(self, reference: Reference, /) -> Found:
        """What was found of an image.

        Raises:
            ImageError: It cannot be read, or the network gives no number for it.
        """
        seen = self.look(reference)
        with np.errstate(over="ignore"):
            embedding = seen.embedding.astype(self.dtype)
        if not np.isfinite(embedding).all():
            within = "" if not np.isfinite(seen.embedding).all() else f" in {self.dtype}"
            raise ImageError(f"its embedding holds values that are not finite{within}")
        return Found(seen.digest.hex(), seen.traits, embedding)


@dataclass(frozen=True)
class EmbeddingForm:
    """The table of a shard of embeddings; see `headstart.features.sharded.embedding_rows`.

    Attributes:
        width: Size D of an embedding.
        dtype: ``float32`` or ``float16``.
    """

    width: int
    dtype: str

    def __call__(
        self, references: Sequence[Reference], found: Sequence[Found | str], metadata: dict[str, str], /
    ) -> Any:
        """The table of pyarrow."""
        return embedding_rows.table_of(references, found, embedding_rows.schema(self.width, self.dtype, metadata))


class Here:
    """One shard after the other in this thread, see `headstart.core.work.Pool`: their images are what runs at once."""

    def run(self, work: Any, items: Any, done: Any = None) -> Any:
        """Do the work on each item; see `headstart.core.work.Pool.run`."""
        for item in items:
            try:
                result = work(item)
            except ImageError as error:
                yield error
                continue
            if done is not None:
                done(result)
            yield result
