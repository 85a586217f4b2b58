"""The benchmarks' own arithmetic: what they take from a process, when a target is missed. Nothing is timed here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def beside_each_other(monkeypatch):
    """They are scripts, which import each other as `python benchmarks/finetune.py` does."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name in {
            "common",
            "finetune",
            "strategies",
            "ants_bees",
            "equal_seconds",
            "gain",
            "made_sets",
            "limits",
            "serve",
        }:
            del sys.modules[name]


def process(said, load=0.0):
    import common

    return common.Process(seconds=30.0, cpu_seconds=50.0, peak_mb=700.0, other_load=load, said=said)


def test_seconds_of_headstart_count_all_of_the_training():
    import finetune

    history = [{"epoch": number, "seconds": seconds} for number, seconds in enumerate([0.0, 4.0, 4.0, 3.0, 3.0, 1.0])]
    said = {"details": {"history": history}, "seconds": {"train": 20.0}, "evaluation": {"correct": 144, "n": 153}}
    sample = finetune.sample_of(process(said))
    assert sample.epochs == (4, 4, 3, 3, 1)
    assert (sample.epoch, sample.bare, sample.later) == (4, 3, 1)  # 20 / 5: validation of the start is no present
    assert (sample.correct, sample.n) == (144, 153)


def test_seconds_of_a_rival_come_from_its_line():
    import finetune

    said = {"epochs": [10.0, 12.0], "training": 23.0, "correct": 140, "n": 153, "seconds": {"epoch": 11.0}}
    sample = finetune.sample_of(process(said))
    assert (sample.epoch, sample.bare, sample.later) == (11.5, 11, 12)
    assert finetune.medians({"a": [sample, sample]}) == {"a": 11.5}


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"tutorial-all": 30.0, "all": 20.0, "last": 6.0}, [True, True, True]),
        ({"tutorial-all": 29.0, "all": 20.0, "last": 7.5}, [False, False, False]),
        ({"tutorial-all": 30.0, "last": 6.0}, [None, True, None]),
        ({"all": 20.0, "last": 6.0}, [None, None, True]),
        ({}, [None, None, None]),
    ],
)
def test_targets(times, expected):
    import finetune

    assert [ok for _, _, ok in finetune.targets(times)] == expected


def test_the_run_that_others_disturb_least_is_kept(monkeypatch):
    import common

    monkeypatch.setattr(common, "wait_for_calm", lambda: None)
    prepared = []

    def keep(loads, attempts):
        found = common.least_disturbed(
            lambda attempt: process({}, loads[attempt - 1]), attempts, lambda: prepared.append(1)
        )
        return found.other_load

    assert keep([0.5, 0.3, 0.4], 3) == 0.3
    assert len(prepared) == 3
    assert keep([0.5, 0.1, 0.0], 3) == 0.1  # calm enough: no third one
    assert len(prepared) == 5
    assert keep([0.5], 1) == 0.5
    assert keep([None], 3) is None


def test_arguments():
    import finetune
    import strategies

    parsed = finetune.parse(["photos", "--epochs", "3", "--skip", "fastai", "tutorial-head"])
    assert (parsed.epochs, parsed.repeats, parsed.skip) == (3, 3, ["fastai", "tutorial-head"])
    with pytest.raises(SystemExit):
        finetune.parse(["photos", "--epochs", "1"])
    assert strategies.parse(["photos", "--epochs", "1"]).skip == []


@pytest.mark.slow
def test_rows_follow_the_recipes():
    import strategies
    from headstart import recipes
    from headstart.settings.recipe import Recipe
    from headstart.training.plan import usual_epochs

    for name in ("tutorial-finetune", "tutorial-feature-extraction"):
        assert strategies.ROWS[name].epochs == recipes.load(name)["epochs"]
    assert strategies.ROWS["scratch"].epochs == Recipe(strategy="scratch").epochs
    assert strategies.ROWS["finetune"].epochs == usual_epochs(200)


def test_rows_can_be_shortened_but_the_probe_has_no_epochs():
    import strategies

    def words(name, epochs):
        return " ".join(strategies.command_of(strategies.ROWS[name], Path("photos"), Path("run"), epochs))

    assert "--epochs 2" in words("scratch", 2)
    assert "--epochs 8" in words("finetune", 30)  # at most
    assert "--epochs" not in words("finetune", None)
    assert "--epochs" not in words("probe", 2)
    row = {"scratch": strategies.ROWS["scratch"]}
    assert strategies.estimate(row, 0.1, 100, 2) == pytest.approx(20)
    assert strategies.estimate({"probe": strategies.ROWS["probe"]}, 0.1, 100, None) == pytest.approx(3.5)


