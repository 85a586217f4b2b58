"""What the routes share: the models, the pool, the limits, and the way from files to results."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

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
        pool: What runs it.
        limits: What a request may take.
        metrics: What is counted.
        training_images: What images are like; None shows none.
        budget: Bytes of all bodies; for the event loop alone.
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
        watch("headstart_queue_images", "Images that wait for a worker.", lambda: self.pool.waiting)
        watch("headstart_workers", "Worker processes that can take an image.", lambda: self.pool.alive)
        watch("headstart_worker_restarts", "Worker processes that were replaced.", lambda: self.pool.restarts)
        watch("headstart_models", "Models that are served.", lambda: len(self.models))

    @property
    def ready(self) -> bool:
        """Whether an image would be classified now."""
        return self.pool.alive > 0 and len(self.models) > 0

    def model(self, name: str) -> Served:
        """The model of a name.

        Raises:
            Problem: There is none.
        """
        served = self.models.find(name)
        if served is None:
            raise Problem(404, "There is no model of this name.", self.models.suggestion(name))
        return served

    def knows_training_images(self, served: Served) -> bool:
        """Whether the training images of a model may be shown, and are known by now."""
        return self.training_images is not None and self.training_images.knows(served)

    async def nearest(self, served: Served, result: Result, count: int) -> list[dict[str, Any]]:
        """The training images that are most like an image, as JSON values; none where they are not known."""
        if self.training_images is None or not self.training_images.knows(served):
            return []
        return await asyncio.to_thread(self.training_images.nearest, served, result.embedding, count)

    def refuse_when_full(self) -> None:
        """Say that there is no room before the body is read.

        Raises:
            Problem: There is none.
        """
        if self.pool.full:
            self.metrics.images.labels("", "refused").inc()
            raise busy()

    async def run(self, served: Served, images: Sequence[exchange.Image]) -> list[Result | ImageError]:
        """Run a model on images; what cannot be read has its error in its place.

        Raises:
            Problem: There is no room for them, or they waited too long.
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
            raise busy("No worker became free in time.") from error
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
