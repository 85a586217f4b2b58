"""scikit-learn estimators for images, for use in its pipelines, searches and cross-validation.

For a model file, with calibration on held-out images, familiarity and a report, use `headstart.train`.

Examples:
    >>> from headstart.sklearn import ImageClassifier  # doctest: +SKIP
    >>> cross_val_score(ImageClassifier(), paths, labels)  # doctest: +SKIP
    array([0.97, 0.94, 0.95, 0.96, 0.95])
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from headstart.core.errors import InputError, OptionError
from headstart.core.runtime import Runtime, default_cache, default_workers
from headstart.settings.recipe import Recipe
from headstart.strategies import anyimages
from headstart.strategies.estimated import Estimation

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ImageClassifier", "ImageEmbedder"]

_DEFAULT = "default"


class _Backbone(BaseEstimator):
    """The part that embeds. Constructors only store, as scikit-learn wants it."""

    backbone: str
    precision: str | None
    resize: str
    max_megapixels: int
    cache: str | os.PathLike[str] | None
    n_jobs: int | None

    def _load(self, images: Sequence[Any]) -> None:
        """Look at the parameters, and find the embedder."""
        if "auto" in {self.backbone, self.resize}:
            raise OptionError(
                "An estimator does not choose the backbone or the resize mode.",
                "Name one, or search them with GridSearchCV.",
            )
        self._recipe = Recipe.from_dict({
            "backbone": self.backbone, "fit": self.resize, "max_megapixels": self.max_megapixels,
            **({} if self.precision is None else {"precision": self.precision}),
        })  # fmt: skip
        self._embedder = anyimages.load(images, self._recipe, self._runtime())

    def _embed(self, images: Sequence[Any]) -> tuple[NDArray[np.float32], tuple[str, ...]]:
        return anyimages.embed(images, self._embedder, self._recipe, self._runtime())

    def _runtime(self) -> Runtime:
        cache = default_cache() if self.cache == _DEFAULT else None if self.cache is None else Path(self.cache)
        workers = default_workers() if self.n_jobs is None or self.n_jobs == -1 else self.n_jobs
        return Runtime(cache=cache, workers=workers)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags


class ImageClassifier(ClassifierMixin, _Backbone):
    """A linear classifier on the embeddings of a frozen, pretrained network, with calibrated probabilities.

    Each image has one class; or any number of labels, where `y` is an indicator matrix of 0 and 1 (scikit-learn's
    multilabel classification, as of `MultiLabelBinarizer`): then each label is fitted and calibrated by itself.

    It is fitted on all images that it is given. Each is embedded once and then comes from the cache, so that a search
    over `C` or a cross-validation costs little more than one fit.

    Args:
        backbone: Name of the network; see `headstart backbones`.
        precision: ``int8`` or ``float32``; None for the backbone's default.
        resize: How images become square: ``crop``, ``squash`` or ``pad``.
        C: Inverse strength of the L2 penalty, as in `LogisticRegression` on features of variance 1; None chooses it,
            and the temperature of the probabilities, by cross-validation among the images of `fit`. With a number, the
            probabilities are not calibrated.
        class_weight: None, or ``balanced`` to give every class the same total weight.
        max_megapixels: Images of more are refused.
        cache: Folder of the feature cache; ``default`` for that of the command line, None for none.
        n_jobs: Threads; None for one for each core.
        random_state: Seed of the folds that choose `C`; None is 0.

    Attributes:
        classes_: The classes, sorted, (C,); of labels the numbers of the columns of `y`.
        multilabel_: Whether an image can have several labels.
        C_: The inverse strength of the penalty of the fit; of labels, that of each, (C,).
        temperature_: Temperature that the scores are divided by before the softmax; of labels, that of each, (C,), by
            which their scores are divided already.
        coef_: Weights, float32 (C, D).
        intercept_: float32 (C,).

    Examples:
        >>> model = ImageClassifier().fit(paths, ["ant", "bee", "ant", "bee"])  # doctest: +SKIP
        >>> model.predict(["new.jpg"])  # doctest: +SKIP
        array(['ant'], dtype='<U3')
    """

    def __init__(
        self,
        *,
        backbone: str = "lite0",
        precision: str | None = None,
        resize: str = "crop",
        C: float | None = None,  # noqa: N803  as scikit-learn calls it
        class_weight: str | None = None,
        max_megapixels: int = 64,
        cache: str | os.PathLike[str] | None = _DEFAULT,
        n_jobs: int | None = None,
        random_state: int | None = None,
    ) -> None:
        self.backbone = backbone
        self.precision = precision
        self.resize = resize
        self.C = C
        self.class_weight = class_weight
        self.max_megapixels = max_megapixels
        self.cache = cache
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Fit the classifier to images.

        Args:
            X: Paths (N,), a list of paths, bytes, PIL images or arrays, or pixels uint8 (N, H, W) or (N, H, W, C).
            y: The class of each, (N,); or for several labels an image 0 and 1, (N, C), sparse or not.

        Raises:
            InputError: An image cannot be read, or there are too few images of a class.
            OptionError: A parameter has an invalid value.
        """
        images = _several(X)
        if y is None:
            raise InputError("This ImageClassifier requires y to be passed, but the target y is None.")
        kind = type_of_target(y, input_name="y")
        self.multilabel_ = kind == "multilabel-indicator"
        y = np.asarray(y.toarray() if issparse(y) else y) if self.multilabel_ else column_or_1d(y, warn=True)
        check_consistent_length(images, y)
        check_classification_targets(y)
        estimation = self._estimation()
        if self.multilabel_:
            self.classes_ = np.arange(y.shape[1])
        else:
            self.classes_, labels = np.unique(y, return_inverse=True)
            if len(self.classes_) < 2:
                raise InputError(f"There is one class, {self.classes_[0]!r}; a classifier needs two.")
        self._load(images)
        features, digests = self._embed(images)
        found = (
            estimation.of_labels(features, y.astype(np.int8), digests)
            if self.multilabel_
            else estimation.of_classes(features, labels.astype(np.int64), len(self.classes_), digests)
        )
        self._calibration, self.C_, self.temperature_ = found.calibration, found.strength, found.temperature
        self.coef_, self.intercept_ = found.weights.T, found.bias
        return self

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """The class of each image, (N,); of labels 1 where the probability is at least a half, else 0, int64 (N, C)."""
        scores = self._scores(X)
        if self.multilabel_:
            return (scores >= 0).astype(np.int64)
        classes: NDArray[Any] = self.classes_[scores.argmax(1)]
        return classes

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """The probability of each class, float64 (N, C), in the order of `classes_`; of labels, each by itself."""
        return self._calibration.probabilities(self._scores(X))

    def decision_function(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """The scores of the classes, float64 (N, C); of two classes, (N,), above 0 for the second.

        Of labels, (N, C): above 0 where a label is more likely than not.
        """
        scores = self._scores(X)
        two = len(self.classes_) == 2 and not self.multilabel_
        return scores[:, 1] - scores[:, 0] if two else scores

    def _scores(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Scores (N, C); in float64, where they do not depend on how many images are given at once."""
        check_is_fitted(self)
        features, _ = self._embed(_several(X))
        scores: NDArray[np.float64] = features.astype(np.float64) @ self.coef_.T + self.intercept_
        return scores

    def _estimation(self) -> Estimation:
        """How the head is fitted.

        Raises:
            OptionError: A parameter has an invalid value.
        """
        if self.class_weight is not None and self.class_weight != "balanced":
            raise OptionError(f"class_weight is {self.class_weight!r}; expected None or 'balanced'.")
        seed = 0 if self.random_state is None else self.random_state
        if not isinstance(seed, int | np.integer) or seed < 0:
            raise OptionError(f"random_state is {seed!r}; expected a whole number from 0, or None.")
        if self.C is not None and (not isinstance(self.C, int | float | np.number) or not 0 < self.C < np.inf):
            raise OptionError(f"C is {self.C!r}; expected a number above 0, or None.")
        c = None if self.C is None else float(self.C)
        return Estimation(c, "balanced" if self.class_weight else "none", int(seed), self._runtime().workers)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class ImageEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _Backbone):
    """Transforms images into the embeddings of a frozen, pretrained network, for use with any estimator.

    The parameters are those of `ImageClassifier`; there is nothing to learn.

    Examples:
        >>> make_pipeline(ImageEmbedder(), StandardScaler(), KMeans(8)).fit(paths)  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        backbone: str = "lite0",
        precision: str | None = None,
        resize: str = "crop",
        max_megapixels: int = 64,
        cache: str | os.PathLike[str] | None = _DEFAULT,
        n_jobs: int | None = None,
    ) -> None:
        self.backbone = backbone
        self.precision = precision
        self.resize = resize
        self.max_megapixels = max_megapixels
        self.cache = cache
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803
        """Look at the parameters, and load the network."""
        self._load(_several(X))
        self.width_ = self._n_features_out = self._embedder.width
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        """The embeddings, float32 (N, D); see `ImageClassifier.fit` for what images are."""
        check_is_fitted(self)
        return self._embed(_several(X))[0]


def _several(given: Any) -> Sequence[Any]:
    """The images one by one.

    Raises:
        InputError: It is no collection of images, or an empty one.
    """
    hint = "Give paths (N,), a list of images, or pixels uint8 (N, H, W) or (N, H, W, C)."
    if isinstance(given, str | bytes | os.PathLike) or not hasattr(given, "__len__"):
        raise InputError(f"A single value of type {type(given).__name__}; expected several images.", hint)
    images: Sequence[Any] = given
    if not isinstance(given, list | tuple):
        array = np.asarray(given)
        if array.dtype.kind in "OU" and array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]  # the only column of a table
        pixels = array.dtype == np.uint8 and array.ndim in {3, 4}
        if not pixels and not (array.dtype.kind in "OUS" and array.ndim == 1):
            raise InputError(f"An array of {array.dtype} {array.shape}; expected images.", hint)
        images = list(array) if pixels else array.tolist()
    if not len(images):
        raise InputError("Found array with 0 sample(s); expected at least one image.", hint)
    return images
