"""Backbones as PyTorch networks: names, records, weights files of every kind, and their embedders."""

from __future__ import annotations

import copy
import json
import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headstart.backbones import catalog, exported, kept, packaged
from headstart.backbones.embedder import load_embedder
from headstart.core.errors import ExtraError, HeadstartError, ModelError, OfflineError, OptionError
from headstart.core.graph import Graph
from headstart.modelfile.session import Session
from headstart.settings.backbones import BACKBONES
from headstart.settings.recipe import Recipe
from helpers import draw

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")
safetensors_torch = pytest.importorskip("safetensors.torch")

from headstart.training import sources  # noqa: E402
from headstart.training.sources import weights  # noqa: E402
from headstart.training.sources.layer_order import layers  # noqa: E402

SIMPLE = "simple-resnet18"


@pytest.fixture(autouse=True)
def empty_hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights of the machine that runs the tests, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")


def random_state(name: str = SIMPLE, seed: int = 7) -> dict[str, Any]:
    return dict(sources.load(name, pretrained=False, seed=seed).module.state_dict())


# Names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", "torchvision:resnet18"), ("torchvision:vit_b_16", "torchvision:vit_b_16"), ("lite0", "lite0"),
        ("timm:resnet18", "timm:resnet18.a1_in1k"), ("timm:resnet18.tv_in1k", "timm:resnet18.tv_in1k"),
        ("file:a/b.safetensors", "file:a/b.safetensors"), (SIMPLE, SIMPLE),
    ],
)  # fmt: skip
def test_a_backbone_has_one_name(name: str, expected: str) -> None:
    assert catalog.canonical(name) == expected


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet-18", "'resnet18'"), ("ResNet50", "'resnet50'"), ("timm:resnet-18", "'timm:resnet18'"),
        ("torchvision:resnet19", "'resnet18'"), ("lite9", "'lite0'"), ("efficientnet_b10", "'efficientnet_b0'"),
        ("timm:resnet1", "'timm:resnet1"), ("tv:resnet18", "'resnet18'"), ("vit_b16", "'vit_b_16'"),
        ("simple_resnet18", "'simple-resnet18'"),
    ],
)  # fmt: skip
def test_an_unknown_name_is_answered_with_near_ones(name: str, near: str) -> None:
    with pytest.raises(OptionError, match="no backbone") as caught:
        sources.load(name)
    assert f"Did you mean {near}" in caught.value.hint or near in caught.value.hint.split("?")[0]


