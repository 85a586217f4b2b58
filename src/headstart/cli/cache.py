"""`headstart cache`: where embeddings are kept, how much they take, and how to clear them."""

from __future__ import annotations

from pathlib import Path

import typer

from headstart.cli import options
from headstart.cli.messages import DONE
from headstart.core.text import counted

app = typer.Typer(name="cache", help="Show or clear the cache of embeddings.",
                  no_args_is_help=True, rich_markup_mode=None)  # fmt: skip


@app.command()
def where(json: options.Json = False, quiet: options.Quiet = False) -> int:
    """Print the cache folder; HEADSTART_CACHE names another."""
    from headstart.cli.output import Output

    output = Output(as_json=json, quiet=quiet)
    folder = _folder()
    output.answer(str(folder))
    output.document({"folder": str(folder)})
    return DONE


@app.command()
def size(json: options.Json = False, quiet: options.Quiet = False) -> int:
    """Print how much the cache holds."""
    from headstart.cli.output import Output
    from headstart.features.cache import size as measure

    output = Output(as_json=json, quiet=quiet)
    folder = _folder()
    held = measure(folder)
    images, embedders = counted(held["images"], "embedding"), counted(held["embedders"], "embedder")
    output.answer(f"{images} and {embedders}, {held['bytes'] / 1e6:.1f} MB in {folder}")
    output.document({"folder": str(folder), **held})
    return DONE


@app.command()
def clear(json: options.Json = False, quiet: options.Quiet = False) -> int:
    """Delete all that is cached; the next training embeds its images again."""
    from headstart.cli.output import Output
    from headstart.core.files import storage_error
    from headstart.features.cache import clear as delete
    from headstart.features.cache import size as measure

    output = Output(as_json=json, quiet=quiet)
    folder = _folder()
    held = measure(folder)
    try:
        delete(folder)
    except OSError as error:
        raise storage_error(error, folder) from error
    output.say(f"Deleted {counted(held['images'], 'embedding')}, {held['bytes'] / 1e6:.1f} MB in {folder}")
    output.document({"folder": str(folder), **held})
    return DONE


def _folder() -> Path:
    from headstart.core.errors import OptionError
    from headstart.core.runtime import CACHE_VARIABLE, default_cache

    folder = default_cache()
    if folder is None:
        raise OptionError("There is no home folder to keep a cache in.", f"Name a folder with {CACHE_VARIABLE}.")
    return folder
