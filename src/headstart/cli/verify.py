"""`headstart verify`: prove that a model file gives the same results here as where it was trained."""

from __future__ import annotations

from headstart.cli import options
from headstart.cli.messages import DONE
from headstart.core.text import counted


def verify(
    model: options.Model,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Check that this machine reproduces a model's results.

    Runs the golden images inside the model file, and compares the results.
    """
    from headstart import api
    from headstart.cli.output import Output
    from headstart.core.errors import ModelError

    output = Output(as_json=json, quiet=quiet)
    classifier = api.load(model)
    result = classifier.verify()
    allowed = result.allowed
    found = (
        f"{counted(result.images, 'golden image')}: largest difference in a probability "
        f"{result.probability_difference:.2g} (allowed {allowed.get('probability', 0):g}), in an embedding "
        f"{result.embedding_difference:.2g} (allowed {allowed.get('embedding', 0):g})"
    )
    if classifier.metadata.familiarity:
        found += f", in a distance {result.distance_difference:.2g} (allowed {allowed.get('distance', 0):g})"
    if not result.images:
        raise ModelError("The model has no golden images, so there is nothing to compare with.", "Train it again.")
    if not result.passed:
        raise ModelError(
            f"The model gives different results here than on the machine that trained it. {found}.",
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
