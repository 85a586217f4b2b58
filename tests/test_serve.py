"""`headstart serve` over real HTTP: the record of `predict`, problem documents, who may ask, and its end."""

from __future__ import annotations

import html
import io
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import headstart
from headstart.prediction.explanation import Explainer
from helpers import draw, headstart_cli
from serving import Server, form, read, serving

pytest.importorskip("fastapi", reason="no web framework: pip install '.[serve]'")

TOKEN = "0123456789abcdef0123"
PREDICT = "/v1/models/shapes/predict"


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    with serving(model.parent, "--workers", "2") as one:
        yield one


def png(label: str, seed: int = 70) -> bytes:
    file = io.BytesIO()
    draw(label, seed).save(file, "PNG")
    return file.getvalue()


def predicted(model: Path, folder: Path, *options: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = headstart_cli("predict", model, folder, "--json", *options).json["predictions"]
    return [{**record, "path": Path(record["path"]).name} for record in records]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", ()),
        ("?top=2", ("--top", "2")),
        ("?coverage=0.9", ("--coverage", "0.9")),
        (
            "?coverage=0.5&allow_empty=true&abstain=true&top=1",
            ("--coverage", "0.5", "--allow-empty", "--abstain", "--top", "1"),
        ),
    ],
)
def test_it_answers_with_the_record_of_predict(
    server: Server, model: Path, tmp_path: Path, query: str, options: tuple[str, ...]
) -> None:
    files = {"a.png": png("disc"), "b.jpg": b"no image", "c é.png": png("noise"), "d.png": png("stripes")}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    answer = server.send(PREDICT + query, files)
    assert answer.status == 200
    wanted = predicted(model, tmp_path, *options)
    assert answer.json["predictions"] == wanted
    assert answer.json["model"] == "shapes"
    assert answer.json["skipped"] == [{"path": "b.jpg", "reason": wanted[1]["error"]}]


def test_the_map_is_that_of_explain(server: Server, model: Path) -> None:
    file = io.BytesIO()
    draw("stripes", 72, (200, 120)).save(file, "PNG")
    files = {"a.png": file.getvalue(), "b.jpg": b"no image"}
    answer = server.send(PREDICT + "?activation_map=true", files)
    assert answer.status == 200
    first, second = answer.json["predictions"]
    assert set(second) == {"path", "error"}
    found = first.pop("activation_map")
    (plain, _) = server.send(PREDICT, files).json["predictions"]
    assert first == plain  # all else is as ever
    explained = Explainer(headstart.load(model), "cam").explain_file(file.getvalue(), found["label"])
    assert found["label"] == explained.prediction.label == first["label"]
    assert np.abs(np.array(found["values"]) - explained.grid).max() < 1e-5
    where = explained.frame
    assert [found[side] for side in ("top", "left", "bottom", "right")] == [
        where.top, where.left, where.bottom, where.right
    ]  # fmt: skip
    assert server.ask("/v1/models/shapes").json["maps"] is True


@pytest.mark.slow
def test_a_model_without_maps_says_so() -> None:
    with serving(f"old={Path(__file__).parent / 'golden' / 'model-1.onnx'}", "--workers", "1") as old:
        answer = old.ask("/v1/models/old/predict?activation_map=true", png("disc"))
        assert (answer.status, answer.is_problem) == (422, True)
        assert "no class activation maps" in answer.json["detail"]
        assert old.ask("/v1/models/old").json["maps"] is False
        assert b'"maps": false' in old.ask("/").body


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "application/x-www-form-urlencoded", ""])
def test_the_bytes_of_one_image_are_enough(server: Server, model: Path, kind: str) -> None:
    content = png("stripes")
    answer = server.ask(PREDICT, content, headers={"Content-Type": kind} if kind else {})
    said = headstart.load(model).predict(content)
    assert answer.json["predictions"][0] | {"top": None} == {
        "path": "image", "label": said.label, "probability": round(said.probability, 6), "familiar": said.familiar,
        "distance": round(said.distance or 0, 6), "top": None,
    }  # fmt: skip


