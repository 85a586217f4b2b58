"""A worker process: decodes images and runs models on them, one at a time.

It is a process and not a thread, so that a decoder that crashes or stalls on a malicious file affects nothing else,
and the event loop never waits for Python's global lock.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Iterator
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


def main(pipe: Connection, skips: Connection) -> None:
    """Answer messages until the server exits.

    Args:
        pipe: To the server.
        skips: From the server: which message need not be begun with.
    """
    # Ctrl-C, systemd and a closed terminal tell all processes; the server drains first, and then closes the pipe.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    inbox = _Inbox(pipe, skips)
    models: dict[str, _Model] = {}
    try:
        pipe.send_bytes(exchange.DONE)
        for message in inbox:
            if message is None:
                pipe.send_bytes(exchange.SKIPPED)
                continue
            pipe.send_bytes(exchange.TAKEN)
            pipe.send_bytes(_answer(message, models))
    except OSError:
        return


class _Inbox:
    """Messages in their order; None for one that was taken back. The server never waits until one is received."""

    def __init__(self, pipe: Connection, skips: Connection) -> None:
        self._messages: queue.SimpleQueue[exchange.Message | None] = queue.SimpleQueue()
        self._skipped = 0
        threading.Thread(target=self._receive, args=(pipe,), name="headstart-inbox", daemon=True).start()
        threading.Thread(target=self._watch, args=(skips,), name="headstart-parent", daemon=True).start()

    def __iter__(self) -> Iterator[exchange.Message | None]:
        number = 0
        while (message := self._messages.get()) is not None:
            number += 1
            yield None if number == self._skipped else message

    def _receive(self, pipe: Connection) -> None:
        try:
            while True:
                self._messages.put(pipe.recv())
        except (EOFError, OSError):
            self._messages.put(None)

    def _watch(self, skips: Connection) -> None:
        """Note what need not be begun with, and end this process once the server has ended for any reason."""
        parent = parent_process()
        assert parent is not None
        while parent.sentinel not in connection.wait([parent.sentinel, skips]):
            try:
                self._skipped = exchange.skipped(skips.recv_bytes())
            except (EOFError, OSError):
                break
        os._exit(1)


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


def _answer(message: exchange.Message, models: dict[str, _Model]) -> bytes:
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
