"""A network that is to be trained on a division of images: how it begins, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from headstart.core.runtime import Runtime
from headstart.features.dataset import Dataset
from headstart.heads.calibrated import Calibrated
from headstart.heads.linear import LinearHead
from headstart.partition.roles import Partition
from headstart.preprocess.spec import Preprocess
from headstart.settings.recipe import Recipe
from headstart.strategies.custom import Own
from headstart.strategies.probe import fit_linear
from headstart.training import loop, sources
from headstart.training.from_run import start_from_run
from headstart.training.network import Network, make_head, start_from_probe
from headstart.training.pixel_feed import Images
from headstart.training.task import Task, Trained


@dataclass(frozen=True)
class Job:
    """What is trained, and on what.

    Attributes:
        loaded: The backbone as it begins.
        preprocess: How pixels are prepared for it.
        data: The images.
        images: The same, as the loop reads them.
        partition: Who learns, who chooses, who is measured.
        own: Parts that are not Headstart's.
    """

    loaded: sources.Loaded
    preprocess: Preprocess
    data: Dataset
    images: Images
    partition: Partition
    own: Own

    def task(self, network: Network, recipe: Recipe) -> Task:
        """What the loop is given."""
        return Task(
            network=network, images=self.images,
            targets=self.partition.targets,
            train=self.partition.learnt(), validation=self.partition.chooses(), recipe=recipe,
        )  # fmt: skip


def begun(job: Job, recipe: Recipe, runtime: Runtime) -> Network:
    """The network as it begins, around the job's own backbone."""
    loaded, data = job.loaded, job.data
    make = job.own.head or partial(make_head, recipe)
    head = make(loaded.embedding_size, len(data.targets.names))
    if recipe.start == "weights":
        start_from_run(head, recipe.backbone, data.targets.names, recipe.head)
    elif data.features is not None:
        # The images that choose the epoch must not have been learnt from by the head that it begins with either.
        probe = fit_linear(data, job.partition, recipe, runtime)
        start_from_probe(head, probe.head, probe.temperature)
    return Network(loaded.module, head)


def train(job: Job, network: Network, recipe: Recipe, runtime: Runtime) -> Trained | None:
    """Train a network in place; it ends on the CPU, in evaluation mode."""
    trained = (job.own.loop or loop.fit)(job.task(network, recipe), runtime)
    network.to("cpu").eval()
    return trained


def probe_if_kept(
    trained: Trained | None, data: Dataset, divided: Partition, recipe: Recipe, runtime: Runtime
) -> Calibrated[LinearHead] | None:
    """The probe's head, fitted on all train images, where no epoch was better than the start; None elsewhere.

    Args:
        trained: What became of the training.
        data: The images.
        divided: Their partition before some train images were taken away to choose: they have nothing left to choose
            between, and are learnt from too.
        recipe: All choices.
        runtime: How to run.
    """
    if trained is None or trained.best_epoch or data.features is None:
        return None
    return fit_linear(data, divided, recipe, runtime)