def test_heic_and_turned_photos_are_read_as_predict_reads_them(server: Server, model: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    draw("stripes", 71).save(file, "JPEG", exif=exif)
    answer = server.ask(PREDICT, file.getvalue()).json["predictions"][0]
    assert answer["probability"] == round(headstart.load(model).predict(file.getvalue()).probability, 6)


def test_what_cannot_be_read_is_a_problem_with_its_reason(server: Server) -> None:
    answer = server.ask(PREDICT, png("disc")[:200])
    assert (answer.status, answer.is_problem) == (422, True)
    assert "ends early" in answer.json["detail"]
    answer = server.send(PREDICT, {"<b>.png": b"x", "b.pdf": b"%PDF-1.7"})
    assert (answer.status, answer.is_problem) == (422, True)
    assert [one["path"] for one in answer.json["predictions"]] == ["<b>.png", "b.pdf"]
    assert answer.headers["content-type"] != "text/html"


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "word"),
    [
        ("/v1/models/shape/predict", b"x", "", 404, "'shapes'"),
        ("/v1/models/shape", None, "", 404, "'shapes'"),
        ("/nothing", None, "", 404, "/docs"),
        ("/../../etc/passwd", None, "", 404, ""),
        ("/%2e%2e/%2e%2e/etc/passwd", None, "", 404, ""),
        ("/v1/models/..%2f..%2fetc%2fpasswd", None, "", 404, ""),
        ("/v1/models", b"x", "", 405, ""),
        (PREDICT, None, "", 405, ""),
        (PREDICT, b"", "", 422, "no image"),
        (PREDICT, b"{}", "application/json", 415, "application/json"),
        (PREDICT, b"http://localhost/a.png", "text/uri-list", 415, "text/uri-list"),
        (PREDICT, b"x", "multipart/form-data", 400, "boundary"),
        (PREDICT, b"x", "multipart/form-data; boundary=a", 400, "form"),
        (PREDICT, b"--a\r\n\r\n", "multipart/form-data; boundary=a", 400, "ends early"),
        (PREDICT, b"--a--\r\n", "multipart/form-data; boundary=a", 422, "no image"),
        (PREDICT + "?top=0", b"x", "", 422, "top"),
        (PREDICT + "?coverage=1", b"x", "", 422, "coverage"),
        (PREDICT + "?coverage=nan", b"x", "", 422, "coverage"),
        (PREDICT + "?allow_empty=true", b"x", "", 422, "coverage"),
    ],
)
def test_bad_requests_are_problem_documents(
    server: Server, path: str, body: bytes | None, kind: str, status: int, word: str
) -> None:
    answer = server.ask(path, body, headers={"Content-Type": kind} if kind else {})
    assert (answer.status, answer.is_problem) == (status, True), answer
    assert word in json.dumps(answer.json)


def test_another_field_of_a_form_is_named(server: Server) -> None:
    body, kind = form({"a.png": png("disc")}, field="image")
    answer = server.ask(PREDICT, body, headers={"Content-Type": kind})
    assert (answer.status, answer.is_problem) == (422, True)
    assert "'image'" in answer.json["detail"]
    assert "'files'" in answer.json["detail"]


def test_models_and_cards(server: Server, model: Path) -> None:
    (entry,) = server.ask("/v1/models").json["models"]
    assert (entry["name"], entry["classes"]) == ("shapes", 3)
    card = server.ask("/v1/models/shapes").json
    assert card["classes"] == list(headstart.load(model).classes)
    assert "How good it is" in [section["title"] for section in card["card"]]
    assert card["sha256"] == entry["sha256"]


def test_health_readiness_and_counts(server: Server) -> None:
    assert server.ask("/healthz").json == {"status": "ok"}
    assert server.ask("/readyz").json == {"status": "ready"}
    before = counts(server)
    server.send(PREDICT, {"a": png("disc"), "b": b"x"})
    after = counts(server)
    for labels in ('model="shapes",outcome="predicted"', 'model="shapes",outcome="unread"'):
        key = f"headstart_images_total{{{labels}}}"
        assert after[key] == before.get(key, 0) + 1
    assert (after["headstart_workers"], after["headstart_queue_images"]) == (2, 0)


