"""Which regions of an image are evidence for a class.

Two methods, both of which need no PyTorch and give a map in the same unit, the log-odds of the class:

``cam``, the class activation map (Zhou et al. 2016, "Learning Deep Features for Discriminative Localization"): where
the embedding is the mean of a feature map and the head is linear, the log-odds are a mean over positions, plus a
constant. The map is not an estimate: it shows the terms of that sum. It costs one run of the network.

``occlusion`` (see `headstart.prediction.occlusion`): how far the log-odds fall when a region is covered. It needs
nothing but the classifier, and about fifty runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from headstart.core.equality import ByValue
from headstart.core.errors import OptionError
from headstart.core.text import listed, nearest, quoted
from headstart.prediction import overlay
from headstart.prediction.activation_map import activation_map, linear_head
from headstart.prediction.answers import Prediction
from headstart.prediction.classifier import Classifier
from headstart.prediction.labels import LabelsPrediction
from headstart.prediction.occlusion import occlusion_map
from headstart.preprocess.frame import Frame, frame
from headstart.targets import TARGETS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

Method = Literal["auto", "cam", "occlusion"]
METHODS: dict[str, str] = {
    "cam": "class activation map",
    "occlusion": "occlusion map",
}
PICTURE_PX = 800  # longer side of the pictures that explanations are painted on


@dataclass(frozen=True)
class Neighbour:
    """A training image of the classifier, and how similar it is to another image.

    Attributes:
        path: As in the source's image table.
        label: Its class.
        similarity: Cosine of the two embeddings, in -1..1.
        digest: SHA-256 of the file, hexadecimal.
    """

    path: str
    label: str
    similarity: float
    digest: str


@dataclass(frozen=True, eq=False)
class Explanation(ByValue):
    """Which regions of an image are evidence for a class.

    Attributes:
        label: The class.
        probability: Its probability, in 0..1.
        prediction: What the classifier says of the image, whichever class is explained.
        method: ``cam`` or ``occlusion``; see `headstart.prediction.explanation`.
        grid: float32 (h, w), over the square that the network sees, in log-odds of the class: positive regions are
            evidence for it, negative ones against it.
        frame: Where that square lies on the image.
        offset: What the log-odds are beside the mean of the grid; None for ``occlusion``, which is no sum.
        pixels: The image, uint8 (H, W, 3), its longer side at most 800 px.
        embedding: float32 (D,).
        neighbours: The most similar training images, the nearest first; empty if they were not looked for.
        several: Whether any number of labels can be true of an image.
    """

    label: str
    probability: float
    prediction: Prediction | LabelsPrediction
    method: str
    grid: NDArray[np.float32]
    frame: Frame
    offset: float | None
    pixels: NDArray[np.uint8]
    embedding: NDArray[np.float32]
    neighbours: tuple[Neighbour, ...] = ()
    several: bool = False

    def __repr__(self) -> str:
        return f"Explanation({self.label}: {self.probability:.3f}, {METHODS[self.method]})"

    @property
    def map(self) -> NDArray[np.float32]:
        """The grid on the picture: float32 (H, W) beside `pixels`, NaN where the network does not see."""
        return self.frame.on_image(self.grid, *self.pixels.shape[:2])

    def highlighted(self, share: float = 0.2) -> NDArray[np.bool_]:
        """The strongest regions: bool (H, W) beside `pixels`, true for this share of what the network sees."""
        values = self.map
        seen = np.isfinite(values)
        count = round(share * int(seen.sum()))
        strongest = np.argsort(np.where(seen, -values, np.inf), axis=None, kind="stable")[:count]
        result = np.zeros(values.size, bool)
        result[strongest] = True
        return result.reshape(values.shape)

    def overlay(self) -> Image.Image:
        """The picture in grey with the map in colours over it.

        The strongest evidence for the class is painted brightest; evidence for other classes is not painted. A line
        surrounds the strongest fifth (`highlighted`), and what the network does not see is dark.
        """
        values, highest = self.map, float(self.grid.max())
        if highest <= 0:  # nothing speaks for the class
            return overlay.paint(self.pixels, values * 0)
        return overlay.paint(self.pixels, np.clip(values / highest, 0, 1), self.highlighted())


class Explainer:
    """Explains what a classifier says. Any thread may use it.

    Args:
        classifier: The classifier.
        method: ``auto`` takes ``cam`` where that is exact, and ``occlusion`` elsewhere.

    Raises:
        OptionError: There is no such method, or the model does not allow it.
    """

    def __init__(self, classifier: Classifier, method: Method = "auto") -> None:
        if method not in get_args(Method):
            raise OptionError(
                f"There is no method {quoted(method)}.",
                f"{nearest(method, get_args(Method))}Choose one of {listed(get_args(Method))}.",
            )
        self._classifier = classifier
        self._method = method
        self._head = None if method == "occlusion" else linear_head(classifier)
        if method == "cam" and self._head is None:
            raise _no_cam()

    def explain_file(self, data: bytes, label: str | None = None, *, top: int = 5, workers: int = 1) -> Explanation:
        """Explain the bytes of one image file; see `explain`.

        Raises:
            ImageError: It cannot be decoded, or the model fails on it.
        """
        return self.explain(self._classifier.pixels(data), label, top=top, workers=workers)

    def explain(
        self, pixels: NDArray[np.uint8], label: str | None = None, *, top: int = 5, workers: int = 1
    ) -> Explanation:
        """Explain one image.

        Args:
            pixels: uint8 (H, W, 3).
            label: The class to be explained; None for the one that is predicted.
            top: How many classes to name in the prediction.
            workers: Threads, where there are several runs.

        Raises:
            OptionError: The classifier does not know the class; or ``cam`` was asked for and the model has no feature
                map.
            ImageError: The model fails on the image.
        """
        number = None if label is None else self.number(label)
        result = self._classifier.run_pixels(pixels, feature_map=self._head is not None)
        if number is None:
            number = int(result.probabilities.argmax())
        spec = self._classifier.metadata.preprocess
        where = frame(spec, *pixels.shape[:2])
        if self._head is not None and self._head.gives(result):
            method, (grid, offset) = "cam", activation_map(self._head, result, number)
        elif self._method == "cam":
            raise _no_cam()
        else:
            method, offset = "occlusion", None
            grid = occlusion_map(self._classifier, pixels, where, number, workers)
        return Explanation(
            label=self._classifier.classes[number],
            probability=float(result.probabilities[number]),
            prediction=self._classifier.prediction(result, top),
            method=method,
            grid=grid.astype(np.float32),
            frame=where,
            offset=offset,
            pixels=overlay.picture(pixels, PICTURE_PX),
            embedding=result.embedding,
            several=not TARGETS[self._classifier.metadata.task].exclusive,
        )

    def number(self, label: str) -> int:
        """The number of a class.

        Raises:
            OptionError: The classifier does not know it.
        """
        classes = self._classifier.classes
        if label not in classes:
            raise OptionError(
                f"The model does not know the class {quoted(label)}.",
                f"{nearest(label, classes)}It knows {listed(classes)}.",
            )
        return classes.index(label)


def _no_cam() -> OptionError:
    return OptionError(
        "This model has no class activation map: that needs a linear head on the mean of a feature map, "
        "which older model files do not have.",
        "Use --method occlusion (method='occlusion'), or train it again.",
    )
