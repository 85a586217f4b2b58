"""Folders of embeddings for tests."""

from __future__ import annotations

from pathlib import Path

import headstart
from headstart.core.runtime import Runtime
from headstart.features.sharded.description import Description
from headstart.features.sharded.embedding_rows import Found, schema, table_of
from headstart.features.sharded.plan import Plan
from headstart.features.sharded.writing import part_metadata, write_description, write_part
from headstart.settings.recipe import Recipe
from headstart.strategies.embed import embed


def write_embeddings(source: Path, folder: Path, *, dtype: str = "float32", rows: int = 16, **made: object) -> Path:
    """Embed the images of a source into a folder of shards; `made` replaces what the folder says of its embedder."""
    data, embedder, _ = embed(headstart.read(source), Recipe(), Runtime())
    found = {
        row.path: Found(digest, traits, vector.astype(dtype))
        for row, digest, traits, vector in zip(data.table.rows, data.digests, data.traits, data.matrix, strict=True)
    }
    plan = Plan.of(data.table, rows)
    facts = {"network": "lite0", "embedder": embedder.digest, "width": embedder.width, "dtype": dtype,
             "recipe": Recipe().as_dict(), **made}  # fmt: skip
    description = Description(
        kind="embeddings", made=facts, task=data.table.task, classes=data.table.classes, source=data.table.source,
        images=len(plan.references), shard_rows=rows, references=plan.references_digest,
        headstart=headstart.__version__,
    )  # fmt: skip
    folder.mkdir()
    write_description(folder, description)
    for number in plan:
        references = plan.shard(number)
        form = schema(embedder.width, dtype, part_metadata(description, number, plan.digests[number]))
        write_part(
            folder, number, table_of(references, [found.get(one.path, one.reason or "") for one in references], form)
        )
    return folder
