"""The Open Inference Protocol: a real client gets what Python gives, and bad requests are refused in words."""

from __future__ import annotations

import base64
import io
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headstart
from helpers import draw
from serving import Server, serving

pytest.importorskip("fastapi", reason="no web framework: pip install '.[serve]'")

INFER = "/v2/models/shapes/infer"


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    with serving(model.parent, "--workers", "1", "--max-megapixels", "1", "--max-files", "4") as one:
        yield one


def png(label: str, seed: int = 80) -> bytes:
    file = io.BytesIO()
    draw(label, seed).save(file, "PNG")
    return file.getvalue()


# In a process of its own: gevent changes how sockets and threads of its process work.
CLIENT = """
import json, sys
import numpy as np
import tritonclient.http as http

port, folder = sys.argv[1:]
client = http.InferenceServerClient(f"127.0.0.1:{port}")
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("shapes")
assert client.is_model_ready("shapes", "1") and not client.is_model_ready("other")
assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
metadata = client.get_model_metadata("shapes")
assert [one["name"] for one in metadata["inputs"]] == ["image", "file"]
found = {"classes": metadata["parameters"]["classes"]}
pixels = np.load(folder + "/pixels.npy")
files = [open(f"{folder}/{number}.png", "rb").read() for number in range(len(pixels))]
for name, value, kind in (("image", pixels, "UINT8"), ("file", np.array(files, np.object_), "BYTES")):
    given = http.InferInput(name, list(value.shape), kind)
    given.set_data_from_numpy(value)
    asked = [http.InferRequestedOutput("probabilities", binary_data=False), http.InferRequestedOutput("label")]
    for outputs in (None, asked):
        result = client.infer("shapes", [given], outputs=outputs, request_id="7")
        assert result.get_response()["id"] == "7"
        key = f"{name} {'all' if outputs is None else 'some'}"
        found[key] = {
            one["name"]: [v.decode() if isinstance(v, bytes) else v for v in result.as_numpy(one["name"]).tolist()]
            for one in result.get_response()["outputs"]
        }
try:
    given = http.InferInput("file", [1], "BYTES")
    given.set_data_from_numpy(np.array([b"no image"], np.object_))
    client.infer("shapes", [given])
except http.InferenceServerException as error:
    found["error"] = error.message()
print(json.dumps(found))
"""


