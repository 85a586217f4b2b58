"""The heads. A new one is a file in `headstart.heads` and a row here, which describes it to other modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """What the others know of a head.

    Attributes:
        help: What it is, in a few words.
        record: Its class, a `headstart.heads.Head`; empty where the user brings it.
        fit: What fits it on embeddings: ``(features, targets, folds, recipe, runtime) -> Calibrated``; empty where the
            task says that (`headstart.targets.TargetSpec.linear`), as for a closed solution, which depends on the loss.
        module: Its PyTorch module with random weights: ``(recipe, width, classes) -> nn.Module``.
        trained: What makes the record of a trained module: ``(module, width) -> Head``.
        linear: Whether its scores are linear in the embedding: then a fit has a closed solution, which a network can
            start from, and its class activation map is exact. None: it depends on what the user brings.
        probe: How a probe with it differs from the usual defaults of a training; None where a probe trains nothing by
            gradients.
        extra: The extra of the package that fitting it needs; empty for none.
    """

    help: str = ""
    record: str = ""
    fit: str = ""
    module: str = ""
    trained: str = ""
    linear: bool | None = None
    probe: Mapping[str, object] | None = field(default=None, hash=False)
    extra: str = ""

    @property
    def brought(self) -> bool:
        """Whether it is the user's, from Python."""
        return not self.record


OWN = "own"  # the name of a backbone or head that is the user's
HEADS = {
    "linear": HeadSpec(
        help="one layer",
        record="headstart.heads.linear:LinearHead",
        module="headstart.training.network:linear_module",
        trained="headstart.training.network:linear_record",
        linear=True,
    ),
    "mlp": HeadSpec(
        help="one hidden layer",
        record="headstart.heads.mlp:MlpHead",
        fit="headstart.training.head:fit",
        module="headstart.training.network:mlp_module",
        trained="headstart.training.network:mlp_record",
        linear=False,
        # Trained by gradients on embeddings of the images as they are.
        probe={"flip": False, "unfreeze": "head", "views": 1},
        extra="torch",
    ),
    # From Python alone, see `headstart.Own`: its module is the user's, and its nodes are traced.
    OWN: HeadSpec(trained="headstart.training.custom_head:CustomHead"),
}


def described_heads() -> str:
    """The heads that a recipe can name by itself, for a sentence: each name, and what it is."""
    return ", ".join(f"{name} ({spec.help})" for name, spec in HEADS.items() if not spec.brought)


def head_spec_of(name: object) -> HeadSpec:
    """The row of a head; where there is none, that of one of which nothing is known."""
    return HEADS.get(name, HEADS[OWN]) if isinstance(name, str) else HEADS[OWN]