@pytest.mark.parametrize("name", ["", ":", "timm:", "file:", "timm", "resnet18:", "\n", "a" * 500, "torchvision:../x"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(OptionError):
        sources.load(name)


def test_a_name_that_timm_alone_has_is_not_guessed() -> None:
    with pytest.raises(OptionError, match="means torchvision's") as caught:
        catalog.canonical("resnet10t")
    assert "'timm:resnet10t'" in caught.value.hint


def test_a_network_of_ours_without_weights() -> None:
    with pytest.raises(OptionError, match="no pretrained weights"):
        sources.load(SIMPLE)


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ExtraError, match=r"The backbone 'resnet18' needs the package torch") as caught:
        sources.load("resnet18")
    assert "headstart[torch]" in caught.value.hint


# The listing


SAMPLE = (
    "torchvision:resnet18", "torchvision:squeezenet1_1", "torchvision:vgg11_bn", "torchvision:densenet121",
    "torchvision:maxvit_t", "torchvision:swin_t", "torchvision:convnext_tiny", "torchvision:mobilenet_v3_small",
    "torchvision:googlenet", "torchvision:inception_v3", "torchvision:vit_b_16", "torchvision:mnasnet0_5",
    "timm:resnet10t.c3_in1k", "timm:test_vit.r160_in1k", "timm:mobilenetv3_small_050.lamb_in1k",
    "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k", "timm:vit_small_patch14_dinov2.lvd142m",
)  # fmt: skip


@pytest.mark.parametrize("name", SAMPLE)
def test_the_listing_agrees_with_the_libraries(name: str) -> None:
    row = {row.name: row for row in catalog.known()}.get(name)
    library, _, rest = name.partition(":")
    if library == "timm" and not timm.is_model(rest):
        pytest.skip(f"timm {timm.__version__} has no {rest}")
    assert row is not None
    loaded = sources.architecture(name)
    rows = layers(loaded)
    pixels = torch.zeros(2, 3, row.size_px, row.size_px, device=next(loaded.module.parameters()).device)
    with torch.no_grad():
        assert loaded.module(pixels).shape == (2, row.embedding_size) == (2, loaded.embedding_size)
    assert sum(layer.parameters for layer in rows) == row.parameters
    assert sum(value.numel() for value in loaded.module.parameters()) == row.parameters
    assert (loaded.name, loaded.preprocess.size_px, loaded.licence) == (name, row.size_px, row.licence)
    if library == "torchvision":
        assert row.weights == torchvision.models.get_model_weights(rest).DEFAULT.url
    else:
        assert row.weights == f"hf:{timm.models.get_pretrained_cfg(rest).hf_hub_id}"


def test_the_listing_is_whole() -> None:
    rows = catalog.known()
    assert len({row.name for row in rows}) == len(rows) > 1500
    assert {row.name for row in rows} >= set(catalog.WELL_KNOWN)
    for row in rows:
        assert row.parameters > 0, row
        assert 0 < row.size_px <= 1024, row
        assert row.licence, row
        assert row.weights.startswith(("hf:", "https://")) or row.packaged or row.name == SIMPLE, row


def test_our_own_rows_agree_with_the_networks() -> None:
    for row in catalog.BACKBONES.values():
        loaded = sources.architecture(row.name)
        parameters = sum(value.numel() for value in loaded.module.parameters())
        assert (loaded.embedding_size, loaded.preprocess.size_px, parameters) == (
            row.embedding_size, row.size_px, row.parameters,
        )  # fmt: skip


# Preprocessing


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "vit_b_16", "convnext_tiny", "inception_v3", "swin_t"])
def test_preprocessing_is_torchvisions_record(name: str) -> None:
    transforms = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    spec = sources.architecture(name).preprocess
    assert [spec.size_px] == transforms.crop_size
    assert [spec.resize_px] == transforms.resize_size
    assert list(spec.mean) == transforms.mean
    assert list(spec.std) == transforms.std
    assert spec.interpolation == transforms.interpolation.value
    assert spec.fit == "crop"


@pytest.mark.parametrize(
    ("name", "fit"),
    [
        ("resnet18.a1_in1k", "crop"), ("mobilenetv3_small_050.lamb_in1k", "crop"), ("test_vit.r160_in1k", "crop"),
        ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", "crop"), ("tf_efficientnetv2_b3.in21k_ft_in1k", "squash"),
    ],
)  # fmt: skip
def test_preprocessing_is_timms_record(name: str, fit: str) -> None:
    config = timm.data.resolve_data_config(pretrained_cfg=timm.models.get_pretrained_cfg(name).to_dict())
    spec = sources.architecture(f"timm:{name}").preprocess
    assert (3, spec.size_px, spec.size_px) == config["input_size"]
    assert spec.crop_fraction == config["crop_pct"]
    assert (spec.mean, spec.std, spec.interpolation) == (config["mean"], config["std"], config["interpolation"])
    assert spec.fit == fit


def test_other_preprocessing_is_refused() -> None:
    with pytest.raises(OptionError, match="expected a square"):
        sources.architecture("timm:vit_base_patch16_sapiens2.fb")


# Random weights