@pytest.mark.slow
def test_a_client_of_triton_gets_what_python_gives(server: Server, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("tritonclient", reason="no client: pip install '.[dev]'")
    images = [draw(label, 80) for label in ("disc", "noise", "stripes")]
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number}.png")
    np.save(tmp_path / "pixels.npy", np.stack([np.asarray(image) for image in images]))
    done = subprocess.run([sys.executable, "-c", CLIENT, str(server.port), str(tmp_path)], capture_output=True,
                          text=True, timeout=120, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, classifier = json.loads(done.stdout), headstart.load(model)
    assert found.pop("classes") == list(classifier.classes)
    assert "Image 0 cannot be read" in found.pop("error")
    results = [classifier.run_pixels(np.asarray(image)) for image in images]
    for key, outputs in found.items():
        assert outputs["label"] == [classifier.predict(image).label for image in images], key
        assert np.array_equal(np.float32(outputs["probabilities"]), [one.probabilities for one in results]), key
        if key.endswith("all"):
            assert np.array_equal(np.float32(outputs["embedding"]), [one.embedding for one in results])
            assert np.array_equal(np.float32(outputs["distance"]).ravel(), np.float32([r.distance for r in results]))
        else:
            assert set(outputs) == {"probabilities", "label"}
    assert len(found) == 4


def ask(server: Server, document: Any, rest: bytes = b"", length: int | str | None = None) -> Any:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    if rest and length is None:
        length = len(text)
    headers = {} if length is None else {"Inference-Header-Content-Length": str(length)}
    return server.ask(INFER, text + rest, headers=headers)


def tensor(**changes: Any) -> dict[str, Any]:
    data = base64.b64encode(png("disc")).decode()
    return {"inputs": [{"name": "file", "shape": [1], "datatype": "BYTES", "data": [data]} | changes]}


def test_json_alone(server: Server, model: Path) -> None:
    answer = ask(server, tensor() | {"outputs": [{"name": "label"}, {"name": "distance"}]})
    said = headstart.load(model).predict(png("disc"))
    assert answer.headers["content-type"] == "application/json"
    label, distance = answer.json["outputs"]
    assert label == {"name": "label", "shape": [1], "datatype": "BYTES", "data": ["disc"]}
    assert distance["data"][0] == pytest.approx(said.distance, abs=1e-6)
    pixels = np.asarray(draw("disc", 80))[None]
    flat = {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.ravel().tolist()}
    nested = flat | {"data": pixels.tolist()}
    for one in (flat, nested):
        assert ask(server, {"inputs": [one]}).json["outputs"][1]["data"][0] == pytest.approx(said.probability, abs=1e-6)


HUGE = {
    "name": "image",
    "datatype": "UINT8",
    "shape": [1, 2000, 2000, 3],
    "parameters": {"binary_data_size": 12_000_000},
}


BAD = [
    (b"", b"", None, 400, "JSON"),
    (b"[]", b"", None, 400, "object"),
    (b"[" * 100_000, b"", None, 400, "JSON"),
    (b'{"inputs": NaN}', b"", None, 400, "inputs"),
    ({"inputs": []}, b"", None, 400, "inputs"),
    ({"inputs": [1]}, b"", None, 400, "inputs"),
    (tensor(), b"", 10**9, 400, "Inference-Header"),
    (tensor(), b"", "-1", 400, "Inference-Header"),
    (tensor(), b"", "1" * 5000, 400, "Inference-Header"),
    (tensor(), b"", "0" * 5000, 400, "Inference-Header"),
    (tensor(name="files"), b"", None, 400, "'file'"),
    (tensor(datatype="FP32"), b"", None, 400, "BYTES"),
    (tensor(shape=[2]), b"", None, 400, "shape"),
    (tensor(shape=[0]), b"", None, 400, "shape"),
    (tensor(shape="x"), b"", None, 400, "shape"),
    (tensor(shape=[1.5]), b"", None, 400, "shape"),
    (tensor(shape=[2**40]), b"", None, 400, "shape"),
    (tensor(data=["%"]), b"", None, 400, "base64"),
    (tensor(data=[3]), b"", None, 400, "base64"),
    (tensor(data={}), b"", None, 400, "data"),
    (tensor(data=["AAAA"] * 5, shape=[5]), b"", None, 413, "4"),
    (tensor(data=["AAAA"]), b"", None, 422, "Image 0"),
    (tensor(), b"x", None, 400, "belong to no tensor"),
    (tensor(parameters={"binary_data_size": 5}), b"xyz", None, 400, "binary_data_size"),
    (tensor(parameters={"binary_data_size": 3}), b"xyz", None, 400, "lengths"),
    (tensor(parameters={"binary_data_size": 8}), struct.pack("<I", 2**32 - 1) + b"abcd", None, 400, "lengths"),
    (tensor(name="image", datatype="UINT8", shape=[1, 1, 1, 3], data=[1, 2, 256]), b"", None, 400, "from 0 to 255"),
    (tensor(name="image", datatype="UINT8", shape=[1, 1, 1, 3], data=[1, [2], 3]), b"", None, 400, "from 0 to 255"),
    (tensor(name="image", datatype="UINT8", shape=[1, 1, 1, 3], data=[1, 2]), b"", None, 400, "shape"),
    (tensor(name="image", datatype="UINT8", shape=[1, 1, 1, 3], data=[1, 2, True]), b"", None, 400, "from 0 to 255"),
    (tensor(name="image", datatype="UINT8", shape=[1, 1, 1, 3], data=[1, 2, 10**30]), b"", None, 400, "from 0 to 255"),
    (tensor(name="image", datatype="UINT8", shape=[5, 1, 1, 3], data=[0] * 15), b"", None, 413, "4"),
    (tensor(name="image", datatype="UINT8", shape=[1, 1, 1, 4], data=[1, 2, 3, 4]), b"", None, 400, "[N, H, W, 3]"),
    ({"inputs": [HUGE]}, bytes(12_000_000), None, 413, "megapixels"),
    (tensor() | {"outputs": [{"name": "x"}]}, b"", None, 400, "'probabilities'"),
    (tensor() | {"outputs": [{"name": "label"}] * 2}, b"", None, 400, "twice"),
    (tensor() | {"outputs": 5}, b"", None, 400, "outputs"),
    (tensor() | {"id": 5}, b"", None, 400, "id"),
    (tensor() | {"parameters": {"binary_data_output": "yes"}}, b"", None, 400, "binary_data_output"),
    (b" " * 5_000_000, b"", None, 413, "binary form"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "rest", "length", "status", "word"),
    BAD,
    ids=[f"{number}-{case[4]}" for number, case in enumerate(BAD)],
)
def test_what_does_not_follow_the_protocol_is_refused_in_words(
    server: Server, document: Any, rest: bytes, length: int | str | None, status: int, word: str
) -> None:
    answer = ask(server, document, rest, length)
    assert (answer.status, answer.is_problem) == (status, True), answer
    assert word in answer.json["error"]


@pytest.mark.parametrize("path", ["/v2/models/other", "/v2/models/other/ready", "/v2/models/shapes/versions/2"])
def test_models_and_versions_that_there_are_not(server: Server, path: str) -> None:
    answer = server.ask(path)
    assert (answer.status, answer.is_problem) == (404, True)


@pytest.mark.slow
def test_probes_need_no_token(model: Path) -> None:
    with serving(model, "--workers", "1", "--token", "0123456789abcdef") as one:
        assert one.ask("/v2/health/live").json == {"live": True}
        assert one.ask("/v2/health/ready").json == {"ready": True}
        assert one.ask("/v2").status == one.ask("/v2/models/shapes").status == 401