def counts(server: Server) -> dict[str, float]:
    lines = server.ask("/metrics").body.decode().splitlines()
    return {key: float(value) for key, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_the_manual_names_every_route_and_no_other_host(server: Server) -> None:
    schema = server.ask("/openapi.json").json
    answer = server.ask("/docs")
    page = answer.body.decode()
    for path in schema["paths"]:
        assert path in page
    assert PREDICT.replace("shapes", "{name}") in schema["paths"]
    assert not re.findall(r"(?:src|href)=['\"]?(?:https?:)?//", page)
    assert "<script" not in page
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "HTTPValidationError" not in json.dumps(schema)


OTHERS = (
    "evil.example",
    "evil.example:80",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "",
    "[::1",
    "localhost:x",
)


@pytest.mark.parametrize("host", OTHERS)
def test_another_host_is_refused_on_every_route(server: Server, host: str) -> None:
    documented = server.ask("/openapi.json").json["paths"]
    paths = {path.replace("{name}", "shapes"): "post" in methods for path, methods in documented.items()}
    assert len(paths) > 10
    for path in ("/", "/page/shapes", "/docs", "/openapi.json", "/nothing"):
        paths[path] = False
    for path, posts in paths.items():
        answer = server.ask(path, b"x" if posts else None, headers={"Host": host})
        assert (answer.status, answer.is_problem) == (421, True), path


@pytest.mark.slow
def test_several_models_each_have_their_page_their_counts_and_names_that_are_text(model: Path) -> None:
    golden = Path(__file__).parent / "golden" / "model-1.onnx"
    with serving(f"<b>x & y={model}", f"old é={golden}", "--workers", "1") as several:
        names = [one["name"] for one in several.ask("/v1/models").json["models"]]
        assert names == ["<b>x & y", "old é"]
        page = several.ask("/").body.decode()
        assert "<b>" not in page
        links = [html.unescape(one) for one in re.findall(r"href='(page/[^']+)'>", page)]
        assert [html.unescape(one) for one in re.findall(r"href='page/[^']+'>([^<]*)<", page)] == names
        for link, name in zip(links, names, strict=True):
            shown = several.ask(f"/{link}")
            assert (shown.status, "<b>x" in shown.body.decode()) == (200, False)
            assert '<a href="../">All models</a>' in shown.body.decode()
            path = f"/v1/models/{link.removeprefix('page/')}"
            assert several.ask(path).json["name"] == name
            assert several.ask(f"{path}/predict", png("disc")).json["model"] == name
            assert counts(several)[f'headstart_images_total{{model="{name}",outcome="predicted"}}'] == 1
        wrong = several.ask("/v1/models/old/predict", png("disc"))
        assert (wrong.status, "Did you mean 'old é'?" in wrong.json["hint"]) == (404, True)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000", "192.168.1.7"])
def test_addresses_and_localhost_are_its_names(server: Server, host: str) -> None:
    assert server.ask("/healthz", headers={"Host": host}).status == 200


def test_pages_of_other_sites_may_not_send_images(server: Server) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "file://", "http://["):
        answer = server.ask(PREDICT, png("disc"), headers={"Origin": origin})
        assert (answer.status, answer.is_problem) == (403, True), origin
        assert "access-control-allow-origin" not in answer.headers
    answer = server.ask(PREDICT, png("disc"), headers={"Origin": f"http://127.0.0.1:{server.port}"})
    assert answer.status == 200


@pytest.mark.slow
def test_a_token_a_name_and_a_site(model: Path) -> None:
    options = ("--allow-host", "pets.example", "--cors-origin", "https://app.example", "--workers", "1")
    with serving(f"pets={model}", *options, HEADSTART_TOKEN=TOKEN) as one:
        path = "/v1/models/pets/predict"
        assert one.ask("/healthz", headers={"Host": "pets.example"}).status == 200
        assert one.ask("/readyz").status == 200
        for authorization in ("", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", "Bearer", "Bearer é"):
            for route in ("/v1/models", "/metrics", "/docs", "/openapi.json", "/nothing"):
                answer = one.ask(route, headers={"Authorization": authorization} if authorization else {})
                assert (answer.status, answer.is_problem) == (401, True)
                assert answer.headers["www-authenticate"] == "Bearer"
        known = {"Authorization": f"Bearer {TOKEN}"}
        assert one.ask(path, png("disc"), headers=known).status == 200
        answer = one.ask(path, png("disc"), headers={**known, "Origin": "https://app.example"})
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "https://app.example")
        refused = one.ask(path, png("disc"), headers={"Origin": "https://app.example"})  # which its page must be told
        assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, "https://app.example")
        assert "retry-after" in refused.headers["access-control-expose-headers"].lower()
        assert refused.headers["vary"] == "Origin"
        refused = one.ask(path, png("disc"), headers={"Origin": "https://evil.example"})
        assert (refused.status, "access-control-allow-origin" in refused.headers) == (403, False)
        asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST",
                 "Access-Control-Request-Headers": "authorization,inference-header-content-length"}  # fmt: skip
        assert one.ask(path, method="OPTIONS", headers=asked).status == 200
        assert one.ask(path, method="OPTIONS", headers={**asked, "Origin": "https://evil.example"}).status == 401


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--host", "0.0.0.0"), "HEADSTART_TOKEN"),
        (("--host", "::"), "--insecure"),
        (("--token", "short"), "16"),
        (("--cors-origin", "*"), "origin"),
        (("--cors-origin", "https://a.example/"), "origin"),
        (("--queue", "3"), "--max-files"),
        (("--host", "256.256.256.256", "--insecure"), "--host"),
    ],
)
def test_bad_options_are_refused_before_anything_runs(model: Path, options: tuple[str, ...], word: str) -> None:
    result = headstart_cli("serve", model, "--port", "0", *options)
    assert result.code == 2
    assert word in result.err


