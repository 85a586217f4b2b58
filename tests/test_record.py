"""The public record of a prediction: its keys are a contract, whoever answers with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headstart.core.errors import ImageError
from headstart.prediction.answers import Prediction
from headstart.prediction.record import Wanted, record_of

TOP = (("cat", 0.75000049), ("d\udcffg", 0.25))


def prediction(**changes: Any) -> Prediction:
    usual: dict[str, Any] = {
        "label": "cat", "probability": 0.75000049, "top": TOP, "familiar": True, "distance": 0.1234567, "labels": None,
    }  # fmt: skip
    return Prediction(**usual | changes)


def test_a_prediction() -> None:
    record = record_of("a\udcff.jpg", prediction(), Wanted(top=2))
    assert record == {
        "path": r"a\xff.jpg", "label": "cat", "probability": 0.75, "familiar": True, "distance": 0.123457,
        "top": [{"label": "cat", "probability": 0.75}, {"label": r"d\xffg", "probability": 0.25}],
    }  # fmt: skip
    json.dumps(record).encode()


def test_an_image_that_cannot_be_read() -> None:
    assert record_of("a.jpg", ImageError("it is empty"), Wanted(top=1)) == {"path": "a.jpg", "error": "it is empty"}


@pytest.mark.parametrize(
    ("familiar", "labels", "reason"),
    [
        (True, ("cat",), None),
        (None, None, None),
        (False, ("cat",), "unfamiliar"),
        (True, ("cat", "dog"), "ambiguous"),
        (True, (), "ambiguous"),
    ],
)
def test_no_class_is_named_where_there_is_doubt(
    familiar: bool | None, labels: tuple[str, ...] | None, reason: str | None
) -> None:
    found = prediction(familiar=familiar, labels=labels)
    asked = Wanted(top=2, coverage=0.9, most=0.5, abstain=True)
    record = record_of("a.jpg", found, asked)
    assert record["abstained"] == reason
    assert record["label"] == (None if reason else "cat")
    assert record["probability"] == (None if reason else 0.75)
    assert record.get("labels") == (None if labels is None else list(labels))
    named = record_of("a.jpg", found, Wanted(top=2, coverage=0.9, most=0.5))
    assert named["label"] == "cat"
    assert "abstained" not in named
