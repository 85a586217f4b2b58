"""A worker process: decodes images and runs models on them, one at a time.

It is a process and not a thread, so that a decoder that crashes or stalls on a malicious file affects nothing else,
and the event loop never waits for Python's global lock.
"""

from __future__ import annotations

import os
import signal
import threading
from functools import cached_property
from multiprocessing import connection, parent_process
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import ImageError, ModelError
from headstart.prediction.activation_map import Head, activation_map, linear_head
from headstart.prediction.classifier import Classifier
from headstart.serving import exchange

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from headstart.prediction.answers import Result


def main(pipe: Connection) -> None:
    """Answer messages until the server exits.

    Args:
        pipe: To the server.
    """
    # Ctrl-C, systemd and a closed terminal tell all processes; the server drains first, and then closes the pipe.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with_server, name="headstart-parent", daemon=True).start()
    models: dict[str, _Model] = {}
    try:
        pipe.send_bytes(exchange.DONE)
        while True:
            message = pipe.recv()
            pipe.send_bytes(exchange.TAKEN)
            pipe.send_bytes(_answer(message, models))
    except (EOFError, OSError):
        return


class _Model:
    """A model, with what is found in it when it is first asked for."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier

    @cached_property
    def _head(self) -> Head | None:
        return linear_head(self.classifier)

    def run(self, image: exchange.Image) -> Result:
        """What the model says of an image; with its map where that is asked for and exact."""
        classifier = self.classifier
        if image.shape is None:
            pixels = classifier.pixels(image.content)
        else:
            pixels = np.frombuffer(image.content, np.uint8).reshape(image.shape)
        if not image.mapped or self._head is None:
            return classifier.run_pixels(pixels)
        result = classifier.run_pixels(pixels, feature_map=True)
        if not self._head.gives(result):
            return result
        grid, _ = activation_map(self._head, result, int(result.probabilities.argmax()))
        height, width = pixels.shape[:2]
        return exchange.Mapped(
            result.probabilities, result.embedding, result.distance, grid=grid.astype(np.float32), size=(height, width)
        )


def _answer(message: exchange.Load | exchange.Image | exchange.Verify, models: dict[str, _Model]) -> bytes:
    try:
        if isinstance(message, exchange.Load):
            for key in models.keys() - message.keep:
                del models[key]
            models[message.key] = _Model(Classifier(message.content, max_megapixels=message.max_megapixels))
            return exchange.DONE
        model = models[message.key]
        if isinstance(message, exchange.Verify):
            _verify(model.classifier)
            return exchange.DONE
        return exchange.of_result(model.run(message))
    except (ImageError, ModelError) as error:
        return exchange.of_error(error)
    except MemoryError:
        return exchange.of_error(ImageError("takes more memory than there is"))


def _verify(model: Classifier) -> None:
    found = model.verify()
    if found.images and not found.passed:
        raise ModelError(
            "The model gives different results here than on the machine that trained it: the largest "
            f"difference in a probability is {found.probability_difference:.2g}.",
            "See `headstart verify`.",
        )


def _end_with_server() -> None:
    """End this process once the server has ended for any reason, whatever the main thread is doing."""
    if (parent := parent_process()) is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
