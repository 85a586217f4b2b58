"""Networks of the library timm."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headstart.backbones import catalog
from headstart.core.errors import ModelError, OptionError
from headstart.core.extras import require
from headstart.core.text import quoted
from headstart.preprocess.spec import MAX_SIZE_PX, Preprocess
from headstart.training.sources.loaded import Network

if TYPE_CHECKING:
    import torch

    from headstart.settings.recipe import Fit

# timm's words for how an image is brought to a square, and ours.
_FITS: dict[str, Fit] = {"center": "crop", "squash": "squash", "border": "pad"}
_INTERPOLATIONS = ("bicubic", "bilinear")


def build(name: str, *, pretrained: bool) -> Network:
    """A network of timm, with or without its weights.

    Args:
        name: ``ARCHITECTURE`` or ``ARCHITECTURE.TAG``; without a tag, timm's own choice.
        pretrained: Load the weights, over the network where they are not in the library's cache.

    Raises:
        OptionError: timm has no network of this name, or it takes no square RGB image.
        ModelError: The weights do not fit the network.
    """
    timm = require("timm", "torch", f"The backbone {quoted(f'timm:{name}')}")
    if not timm.is_model(name) or (pretrained and not timm.models.is_model_pretrained(name)):
        known = catalog.names("timm") if pretrained else [f"timm:{one}" for one in timm.list_models()]
        raise catalog.unknown(f"timm:{name}", known)
    # With its classification layer first: only so does timm refuse weights that lack a tensor.
    try:
        model = timm.create_model(name, pretrained=pretrained)
    except RuntimeError as error:
        if "state_dict" not in str(error):
            raise
        raise ModelError(
            f"The weights of {quoted(f'timm:{name}')} in the library's cache do not fit the network: "
            f"{' '.join(str(error).split()):.300}",
            "Delete them there, so that they are downloaded again.",
        ) from error
    if not hasattr(model, "reset_classifier"):  # a part of a larger model, which gives no single vector
        raise OptionError(f"{quoted(f'timm:{name}')} gives no embedding of an image.", "Choose another backbone.")
    classifier = model.pretrained_cfg.get("classifier") or ()
    model.reset_classifier(0)
    tag = model.pretrained_cfg.get("tag")
    full = f"{model.pretrained_cfg['architecture']}.{tag}" if tag else model.pretrained_cfg["architecture"]
    return Network(
        name=f"timm:{full}",
        module=model,
        preprocess=_preprocess(f"timm:{full}", timm.data.resolve_model_data_config(model)),
        embedding_size=_width(model),
        licence=model.pretrained_cfg.get("license") or "unknown",
        left_over=tuple(f"{one}." for one in ([classifier] if isinstance(classifier, str) else classifier)),
        convert=lambda state: _convert(model, state),
    )


def _width(model: torch.nn.Module) -> int:
    """Some heads keep a hidden layer, which is then the embedding."""
    return int(getattr(model, "head_hidden_size", None) or model.num_features)


def _preprocess(name: str, config: Mapping[str, Any]) -> Preprocess:
    channels, height, width = config["input_size"]
    if channels != 3 or height != width or height > MAX_SIZE_PX:
        raise OptionError(f"{quoted(name)} takes images of {width} x {height} pixels and {channels} channels; "
                          f"expected a square of at most {MAX_SIZE_PX} pixels, and 3.")  # fmt: skip
    if config["interpolation"] not in _INTERPOLATIONS or config["crop_mode"] not in _FITS:
        raise OptionError(f"{quoted(name)} prepares its images in a way that Headstart does not know: "
                          f"{config['interpolation']}, {config['crop_mode']}.")  # fmt: skip
    return Preprocess(
        size_px=height,
        fit=_FITS[config["crop_mode"]],
        crop_fraction=float(config["crop_pct"]),
        mean=tuple(map(float, config["mean"])),  # type: ignore[arg-type]
        std=tuple(map(float, config["std"])),  # type: ignore[arg-type]
        interpolation=config["interpolation"],
    )


def _convert(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What timm does to the tensors of a network's authors, whose names are not its own.

    By timm's convention it is a function beside the network; what it cannot convert is left as it is.
    """
    filtered = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if filtered is not None:
        with contextlib.suppress(KeyError, ValueError, TypeError, AttributeError, RuntimeError, AssertionError):
            return dict(filtered(dict(state), model))
    return state
