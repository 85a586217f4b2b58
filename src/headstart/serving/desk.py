"""State shared by the routes: models, worker pool, limits; and how images become results."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from headstart.core.errors import ImageError, ModelError
from headstart.prediction.answers import Result
from headstart.serving import exchange
from headstart.serving.bodies import Budget
from headstart.serving.counters import Metrics
from headstart.serving.limits import Limits
from headstart.serving.models import Models, Served
from headstart.serving.pool import BusyError, Pool
from headstart.serving.problems import Problem, busy
from headstart.serving.training_images import TrainingImages


@dataclass
class Desk:
    """What the routes share.

    Attributes:
        models: What is served.
        pool: The worker processes.
        limits: What a request may use.
        metrics: The counters.
        training_images: Finds the most similar training images; None to show none.
        budget: Bytes of all request bodies in memory.
    """

    models: Models
    pool: Pool
    limits: Limits
    metrics: Metrics
    training_images: TrainingImages | None = None
    budget: Budget = field(init=False)

    def __post_init__(self) -> None:
        self.budget = Budget(self.limits.all_bytes)
        watch = self.metrics.watch
        watch("headstart_queue_images", "Images waiting for a worker.", lambda: self.pool.waiting)
        watch("headstart_workers", "Worker processes that can take an image now.", lambda: self.pool.alive)
        watch(
            "headstart_worker_restarts",
            "Worker processes replaced after a crash or a timeout.",
            lambda: self.pool.restarts,
        )
        watch("headstart_models", "Models served.", lambda: len(self.models))

    @property
    def ready(self) -> bool:
        """Whether the server can classify an image now."""
        return self.pool.alive > 0 and len(self.models) > 0

    def model(self, name: str) -> Served:
        """The model of a name.

        Raises:
            Problem: There is none.
        """
        served = self.models.find(name)
        if served is None:
            raise Problem(404, "There is no model with this name.", self.models.suggestion(name))
        return served

    def knows_training_images(self, served: Served) -> bool:
        """Whether the training images of a model may be shown and have been found."""
        return self.training_images is not None and self.training_images.knows(served)

    async def nearest(self, served: Served, result: Result, count: int) -> list[dict[str, object]]:
        """The training images most similar to an image, as JSON values; an empty list if they are not known."""
        if self.training_images is None or not self.training_images.knows(served):
            return []
        return await asyncio.to_thread(self.training_images.nearest, served, result.embedding, count)

    def refuse_when_full(self) -> None:
        """Refuse a request while the queue is full, before its body is read.

        Raises:
            Problem: There is none.
        """
        if self.pool.full:
            self.metrics.images.labels("", "refused").inc()
            raise busy()

    async def run(self, served: Served, images: Sequence[exchange.Image]) -> list[Result | ImageError]:
        """Run a model on images. An image that cannot be read has an error in place of its result.

        Raises:
            Problem: The queue has no room for them, or they waited too long.
        """
        try:
            futures = [asyncio.wrap_future(future) for future in self.pool.submit(served, images)]
        except BusyError as error:
            self.metrics.images.labels(served.name, "refused").inc(len(images))
            raise busy() from error
        try:
            async with asyncio.timeout(self.limits.run_seconds):
                found = await asyncio.gather(*futures, return_exceptions=True)
        except TimeoutError as error:  # no worker can be started, or is free in time
            raise busy("No worker became available in time.") from error
        finally:
            for future in futures:
                future.cancel()  # of no use where the client has gone
        results: list[Result | ImageError] = []
        for one in found:
            if isinstance(one, BusyError):
                self.metrics.images.labels(served.name, "refused").inc(len(images))
                raise busy("The images waited too long in the queue.")
            if isinstance(one, ModelError):
                raise Problem(500, f"The model cannot be run: {one.message}", one.hint)
            if one is None or (isinstance(one, BaseException) and not isinstance(one, ImageError)):
                raise one or RuntimeError("an image without a result")
            self.metrics.images.labels(served.name, "unread" if isinstance(one, ImageError) else "predicted").inc()
            results.append(one)
        return results