def test_random_weights_follow_the_seed_and_leave_the_random_state() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    digests = [sources.state_digest(sources.load(SIMPLE, pretrained=False, seed=seed).module) for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(torch.rand(4), expected)
    loaded = sources.load("squeezenet1_1", pretrained=False)
    assert loaded.weights == ""
    assert not loaded.module.training


def test_libraries_are_silent(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    sources.load("googlenet", pretrained=False)
    sources.load("timm:test_vit", pretrained=False)
    with pytest.raises(HeadstartError):
        sources.load("timm:test_vit")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


# lite0


def test_lite0_in_pytorch_agrees_with_our_own_graph() -> None:
    loaded = sources.load("lite0")
    ours = load_embedder(Recipe(precision="float32"), None)
    assert loaded.preprocess == ours.preprocess == packaged.preprocess_of(catalog.find("lite0"))
    from headstart.training.export import difference

    pictures = [np.asarray(draw(label, 1, (320, 240))) for label in ("disc", "noise")]
    assert difference(ours, loaded.module, pictures) < 1e-4
    assert len(loaded.weights) == 64


@pytest.mark.parametrize("name", [row.name for row in BACKBONES.values() if row.packaged])
def test_tensors_of_a_twin_bear_the_names_of_the_package(name: str) -> None:
    """In timm's order, which is that of the package, by which its weights are loaded."""
    from headstart.training.sources import joined, twins

    row = catalog.find(name)
    if not catalog.is_local(row):
        pytest.skip("its package is not installed")
    states = joined.states(sources.architecture(name).module).values()
    for file, state in zip(packaged.packaged(row).weights, states, strict=True):
        tensors = [one for one in packaged.read_weights(file) if not one.startswith("_fc.")]
        assert list(twins.names(list(state)).items()) == list(zip(state, tensors, strict=True))


TWINS = ["lite0", *(pytest.param(name, marks=pytest.mark.slow) for name in ("lite1", "lite2", "lite0+lite2"))]


@pytest.mark.parametrize("name", TWINS)
def test_a_trained_twin_is_written_without_the_exporter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All its tensors changed: what the graph computes is what PyTorch computes with them."""
    from headstart.training import export

    loaded = sources.load(name)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor, value in loaded.module.state_dict().items():
            if value.is_floating_point():  # variances stay above 0
                value.mul_(1 + 0.05 * torch.rand(value.shape, generator=rng)).add_(0.01 if "bn" in tensor else 0)
    monkeypatch.setattr(export, "add_module", lambda *_: pytest.fail("it was exported"))
    pictures = [np.asarray(draw(label, 1, (320, 240))) for label in ("disc", "noise")]
    embedder, difference = export.export(loaded.module, loaded, loaded.preprocess, pictures)
    assert difference < 1e-4
    before = load_embedder(Recipe(backbone=name, precision="float32"), None)
    assert export.difference(before, loaded.module, pictures) > 0.01
    assert embedder.weights != loaded.weights


def test_joined_networks_are_frozen_stage_by_stage() -> None:
    """A stage of two networks is the stage of each, so that what is frozen of one is frozen of the other."""
    from headstart.training.freezing import stages

    alone = {name: stages(sources.architecture(name).module) for name in ("lite0", "lite2")}
    both = stages(sources.architecture("lite0+lite2").module)
    assert len(both) == len(alone["lite0"]) == len(alone["lite2"])
    module = sources.architecture("lite0+lite2").module
    for number, stage in enumerate(both):
        held = sum(value.numel() for name, value in module.named_parameters() if stage.holds(name))
        expected = sum(
            value.numel()
            for name, found in alone.items()
            for key, value in sources.architecture(name).module.named_parameters()
            if found[number].holds(key)
        )
        assert held == expected, stage.name


# Weights files


def save(path: Path, content: Any, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


WRAPPED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
    "model": lambda state: {"model": OrderedDict(state)},
    "nested": lambda state: {"model": {"state_dict": state}},
    "module.": lambda state: {f"module.{name}": value for name, value in state.items()},
    "compiled": lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
    "ours": lambda state: {f"backbone.{name}": value for name, value in state.items()} | {"head.weight": torch.ones(2)},
    "half": lambda state: {n: v.half() if v.is_floating_point() else v for n, v in state.items()},
    "no counters": lambda state: {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoints_as_training_programs_write_them(wrapped: str, legacy: bool, tmp_path: Path) -> None:
    state = random_state()
    path = save(tmp_path / "c.pt", WRAPPED[wrapped](state), legacy)
    loaded = sources.load(SIMPLE, weights=str(path))
    for name, value in loaded.module.state_dict().items():
        assert value.dtype == state[name].dtype
        assert torch.allclose(value.double(), state[name].double(), atol=1e-3 if wrapped == "half" else 0), name
    assert loaded.weights == sources.state_digest(loaded.module)


def test_safetensors_with_a_classification_layer(tmp_path: Path) -> None:
    model = torchvision.models.get_model("squeezenet1_1", num_classes=7)
    path = tmp_path / "w.safetensors"
    safetensors_torch.save_file(model.state_dict(), path)
    loaded = sources.load("squeezenet1_1", weights=str(path))
    pixels = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        expected = model.eval().features(pixels).mean((2, 3))
        assert torch.allclose(loaded.module(pixels), expected, atol=1e-5)


def test_weights_under_their_authors_names_are_converted_as_timm_does(tmp_path: Path) -> None:
    """What timm's own repositories of DINOv2 hold."""
    name = "timm:vit_small_patch14_dinov2"
    state = random_state(name)
    path = save(tmp_path / "c.pt", state | {"mask_token": torch.zeros(1, 384)})
    loaded = sources.load(name, weights=str(path)).module.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_weights_that_do_not_fit_are_told_by_name_and_shape(tmp_path: Path) -> None:
    state = random_state()
    del state["stem.0.weight"], state["stage1.conv1.weight"]
    state["stage2.conv1.weight"] = torch.zeros(128, 64, 1, 1)
    state |= {f"extra{i}": torch.zeros(i + 1) for i in range(5)}
    with pytest.raises(ModelError) as caught:
        sources.load(SIMPLE, weights=str(save(tmp_path / "c.pt", state)))
    message = caught.value.message
    assert "2 tensors are missing ('stem.0.weight' (64, 3, 7, 7), 'stage1.conv1.weight' (64, 64, 3, 3))" in message
    assert "5 tensors are not expected ('extra0' (1,), 'extra1' (2,), 'extra2' (3,) and 2 more)" in message
    assert "1 tensor has another shape ('stage2.conv1.weight' (128, 64, 1, 1), expected (128, 64, 3, 3))" in message
    assert "--backbone NAME --weights PATH" in caught.value.hint
    with pytest.raises(ModelError, match="do not fit"):
        sources.architecture(SIMPLE, weights=str(tmp_path / "c.pt"))


class Runs:
    """A pickle that runs a program when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain", "protocol 5", "inside"])
def test_a_pickle_with_code_is_refused_and_never_run(kind: str, tmp_path: Path) -> None:
    mark, path = tmp_path / "was-here", tmp_path / "c.pth"
    if kind in {"zip", "legacy"}:
        save(path, {"state_dict": random_state(), "hyper": Runs(mark)}, legacy=kind == "legacy")
    elif kind == "inside":
        save(path, random_state() | {"stem.0.weight": Runs(mark)})
    else:
        path.write_bytes(pickle.dumps({"w": Runs(mark)}, protocol=5 if kind == "protocol 5" else 2))
    for load in (lambda: sources.load(SIMPLE, weights=str(path)), lambda: sources.load(f"file:{path}")):
        with pytest.raises(ModelError, match="refused") as caught:
            load()
        assert "\n" not in str(caught.value)
        if kind != "protocol 5":  # PyTorch's reader does not even know how that one asks
            assert "system, which could run code" in caught.value.message
    assert not mark.exists()


def bad_files(folder: Path) -> dict[str, Path]:
    good = save(folder / "good.pt", random_state())
    data = good.read_bytes()
    safe = safetensors_torch.save(random_state())
    contents = {
        "empty": b"", "one byte": b"\x80", "text": b"hello world, no weights",
        "image": b"\x89PNG\r\n\x1a\n" + bytes(99),
        "truncated": data[: len(data) // 2], "truncated early": data[:40], "zip magic": b"PK\x03\x04",
        "safetensors cut": safe[:-100], "safetensors header": safe[:60],
        "safetensors lie": b"\xff" * 7 + b"\x00{" + b"x" * 90,
        "safetensors json": (20).to_bytes(8, "little") + b'{"a":[1,2,3,4,5,6,7}', "no dict": pickle.dumps([1, 2, 3], 2),
        "no tensors": pickle.dumps({"a": 1}, 2), "noise": bytes(range(256)) * 20,
    }  # fmt: skip
    files = {}
    for name, content in contents.items():
        files[name] = folder / f"{name}.bin"
        files[name].write_bytes(content)
    files["folder"] = folder / "folder"
    files["folder"].mkdir()
    files["missing"] = folder / "none.pt"
    files["name"] = folder / ("x" * 300)
    files["zip of others"] = folder / "z.zip"
    with zipfile.ZipFile(files["zip of others"], "w") as archive:
        archive.writestr("a.txt", "hello")
    files["tensor alone"] = save(folder / "tensor.pt", torch.zeros(3))
    files["nan"] = save(folder / "nan.pt", random_state() | {"stem.0.weight": torch.full((64, 3, 7, 7), torch.nan)})
    return files


@pytest.mark.slow
def test_what_is_no_weights_file_is_refused_in_one_line(tmp_path: Path) -> None:
    for kind, path in bad_files(tmp_path).items():
        with pytest.raises(ModelError) as caught:
            sources.load(SIMPLE, weights=str(path))
        assert "\n" not in caught.value.message, kind
        assert len(caught.value.message) < 700, kind
    with pytest.raises(ModelError):
        sources.load(SIMPLE, weights="nul\0byte")


def test_a_file_of_absurd_size_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MAX_BYTES", 1000)
    with pytest.raises(ModelError, match="at most"):
        sources.load(SIMPLE, weights=str(save(tmp_path / "c.pt", random_state())))


# The weights of a run of ours


def run_file(path: Path, **changes: Any) -> Path:
    network = sources.load("squeezenet1_1", pretrained=False, seed=5)
    tensors = {f"backbone.{name}": value for name, value in network.module.state_dict().items()}
    tensors |= {"head.weight": torch.zeros(3, 512), "head.bias": torch.zeros(3)}
    record = {
        "backbone": network.architecture, "preprocess": replace(network.preprocess, fit="pad").as_dict(),
        "embedding_size": 512, "classes": ["a", "b", "c"], "head": "linear", "licence": "CC0-1.0",
    } | changes  # fmt: skip
    safetensors_torch.save_file(tensors, path, metadata={"headstart": json.dumps(record)})
    return path


def test_the_network_of_a_run_is_built_again(tmp_path: Path) -> None:
    path = run_file(tmp_path / "weights.safetensors")
    loaded = sources.load(f"file:{path}")
    assert (loaded.name, loaded.architecture) == (f"file:{path}", "torchvision:squeezenet1_1")
    assert (loaded.licence, loaded.preprocess.fit, loaded.embedding_size) == ("CC0-1.0", "pad", 512)
    expected = sources.load("squeezenet1_1", pretrained=False, seed=5).module
    assert loaded.weights == sources.state_digest(expected)
    assert sources.architecture(f"file:{path}").embedding_size == 512
    # The same file as weights of a network that is named.
    assert sources.load("squeezenet1_1", weights=str(path)).weights == loaded.weights


@pytest.mark.parametrize(
    "changes",
    [{"backbone": "file:x"}, {"backbone": 3}, {"backbone": "resnet-18"}, {"preprocess": {}}, {"preprocess": 3},
     {"embedding_size": 7}, {"embedding_size": "x"}, {"licence": 3}, {"backbone": "resnet18", "embedding_size": 512}],
)  # fmt: skip
def test_a_damaged_record_of_a_run_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises((ModelError, OptionError)):
        sources.load(f"file:{run_file(tmp_path / 'w.safetensors', **changes)}")


def test_weights_without_a_network_ask_for_its_name(tmp_path: Path) -> None:
    for path in (save(tmp_path / "c.pt", random_state()), tmp_path / "w.safetensors"):
        if not path.exists():
            safetensors_torch.save_file(random_state(), path)
        with pytest.raises(OptionError, match="does not say which network") as caught:
            sources.load(f"file:{path}")
        assert f"--backbone timm:NAME --weights {path}" in caught.value.hint


# Model files as backbones


@pytest.fixture(scope="module")
def float_model(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import headstart

    run = headstart.train(shapes, precision="float32", runtime=headstart.Runtime(cache=None))
    return run.save(tmp_path_factory.mktemp("run") / "shapes") / "model.onnx"


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_a_model_file_is_a_backbone(float_model: Path, fit: Any) -> None:
    recipe = Recipe(backbone=f"file:{float_model}", fit=fit)
    found = load_embedder(recipe, None)
    expected = load_embedder(Recipe(precision="float32", fit=fit), None)
    picture = np.asarray(draw("disc", 3, (200, 120)))
    assert np.array_equal(Session(found.model).run(picture)[0], Session(expected.model).run(picture)[0])
    assert (found.preprocess, found.width, found.licence) == (expected.preprocess, 1280, "Apache-2.0")
    assert found.weights == expected.weights
    assert found.digest == load_embedder(recipe, None).digest != expected.digest


def test_model_files_that_are_no_backbone(model: Path, float_model: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="computes in int8"):
        load_embedder(Recipe(backbone=f"file:{model}"), None)
    with pytest.raises(OptionError, match="for the strategy probe alone") as caught:
        sources.load(f"file:{float_model}")
    assert "weights.safetensors" in caught.value.hint
    with pytest.raises(ModelError, match="cannot be read"):
        load_embedder(Recipe(backbone=f"file:{tmp_path / 'none.onnx'}"), None)
    (tmp_path / "bad.onnx").write_bytes(b"hello")
    with pytest.raises(ModelError):
        load_embedder(Recipe(backbone=f"file:{tmp_path / 'bad.onnx'}"), None)


# Embedders


@pytest.mark.slow
def test_an_exported_embedder_is_kept_and_needs_no_network_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run_file(tmp_path / "weights.safetensors")
    looked_at = []

    def pictures() -> Iterator[NDArray[np.uint8]]:
        looked_at.append("disc")
        yield np.asarray(draw("disc", 1))

    recipe = Recipe(backbone=f"file:{path}")
    first = load_embedder(recipe, cache, pictures())
    assert looked_at == ["disc"]
    assert load_embedder(recipe, cache, pictures()) == first
    assert looked_at == ["disc"]  # what is kept was compared before
    assert (first.preprocess.fit, first.width, first.licence) == ("crop", 512, "CC0-1.0")
    loaded = sources.load(f"file:{path}")
    from headstart.training.export import difference

    assert difference(first, loaded.module, [np.asarray(draw("disc", 1))]) < 1e-5

    with monkeypatch.context() as patch:
        patch.setattr(exported, "_LOAD", "nowhere:nothing")
        assert load_embedder(recipe, cache) == first
        moved = path.rename(tmp_path / "moved.safetensors")
        assert load_embedder(Recipe(backbone=f"file:{moved}"), cache).digest == first.digest
        with pytest.raises(ModuleNotFoundError):  # another fit is another embedder
            load_embedder(Recipe(backbone=f"file:{moved}", fit="pad"), cache)
        record = next((cache / "embedders").glob("*.json"))
        record.write_text(record.read_text().replace("512", "511"))
        with pytest.raises(ModuleNotFoundError):  # so is one whose record is damaged
            load_embedder(Recipe(backbone=f"file:{moved}"), cache)
        kept_files = list((cache / "embedders").iterdir())
        assert len(kept_files) == 2


@pytest.mark.slow
def test_what_computes_something_else_is_not_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headstart.training import export

    add = export.add_module

    def add_another(graph: Graph, pixels: str, module: Any, size_px: int) -> str:
        with torch.no_grad():
            other = copy.deepcopy(module)
            next(other.parameters()).mul_(1.1)
        return add(graph, pixels, other, size_px)

    monkeypatch.setattr(export, "add_module", add_another)
    with pytest.raises(ModelError, match="exported network differs from the PyTorch one by"):
        load_embedder(Recipe(backbone="squeezenet1_1", pretrained=False), cache, [np.asarray(draw("disc", 1))])
    assert not (cache / "embedders").exists()


@pytest.mark.slow
def test_random_features_follow_the_seed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = load_embedder(Recipe(backbone="squeezenet1_1", pretrained=False, seed=1), cache)
    monkeypatch.setattr(exported, "_LOAD", "nowhere:nothing")
    assert load_embedder(Recipe(backbone="squeezenet1_1", pretrained=False, seed=1), cache) == one
    with pytest.raises(ModuleNotFoundError):
        load_embedder(Recipe(backbone="squeezenet1_1", pretrained=False, seed=2), cache)


def test_records_go_with_their_graphs(cache: Path) -> None:
    folder = cache / "embedders"
    for number in range(kept.MAX_KEPT + 2):
        kept.keep(folder, f"{number:032x}{0:032x}", f"model {number}".encode(), {"width": number})
        for path in folder.glob(f"{number:032x}-*"):
            os.utime(path, (number, number))
    assert len(list(folder.glob("*.onnx"))) == len(list(folder.glob("*.json"))) == kept.MAX_KEPT
    assert kept.find_with_record(folder, f"{5:032x}{0:032x}") == (b"model 5", {"width": 5})
    assert kept.find_with_record(folder, "0" * 64) is None
    graph = next(folder.glob(f"{6:032x}-*.onnx"))
    graph.write_bytes(b"model 7")
    assert kept.find_with_record(folder, f"{6:032x}{0:032x}") is None
    assert not graph.exists()
    assert not graph.with_suffix(".json").exists()


def test_nothing_is_fetched_where_that_was_asked(tmp_path: Path) -> None:
    for name, place in (("resnet18", "resnet18-f37072fd.pth"), ("timm:test_vit", "models--timm--test_vit.r160_in1k")):
        with pytest.raises(OfflineError, match="not on this computer") as caught:
            sources.load(name, require_local=True)
        assert str(tmp_path) in caught.value.hint
        assert place in caught.value.hint