def test_all_sides_get_the_images_that_all_can_read(tmp_path):
    import common

    for name in ("b.jpg", "a.PNG", "c.jpg", "animation.gif", "notes.txt"):
        for part in ("train", "val"):
            place = tmp_path / "photos" / part / "ants"
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(name.encode())
    (tmp_path / "photos" / "train" / "README").write_text("no class")
    common.same_images(tmp_path / "photos", tmp_path / "same")
    found = sorted(path.relative_to(tmp_path / "same").as_posix() for path in (tmp_path / "same").rglob("*.*"))
    assert found == [f"{part}/ants/{name}" for part in ("train", "val") for name in ("a.PNG", "b.jpg", "c.jpg")]
    common.same_images(tmp_path / "photos", tmp_path / "few", limit=1)
    assert common.count_images(tmp_path / "few") == 2


def test_a_process_is_measured():
    import common

    found = common.run([sys.executable, "-c", "print('{\"correct\": 3}')"])
    assert found.said == {"correct": 3}
    assert found.seconds > 0
    assert found.peak_mb > 1
    with pytest.raises(SystemExit, match="no such luck"):
        common.run([sys.executable, "-c", "import sys; sys.exit('no such luck')"])


def test_words_for_an_accuracy():
    import common

    assert common.accuracy_words(144, 153) == ("94.1 %", "89.2 to 96.9 %")
    assert common.percent(None) == ""
    assert common.percent(0.126) == "13 %"


def test_a_curve_of_headstart_counts_what_lies_before_the_training():
    import equal_seconds

    history = [
        {"epoch": number, "seconds": seconds, "validation_accuracy": accuracy}
        for number, (seconds, accuracy) in enumerate([(2.0, 0.7), (10.0, 0.5), (11.0, 0.9)])
    ]
    said = {
        "details": {"history": history}, "evaluation": {"n": 40},
        "seconds": {"embed": 5.0, "plan": 1.0, "train": 23.0, "evaluate": 9.0, "total": 38.0},
    }  # fmt: skip
    curve = equal_seconds.own_curve(process(said))
    assert curve.seconds == (8.0, 18.0, 29.0)
    assert curve.accuracies == (0.7, 0.5, 0.9)
    assert [curve.at(seconds) for seconds in (0, 8, 17.9, 18, 30)] == [0, 0.7, 0.7, 0.5, 0.9]


def test_a_rival_gets_the_epochs_that_fit():
    import equal_seconds

    assert equal_seconds.epochs_within(100, [20.0]) == 5
    assert equal_seconds.epochs_within(109, [20.0]) == 5
    assert equal_seconds.epochs_within(111, [20.0]) == 6
    assert equal_seconds.epochs_within(110, [10.0, 25.0]) == 5  # the first trains the head alone
    assert equal_seconds.epochs_within(5, [10.0, 25.0]) == 2
    curve = equal_seconds.rival_curve(process({"epochs": [10.0, 25.0], "accuracies": [0.5, 0.75], "n": 8}))
    assert curve == equal_seconds.Curve((10.0, 35.0), (0.5, 0.75), 8, 0.0)


def test_a_rival_that_ends_higher_is_told():
    import equal_seconds

    def curve(*accuracies):
        return equal_seconds.Curve(tuple(range(len(accuracies))), accuracies, 10, None)

    ours = [curve(0.9, 0.8), curve(0.9, 0.9)]
    assert equal_seconds.reached({"headstart": ours, "fastai": [curve(1.0, 0.8), curve(0.1)]})
    assert not equal_seconds.reached({"headstart": ours, "fastai": [curve(0.81), curve(0.1)]})


@pytest.mark.slow
def test_sets_of_another_seed_are_others(tmp_path):
    import gain

    found = {}
    for seed in (0, 1):
        folder = gain.few_digits(tmp_path / f"digits-{seed}", seed)
        found[seed] = {path.relative_to(folder / "train") for path in (folder / "train").rglob("*.png")}
        assert len(found[seed]) == 10 * gain.FEW
        assert common_count(folder / "test") == 360
    assert len(found[0] & found[1]) < 100
    gain.made_sets.write("dots", tmp_path / "a", train=1, test=1, seed=0)
    gain.made_sets.write("dots", tmp_path / "b", train=1, test=1, seed=0)
    gain.made_sets.write("dots", tmp_path / "c", train=1, test=1, seed=1)
    first, same, other = ((tmp_path / name / "train" / "3" / "0000.png").read_bytes() for name in "abc")
    assert first == same != other


def common_count(folder):
    import common

    return common.count_images(folder)


