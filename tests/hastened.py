"""Imported by the process that others are forked from: what PyTorch's exporter looks at once, it has looked at."""

from __future__ import annotations

from torch.export import decomp_utils
from torch.onnx._internal.exporter import _registration

import exporting
from headstart.core.graph import OPSET

exporting.hasten()
_registration.ONNXRegistry().from_torchlib(opset_version=OPSET)
decomp_utils._collect_all_valid_cia_ops()
