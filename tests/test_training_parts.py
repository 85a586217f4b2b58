"""The parts of a training: stages, cuts, rates, orders, views, the range test, the GPU's engine."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import headstart as hs
from headstart.features.extract import extract
from headstart.training import rates, sources
from headstart.training.augment import Augment
from headstart.training.custom_backbone import loaded
from headstart.training.cut import cut
from headstart.training.draws import seeded
from headstart.training.engine import TorchEngine
from headstart.training.export import export
from headstart.training.freezing import Stage, stages, trained
from headstart.training.network import Network, make_head, prepare, start_from_probe
from headstart.training.pixel_feed import batches, order, share
from headstart.training.range_test import FALLBACK, steepest
from headstart.training.views import ViewFeed
from helpers import draw
from tiny import PREPROCESS, RUNTIME, WIDTH, Tiny, recipe, tiny

STAGES = {
    "torchvision:resnet18": ["layer1", "layer2", "layer3", "layer4"],
    "lite0": ["blocks.2", "blocks.3", "blocks.4", "blocks.5", "blocks.6"],
    "timm:convnext_atto": ["stages.0", "stages.1", "stages.2", "stages.3"],
    "timm:regnety_002": ["s3", *(f"s4.b{n}" for n in range(1, 8))],
}


@pytest.mark.parametrize("name", [*STAGES, "timm:vit_tiny_patch16_224", "torchvision:densenet121", "timm:vgg11"])
def test_every_parameter_is_in_one_stage(name: str) -> None:
    module = sources.architecture(name).module
    found = stages(module)
    for parameter, _ in module.named_parameters():
        assert sum(stage.holds(parameter) for stage in found) == 1, parameter
    assert [stage.name for stage in found] == STAGES.get(name, [stage.name for stage in found])
    assert len(trained(found, "half")) == math.ceil(len(found) / 2)
    assert trained(found, "last") == found[-1:]


@pytest.mark.parametrize("unfreeze", ["head", "last", "half"])
@pytest.mark.parametrize(
    "name", ["timm:test_resnet", "timm:vit_tiny_patch16_224", "timm:test_convnext", "timm:test_efficientnet"]
)
def test_the_parts_of_a_cut_are_the_network(name: str, unfreeze: Any) -> None:
    one = sources.load(name, pretrained=False)
    found = stages(one.module)
    parts = cut(one.module, found, trained(found, unfreeze), one.preprocess.size_px)
    assert parts is not None
    pixels = torch.rand(3, 3, one.preprocess.size_px, one.preprocess.size_px)
    with torch.no_grad():
        torch.testing.assert_close(parts.trained(*parts.frozen(pixels)), one.module(pixels), atol=1e-5, rtol=1e-4)
    # The second part holds what is trained, as the same tensors, and nothing that is frozen.
    own = {id(parameter) for parameter in parts.trained.parameters()}
    free = trained(found, unfreeze)
    assert own == {id(p) for key, p in one.module.named_parameters() if any(stage.holds(key) for stage in free)}


class Backwards(nn.Module):
    """Its first child is used last."""

    def __init__(self) -> None:
        super().__init__()
        self.late, self.early = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.late(self.early(x.mean((2, 3))[:, [0, 1, 2, 0]]))


class Branching(Backwards):
    """Its way depends on the values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.late(self.early(torch.zeros(len(x), 4))) if x.sum() > 0 else torch.zeros(len(x), 4)


def test_what_cannot_be_cut_is_not_cut() -> None:
    found = [Stage("late", ("late",)), Stage("early", ("early",))]
    assert cut(Branching().eval(), found, found[1:], 8) is None
    open_size = sources.load("timm:test_vit", pretrained=False)  # its code looks at the size of the image
    every = stages(open_size.module)
    assert cut(open_size.module, every, every[-1:], 160) is None
    parts = cut(Backwards().eval(), found, found[1:], 8)  # all that comes after the trained part is run with it
    assert parts is not None
    assert {id(p) for p in Backwards().parameters()} != {id(p) for p in parts.trained.parameters()}
    assert len(list(parts.trained.parameters())) == 4


