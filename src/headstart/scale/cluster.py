"""Reach a Ray cluster, or begin one on this machine; and say what is wrong with it."""

from __future__ import annotations

import os
import platform
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headstart.core.errors import HeadstartError, OptionError, StorageError
from headstart.core.extras import require
from headstart.core.files import storage_error
from headstart.core.text import quoted

AUTO = "auto"
_KNOCK_SECONDS = 10.0
# What a client of HTTP/2, and so of gRPC, begins with, and the kind of the frame that answers it (RFC 9113, 3.4, 6.5).
_SETTINGS = b"\x04"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + _SETTINGS + bytes(5)
_CHECK_SECONDS = 120.0  # for a node to start a process and import Headstart


def connect(address: str | None, workers: int | None) -> Any:
    """Connect this process to Ray.

    Args:
        address: Of a running cluster, ``auto`` for the one of this machine; None begins one here, with a token, without
            a dashboard and without Ray's reports on its use, which ends with this process.
        workers: How many CPUs one that begins here may use; None for all.

    Returns:
        The module ray, and whether a cluster was begun.

    Raises:
        OptionError: There is no cluster at the address, it asks for a token that this process does not have, or it has
            another version of Ray or Python.
        StorageError: One cannot be begun here, since its token or its session cannot be written.
        ExtraError: Ray is not installed.
    """
    if address is None and "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray's own choice, which it warns of; read when it is imported
    ray = require("ray", "scale", "Work on a Ray cluster")
    if ray.is_initialized():
        return ray, False
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray leaves the list of GPUs as it is
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Without "local" Ray would take a cluster that happens to run on this machine, or that RAY_ADDRESS names.
        try:
            ray.init("local", num_cpus=workers, include_dashboard=False, **quiet)
        except OSError as error:
            if error.filename is None:
                raise
            raise storage_error(error, Path(error.filename)) from error  # such as its token, where a home is read-only
        return ray, True
    try:
        _knock(address)
        ray.init(address=address, **quiet)
    except (OSError, ValueError, ray.exceptions.AuthenticationError) as error:
        if "AuthenticationError" in " ".join(_causes(error)):
            raise OptionError(
                f"The Ray cluster at {quoted(address)} asks for a token, which this process does not have.",
                "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH as its machines have it.",
            ) from error
        raise OptionError(
            f"There is no Ray cluster at the address {quoted(address)}.",
            "Start one (ray start --head), check the address, or leave --address out: Ray then runs on this machine.",
        ) from error
    except RuntimeError as error:
        if "ersion" not in str(error):
            raise
        raise OptionError(
            f"The cluster at {quoted(address)} cannot be used by this process: {' '.join(str(error).split())[:400]}",
            f"Install the same on both; here are Ray {ray.__version__} and Python {platform.python_version()}.",
        ) from error
    return ray, False


def _causes(error: BaseException | None) -> Iterator[str]:
    """An error and those that it was raised from, as text: Ray hands on the first of them as text alone."""
    while error is not None:
        yield f"{type(error).__name__}: {error}"
        error = error.__cause__


def _knock(address: str) -> None:
    """See whether a server like Ray's listens there: Ray itself asks for minutes, and then ends the process.

    Raises:
        OSError: None does.
        ValueError: It is no address.
    """
    if address == AUTO:
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS) as opened:
        if os.environ.get("RAY_USE_TLS", "0") in {"", "0"}:  # whose first words are others
            opened.sendall(_PREFACE)
            with opened.makefile("rb") as answer:
                if answer.read(9)[3:4] != _SETTINGS:  # the head of a frame: length, kind, flags, stream
                    raise ConnectionError("no answer in HTTP/2")


def refuse_unfit(ray: Any, work: Any) -> None:
    """Try on each node that Headstart can be imported, is the same, and reaches what the work needs.

    Args:
        ray: The module, connected.
        work: The unit of work; its method ``ready``, where it has one, looks at what it needs.

    Raises:
        OptionError: A node cannot run it.
        StorageError: A node cannot reach the folder of the work.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote = ray.remote(num_cpus=0, max_retries=0)(_ready)
    asked = {}
    for node in ray.nodes():
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            name = node.get("NodeManagerHostname", node["NodeID"])
            asked[remote.options(scheduling_strategy=there).remote(work)] = name
    if not asked:
        raise OptionError("The Ray cluster has no node that is alive.", "Look at it: ray status")
    here = _versions()
    for answer, name in asked.items():
        try:
            found = ray.get(answer, timeout=_CHECK_SECONDS)
        except ray.exceptions.GetTimeoutError as error:
            raise OptionError(
                f"The node {quoted(name)} of the Ray cluster did not answer in {_CHECK_SECONDS:.0f} seconds.",
                "Look at it: ray status",
            ) from error
        except ray.exceptions.RayTaskError as error:
            raise _refused(error, name) from error
        differ = [f"{key} {found.get(key)} (here {value})" for key, value in here.items() if found.get(key) != value]
        if differ:
            raise OptionError(
                f"The node {quoted(name)} of the Ray cluster has {', '.join(differ)}.",
                "Install the same everywhere: embeddings of two versions may differ.",
            )


def _refused(error: Any, name: str) -> Exception:
    cause = getattr(error, "cause", None)
    text = str(cause or error)
    if isinstance(cause, ModuleNotFoundError) or "No module named" in text:
        missing = text.rpartition("No module named ")[2].split("\n")[0].strip(" '\"")
        return OptionError(
            f"The node {quoted(name)} of the Ray cluster cannot import {quoted(missing)}.",
            "Install what is installed here on every node: pip install 'headstart[scale]'",
        )
    if isinstance(cause, HeadstartError) and not isinstance(cause, StorageError):  # which names the machine itself
        return type(cause)(f"On the node {quoted(name)} of the Ray cluster: {cause.message}", cause.hint)
    return cause if isinstance(cause, Exception) else error


def _ready(work: Any) -> dict[str, str]:
    """What a node says of itself."""
    ready = getattr(work, "ready", None)
    if ready is not None:
        ready()
    return _versions()


def _versions() -> dict[str, str]:
    import numpy as np
    import onnxruntime
    import PIL

    import headstart

    return {
        "headstart": headstart.__version__, "onnxruntime": onnxruntime.__version__, "pillow": PIL.__version__,
        "numpy": np.__version__,
    }  # fmt: skip
