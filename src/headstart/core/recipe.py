"""The recipe: one flat, typed, frozen record of all choices that determine a result."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

from headstart.core.errors import OptionError
from headstart.core.text import listed, nearest, quoted

Fit = Literal["crop", "squash", "pad"]
Precision = Literal["int8", "float32"]
ClassWeight = Literal["none", "balanced"]
MAX_MEGAPIXELS = 178  # Pillow itself refuses more


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All choices that determine a result; stored in the artifact and in ``recipe.toml``.

    Attributes:
        strategy: How to learn; ``probe`` fits a head on the embeddings of a frozen backbone.
        backbone: Name of the pretrained network.
        precision: Arithmetic of the backbone.
        fit: How an image is brought to the square that the backbone takes: ``crop`` keeps the shape and cuts
            the borders, ``squash`` keeps all and bends the shape, ``pad`` keeps both and adds borders.
        class_weight: ``balanced`` gives every class the same total weight.
        holdout: Share of the images that is held out when the source brings no splits, in (0, 0.5].
        folds: Folds of cross-validation, at least 2.
        seed: Seeds every random choice.
        max_megapixels: Images of more are refused before they are decoded, which bounds the memory.
    """

    strategy: str = "probe"
    backbone: str = "lite0"
    precision: Precision = "int8"
    fit: Fit = "crop"
    class_weight: ClassWeight = "none"
    holdout: float = 0.2
    folds: int = 5
    seed: int = 0
    max_megapixels: int = 64

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            choices = get_args(hint)
            if choices and value not in choices:
                raise OptionError(
                    f"{name} = {quoted(str(value))} does not exist.",
                    f"{nearest(str(value), choices)}Choose one of {listed(choices)}.",
                )
            if not choices and not _is_a(value, hint):
                raise OptionError(f"{name} must be {hint.__name__}, not {type(value).__name__} {value!r}.")
        for name, low, high in (
            ("holdout", 0.01, 0.5), ("folds", 2, 100), ("max_megapixels", 1, MAX_MEGAPIXELS), ("seed", 0, 2**63 - 1),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise OptionError(f"{name} = {getattr(self, name)} is outside its range, {low} to {high}.")

    def to_toml(self) -> str:
        """The recipe as a TOML document; `from_toml` reads it back."""
        # JSON's strings, integers, floats and booleans are all valid TOML values.
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in dataclasses.asdict(self).items())

    @classmethod
    def from_toml(cls, text: str) -> Recipe:
        """Read a recipe; keys that are left out take their defaults.

        Raises:
            OptionError: The text is no TOML, or has an unknown key or a value that does not exist.
        """
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise OptionError(f"The recipe is not valid TOML: {error}.") from error
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Make a recipe from a mapping.

        Raises:
            OptionError: An unknown key, or a value that does not exist.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise OptionError(
                    f"The recipe has an unknown key {quoted(key)}.",
                    f"{nearest(key, known)}Known keys: {listed(known, 20)}.",
                )
        return cls(**values)


def _is_a(value: object, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)