@pytest.mark.parametrize("epochs", [3, 10])
def test_schedules_are_those_of_pytorch(epochs: int) -> None:
    steps, total = 7, 7 * epochs

    def theirs(make: Any) -> list[float]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule, found = make(optimizer), []
        for _ in range(total):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return found

    def ours(name: Any) -> list[float]:
        settings = recipe(schedule=name, epochs=epochs, warmup_epochs=0, step_epochs=2, step_factor=0.3)
        return [rates.factor(settings, step, steps) for step in range(total)]

    module = torch.optim.lr_scheduler
    assert ours("cosine") == pytest.approx(theirs(lambda one: module.CosineAnnealingLR(one, total)))
    # The tutorial's: a step of the schedule each epoch.
    assert ours("step")[::steps] == pytest.approx(theirs(lambda one: module.StepLR(one, 2, 0.3))[:epochs])
    cycle = theirs(lambda one: module.OneCycleLR(one, 1.0, total_steps=total, cycle_momentum=False))
    assert ours("one-cycle") == pytest.approx(cycle, abs=1e-6)
    assert set(ours("constant")) == {1.0}


@given(warm=st.floats(0, 20), epochs=st.integers(1, 10), steps=st.integers(1, 50))
def test_a_rate_rises_through_the_warm_up_and_stays_in_its_range(warm: float, epochs: int, steps: int) -> None:
    settings = recipe(epochs=epochs, warmup_epochs=warm, schedule="cosine")
    found = [rates.factor(settings, step, steps) for step in range(epochs * steps)]
    assert all(0 <= one <= 1 for one in found)
    rising = min(round(warm * steps), len(found))
    assert found[:rising] == sorted(found[:rising])


def test_rates_fall_from_the_head_to_the_first_stage_and_norms_are_not_decayed() -> None:
    network = Network(tiny(), make_head(recipe(), WIDTH, 2))
    free = trained(stages(network.backbone), "half")
    prepare(network, free)
    optimizer = rates.make_optimizer(network, free, recipe(layer_decay=0.5, weight_decay=0.1), 0.2)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    given_rates = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups
                   for p in group["params"]}  # fmt: skip
    expected = {"head.weight": (0.2, 0.1), "head.bias": (0.2, 0.0)}
    for stage, rate in (("stage4", 0.1), ("stage3", 0.05)):
        for parameter, decay in (("0.weight", 0.1), ("1.weight", 0.0), ("1.bias", 0.0)):
            expected[f"backbone.{stage}.{parameter}"] = (rate, decay)
    assert given_rates == expected


@given(count=st.integers(1, 200), size=st.integers(1, 50), world=st.integers(1, 5), seed=st.integers(0, 9))
def test_every_image_is_seen_once_an_epoch(count: int, size: int, world: int, seed: int) -> None:
    shuffled = order(count, seed, 3)
    assert sorted(shuffled.tolist()) == list(range(count))
    parts = batches(shuffled, size)
    seen = [row for part in parts for rank in range(world) for row in share(part, rank, world).tolist()]
    assert sorted(seen) == list(range(count))
    assert all(len(part) == size for part in parts[:-1])


