"""The verbs, end to end on small pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import headstart

if TYPE_CHECKING:
    from pathlib import Path


def test_train_save_load_predict(shapes: Path, tmp_path: Path) -> None:
    run = headstart.train(shapes)
    run.save(tmp_path / "run")
    classifier = headstart.load(tmp_path / "run" / "model.onnx")
    assert classifier.classes == ("disc", "noise", "stripes")
    assert run.evaluation.split == "cross-validation"
    assert run.evaluation.accuracy > 0.9
    for label in classifier.classes:
        assert classifier.predict(shapes / label / "000.png").label == label
