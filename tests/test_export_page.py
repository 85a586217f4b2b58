"""The page that classifies in a browser: in a real Chromium it gives what Python gives, and nothing leaves it."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import http.server
import io
import json
import re
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

import headstart
from browser import DESKTOP, PHONE, Opened, opened
from headstart.prediction.explanation import Explainer
from helpers import draw, headstart_cli, write_images

# Where the pixels are the same, so are the probabilities: two builds of one runtime differ in the last bits.
SAME = 1e-4


@pytest.fixture(scope="module")
def page(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return headstart.export(
        model, "html", out=tmp_path_factory.mktemp("page") / "shapes.html", name="Shapes & <b>"
    ).path


def ready(one: Opened) -> None:
    # The page's policy forbids the evaluation of text, which Playwright's other ways to wait need.
    one.page.wait_for_selector("#status:has-text('Ready.')", timeout=60_000)
    one.page.wait_for_selector("#verified:has-text('Checked in this browser')", timeout=60_000)


def done(one: Opened) -> None:
    one.page.wait_for_selector("#status:has-text('Done.')", timeout=60_000)


CALL = """async ([name, text, path, more]) => {
  const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  return window.headstart[name](new Blob([bytes]), path, ...more);
}"""


def ask(one: Opened, content: bytes, name: str = "classify", path: str = "image") -> Any:
    return one.page.evaluate(CALL, [name, base64.b64encode(content).decode(), path, []])


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def swapped_profile() -> bytes:
    """sRGB's profile with red and blue in each other's place: whoever applies it shows other colours."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"tmp!").replace(b"bXYZ", b"rXYZ").replace(b"tmp!", b"bXYZ")


def same_pixels() -> dict[str, bytes]:
    """Files that browsers decode to the pixels that Python decodes them to."""
    image = draw("stripes", 7, (301, 233))
    files = {}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        files[f"orientation-{orientation}"] = saved(image, "JPEG", quality=92, exif=exif)
    wide = np.asarray(image.convert("L"), np.uint16) * 257
    return files | {
        "grey": saved(image.convert("L"), "JPEG", quality=92),
        "progressive": saved(image, "JPEG", quality=92, progressive=True),
        "profile": saved(image, "JPEG", quality=92, icc_profile=swapped_profile()),
        "png": saved(image, "PNG"),
        "palette": saved(image.convert("P"), "PNG"),
        "16-bit-levels-of-8": saved(Image.fromarray(wide), "PNG"),
        "webp": saved(image, "WEBP", lossless=True),
        "lossy-webp": saved(image, "WEBP", quality=90),
        "avif": saved(image, "AVIF", quality=90),
        "gif": saved(image, "GIF"),
        "bmp": saved(image, "BMP"),
    }


def rounded_pixels() -> dict[str, bytes]:
    """Files that browsers decode to pixels that differ by a level: blending, 16 bits, the reduction of large JPEGs."""
    image = draw("disc", 3, (301, 233))
    alpha = image.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(image.size))
    rng = np.random.default_rng(0)
    deep = (np.asarray(image.convert("L"), np.uint32) * 250 + rng.integers(0, 257, image.size[::-1])).astype(np.uint16)
    large = image.resize((image.width * 6, image.height * 6), Image.Resampling.BICUBIC)
    return {
        "alpha": saved(alpha, "PNG"),
        "alpha-webp": saved(alpha, "WEBP", lossless=True),
        "16-bit": saved(Image.fromarray(deep), "PNG"),
        "cmyk": saved(image.convert("CMYK"), "JPEG", quality=92),
        "large": saved(large, "JPEG", quality=92),
    }


@pytest.mark.slow
def test_it_gives_the_probabilities_of_python(page: Path, model: Path, browser: Any) -> None:
    classifier = headstart.load(model)
    with opened(browser, page) as one:
        ready(one)
        for files, bound in ((same_pixels(), SAME), (rounded_pixels(), 0.02)):
            for name, content in files.items():
                found, wanted = ask(one, content, path=name), classifier.predict(content)
                assert found["label"] == wanted.label, name
                assert found["familiar"] == wanted.familiar, name
                assert np.abs(np.array(found["probabilities"]) - classifier.predict_proba(content)).max() < bound, name
                assert abs(found["distance"] - wanted.distance) < bound, name
        assert one.requests == one.faults == []