def test_the_head_begins_as_the_probe_with_its_temperature() -> None:
    from headstart.heads.calibrated import Calibrated
    from headstart.heads.linear import LinearHead
    from headstart.targets.classes.temperature import Temperature

    rng = np.random.default_rng(0)
    probe = LinearHead(rng.normal(size=(WIDTH, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32))
    head = make_head(recipe(), WIDTH, 3)
    start_from_probe(head, probe, 0.7)
    features = rng.normal(size=(5, WIDTH)).astype(np.float32)
    with torch.no_grad():
        mine = torch.softmax(head(torch.from_numpy(features)), 1).numpy()
    np.testing.assert_allclose(mine, Calibrated(probe, Temperature(0.7)).probabilities(features), atol=1e-6)


def test_the_steepest_fall_before_the_lowest_loss_is_found() -> None:
    powers = np.linspace(-6, 0, 100)
    losses = 1 / (1 + np.exp(4 * (powers + 3))) + np.where(powers > -1.5, (powers + 1.5) ** 2, 0)
    rate = steepest(list(zip((10**powers).tolist(), losses.tolist(), strict=True)))
    assert rate == pytest.approx(1e-3, rel=0.2)
    assert steepest([]) == FALLBACK
    assert steepest([(1e-5, 1.0), (1e-4, 2.0), (1e-3, 3.0)]) == FALLBACK


@pytest.mark.parametrize(
    "settings",
    [{}, {"crop_scale": 1.0, "rotation": 10.0}, {"crop_px": 40, "rotation": 5.0}, {"augment": "rand"},
     {"crop_scale": 1.0, "rotation": 1.0, "fit": "pad"}, {"crop_scale": 1.0, "rotation": 1.0, "fit": "squash"}],
    ids=lambda settings: "-".join(settings) or "crop",
)  # fmt: skip
def test_a_view_follows_from_its_seed(settings: dict[str, Any]) -> None:
    image = np.asarray(draw("disc", 1, (90, 60)))
    augment = Augment(recipe(**settings), PREPROCESS)

    def view(*seed: int) -> torch.Tensor:
        return augment(image, lambda: torch.zeros(3, 32, 32), list(seed))

    state = torch.get_rng_state()
    first = view(0, 1, 2)
    assert first.shape == (3, 32, 32)
    assert first.dtype == torch.float32
    assert torch.equal(first, view(0, 1, 2))
    assert not torch.equal(first, view(0, 2, 2))
    assert torch.equal(torch.get_rng_state(), state)
    # Normalised as the record says: about the picture's mean colour, whatever was cut.
    assert "augment" in settings or abs(float(first.mean()) - (image.mean() / 255 - 0.5) / 0.25) < 1.5


@pytest.mark.parametrize("seed", [0, 3, 2**64 - 1])
def test_what_is_drawn_follows_the_seed_and_the_state_is_given_back(seed: int) -> None:
    """As `torch.manual_seed` has it, without a word to the generators of GPUs, which nothing would give back."""
    before = torch.get_rng_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        expected = torch.rand(5)
    with pytest.MonkeyPatch.context() as patch:
        for device in (torch.cuda, torch.xpu):
            patch.setattr(device, "manual_seed_all", lambda _: pytest.fail("a GPU was seeded"))
        with seeded(seed):
            assert torch.equal(torch.rand(5), expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_views_that_are_too_large_for_the_memory_go_to_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from headstart.training import views

    monkeypatch.setattr(views, "IN_MEMORY_BYTES", 0)

    class Pixels:
        images = SimpleNamespace(augment=SimpleNamespace(plain=False, flip=True))

        def __call__(self, shares: Any, view: int) -> Any:
            from headstart.training.pixel_feed import Batch

            for rows in shares:
                values = torch.from_numpy(rows).float().reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4) + 1000 * view
                yield Batch((values,), torch.zeros(len(rows)))

    feed = ViewFeed(Pixels(), Twice(), np.arange(100), torch.device("cpu"), 3, tmp_path)  # type: ignore[arg-type]
    for view in (0, 1, 2, 3):
        feed.prepare(np.arange(0, 100, 2), view)
        (batch,) = feed([np.array([98, 4])], view)
        assert batch.values[0][:, 0, 0, 0].tolist() == [2 * (98 + 1000 * (view % 3)), 2 * (4 + 1000 * (view % 3))]
    assert not list(tmp_path.iterdir())  # the files have no name


class Twice(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (2 * x,)


@pytest.mark.slow
def test_the_engine_of_the_gpu_agrees_with_the_model_file(shapes: Path) -> None:
    """On the CPU, in the same half precision: 36 images from many threads, none mixed up."""
    backbone = tiny()
    embedder, difference = export(backbone, loaded(backbone, PREPROCESS), PREPROCESS, [np.asarray(draw("disc", 3))])
    assert 0 < difference < 1e-5
    table = hs.read(shapes)
    exact = extract(table, embedder, RUNTIME, max_megapixels=1)
    engine = TorchEngine(backbone, PREPROCESS, "cpu")
    half = extract(table, embedder, RUNTIME, max_megapixels=1, engine=engine)
    assert half.digests == exact.digests
    lengths = np.linalg.norm(exact.matrix, axis=1)
    assert (np.linalg.norm(half.matrix - exact.matrix, axis=1) < 0.02 * lengths).all()
    image = np.asarray(draw("disc", 3))
    elsewhere: TorchEngine = pickle.loads(pickle.dumps(engine))  # as work is sent to another process
    assert (elsewhere.name, elsewhere.workers) == (engine.name, engine.workers)
    np.testing.assert_array_equal(elsewhere.run(image), engine.run(image))
    broken = TorchEngine(Broken().eval(), PREPROCESS, "cpu")
    with pytest.raises(hs.ImageError, match="network failed"):
        broken.run(image)


class Broken(Tiny):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ torch.zeros(1, 1)
