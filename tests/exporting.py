"""PyTorch's exporter, which needs seconds for a network, is asked once for each: its graph depends on no weight."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch.onnx import ONNXProgram


class Once:
    """Stands for `torch.onnx.export`: of timm's networks that differ in their weights alone, the graph is kept.

    As the exporter has written it, before its optimizer, which folds weights: so that the weights can be put into it,
    and what comes out is the same to the bit.

    Args:
        export: `torch.onnx.export`.

    Attributes:
        anew: Ask it each time.
    """

    def __init__(self, export: Callable[..., Any]) -> None:
        self.anew = False
        self._export = export
        self._kept: dict[Any, ONNXProgram] = {}

    def __call__(self, module: torch.nn.Module, args: tuple[torch.Tensor], f: None = None, **named: Any) -> ONNXProgram:
        from onnxscript import ir
        from torch.onnx import ONNXProgram

        if self.anew or not type(module).__module__.startswith("timm.models.") or not named.get("dynamo"):
            return self._export(module, args, f, **named)
        key = type(module), repr(module), args[0].shape, repr(named)
        if key not in self._kept:
            self._kept[key] = self._export(module, args, f, optimize=False, **named)
        kept = self._kept[key]
        program = ONNXProgram(ir.from_proto(kept.model_proto), kept.exported_program)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of counters of batches, which no graph needs
            program.apply_weights(module.state_dict())
        program.optimize()
        return program
