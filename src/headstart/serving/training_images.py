"""The training images most similar to an image, for models whose run folder records their source."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from headstart.api.explaining import training_source
from headstart.core.errors import HeadstartError
from headstart.core.runtime import Runtime
from headstart.core.text import portable, quoted
from headstart.core.vectors import unit_rows
from headstart.data.table import ImageTable
from headstart.features.thumbnails import Thumbnails
from headstart.prediction.neighbours import learnt_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.prediction.explanation import Neighbour
    from headstart.serving.models import Served

MOST = 20_000  # training images of a model: 100 MB of embeddings, and a search takes 10 ms


@dataclass(frozen=True, eq=False)
class _Index:
    neighbours: tuple[Neighbour, ...]
    embeddings: NDArray[np.float32]  # (N, D), of length 1
    thumbnails: Thumbnails

    def close(self) -> None:
        self.thumbnails.__exit__(None, None, None)


class TrainingImages:
    """The training images of the models that are served, looked up in the background, once per model.

    Args:
        note: Called with a message about models whose training images cannot be found.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._lock = threading.Lock()
        self._found: dict[str, _Index] = {}  # by the model's key
        self._newest: dict[str, str] = {}  # the key of the newest model of each name

    def find(self, served: Served) -> None:
        """Look up the training images of a model in the background, then forget those of the model that it replaces."""
        with self._lock:
            self._newest[served.name] = served.key
        threading.Thread(target=self._find, args=(served,), name="headstart-training-images", daemon=True).start()

    def knows(self, served: Served) -> bool:
        """Whether the training images of a model have been found."""
        return served.key in self._found

    def nearest(self, served: Served, embedding: NDArray[np.float32], count: int) -> list[dict[str, object]]:
        """The training images nearest to an embedding, the most similar first, as JSON values."""
        index = self._found.get(served.key)
        if index is None:  # the model was replaced in between
            return []
        cosines = index.embeddings @ unit_rows(embedding[None])[0]  # (N,)
        return [_record(index, int(row), float(cosines[row])) for row in np.argsort(-cosines, kind="stable")[:count]]

    def close(self) -> None:
        """Close the archives that pictures are read from."""
        with self._lock:
            self._newest.clear()  # what is found from now on is closed at once
            self._forget()

    def _find(self, served: Served) -> None:
        try:
            table = training_source(served.path)
            if len(table) > MOST:
                return self._note(f"{quoted(served.name)} has more than {MOST:,} training images, so none are shown.")
            self._keep(served, self._index(served, table))
        except HeadstartError as error:
            self._note(f"The training images of {quoted(served.name)} are not shown: {error.message}")
        finally:
            with self._lock:
                self._forget()
        return None

    def _keep(self, served: Served, index: _Index) -> None:
        with self._lock:
            same = self._found.get(served.key)
            self._found[served.key] = index
        if same is not None:  # one file under two names
            same.close()

    def _forget(self) -> None:
        for key in self._found.keys() - set(self._newest.values()):
            self._found.pop(key).close()

    def _index(self, served: Served, table: ImageTable) -> _Index:
        runtime = Runtime(workers=1)  # the workers have the other cores
        width = served.classifier.metadata.backbone.embedding_size
        learnt = list(learnt_images(served.classifier, table, width, runtime))
        neighbours = tuple(one.neighbour for one in learnt)
        if not learnt:
            raise HeadstartError("none of them are left in its source.")
        rows = {row.path: row for row in table.rows}
        own = replace(table, rows=tuple(rows[one.path] for one in neighbours))
        spec = served.classifier.metadata.preprocess  # as the training kept them
        thumbnails = Thumbnails(
            own, [one.digest for one in neighbours], runtime.cache, served.most_megapixels,
            enough_px=spec.enough_px, white_level=spec.white_level,
        )  # fmt: skip
        thumbnails.__enter__()
        return _Index(neighbours, unit_rows(np.stack([one.embedding for one in learnt])), thumbnails)


def _record(index: _Index, row: int, similarity: float) -> dict[str, object]:
    neighbour, picture = index.neighbours[row], index.thumbnails.small(row)
    return {
        "path": portable(neighbour.path),
        "label": portable(neighbour.label),
        "similarity": round(similarity, 6),
        "picture": None if picture is None else base64.b64encode(picture).decode("ascii"),
    }
