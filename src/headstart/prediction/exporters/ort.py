"""A model in the format of ONNX Runtime Mobile."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.modelfile.session import import_silently

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headstart.prediction.classifier import Classifier
    from headstart.prediction.exporters import Files


def make(classifier: Classifier, name: str, images: Sequence[NDArray[np.uint8]]) -> Files:
    """The model as ONNX Runtime writes it, optimised as far as that does not depend on this processor."""
    onnxruntime = import_silently()
    with tempfile.TemporaryDirectory(prefix="headstart-") as folder:
        target = Path(folder) / "model.ort"
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(target)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.log_severity_level = 3
        options.add_session_config_entry("session.save_model_format", "ORT")
        onnxruntime.InferenceSession(classifier.content, options, providers=["CPUExecutionProvider"])
        return {"": target.read_bytes()}
