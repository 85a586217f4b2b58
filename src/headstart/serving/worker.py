"""A worker process: decodes images and runs models on them, one at a time.

It is a process and not a thread, so that a decoder that crashes or hangs on a malicious file affects nothing else,
and the event loop never waits for Python's global lock.
"""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing import connection, parent_process
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import ImageError, ModelError
from headstart.prediction.classifier import Classifier
from headstart.serving import exchange

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


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
    models: dict[str, Classifier] = {}
    try:
        pipe.send_bytes(exchange.DONE)
        while True:
            message = pipe.recv()
            pipe.send_bytes(exchange.TAKEN)
            pipe.send_bytes(_answer(message, models))
    except (EOFError, OSError):
        return


def _answer(message: exchange.Load | exchange.Image | exchange.Verify, models: dict[str, Classifier]) -> bytes:
    try:
        if isinstance(message, exchange.Load):
            for key in models.keys() - message.keep:
                del models[key]
            models[message.key] = Classifier(message.content, max_megapixels=message.max_megapixels)
            return exchange.DONE
        model = models[message.key]
        if isinstance(message, exchange.Verify):
            _verify(model)
            return exchange.DONE
        if message.shape is None:
            return exchange.of_result(model.run_file(message.content))
        return exchange.of_result(model.run_pixels(np.frombuffer(message.content, np.uint8).reshape(message.shape)))
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
