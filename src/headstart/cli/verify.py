"""`headstart verify`: prove that a model file computes here what it computed where it was trained."""

from __future__ import annotations

from typing import Annotated

import typer

from headstart.cli import options
from headstart.cli.messages import DONE
from headstart.core.text import counted


def verify(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model.onnx of a run.")],
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Run the golden images that travel in a model file, and compare with what its training machine computed."""
    from headstart import api
    from headstart.cli.output import Output
    from headstart.core.errors import ModelError

    output = Output(as_json=json, quiet=quiet)
    classifier = api.load(model)
    result = classifier.verify()
    allowed = result.allowed
    found = (
        f"{counted(result.images, 'golden image')}: largest difference of a probability "
        f"{result.probability_difference:.2g} (allowed {allowed.get('probability', 0):g}), of an embedding "
        f"{result.embedding_difference:.2g} (allowed {allowed.get('embedding', 0):g})"
    )
    if classifier.metadata.familiarity:
        found += f", of a distance {result.distance_difference:.2g} (allowed {allowed.get('distance', 0):g})"
    if not result.images:
        raise ModelError("The model carries no golden images: there is nothing to compare.", "Train it again.")
    if not result.passed:
        raise ModelError(
            f"The model does not compute here what it computed where it was trained. {found}.",
            "Upgrade ONNX Runtime, or train again on this machine.",
        )
    output.say(f"Verified. {found}.")
    output.document(
        {
            "passed": True,
            "images": result.images,
            "probability_difference": result.probability_difference,
            "embedding_difference": result.embedding_difference,
            "distance_difference": result.distance_difference,
            "tolerance": allowed,
        }
    )
    return DONE
