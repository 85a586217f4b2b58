"""The strategy `probe` on a folder of embeddings: nothing is embedded, and images are looked at only for the proof.

What fits into `IN_MEMORY_BYTES` is fitted as the images themselves would be, with the same result. More is read in
blocks (`headstart.strategies.streamed`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from headstart.backbones.embedder import Embedder, load_embedder
from headstart.core.errors import OptionError, SourceError
from headstart.core.text import listed, quoted
from headstart.features.sharded.folder import ShardFolder
from headstart.features.sharded.images import read_images
from headstart.preprocess.spec import Preprocess
from headstart.runs.origin import Origin
from headstart.settings.recipe import Recipe
from headstart.settings.strategies import spec_of
from headstart.strategies import finish, probe, streamed
from headstart.strategies.embed import Embedded

if TYPE_CHECKING:
    from headstart.core.runtime import Runtime
    from headstart.runs.result import Fitted

# What a fit may hold of embeddings and scores; a constant, so that the result does not depend on the machine. A fit in
# memory holds four matrices of the embeddings and four of the scores.
IN_MEMORY_BYTES = 4 * 2**30
_HELD = 4
# The settings that decide what an image's embedding is.
EMBEDDING = ("backbone", "pretrained", "weights", "precision", "fit", "max_megapixels", "white_level")


def recipe_for(folder: ShardFolder, recipe: Recipe) -> Recipe:
    """A recipe with the settings that the embeddings were computed with.

    Args:
        folder: The embeddings.
        recipe: The other settings. One of `EMBEDDING` that is not the default must be that of the folder.

    Raises:
        OptionError: It is another one, or the strategy trains more than a head on embeddings.
        SourceError: The folder does not say what computed its embeddings.
    """
    name = quoted(str(folder.path))
    if spec_of(recipe.strategy).trains != "head":
        raise OptionError(
            f"{name} holds embeddings, and the strategy {quoted(recipe.strategy)} needs the images.",
            "Train on the images themselves, or leave --strategy out (probe).",
        )
    stored = folder.description.made.get("recipe")
    if not isinstance(stored, dict):
        raise SourceError(
            f"{name} was computed by the network of a model file; a head on it would need that network.",
            "Embed the images without --model: headstart embed SOURCE --out DIR",
        )
    made = Recipe.from_dict({key: stored[key] for key in EMBEDDING if key in stored})
    _refuse_others(folder, recipe, {key: getattr(made, key) for key in EMBEDDING})
    return dataclasses.replace(recipe, **{key: getattr(made, key) for key in EMBEDDING})


def preprocess_of(folder: ShardFolder, recipe: Recipe, runtime: Runtime) -> Preprocess | None:
    """How the images were prepared for the network; None where a model file computed the embeddings.

    Args:
        folder: The embeddings.
        recipe: As for `recipe_for`.
        runtime: Its cache may hold the embedder.

    Raises:
        OptionError: As for `recipe_for`.
    """
    if not isinstance(folder.description.made.get("recipe"), dict):
        _refuse_others(folder, recipe, dict.fromkeys(EMBEDDING, "that of the model file"))
        return None
    return load_embedder(recipe_for(folder, recipe), runtime.cache).preprocess


def _refuse_others(folder: ShardFolder, recipe: Recipe, made: Mapping[str, object]) -> None:
    """Refuse settings that are neither the defaults nor those that the embeddings were computed with."""
    usual = Recipe()
    wanted = [
        f"{key} {getattr(recipe, key)} (there: {value})" for key, value in made.items()
        if getattr(recipe, key) not in {getattr(usual, key), value}
    ]  # fmt: skip
    if wanted:
        raise OptionError(
            f"The embeddings in {quoted(str(folder.path))} were computed with other settings: {listed(wanted)}.",
            "Leave these settings out, or embed the images again.",
        )


def embedder_of(folder: ShardFolder, recipe: Recipe, runtime: Runtime) -> Embedder:
    """What computed the embeddings: the model file holds it.

    Args:
        folder: The embeddings.
        recipe: What `recipe_for` gave.
        runtime: Its cache may hold the embedder.

    Raises:
        SourceError: This Headstart, or the weights that are here, would compute other embeddings.
    """
    embedder = load_embedder(recipe, runtime.cache)
    if embedder.digest != folder.embedder:
        raise SourceError(
            f"The embeddings in {quoted(str(folder.path))} were computed by {quoted(folder.network)} with the digest "
            f"{folder.embedder[:12]}, by Headstart {folder.description.headstart}; here it has the digest "
            f"{embedder.digest[:12]}: its graph or its weights are others, and a model file would not compute what the "
            "head was fitted on.",
            "Embed the images again with this version, or train with the version that embedded them.",
        )
    return embedder


def fit(folder: ShardFolder, recipe: Recipe, runtime: Runtime, origin: Origin) -> Fitted:
    """Divide, fit, evaluate, and put the model file together, from a folder of embeddings.

    Args:
        folder: The embeddings.
        recipe: What `recipe_for` gave.
        runtime: How to run.
        origin: Where the recipe comes from.

    Raises:
        SourceError: The folder is not whole, or its images cannot be learnt from, or it is of another embedder.
        OptionError: The settings need all embeddings in memory, and there are too many.
    """
    watch = finish.Stopwatch()
    embedder = embedder_of(folder, recipe, runtime)
    held = 4 * _HELD * len(folder) * (folder.width + len(folder.description.classes))
    if held > IN_MEMORY_BYTES:
        return streamed.fit(read_images(folder, traits=False), embedder, recipe, runtime, origin, watch)
    data = read_images(folder, traits=True).in_memory(runtime.workers)
    watch.lap("read")
    coarse = folder.description.made.get("dtype") == "float16"
    return probe.fit_embedded(Embedded(data, embedder, None), recipe, runtime, origin, watch, coarse=coarse)
