"""Networks of the library torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headstart.backbones import catalog
from headstart.core.errors import ModelError, OptionError
from headstart.core.extras import require
from headstart.core.text import quoted
from headstart.preprocess.spec import Preprocess
from headstart.training.sources.loaded import Network

if TYPE_CHECKING:
    from torch import nn

LICENCE = "BSD-3-Clause"  # of the library; the weights have no other
# Where the classification layer may be: a layer, or the last one of a row.
_PLACES = ("fc", "head", "heads.head", "classifier")
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # classification layers on the way, which only training uses


def build(name: str, *, pretrained: bool) -> Network:
    """A network of torchvision, with or without its ``DEFAULT`` weights.

    Args:
        name: As in ``torchvision.models.get_model``.
        pretrained: Load the weights, over the network where they are not in the library's cache.

    Raises:
        OptionError: torchvision has no classification network of this name.
        ModelError: The weights do not fit the network.
    """
    models = require("torchvision.models", "torch", f"The backbone {quoted(name)}")
    known = models.list_models(module=models)
    if name not in known:
        raise catalog.unknown(f"torchvision:{name}", [f"torchvision:{one}" for one in known])
    weights = models.get_model_weights(name).DEFAULT
    options: dict[str, bool] = {"aux_logits": False} if name in {"googlenet", "inception_v3"} else {}
    if pretrained:
        # torchvision itself would run code that a file in its cache asks for; this refuses such a file first.
        weights.get_state_dict(progress=False, check_hash=True, map_location="cpu", weights_only=True)
        try:
            model = models.get_model(name, weights=weights, progress=False, **options)
        except RuntimeError as error:
            if "state_dict" not in str(error):
                raise
            raise ModelError(
                f"The weights of {quoted(f'torchvision:{name}')} in the library's cache do not fit the network: "
                f"{' '.join(str(error).split()):.300}",
                "Delete them there, so that they are downloaded again.",
            ) from error
    else:
        model = models.get_model(name, weights=None, **options, **_without_weights(name, weights))
    width, left_over = remove_classifier(model, name)
    return Network(
        name=f"torchvision:{name}",
        module=model,
        preprocess=_preprocess(name, weights.transforms()),
        embedding_size=width,
        licence=LICENCE,
        left_over=(*left_over, *(_AUXILIARY if options else ())),
    )


def _without_weights(name: str, weights: Any) -> dict[str, int]:
    """What torchvision would take from the weights, or asks for where there are none."""
    if name in {"googlenet", "inception_v3"}:
        return {"init_weights": True}
    return {"image_size": weights.transforms().crop_size[0]} if name.startswith("vit_") else {}


def remove_classifier(model: nn.Module, name: str) -> tuple[int, tuple[str, ...]]:
    """Put nothing in the place of the classification layer; the width of the embedding, and the layer's names.

    The layers before it keep their names, so that checkpoints fit.

    Raises:
        OptionError: It is none that is known.
    """
    from torch import nn

    for place in _PLACES:
        try:
            layer = model.get_submodule(place)
        except AttributeError:
            continue
        if isinstance(layer, nn.Linear):
            model.set_submodule(place, nn.Identity())
            return layer.in_features, (f"{place}.",)
        if isinstance(layer, nn.Sequential):
            return _remove_last(layer, place, name)
    raise _unsupported(name)


def _remove_last(layers: nn.Sequential, place: str, name: str) -> tuple[int, tuple[str, ...]]:
    from torch import nn

    row = list(layers)
    # squeezenet's is a convolution before the pooling, and its activation goes with it
    number = next((i for i in reversed(range(len(row))) if isinstance(row[i], nn.Linear | nn.Conv2d)), None)
    if number is None:
        raise _unsupported(name)
    last = row[number]
    first = number
    while first and isinstance(row[first - 1], nn.Dropout):
        first -= 1
    end = number + 1
    while end < len(row) and isinstance(row[end], nn.ReLU):
        end += 1
    for i in range(first, end):
        layers[i] = nn.Identity()
    return last.in_features if isinstance(last, nn.Linear) else last.in_channels, (f"{place}.{number}.",)


def _unsupported(name: str) -> OptionError:
    return OptionError(
        f"{quoted(f'torchvision:{name}')} has no classification layer that Headstart knows how to remove.",
        "Choose another backbone: `headstart backbones` lists them.",
    )


def _preprocess(name: str, transforms: Any) -> Preprocess:
    """The record of torchvision's ``ImageClassification`` transform."""
    crop, resize = transforms.crop_size[0], transforms.resize_size[0]
    interpolation = transforms.interpolation.value
    if interpolation not in {"bicubic", "bilinear"} or crop > resize:
        raise OptionError(
            f"{quoted(f'torchvision:{name}')} prepares its images in a way that Headstart does not know: "
            f"{interpolation}, resized to {resize} pixels and cut to {crop}."
        )
    return Preprocess(
        size_px=crop,
        fit="crop",
        crop_fraction=crop / resize,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=interpolation,
    )