def test_a_row_speaks_of_fine_tuning_less_the_probe():
    import gain

    record = {
        "set": "dots", "seed": 1, "seconds": 99.6, "other_load": 0.02, "chosen": "finetune",
        "probe": {"accuracy": 0.5, "log_loss": 1.25}, "finetune": {"accuracy": 0.75, "log_loss": 0.5},
        "counts": {"train": {"a": 20, "b": 30}},
        "pair": {"n": 40, "only_a": 1, "only_b": 11, "log_loss_difference": 0.75,
                 "log_loss_difference_interval": [0.5, 1.0]},
        "details": {"best_epoch": 4, "epochs": 5},
    }  # fmt: skip
    row = dict(zip(gain.HEADER, gain.row_of(record), strict=True))
    assert row["learnt from"] == "50"
    assert (row["probe"], row["fine-tuned"], row["right alone"]) == ("50.0 %", "75.0 %", "1 : 11")
    assert row["difference of log loss"] == "-0.750 (-1.000 to -0.500)"
    assert (row["epochs"], row["seconds"], row["verdict"]) == ("4 of 5", "100", "finetune")
    record["details"]["best_epoch"] = 0
    assert dict(zip(gain.HEADER, gain.row_of(record), strict=True))["epochs"] == "the start, of 5"


def test_imports_are_read_from_what_python_prints():
    import limits

    text = (
        "import time: self [us] | cumulative | imported package\n"
        "import time:       120 |        320 |   numpy._core.multiarray\n"
        "import time:        80 |        400 | numpy\n"
        "Note: words of the program | 3 | x\n"
        "import time:         5 |          5 |     _json\n"
    )
    assert list(limits.imported(text)) == [(120, "numpy._core.multiarray"), (80, "numpy"), (5, "_json")]


def test_commands_are_told_beside_their_floor_and_beside_before():
    import limits

    def done(seconds, cpu_seconds, said=None):
        return limits.Process(seconds, cpu_seconds, 100.0, 0.05, said or {})

    measured = {
        ("now", "first train"): [done(5.0, 8.0), done(4.0, 6.0), done(9.0, 7.0)],
        ("before", "first train"): [done(8.0, 14.0)] * 3,
        ("floor", "first train"): [done(9.9, 9.9, {"seconds": 2.5})] * 3,  # which says itself how long its work took
        ("now", "predict"): [done(0.5, 0.5)],
        ("floor", "predict"): [done(0.4, 0.4)],
    }
    told = limits.processes(measured, ["first train", "predict"])
    assert told["first train"]["now"] == {"seconds": 5.0, "cpu_seconds": 7.0, "other_load": 0.05}
    row = limits.row("first train", told["first train"])
    assert row == ("first train", "5.00", "7.00", "8.00", "14.00", "0.62", "0.50", "2.50", "2.00", "5 %")
    row = limits.row("predict", told["predict"])
    assert row == ("predict", "0.50", "0.50", "", "", "", "", "0.40", "1.25", "5 %")


def load(side, clients, rate, cpu_ms=9.0, others=0.0):
    import serve

    return serve.Load(side=side, clients=clients, rate=rate, p50_ms=10, p99_ms=20, cpu_ms=cpu_ms, others=others)


@pytest.mark.parametrize(
    ("at_8", "at_64", "rival", "is_reached"),
    [(80, 90, 79, True), (79, 90, 70, False), (90, 60, 70, False), (85, 90, None, True)],
)
def test_serving_reaches_four_fifths_of_the_bound_and_beats_the_rival_everywhere(at_8, at_64, rival, is_reached):
    import serve

    loads = [load("bound", 2, 100), load("headstart", 8, at_8), load("headstart", 64, at_64)]
    loads += [] if rival is None else [load("LitServe", 8, rival, 10), load("LitServe", 64, rival, 10)]
    assert all(met for _, met in serve.verdicts(loads)) is is_reached


def test_serving_is_the_median_of_its_rounds_and_judged_by_processor_time_too():
    import serve

    rounds = [load("bound", 2, 100)] + [load("headstart", 8, rate, cpu) for rate, cpu in ((90, 9), (10, 30), (95, 8))]
    loads = serve.medians([*rounds, load("LitServe", 8, 70, 8.5)])
    assert [(one.side, one.rate, one.cpu_ms) for one in loads] == [
        ("bound", 100, 9), ("headstart", 90, 9), ("LitServe", 70, 8.5)
    ]  # fmt: skip
    assert [met for _, met in serve.verdicts(loads)] == [True, True, False]
    (half,) = serve.medians(
        [load("headstart", 8, rate, others=others) for rate, others in ((90, 0.1), (10, 0.5), (20, 0.3))]
    )
    assert (half.rate, half.rounds) == (90, 1)  # what others disturbed does not count
    (none,) = serve.medians([load("headstart", 8, rate, others=0.5) for rate in (10, 20, 90)])
    assert (none.rate, none.rounds, none.others) == (20, 0, 0.5)


def test_times_and_rates_are_of_what_was_done():
    import serve

    done = []
    found = serve.timed("x", 2, [done.append, done.append], [b"a", b"b"], 0.2, [])
    assert found.rate == pytest.approx(len(done) / 0.2, rel=0.5)
    assert set(done) == {b"a", b"b"}
    assert found.p50_ms <= found.p99_ms
    assert found.cpu_ms == 0
