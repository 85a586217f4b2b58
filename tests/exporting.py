"""PyTorch's exporter, which needs seconds for a network, is asked once for each: its graph depends on no weight."""

from __future__ import annotations

import functools
import hashlib
import os
import secrets
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto
    from torch.onnx import ONNXProgram

FOLDER = "HEADSTART_TEST_EXPORTS"  # names the folder of the graphs, for the processes of the tests too


def install() -> Once | None:
    """Put `Once` in the place of `torch.onnx.export` where PyTorch is imported."""
    if "torch" not in sys.modules:
        return None
    import torch.onnx as onnx  # else the first test that exports would be the first to import it

    if not isinstance(onnx.export, Once):
        onnx.export = Once(onnx.export)  # type: ignore[assignment]
    return cast(Once, onnx.export)


@functools.cache
def hasten() -> None:
    """Have the exporter look once at what it looks at anew for each network: half a second.

    The source and the signatures of its operators, and which operators of PyTorch are composed of others.
    """
    import torch
    from torch.export import decomp_utils, exported_program
    from torch.onnx._internal.exporter import _registration

    registry, composed = _registration.ONNXRegistry, decomp_utils._collect_all_valid_cia_ops
    registry.from_torchlib = staticmethod(functools.cache(registry.from_torchlib))  # type: ignore[assignment]
    kept = functools.cache(lambda _: composed())
    for module in (decomp_utils, exported_program):
        module._collect_all_valid_cia_ops = lambda: kept(len(torch.ops._dir))  # type: ignore[attr-defined]


# Networks whose description, `repr`, is all of their graph.
KNOWN = ("timm.models.", "tiny")


class Once:
    """Stands for `torch.onnx.export`: of timm's networks, and of `tiny`, that differ in their weights alone, the graph
    is kept.

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

    def __call__(self, module: torch.nn.Module, args: tuple[torch.Tensor], f: None = None, **named: Any) -> ONNXProgram:
        from onnxscript import ir
        from torch.onnx import ONNXProgram

        hasten()
        if self.anew or not type(module).__module__.startswith(KNOWN) or not named.get("dynamo"):
            return cast(ONNXProgram, self._export(module, args, f, **named))
        program = ONNXProgram(ir.from_proto(self._graph(module, args, **named)), cast(Any, None))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of counters of batches, which no graph needs
            program.apply_weights(module.state_dict())
        program.optimize()
        return program

    def _graph(self, module: torch.nn.Module, args: tuple[torch.Tensor], **named: Any) -> ModelProto:
        """The graph of a network like this one."""
        import onnx

        key = f"{type(module)}\n{module!r}\n{args[0].shape}\n{named!r}"
        path = Path(os.environ[FOLDER], f"{hashlib.sha256(key.encode()).hexdigest()}.onnx")
        if not path.exists():
            part = path.with_suffix(f".{secrets.token_hex(4)}")
            onnx.save(self._export(module, args, None, optimize=False, **named).model_proto, part)
            part.replace(path)
        return onnx.load(path)
