"""The strategy `probe` on more embeddings than fit into memory; see `headstart.heads.streamed`.

What differs from the same in memory: the penalty, the temperature and the threshold of familiarity come from train
images that are set aside (val), since a second fit for them would take as long as the first; at most `MAX_MEASURED`
images are held out; near duplicates are not looked for before the images are divided; and the data check is a command
of its own.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import OptionError
from headstart.core.text import counted
from headstart.evaluation import novelty
from headstart.features.dataset import Dataset
from headstart.features.sharded.stored import StoredBlocks
from headstart.heads.calibrated import Calibrated
from headstart.heads.streamed import fit_recipe
from headstart.partition.divide import divide
from headstart.partition.held_out import HeldOut
from headstart.partition.selection import set_aside
from headstart.runs.details import Details, Embedding, HeadFit
from headstart.runs.result import Fitted
from headstart.settings.heads import HEADS
from headstart.strategies import finish, proof
from headstart.strategies.trust import build as build_trust
from headstart.targets import TARGETS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.backbones.embedder import Embedder
    from headstart.core.runtime import Runtime
    from headstart.features.sharded.images import Images
    from headstart.heads.linear import LinearHead
    from headstart.partition.roles import Partition
    from headstart.runs.origin import Origin
    from headstart.settings.recipe import Recipe

# Held out of a source without splits: the interval of an accuracy is then at most 0.9 points wide.
MAX_MEASURED = 50_000
MAX_CHOOSING = 10_000  # that choose the penalty and the temperature, three numbers
_ROWS = 4096  # read at once, for each thread
NO_NEAR_DUPLICATES = (
    "Copies, by their digests, and the groups of the source stay on one side of the splits; near duplicates were not "
    "looked for: run `headstart check` on this folder, and keep them together by groups (`--group-column`)."
)
NOT_CHECKED = "The data check was left out, as it takes long on so many images: run `headstart check` on this folder."


def fit(
    images: Images, embedder: Embedder, recipe: Recipe, runtime: Runtime, origin: Origin, watch: finish.Stopwatch
) -> Fitted:
    """Divide, fit in passes, evaluate, and put the model file together.

    Args:
        images: The images, whose embeddings stay on the disk.
        embedder: What computed these.
        recipe: All choices.
        runtime: How to run.
        origin: Where the recipe comes from.
        watch: Has begun.

    Raises:
        SourceError: The images cannot be learnt from.
        OptionError: The settings need all embeddings in memory.
    """
    _refuse(recipe, images.table.task)
    data = images.without_embeddings()
    watch.lap("read")
    partition, notes = _divided(data, recipe)
    watch.lap("divide")
    head = _fit_head(images, partition, recipe, runtime)
    watch.lap("fit")
    rows = partition.held_out()
    held_out = HeldOut.by(rows, _probabilities(images, rows, head, runtime), head.calibration)
    evaluation = finish.measure(held_out, partition, data.targets.names)
    watch.lap("evaluate")
    some, part = _some(images, partition, runtime)
    places = np.searchsorted(_kept(data, partition), rows)
    trust = build_trust(some, part, dataclasses.replace(held_out, rows=places))
    watch.lap("trust")
    model = finish.model_file(embedder, head, recipe, data, partition, evaluation, trust).because(origin.reasons)
    shown = _taken(images, np.arange(0, len(data), max(1, len(data) // proof.IMAGES)), runtime)
    proved = proof.prove_evaluated(model.content, head, shown, "int8", embedder)
    watch.lap("write")
    return Fitted(
        data=data, model_file=model, evaluation=evaluation, held_out=held_out, partition=partition,
        without_leaks=finish.measure_without_leaks(held_out, partition, data.targets.names),
        counts=partition.count(), checked=False, seconds=watch.seconds,
        details=Details(
            embedding=Embedding(0, len(data), "a folder of embeddings"),
            head=HeadFit(head.temperature, head.head.c, head.head.whitening, head.head.log_loss),
            familiarity=trust.familiarity, prediction_sets=trust.prediction_sets,
        ),
        notes=(*origin.reasons, *data.table.notes, *data.notes, *partition.notes, *notes, *head.head.notes,
               *trust.notes, *proved),
    )  # fmt: skip


def _refuse(recipe: Recipe, task: str) -> None:
    if not TARGETS[task].exclusive:
        raise OptionError(
            f"Heads of the task {task} are fitted in memory, and these embeddings are too many for that.",
            "Train on a part of the images.",
        )
    if not HEADS[recipe.head].linear:
        raise OptionError(
            f"The head {recipe.head} is fitted in memory, and these embeddings are too many for that.",
            "Use --head linear, which is fitted in passes over them.",
        )
    if recipe.measure_by == "folds":
        raise OptionError(
            "A cross-validation fits one head for each fold, which takes hours with so many embeddings.",
            "Leave --folds and --measure-by out: so many images can be held out.",
        )


def _divided(data: Dataset, recipe: Recipe) -> tuple[Partition, list[str]]:
    """Who learns, who sets the temperature, and who is measured; and what a person should know of that."""
    notes = [NO_NEAR_DUPLICATES, NOT_CHECKED]
    share = min(recipe.holdout, MAX_MEASURED / len(data))
    if share < recipe.holdout and not set(data.table.splits) - {"train"}:
        notes.insert(0, f"{counted(round(share * len(data)), 'image')} were held out, and not {recipe.holdout:.0%}: "
                        "more would hardly narrow the intervals.")  # fmt: skip
    whole = dataclasses.replace(recipe, holdout=share, measure_by="holdout")
    partition = divide(data, whole)
    train = len(partition.learnt())
    return set_aside(
        partition,
        data,
        whole,
        min(0.1, MAX_CHOOSING / train),
        "chose the penalty and the temperature, and were not trained on",
    ), notes


def _fit_head(images: Images, partition: Partition, recipe: Recipe, runtime: Runtime) -> Calibrated[LinearHead]:
    rows, names = partition.learnt(), partition.targets.names
    labels = np.asarray(partition.targets.labels)
    shards = max(1, _ROWS // images.stored.folder.description.shard_rows)
    blocks = StoredBlocks(images.stored, rows, labels[rows], shards, runtime.workers)
    choose = partition.chooses()
    aside = images.stored.take(choose, runtime.workers), labels[choose]
    return fit_recipe(blocks, aside, len(names), recipe, runtime)


def _probabilities(
    images: Images, rows: NDArray[np.int64], head: Calibrated[LinearHead], runtime: Runtime
) -> NDArray[np.float64]:
    """Probabilities (M, C) of some rows."""
    result = np.empty((len(rows), head.head.weights.shape[1]))
    for begin in range(0, len(rows), _ROWS):
        part = slice(begin, begin + _ROWS)
        result[part] = head.probabilities(images.stored.take(rows[part], runtime.workers))
    return result


def _kept(data: Dataset, partition: Partition) -> NDArray[np.int64]:
    """The rows that familiarity and prediction sets look at: held-out ones, and those that references are drawn of."""
    learnt = np.array(sorted(partition.learnt(), key=lambda row: data.digests[row]), np.int64)
    chosen = learnt[novelty.sample(np.asarray(partition.targets.labels)[learnt])]
    return np.union1d(partition.held_out(), np.union1d(partition.chooses(), chosen))


def _some(images: Images, partition: Partition, runtime: Runtime) -> tuple[Dataset, Partition]:
    """These rows alone, with their embeddings."""
    rows = _kept(images.without_embeddings(), partition)
    return _taken(images, rows, runtime), partition.take(rows)


def _taken(images: Images, rows: NDArray[np.int64], runtime: Runtime) -> Dataset:
    table = dataclasses.replace(images.table, rows=tuple(images.table.rows[row] for row in rows), notes=())
    digests = tuple(images.digests[row] for row in rows)
    return Dataset(table, digests, (), images.stored.take(rows, runtime.workers))
