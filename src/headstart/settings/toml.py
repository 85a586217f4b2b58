"""A recipe as a TOML document."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping

from headstart.core.arguments import must_be
from headstart.core.errors import OptionError


def parse(text: str) -> dict[str, object]:
    """The values of a TOML document.

    Raises:
        OptionError: The text is no TOML.
    """
    must_be("The recipe", text, str, "the text of a TOML document")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OptionError(f"The recipe is not valid TOML: {error}.") from error


def text_of(values: Mapping[str, object]) -> str:
    """A TOML document of numbers, texts and flags; `parse` reads them back."""
    return "".join(f"{key} = {_value(value)}\n" for key, value in values.items())


def _value(value: object) -> str:
    """A value as TOML, which takes JSON's but for two: escapes of half characters, and a bare DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