def test_a_model_that_is_none_a_name_twice_and_a_port_that_is_taken(model: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    assert headstart_cli("serve", tmp_path).code == 2
    twice = headstart_cli("serve", model, model.parent)
    assert (twice.code, "'shapes'" in twice.err) == (2, True)
    twice = headstart_cli("serve", f"x={model}", f"x={model.parent}")
    assert (twice.code, f"NAME={model.parent}\n" in twice.err) == (2, True)
    runs = headstart_cli("serve", model.parent.parent)
    assert (runs.code, f"headstart serve --watch {model.parent.parent}\n" in runs.err) == (2, True)
    slash = headstart_cli("serve", f"a/b={model}")
    assert (slash.code, "slash" in slash.err) == (2, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = headstart_cli("serve", model, "--port", str(taken.getsockname()[1]))
    assert (result.code, "in use" in result.err) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_at_a_signal_what_has_begun_is_answered(model: Path, number: int) -> None:
    body, kind = form({"a.png": png("disc")})
    with serving(model.parent, "--workers", "1") as one:
        connection = one.connect()
        connection.putrequest("POST", PREDICT)
        connection.putheader("Content-Type", kind)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:100])
        one.ask("/healthz")  # the server has seen what was sent before
        one.process.send_signal(number)
        while one.connects():  # until nothing new is taken
            time.sleep(0.02)
        connection.send(body[100:])
        answer = read(connection)
        assert (answer.status, answer.json["predictions"][0]["label"]) == (200, "disc")
        connection.close()
        assert one.process.wait(30) == 0


def test_the_docs_say_what_the_server_does(server: Server, tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "deploy.md").read_text("utf-8")
    section = page[page.index("## A server") : page.index("## The page's sources")]
    schema = server.ask("/openapi.json").json
    told = {path.replace("NAME", "{name}") for path in re.findall(r"`(?:GET |POST )?(/[\w/]+)`", section)}
    told -= {"/models"}  # a folder in the container
    assert told - {"/docs", "/openapi.json"} == {path for path in schema["paths"] if path in told}
    assert {"/v1/models/{name}/predict", "/v2/models/{name}/infer", "/metrics"} <= told
    options = {one["name"] for one in schema["paths"]["/v1/models/{name}/predict"]["post"]["parameters"]} - {"name"}
    assert set(re.findall(r"[`?](\w+)=`", section)) == options
    help_text = headstart_cli("serve", "--help").out
    for option in re.findall(r"`(--[\w-]+)", section):
        assert option in help_text, option


def test_it_imports_no_torch_and_no_sklearn() -> None:
    code = (
        "import sys\n"
        "import headstart.cli.serve, headstart.serving.server, headstart.serving.worker\n"
        "print(sorted({'torch', 'sklearn', 'ray', 'jinja2', 'headstart.strategies'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_extra_it_says_what_to_install(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.split(".")[0] == "uvicorn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Without("uvicorn"), *sys.meta_path])
    result = headstart_cli("serve", model)
    assert (result.code, "pip install 'headstart[serve]'" in result.err) == (2, True)


class _Without:
    """Finds no package of a name, as where it is not installed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, *_: Any) -> None:
        if name.split(".", maxsplit=1)[0] == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=self.name)
