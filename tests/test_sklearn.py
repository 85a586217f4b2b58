"""The estimators are scikit-learn's: its own checks, cross-validation, pipelines and searches; on paths and arrays."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest
import sklearn.utils.estimator_checks as checks
from PIL import Image
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

import headstart
from headstart.core.errors import ImageError, InputError, OptionError
from headstart.sklearn import ImageClassifier, ImageEmbedder


@pytest.fixture(scope="module")
def images(shapes: Path) -> tuple[list[str], np.ndarray]:
    paths = sorted(str(path) for path in shapes.rglob("*.png"))
    return paths, np.array([Path(path).parent.name for path in paths])


@pytest.fixture(autouse=True)
def shared(warm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(warm))


def pixels(paths: list[str]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])


class OfTables(ImageClassifier):
    """The classifier on tables of numbers, a row drawn as stripes: scikit-learn's checks have no images to give."""

    def fit(self, X: Any, y: Any) -> OfTables:
        return super().fit(self._drawn(X, reset=True), y)

    def predict(self, X: Any) -> Any:
        return super().predict(self._of(X))

    def predict_proba(self, X: Any) -> Any:
        return super().predict_proba(self._of(X))

    def decision_function(self, X: Any) -> Any:
        return super().decision_function(self._of(X))

    def _of(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self._drawn(X, reset=False)

    def _drawn(self, X: Any, *, reset: bool) -> np.ndarray:
        from sklearn.utils.validation import validate_data

        table = validate_data(self, X, dtype=np.float64, reset=reset)
        values = (127.5 + 127.5 * np.sin(table[:, :16] / 4)).astype(np.uint8)
        return np.repeat(np.repeat(values[:, None, :], 8, 1), 8, 2)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inputs = tags.input_tags
        inputs.two_d_array, inputs.one_d_array, inputs.three_d_array, inputs.string = True, False, False, False
        return tags


NOT_APPLICABLE = {"check_class_weight_classifiers"}  # it hands over weights for single classes


@pytest.mark.slow
def test_checks_of_scikit_learn() -> None:
    if not hasattr(checks, "estimator_checks_generator"):
        pytest.skip("this scikit-learn has no list of checks")
    passed = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one, check in checks.estimator_checks_generator(OfTables(C=1.0)):
            name = getattr(check, "func", check).__name__
            with contextlib.suppress(SkipTest):
                if name not in NOT_APPLICABLE:
                    check(one)
                    passed.append(name)
    assert {"check_classifiers_train", "check_estimators_pickle", "check_fit_idempotent", "check_n_features_in"} <= {
        *passed
    }
    assert len(passed) > 40


@pytest.mark.parametrize(
    "name",
    [
        "check_no_attributes_set_in_init", "check_get_params_invariance", "check_set_params",
        "check_parameters_default_constructible", "check_estimator_cloneable", "check_estimator_repr",
        "check_do_not_raise_errors_in_init_or_set_params", "check_mixin_order", "check_valid_tag_types",
    ],
)  # fmt: skip
@pytest.mark.parametrize("estimator", [ImageClassifier(C=2.0), ImageEmbedder(n_jobs=1)], ids=["classifier", "embedder"])
def test_single_checks(name: str, estimator: Any) -> None:
    check = getattr(checks, name, None)
    if check is None:
        pytest.skip("this scikit-learn has no such check")
    check(type(estimator).__name__, estimator)


def test_conventions_of_an_estimator(images: tuple[list[str], np.ndarray]) -> None:
    paths, labels = images
    model = ImageClassifier()
    before = model.get_params()
    assert model.fit(paths, labels) is model
    assert model.get_params() == before
    assert model.classes_.tolist() == ["disc", "noise", "stripes"]
    assert (model.coef_.shape, model.intercept_.shape) == ((3, 1280), (3,))
    probabilities = model.predict_proba(paths)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    np.testing.assert_array_equal(model.predict(paths), model.classes_[probabilities.argmax(1)])
    np.testing.assert_array_equal(model.decision_function(paths).argmax(1), probabilities.argmax(1))
    assert model.score(paths, labels) > 0.9
    order = np.random.default_rng(0).permutation(len(paths))
    np.testing.assert_array_equal(model.predict_proba([paths[i] for i in order]), probabilities[order])
    np.testing.assert_allclose(model.predict_proba(paths[3:4]), probabilities[3:4], atol=1e-6)
    again = clone(model).fit([paths[i] for i in order], labels[order])
    np.testing.assert_allclose(again.predict_proba(paths), probabilities, atol=1e-4)
    other = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(other.predict_proba(paths), probabilities)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_it_is_logistic_regression_on_embeddings(
    class_weight: str | None, images: tuple[list[str], np.ndarray]
) -> None:
    paths, labels = images[0][:30], images[1][:30]
    features = ImageEmbedder().fit_transform(paths).astype(np.float64)
    z = (features - features.mean(0)) / np.sqrt(features.var(0).mean())
    theirs = LogisticRegression(C=0.5, class_weight=class_weight, tol=1e-8, max_iter=20_000).fit(z, labels)
    found = ImageClassifier(C=0.5, class_weight=class_weight).fit(paths, labels)
    np.testing.assert_allclose(found.predict_proba(paths), theirs.predict_proba(z), atol=1e-3)
    assert (found.C_, found.temperature_) == (0.5, 1.0)


def test_copies_do_not_choose_c(images: tuple[list[str], np.ndarray]) -> None:
    """Were a copy of each image in another fold, no penalty would be too weak."""
    paths, labels = images
    rng = np.random.default_rng(0)
    noise = rng.permutation(labels)  # nothing to learn
    assert ImageClassifier().fit([*paths, *paths], [*noise, *noise]).C_ <= 1e-2


@pytest.mark.parametrize("kind", ["list", "array", "objects", "series", "frame", "pixels", "grey", "pil", "bytes"])
def test_kinds_of_images(kind: str, images: tuple[list[str], np.ndarray]) -> None:
    paths, labels = images
    expected = ImageClassifier(C=1.0).fit(paths, labels).predict_proba(paths)
    given: Any = paths
    if kind == "array":
        given = np.array(paths)
    elif kind == "objects":
        given = np.array([Path(path) for path in paths], object)
    elif kind in {"series", "frame"}:
        pandas = pytest.importorskip("pandas")
        given = pandas.Series(paths) if kind == "series" else pandas.DataFrame({"path": paths})
    elif kind in {"pixels", "grey"}:
        given = pixels(paths)
        given = given if kind == "pixels" else given.mean(3).astype(np.uint8)
    elif kind == "pil":
        given = [Image.open(path) for path in paths]
    elif kind == "bytes":
        given = [Path(path).read_bytes() for path in paths]
    found = ImageClassifier(C=1.0).fit(given, labels).predict_proba(given)
    assert found.shape == expected.shape
    if kind != "grey":
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("as_pixels", [False, True])
def test_cross_validation_pipelines_and_searches(as_pixels: bool, images: tuple[list[str], np.ndarray]) -> None:
    paths, labels = images
    given: Any = pixels(paths) if as_pixels else np.array(paths)
    assert cross_val_score(ImageClassifier(), given, labels, cv=3).mean() > 0.8
    search = GridSearchCV(make_pipeline(ImageClassifier()), {"imageclassifier__C": [0.01, 1.0]}, cv=3)
    assert search.fit(given, labels).best_score_ > 0.8
    assert search.predict(given[:2]).shape == (2,)
    pipeline = make_pipeline(ImageEmbedder(), StandardScaler(), LogisticRegression())
    assert cross_val_score(pipeline, given, labels, cv=3).mean() > 0.8
    assert pipeline.fit(given, labels)[:1].get_feature_names_out()[-1] == "imageembedder1279"


def test_embeddings_are_those_of_embed(images: tuple[list[str], np.ndarray], shapes: Path) -> None:
    paths, _ = images
    found = headstart.embed(shapes)
    by_path = {str(shapes / row.path): vector for row, vector in zip(found.table.rows, found.features, strict=True)}
    for cache in ("default", None):
        vectors = ImageEmbedder(cache=cache).fit_transform(paths)
        np.testing.assert_array_equal(vectors, [by_path[path] for path in paths])


@pytest.mark.parametrize("labels", [[0, 1], [True, False], ["b", "a"], [3.0, 7.0], np.array(["x", "y"], object)])
def test_labels_of_any_type(labels: Any, images: tuple[list[str], np.ndarray]) -> None:
    paths = images[0][:6] + images[0][12:18]
    y = np.array([labels[0]] * 6 + [labels[1]] * 6)
    model = ImageClassifier().fit(paths, y)
    assert model.predict(paths).dtype == y.dtype
    assert set(model.predict(paths).tolist()) == set(y.tolist())
    np.testing.assert_array_equal(model.decision_function(paths) > 0, model.predict(paths) == model.classes_[1])


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"C": 0.0}, "C is 0.0"), ({"C": "1"}, "C is '1'"), ({"class_weight": "none"}, "class_weight"),
        ({"backbone": "nothing"}, "nothing"), ({"backbone": "auto"}, "does not choose the backbone"),
        ({"resize": "x"}, "x"),
        ({"n_jobs": 0}, "workers"), ({"precision": "int4"}, "int4"), ({"random_state": -1}, "random_state is -1"),
        ({"random_state": np.random.RandomState(0)}, "random_state is RandomState"),
    ],
)  # fmt: skip
def test_parameters_that_do_not_exist(
    parameters: dict[str, Any], says: str, images: tuple[list[str], np.ndarray]
) -> None:
    with pytest.raises(OptionError, match=says):
        ImageClassifier(**parameters).fit(*images)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("cat.jpg", "single value"), (5, "single value"), ([], "0 sample"), (np.zeros((4, 5)), "float64"),
        (np.zeros((4, 5, 5)), "float64"), (np.zeros((36,)), "float64"),
    ],
)  # fmt: skip
def test_what_is_no_image(given: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        ImageClassifier().fit(given, ["a"] * 36)


def test_labels_that_cannot_be_learnt(images: tuple[list[str], np.ndarray], tmp_path: Path) -> None:
    paths, labels = images
    for y, says in ((None, "requires y"), (labels[:5], "inconsistent"), (np.linspace(0, 1, 36), "label type"),
                    (["a"] * 36, "one class"), (["a"] * 35 + ["b"], "single image")):  # fmt: skip
        with pytest.raises(ValueError, match=says):
            ImageClassifier().fit(paths, y)
    assert ImageClassifier(C=1).fit(paths, ["a"] * 35 + ["b"]).classes_.tolist() == ["a", "b"]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"Image 1, '.*broken\.png'"):
        ImageClassifier().fit([paths[0], str(broken), *paths[1:]], ["a", *labels])


