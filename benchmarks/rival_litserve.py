"""LitServe with the same model file: Pillow decodes, ONNX Runtime runs, in as many workers as there are cores.

    python rival_litserve.py model.onnx 512 8000 2

Run by `serve.py`; needs litserve, onnxruntime, pillow, numpy and python-multipart, and nothing of Headstart.
"""

# LitServe looks at the annotations themselves, so that they may not be text.

import argparse
import io
import json
from pathlib import Path
from typing import Any

import litserve
import numpy as np
import onnxruntime
from fastapi import Request
from PIL import Image, ImageOps


class Rival(litserve.LitAPI):  # type: ignore[misc]  # it is not installed where types are checked
    """One model, one image a request."""

    def __init__(self, model: str, enough_px: int) -> None:
        super().__init__()
        self.model, self.enough_px = model, enough_px

    def setup(self, device: str) -> None:
        """Load the model, with one thread, as there is a process for each core."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.model, options, providers=["CPUExecutionProvider"])
        metadata = json.loads(self.session.get_modelmeta().custom_metadata_map["headstart"])
        self.classes = metadata["classes"]

    def decode_request(self, request: Request) -> bytes:
        """The bytes of the image; what LitServe gives is the form."""
        content: bytes = request["files"].file.read()
        return content

    def predict(self, content: bytes) -> dict[str, Any]:
        """The most probable class."""
        image: Image.Image = Image.open(io.BytesIO(content))
        image.draft(None, (self.enough_px, self.enough_px))
        pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        (probabilities,) = self.session.run(["probabilities"], {"image": pixels[None]})
        best = int(probabilities[0].argmax())
        return {"label": self.classes[best], "probability": float(probabilities[0, best])}

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """As it is."""
        return output


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument(
        "enough_px", type=int, help="large JPEGs are decoded at a scale that leaves their sides so many"
    )
    parser.add_argument("port", type=int)
    parser.add_argument("workers", type=int)
    asked = parser.parse_args()
    rival = Rival(str(Path(asked.model).resolve()), asked.enough_px)
    server = litserve.LitServer(rival, accelerator="cpu", workers_per_device=asked.workers)
    server.run(host="127.0.0.1", port=asked.port, generate_client_file=False, log_level="error", num_api_servers=1)
