"""The REST application of `headstart serve` on Ray Serve: `headstart.scale.serve:app`.

Ray places the replicas, and starts more where requests wait. Each holds the models and a pool of worker processes, as
`headstart serve` does, so that an image that ends its decoder costs one answer and not the replica.
"""

from __future__ import annotations

import os
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from ray import serve
from ray.serve import Application

from headstart.core.errors import OptionError
from headstart.core.text import listed, quoted
from headstart.serving import TOKEN_VARIABLE
from headstart.serving.application import application
from headstart.serving.counters import Metrics
from headstart.serving.desk import Desk
from headstart.serving.limits import Limits
from headstart.serving.models import Models, load_all
from headstart.serving.policy import Policy, allowed_names
from headstart.serving.pool import Pool
from headstart.serving.server import warm_up


def _listed(value: Any) -> Any:
    """On the command line a list is written ``a,b``."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class Arguments(BaseModel):
    """The arguments of `app`: ``args`` of the configuration, or ``KEY=VALUE`` of ``serve run``.

    Attributes:
        models: Model files or run folders, which every node reaches by the same path; ``NAME=PATH`` sets the name.
        workers: Worker processes of each replica; each is asked of Ray as one CPU.
        min_replicas: Replicas where nothing is asked; 0 lets the first request wait for one to start.
        max_replicas: Replicas at most.
        target_requests: Requests under way for each replica, above which another is started.
        token: Token that requests must send; better set in the environment of the replicas, HEADSTART_TOKEN.
        insecure: Whether to require none.
        allow_host: Host names of the server.
        cors_origin: Origins whose pages may send requests.
        max_mb: Largest request body, in MB.
        max_files: Images in one request at most.
        max_megapixels: Larger images are refused; None for the limit that each model was trained with.
        max_seconds: Limit for receiving a body, for waiting, and for each image.
        queue: Images that wait in a replica at most; more are refused (503).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: Names
    workers: int = Field(1, ge=1, le=256)
    min_replicas: int = Field(1, ge=0)
    max_replicas: int = Field(4, ge=1)
    target_requests: float = Field(4.0, gt=0)
    token: str = ""
    insecure: bool = False
    allow_host: Names = ()
    cors_origin: Names = ()
    max_mb: int = 64
    max_files: int = 64
    max_megapixels: int | None = None
    max_seconds: int = 30
    queue: int = 128


class Replica:
    """One process that answers requests, with its workers.

    Args:
        arguments: What is served, and how.

    Raises:
        ModelError: There is no such model file, or it does not give here what it gave where it was trained.
        OptionError: An argument is invalid.
        StorageError: No worker process can be started.
    """

    def __init__(self, arguments: Arguments) -> None:
        limits, policy = _limits(arguments), _policy(arguments)
        models = load_all(arguments.models, arguments.max_megapixels)
        table = Models(models)
        self._pool = Pool(arguments.workers, limits.waiting, limits.seconds, table.keys)
        try:
            warm_up(self._pool, models)
        except BaseException:
            self._pool.close()
            raise
        self._application = application(Desk(table, self._pool, limits, Metrics()), policy)

    def __serve_build_asgi_app__(self) -> Any:  # the name is Ray's
        """The ASGI application that this replica runs."""
        return self._application

    def check_health(self) -> None:
        """Asked by Ray every few seconds: a replica that raises three times is replaced.

        A worker process that is lost is replaced here, in less.
        """
        if self._pool.alive == 0:
            raise RuntimeError("No worker process is up.")

    def __del__(self) -> None:
        if hasattr(self, "_pool"):
            self._pool.close()


def app(given: dict[str, Any]) -> Application:
    """Build the application of Ray Serve.

    ``serve run headstart.scale.serve:app models=runs/photos``

    Args:
        given: See `Arguments`.

    Raises:
        OptionError: An argument is invalid, or there is neither a token nor ``insecure``.
    """
    arguments = _arguments(given)
    limits, policy = _limits(arguments), _policy(arguments)
    if not arguments.models:
        raise OptionError("No model is named.", "Name one: models=runs/photos")
    if not policy.token and not arguments.insecure:
        raise OptionError(
            "Other machines can reach a cluster, and there is no token.",
            f"Set {TOKEN_VARIABLE} (or token=...), or allow all with insecure=true.",
        )
    deployment = serve.deployment(
        serve.ingress(None)(Replica),
        name="headstart",
        ray_actor_options={"num_cpus": arguments.workers},
        max_ongoing_requests=max(64, arguments.queue),
        autoscaling_config={
            "min_replicas": arguments.min_replicas,
            "max_replicas": max(arguments.min_replicas, arguments.max_replicas),
            "target_ongoing_requests": arguments.target_requests,
        },
        graceful_shutdown_timeout_s=limits.request_seconds,
    )
    return deployment.bind(arguments.model_copy(update={"token": policy.token}))


def _arguments(given: dict[str, Any]) -> Arguments:
    try:
        return Arguments.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise OptionError(
            f"Argument {quoted(name)} of headstart.scale.serve:app: {first['msg']}.",
            f"The arguments are {listed(list(Arguments.model_fields))}.",
        ) from error


def _limits(arguments: Arguments) -> Limits:
    return Limits(
        megabytes=arguments.max_mb, files=arguments.max_files, seconds=arguments.max_seconds, waiting=arguments.queue
    )


def _policy(arguments: Arguments) -> Policy:
    return Policy(
        token=(arguments.token or os.environ.get(TOKEN_VARIABLE, "")).strip(),
        hosts=allowed_names(arguments.allow_host, ""),
        origins=frozenset(arguments.cors_origin),
    )