@pytest.fixture(scope="module")
def tagged(images: tuple[list[str], np.ndarray]) -> tuple[list[str], np.ndarray]:
    """Each image with labels: two that say what it shows, and one of chance."""
    paths, labels = images
    chance = np.random.default_rng(0).random(len(paths)) < 0.5
    return paths, np.stack([labels == np.unique(labels)[0], labels != np.unique(labels)[0], chance], 1).astype(int)


def test_an_indicator_matrix_gives_several_labels(tagged: tuple[list[str], np.ndarray]) -> None:
    paths, y = tagged
    model = ImageClassifier().fit(paths, y)
    probabilities, scores = model.predict_proba(paths), model.decision_function(paths)
    assert (model.multilabel_, model.classes_.tolist()) == (True, [0, 1, 2])
    assert (probabilities.shape, scores.shape, model.C_.shape) == (y.shape, y.shape, (3,))
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-scores)))
    np.testing.assert_array_equal(model.predict(paths), (probabilities >= 0.5).astype(int))
    np.testing.assert_array_equal(model.predict(paths)[:, :2], y[:, :2])
    assert model.score(paths, y) == (model.predict(paths) == y).all(1).mean()  # scikit-learn's exact match
    sparse = ImageClassifier().fit(paths, csr_matrix(y))
    np.testing.assert_array_equal(sparse.predict_proba(paths), probabilities)
    with_one_label = ImageClassifier().fit(paths, y[:, 0])
    assert with_one_label.multilabel_ is False