@pytest.mark.slow
def test_it_gives_the_probabilities_of_python_on_photos(photos: Path, warm: Path, tmp_path: Path, browser: Any) -> None:
    run = headstart.train(photos, runtime=headstart.Runtime(cache=warm))
    (tmp_path / "model.onnx").write_bytes(run.fitted.model)
    path = headstart.export(tmp_path / "model.onnx", "html", out=tmp_path / "page.html").path
    files = sorted((photos / "val").rglob("*.jpg"))[::3][:50]
    with opened(browser, path) as one:
        ready(one)
        for file in files:
            found = np.array(ask(one, file.read_bytes())["probabilities"])
            assert np.abs(found - run.classifier.predict_proba(file)).max() < SAME, file
    assert len(files) == 50


@pytest.mark.slow
def test_its_class_activation_map_is_that_of_python(page: Path, model: Path, browser: Any) -> None:
    content = saved(draw("disc", 5, (200, 160)), "PNG")
    wanted = Explainer(headstart.load(model), "cam").explain_file(content, "stripes").grid
    with opened(browser, page) as one:
        ready(one)
        found = np.array(ask(one, content, "activationMap", "stripes"))
    assert np.abs(found - wanted).max() < 1e-3 * np.abs(wanted).max()


@pytest.mark.slow
def test_a_file_that_python_refuses_is_refused_in_words(page: Path, browser: Any) -> None:
    image = draw("noise", 1, (120, 90))
    with opened(browser, page) as one:
        ready(one)
        for kind in ("JPEG", "PNG", "WEBP"):
            whole = saved(image, kind)
            assert "ends early" in ask(one, whole[: len(whole) * 2 // 3])["error"]
        preview = saved(image, "JPEG") + b"tail"  # what phones append after the picture is no fault
        assert "error" not in ask(one, preview)
        assert ask(one, b"")["error"] == "empty file"
        assert ask(one, b"no image at all")["error"] == "not an image in a known format"
        assert "does not decode TIFF" in ask(one, saved(image, "TIFF"))["error"]
        heic = b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(64)
        assert "does not decode HEIC" in ask(one, heic)["error"]
        assert "megapixels" in ask(one, saved(Image.new("1", (9000, 9000)), "PNG"))["error"]


@pytest.mark.slow
@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_a_person_classifies_images(
    page: Path, browser: Any, tmp_path: Path, size: tuple[int, int], scheme: str
) -> None:
    folder = write_images(tmp_path, {"disc": 1, "stripes": 1})
    files = [*sorted(folder.rglob("*.png")), tmp_path / "<img src=x onerror=alert(1)>.png"]
    files[-1].write_bytes(b"no image")
    with opened(browser, page, size, scheme, bypass_csp=True) as one:
        ready(one)
        one.page.set_input_files("#choose-files", files)
        done(one)
        assert one.page.inner_text("#summary") == "3 images: disc 1, stripes 1. 1 not classified."
        assert one.page.locator(".result .label").all_inner_texts()[2] == "Not classified"
        one.page.locator("text=Show the evidence for").first.click()
        one.page.wait_for_selector("canvas.map")
        # The thumbnail gives way to the map, which is no grey picture: the strongest evidence is yellow.
        assert one.page.locator(".result").first.locator("canvas:visible").count() == 1
        bright = one.page.locator("canvas.map").evaluate(
            "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data"
            ".some((v, i, all) => i % 4 == 0 && v > all[i + 2] + 60)"
        )
        assert bright
        one.page.select_option("#coverage", "0.9")
        one.page.wait_for_selector("text=Prediction set:")
        one.page.locator("summary").click()
        assert one.count("#rows tr") == 3
        assert one.violations() == []
        # The inputs lie hidden within their labels.
        assert [what for what in one.overflowing() if "<input" not in what] == []
        assert [url for url in one.requests if not url.startswith("blob:")] == []
        assert one.faults == []


@pytest.mark.slow
def test_the_keyboard_reaches_everything(page: Path, browser: Any) -> None:
    with opened(browser, page) as one:
        ready(one)
        reached = []
        for _ in range(6):
            one.page.keyboard.press("Tab")
            reached.append(one.page.evaluate("document.activeElement.id || document.activeElement.className"))
        assert reached[:4] == ["skip", "choose-files", "choose-folder", "open-camera"]


@pytest.mark.slow
def test_results_are_saved_as_python_writes_them(page: Path, model: Path, browser: Any, tmp_path: Path) -> None:
    names = ["disc.png", "=SUM(A1).png", "a, b.png"]
    for seed, name in enumerate(names):
        draw("disc", seed).save(tmp_path / name)
    with opened(browser, page) as one:
        ready(one)
        one.page.set_input_files("#choose-files", [tmp_path / name for name in names])
        done(one)
        with one.page.expect_download() as download:
            one.page.click("#save")
        found = Path(download.value.path()).read_text("utf-8-sig").splitlines()
    wanted = headstart_cli("predict", model, *names, "--format", "csv", cwd=tmp_path).out.splitlines()

    def rows(lines: list[str]) -> dict[str, list[str]]:
        return {line.rpartition(".png")[0]: line.split(",")[-5:] for line in lines[1:]}

    assert found[0] == wanted[0]
    assert rows(found).keys() == rows(wanted).keys()
    for name, cells in rows(found).items():
        other = rows(wanted)[name]
        assert (cells[0], cells[2], cells[3]) == (other[0], other[2], other[3])
        assert abs(float(cells[1]) - float(other[1])) < SAME
        assert abs(float(cells[4]) - float(other[4])) < SAME


def test_the_policy_allows_its_own_script_alone(page: Path) -> None:
    text = page.read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]  # type: ignore[index]
    script = re.search(r'<script type="module">(.*?)</script>', text, re.DOTALL)[1]  # type: ignore[index]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}' 'wasm-unsafe-eval';" in policy
    assert policy.startswith("default-src 'none';")
    assert "connect-src 'none'" in policy
    assert "Permission is hereby granted, free of charge" in text  # the licence of ONNX Runtime goes with it
    assert "Shapes &amp; &lt;b&gt;" in text
    assert "http://" not in policy
    assert "https://" not in policy


@pytest.mark.slow
def test_a_changed_model_is_noticed_by_the_page(page: Path, browser: Any, tmp_path: Path) -> None:
    """Golden images travel in the page: a browser whose runtime computes otherwise says so."""
    text = page.read_text()
    data = re.search(r'id="page-data">(.*?)</script>', text, re.DOTALL)[1]  # type: ignore[index]
    changed = json.loads(data)
    changed["golden"][0]["probabilities"].reverse()
    other = tmp_path / "other.html"
    other.write_text(text.replace(data, json.dumps(changed)))
    with opened(browser, other) as one:
        one.page.wait_for_selector("#verified:has-text('WARNING')", timeout=60_000)


class Host(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def host(model: Path, tmp_path: Path) -> Iterator[http.server.ThreadingHTTPServer]:
    made = headstart.export(model, "web", out=tmp_path / "site", name="Shapes")
    assert {file.name for file in made.files} == {"index.html", "model.onnx", "runtime.wasm.gz", "service-worker.js"}
    handler = functools.partial(Host, directory=str(made.path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_the_site_works_offline_after_the_first_visit(
    host: http.server.ThreadingHTTPServer, model: Path, browser: Any
) -> None:
    context = browser.new_context()
    try:
        one = Opened(context.new_page())
        one.page.on("console", lambda message: one.faults.append(message.text))
        one.page.goto(f"http://127.0.0.1:{host.server_port}/")
        ready(one)
        one.page.evaluate("navigator.serviceWorker.ready.then(() => null)")
        host.shutdown()
        host.server_close()
        one.page.reload()
        ready(one)
        content = saved(draw("disc", 5), "PNG")
        found = np.array(ask(one, content)["probabilities"])
        assert np.abs(found - headstart.load(model).predict_proba(content)).max() < SAME
        assert one.faults == []
    finally:
        context.close()


def test_what_is_there_is_not_replaced(model: Path, tmp_path: Path) -> None:
    there = tmp_path / "mine.html"
    there.write_text("mine")
    result = headstart_cli("export", model, "--to", "html", "--out", there)
    assert (result.code, there.read_text()) == (2, "mine")
    assert "already exists" in result.err
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("mine")
    result = headstart_cli("export", model, "--to", "web", "--out", tmp_path / "site")
    assert (result.code, (tmp_path / "site" / "index.html").read_text()) == (2, "mine")
    result = headstart_cli("export", model, "--to", "html", "--out", there, "--overwrite", "--json")
    assert result.code == 0
    assert result.json["bytes"] == there.stat().st_size


def test_a_run_folder_gives_its_name(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model.read_bytes())
    made = headstart.export(folder, "html")
    assert made.path == folder / "pets.html"
    assert "<h1>pets</h1>" in made.path.read_text()


def test_unknown_forms_and_missing_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(headstart.OptionError, match=r"no export to 'htm'.*Did you mean 'html'"):
        headstart.export(tmp_path, "htm")
    with pytest.raises(headstart.ModelError):
        headstart.export(tmp_path, "html")


def test_the_files_of_the_page_are_those_that_were_built() -> None:
    folder = resources.files("headstart.prediction.exporters") / "page"
    built = json.loads((folder / "built.json").read_text())
    for name, digest in built["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    runtime = gzip.decompress((folder / "runtime.wasm.gz").read_bytes())
    assert hashlib.sha256(runtime).hexdigest() == built["runtime"]["sha256"]
