"""`headstart search`: the images that are most like one."""

from __future__ import annotations

from typing import Annotated

import typer

from headstart.cli import options
from headstart.cli.messages import DONE, SOME_SKIPPED


def search(
    model: options.Model,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The image to compare with.")],
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Images, folders, patterns or @FILE to search, as for predict.")
    ],
    count: Annotated[int, typer.Option(min=1, help="How many images to find.")] = 10,
    max_megapixels: options.MaxMegapixels = None,
    workers: options.Workers = None,
    no_cache: options.NoCache = False,
    strict: options.Strict = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Find the images that are most similar to a given one.

    Compares the embeddings that the network of a model gives them.
    """
    from headstart import api
    from headstart.cli.output import Output
    from headstart.core.text import counted, portable
    from headstart.data.inputs import expand

    output = Output(as_json=json, quiet=quiet)
    classifier = api.load(model, max_megapixels=max_megapixels)
    runtime = options.runtime(output, workers=workers, strict=strict, cached=not no_cache)
    found, table = api.search(classifier, image, expand(paths), count=count, runtime=runtime)
    output.table(["Image", "Similarity"], [[one.path, f"{one.similarity:.3f}"] for one in found], right=(1,))
    output.say(f"Cosine similarity, among {counted(len(table), 'image')}; 1 is an identical image.")
    output.notes(table.notes)
    output.skipped(table.skipped)
    output.document({
        "image": portable(image),
        "matches": [{"path": portable(one.path), "similarity": round(one.similarity, 6)} for one in found],
        "images": len(table),
        "skipped": [skip.as_dict() for skip in table.skipped],
        "notes": list(table.notes),
    })  # fmt: skip
    return SOME_SKIPPED if table.unusable else DONE