def test_labels_with_a_given_c_are_logistic_regressions(tagged: tuple[list[str], np.ndarray]) -> None:
    paths, y = tagged
    for weight in (None, "balanced"):
        model = ImageClassifier(C=0.05, class_weight=weight).fit(paths, y)
        features = ImageEmbedder().fit_transform(paths).astype(np.float64)
        scale = np.sqrt(features.var(0).mean())
        for column in range(3):
            other = LogisticRegression(C=0.05, class_weight=weight, tol=1e-8, max_iter=5000)
            other.fit((features - features.mean(0)) / scale, y[:, column])
            expected = other.decision_function((features - features.mean(0)) / scale)
            np.testing.assert_allclose(model.decision_function(paths)[:, column], expected, atol=0.02)


def test_labels_go_through_scikit_learns_searches(tagged: tuple[list[str], np.ndarray]) -> None:
    paths, y = tagged
    scores = cross_val_score(
        ImageClassifier(C=0.1), paths, y[:, :2], cv=KFold(2, shuffle=True, random_state=0), scoring="f1_macro"
    )
    assert scores.min() > 0.9
    assert clone(ImageClassifier(C=0.1)).fit(paths, y).C_.tolist() == [0.1] * 3
    with pytest.raises(InputError, match=r"Column 1 of y is 1 for 0 and 0 for"):
        ImageClassifier().fit(paths, np.stack([y[:, 0], 0 * y[:, 1]], 1))
    with pytest.raises(InputError, match="Column 0 of y is 1 for 1 "):
        ImageClassifier().fit(paths, np.stack([np.arange(len(y)) == 0, y[:, 1]], 1).astype(int))


@pytest.mark.slow
def test_it_needs_no_pytorch() -> None:
    code = "import sys, headstart.sklearn; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
