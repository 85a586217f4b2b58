"""The rule by which the threshold of each label is chosen, where an image has several."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from headstart.core.errors import OptionError
from headstart.core.text import quoted

BEST_F1 = "f1"
_FORM = re.compile(r"(?:(precision|recall)=)?(0?\.\d+)")


@dataclass(frozen=True)
class ThresholdRule:
    """How a threshold is chosen.

    Attributes:
        kind: ``f1`` for the largest F1, ``precision`` and ``recall`` for at least so much of it, ``fixed`` for the same
            threshold for all.
        value: In 0..1; of no meaning for ``f1``.
    """

    kind: Literal["f1", "precision", "recall", "fixed"]
    value: float = 0.5


def threshold_rule(text: str) -> ThresholdRule:
    """The rule that a text names.

    Raises:
        OptionError: It names none.
    """
    if text == BEST_F1:
        return ThresholdRule("f1")
    found = _FORM.fullmatch(text.replace(" ", ""))
    if found is None or not 0 < float(found[2]) < 1:
        raise OptionError(
            f"threshold = {quoted(text)} is no rule for thresholds.",
            "Expected f1, a number between 0 and 1 such as 0.5, precision=0.9, or recall=0.9.",
        )
    return ThresholdRule(found[1] or "fixed", float(found[2]))  # type: ignore[arg-type]  # the form's own words
