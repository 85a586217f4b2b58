"""The client library of the Hugging Face Hub: which server, its errors in a line, and no output of its own."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
from collections.abc import Iterator

from headstart.core.text import printable

DEFAULT_ENDPOINT = "https://huggingface.co"
# Packages whose errors are those of a network. Their versions have them under different names.
_NETWORK = {"huggingface_hub", "httpx", "httpx2", "httpcore", "requests", "urllib3", "urllib"}


def endpoint() -> str:
    """The address of the Hub, or of the mirror that the environment names."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def of_network(error: BaseException) -> bool:
    """Whether an error came from a network, a server or a full disk."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _NETWORK


def reason(error: BaseException) -> str:
    """The first line of what an error says, which may be long and many."""
    lines = str(error).strip().splitlines()
    return printable((lines[0] if lines else type(error).__name__).rstrip("."))[:200]


@contextlib.contextmanager
def silently() -> Iterator[None]:
    """Use the library without its progress bars, and without its reports of each attempt: the last one is an error."""
    try:
        utils = importlib.import_module("huggingface_hub.utils")
    except ModuleNotFoundError:  # then nothing is fetched with it
        yield
        return
    logger = logging.getLogger("huggingface_hub")
    level, bars = logger.level, not utils.are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    if bars:
        utils.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            utils.enable_progress_bars()
