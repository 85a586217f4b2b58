"""Whether `train` refuses the images, which the data check reports before anybody waits for a training.

Nothing is decided here: the functions that a training calls are called, in its order.
"""

from __future__ import annotations

from collections.abc import Callable

from headstart import targets
from headstart.core.errors import SourceError
from headstart.core.tables import resolve
from headstart.data.table import ImageTable
from headstart.features.dataset import Dataset
from headstart.partition.divide import divide
from headstart.partition.folds import rounds
from headstart.settings.recipe import Recipe


def refusal(table: ImageTable, data: Dataset, recipe: Recipe) -> SourceError | None:
    """The error with which the strategy `probe` ends on these images; None where it trains.

    Args:
        table: The images, before any of them was read.
        data: Those that can be read; of embeddings that are not in memory, nothing is said.
        recipe: Which of them learn, and how they are dealt.
    """
    try:
        targets.read(table)
        partition = divide(data, recipe)
        if data.features is None:
            return None
        inside = rounds(partition, data, recipe) if partition.cross_validated else []
        spec = targets.TARGETS[table.task]
        check: Callable[..., None] = resolve(spec.check) if spec.check else lambda *_: None
        for one in [partition, *inside]:
            check(data.matrix[one.learnt()], one.targets.labels[one.learnt()], len(data.targets.names))
    except SourceError as error:
        return error
    return None
