"""Work on images in other processes: whoever runs it, the same comes out, and only one process writes the cache."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import shutil
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headstart
from headstart.backbones.embedder import load_embedder
from headstart.core.errors import ImageError, SourceError
from headstart.core.runtime import Runtime
from headstart.core.work import Threads
from headstart.data.inputs import expand
from headstart.features.cache import FILE_NAME, FeatureCache
from headstart.features.extract import extract
from headstart.features.scan import scan
from headstart.prediction.batch import predict_table
from headstart.prediction.explanation import Explainer
from headstart.prediction.neighbours import find_neighbours
from headstart.prediction.record import Wanted, record_of
from headstart.report.explanations import draw_table
from headstart.settings.recipe import Recipe
from headstart.strategies.choices.transforms import harmless

SHARD = 5


@dataclass
class Shards:
    """A pool as a cluster would be: work and items are sent to another process, some items at once."""

    executor: ProcessPoolExecutor
    processes: set[int] = field(default_factory=set)

    def run(self, work: Any, items: Iterable[Any], done: Callable[[Any], None] | None = None) -> Generator[Any]:
        left = iter(items)
        while shard := tuple(islice(left, SHARD)):
            process, results = self.executor.submit(do, pickle.dumps(work), shard).result()
            self.processes.add(process)
            for result in results:
                if done and not isinstance(result, ImageError):
                    done(result)
            yield from results


def do(work: bytes, shard: tuple[Any, ...]) -> tuple[int, list[Any]]:
    """What another process does: the work on each item of a shard."""
    unit, results = pickle.loads(work), []
    for item in shard:
        try:
            results.append(unit(item))
        except ImageError as error:
            results.append(error)
    return os.getpid(), results


@pytest.fixture(scope="module")
def executor() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as found:
        yield found


@pytest.fixture
def shards(executor: ProcessPoolExecutor) -> Iterator[Shards]:
    found = Shards(executor)
    yield found
    assert found.processes
    assert os.getpid() not in found.processes


@pytest.fixture
def source(shapes: Path, tmp_path: Path) -> Path:
    """Shapes, of which one cannot be read."""
    shutil.copytree(shapes, tmp_path / "shapes")
    (tmp_path / "shapes" / "disc" / "003.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    return tmp_path / "shapes"


def entries(folder: Path) -> list[set[tuple[Any, ...]]]:
    with contextlib.closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        return [set(connection.execute(f"SELECT * FROM {table}")) for table in ("embeddings", "traits")]


@pytest.mark.slow
def test_a_training_is_the_same_wherever_its_images_are_embedded(source: Path, shards: Shards, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    expected = headstart.train(source, runtime=Runtime(cache=here))
    found = headstart.train(source, runtime=Runtime(cache=there, on=shards))
    assert found.fitted.model == expected.fitted.model
    assert found.fitted.data == expected.fitted.data
    assert [skip.path for skip in found.fitted.data.table.skipped] == ["disc/003.png"]
    assert entries(there) == entries(here)  # all was kept, by this process


def test_other_processes_read_the_cache_and_write_nothing(source: Path, shards: Shards, tmp_path: Path) -> None:
    embedder, table = load_embedder(Recipe(), None), headstart.read(source)

    def embedded(runtime: Runtime) -> Any:
        return extract(table, embedder, runtime, max_megapixels=1)

    first = embedded(Runtime(cache=tmp_path / "cache"))
    kept = (tmp_path / "cache" / FILE_NAME).read_bytes()
    again = embedded(Runtime(cache=tmp_path / "cache", on=shards))
    assert (first.cached, again.cached) == (0, 35)
    np.testing.assert_array_equal(again.matrix, first.matrix)
    assert (tmp_path / "cache" / FILE_NAME).read_bytes() == kept


@pytest.mark.parametrize("damage", [b"no database" * 500, None])
def test_a_cache_that_another_process_cannot_read_is_left_alone(damage: bytes | None, tmp_path: Path) -> None:
    """As on a machine where the folder is not, and where what is damaged is the business of the one that writes."""
    if damage:
        tmp_path.joinpath(FILE_NAME).write_bytes(damage)
    elsewhere: FeatureCache = pickle.loads(pickle.dumps(FeatureCache(tmp_path, "ab" * 32, 3, "cd" * 32)))
    elsewhere.put(b"x" * 32, np.ones(3, np.float32))
    assert elsewhere.get(b"x" * 32) is None
    assert elsewhere.traits(b"x" * 32) is None
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([damage] if damage else [])


def _evaluated(source: Path, model: Path, runtime: Runtime) -> Any:
    evaluation, table = headstart.evaluate(headstart.load(model), source, runtime=runtime)
    return evaluation.as_dict(), table.notes


def _scanned(source: Path, model: Path, runtime: Runtime) -> Any:
    return scan(headstart.read(source), runtime, headstart.load(model).metadata.preprocess, max_megapixels=1)


def _predicted(source: Path, model: Path, runtime: Runtime) -> Any:
    classifier = headstart.load(model)
    wanted = Wanted.of(classifier, 2, coverage=0.9)
    return [record_of(path, one, wanted) for path, one in predict_table(classifier, table(source), wanted, runtime)]


def _explained(source: Path, model: Path, runtime: Runtime) -> Any:
    images = sorted((source / "noise").iterdir())[:3]
    return headstart.explain(headstart.load(model), images, runtime=runtime)


def _drawn(source: Path, model: Path, runtime: Runtime) -> Any:
    explainer = Explainer(headstart.load(model))
    drawn = [(row.path, one) for row, one in draw_table(explainer, table(source / "disc"), None, 2, runtime)]
    return [(path, str(one) if isinstance(one, ImageError) else (one.png, one.entry)) for path, one in drawn]


def _neighbours(source: Path, model: Path, runtime: Runtime) -> Any:
    classifier = headstart.load(model)
    asked = classifier.embed(sorted((source / "disc").iterdir())[:2])
    return find_neighbours(classifier, headstart.read(source), asked, 3, runtime)


def _embedded(source: Path, model: Path, runtime: Runtime) -> Any:
    found = headstart.embed(headstart.read(source), classifier=headstart.load(model), runtime=runtime)
    return found.table, found.digests, found.features.tobytes()


def _searched(source: Path, model: Path, runtime: Runtime) -> Any:
    image = source / "disc" / "001.png"
    return headstart.search(headstart.load(model), image, headstart.read(source), runtime=runtime)


def _flips(source: Path, model: Path, runtime: Runtime) -> Any:
    return harmless(headstart.read(source), Recipe(), runtime, ["hflip"])


def table(source: Path) -> Any:
    return expand([str(source)])


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb", [_evaluated, _scanned, _predicted, _explained, _drawn, _neighbours, _embedded, _searched, _flips]
)
def test_every_pass_over_images_runs_elsewhere(
    verb: Callable[[Path, Path, Runtime], Any], source: Path, model: Path, shards: Shards, tmp_path: Path
) -> None:
    expected = verb(source, model, Runtime(cache=tmp_path / "here"))
    assert verb(source, model, Runtime(cache=tmp_path / "there", on=shards)) == expected
    assert len(repr(expected)) > 100


def test_strictness_is_of_the_loop_and_not_of_the_pool(source: Path, model: Path, shards: Shards) -> None:
    strict = Runtime(cache=None, strict=True, on=shards)
    with pytest.raises(SourceError, match=r"1 file cannot be used; the first is 'disc/003\.png'"):
        headstart.train(source, runtime=strict)
    with pytest.raises(SourceError, match=r"003\.png': .*without --strict"):
        _predicted(source, model, strict)


def test_a_pool_is_an_object_that_runs() -> None:
    assert Runtime(workers=3).pool == Threads(3)
    with pytest.raises(headstart.OptionError, match="the method run"):
        Runtime(on="ray")  # type: ignore[arg-type]
