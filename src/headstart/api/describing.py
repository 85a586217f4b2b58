"""The model card, as a text to publish with the model."""

from __future__ import annotations

import os
import re
from pathlib import Path

from headstart.core.arguments import must_be, must_be_path
from headstart.core.errors import OptionError
from headstart.core.text import quoted
from headstart.modelfile.location import model_name, model_path
from headstart.prediction.classifier import Classifier
from headstart.prediction.hub_card import markdown

_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


def card(model: str | os.PathLike[str], *, name: str | None = None, licence: str | None = None) -> str:
    """The model card in Markdown with the Hugging Face Hub's metadata: description, metrics, and how to use the model.

    Args:
        model: The model file, or the run folder that it is in.
        name: Name of the model on the card; None for the name of the run folder or of the file.
        licence: Licence that you publish the model under, such as ``apache-2.0``; None to leave it out.

    Raises:
        ModelError: There is no such model file, or it is refused.
        OptionError: The licence is not an identifier.

    Examples:
        >>> Path("runs/pets/README.md").write_text(headstart.card("runs/pets"))  # doctest: +SKIP
    """
    must_be_path("model", model)
    must_be("name", name, str | None, "a name")
    must_be("licence", licence, str | None, "an identifier such as apache-2.0")
    if licence is not None and not _LICENCE.fullmatch(licence):
        raise OptionError(
            f"The licence is {quoted(licence)}; expected an identifier such as apache-2.0, mit or cc-by-4.0.",
            "The Hub lists them: https://huggingface.co/docs/hub/repositories-licenses",
        )
    path = model_path(Path(model))
    return markdown(Classifier.load(path), name or model_name(path), licence)
