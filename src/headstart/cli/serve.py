"""`headstart serve`: models behind HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from headstart.cli import options, signals
from headstart.cli.messages import DONE
from headstart.cli.panels import ACCESS, LIMITS
from headstart.core.text import counted, listed
from headstart.serving import TOKEN_VARIABLE
from headstart.settings.setting import RUNNING

_EXTRA = ("fastapi", "uvicorn", "httptools", "python_multipart", "prometheus_client")
ProcessWorkers = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, max=256, help="Worker processes; default: one per usable core.", rich_help_panel=RUNNING
    ),
]

ModelPaths = Annotated[
    list[str] | None,
    typer.Argument(metavar="MODEL...", help="Model files or run folders; NAME=PATH sets the name."),
]
Watch = Annotated[
    Path | None,
    typer.Option(metavar="RUNS", help="Also serve every run in this folder, and pick up new and replaced runs."),
]
Token = Annotated[
    str,
    typer.Option(help=f"Token that requests must send; better set in {TOKEN_VARIABLE}.", rich_help_panel=ACCESS),
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Require no token, even from other machines.", rich_help_panel=ACCESS)
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Additional host name of the server; repeatable.", rich_help_panel=ACCESS),
]
CorsOrigin = Annotated[
    list[str] | None,
    typer.Option(metavar="URL", help="Origin whose pages may send requests; repeatable.", rich_help_panel=ACCESS),
]
Neighbours = Annotated[
    bool | None,
    typer.Option(
        help="Show the most similar training images, where the run folder tells them; default: if local, with "
        "neither --allow-host nor --cors-origin.",
        rich_help_panel=ACCESS,
    ),
]
MaxSeconds = Annotated[
    int,
    typer.Option(
        min=1, help="Time limit for receiving a body, for waiting, and for each image.", rich_help_panel=LIMITS
    ),
]
Queue = Annotated[
    int, typer.Option(min=1, help="Most images waiting; more are refused at once (503).", rich_help_panel=LIMITS)
]


def serve(
    models: ModelPaths = None,
    watch: Watch = None,
    host: Annotated[str, typer.Option(help="Address to listen on.", rich_help_panel=ACCESS)] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 8000,
    token: Token = "",
    insecure: Insecure = False,
    allow_host: AllowHost = None,
    cors_origin: CorsOrigin = None,
    neighbours: Neighbours = None,
    max_mb: Annotated[int, typer.Option(min=1, help="Largest request body, in MB.", rich_help_panel=LIMITS)] = 64,
    max_files: Annotated[int, typer.Option(min=1, help="Most images in one request.", rich_help_panel=LIMITS)] = 64,
    max_megapixels: options.MaxMegapixels = None,
    max_seconds: MaxSeconds = 30,
    queue: Queue = 128,
    workers: ProcessWorkers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Serve models over HTTP: REST API, web page, metrics.

    Listens on this machine only, unless told otherwise.
    """
    from headstart.cli.output import Output
    from headstart.core.errors import OptionError
    from headstart.core.extras import require

    for package in _EXTRA:
        require(package, "serve", "Serving")
    from headstart.serving.limits import Limits
    from headstart.serving.models import Models, load_all
    from headstart.serving.policy import Policy, allowed_names, is_local
    from headstart.serving.server import Place, Watched, run_server

    output = Output(as_json=json, quiet=quiet)
    if not models and watch is None:
        raise OptionError("No model is named.", "Name one: headstart serve MODEL; or a folder of runs: --watch RUNS.")
    token = _token(token, required=not is_local(host) and not insecure, host=host)
    limits = Limits(megabytes=max_mb, files=max_files, seconds=max_seconds, waiting=queue)
    policy = Policy(token=token, hosts=allowed_names(allow_host or (), host), origins=frozenset(cors_origin or ()))
    served = load_all(models or (), max_megapixels)
    place = Place(host=host, port=port, **({} if workers is None else {"workers": workers}))
    alone = is_local(host) and not allow_host and not cors_origin  # a name or a site: others reach it, by a proxy
    watched = Watched(folder=watch, max_megapixels=max_megapixels, note=output.note,
                      training_images=alone if neighbours is None else neighbours)  # fmt: skip

    def started(url: str, table: Models) -> None:
        signals.hand_over()
        names = [one.name for one in table.all()]
        what = listed(names) or "no model yet"
        output.say(f"Serving {what} at {url} with {counted(place.workers, 'worker')}. Press Ctrl-C to stop.")
        if names and not token:
            output.say(f"Try:   curl -F files=@PHOTO {url}/v1/models/{quote(names[0])}/predict")
        if token:
            output.say(f"In a browser: {url}/?token=TOKEN")
        output.document({"url": url, "models": names, "workers": place.workers, "process": os.getpid()})

    run_server(served, place, limits, policy, watched, started)
    output.say("Stopped after completing the requests that had begun.")
    return DONE


def _token(given: str, *, required: bool, host: str) -> str:
    """The token from the option or the environment; empty for none."""
    from headstart.core.errors import OptionError

    token = (given or os.environ.get(TOKEN_VARIABLE, "")).strip()  # $(cat FILE) drops the end of line; others do not
    if required and not token:
        raise OptionError(
            f"Other machines can reach a server at {host}, and there is no token.",
            f"Set {TOKEN_VARIABLE} (or --token), or allow all with --insecure.",
        )
    return token
