"""The format of ``model.onnx``: what it holds, how it is written, and what of it is refused."""
