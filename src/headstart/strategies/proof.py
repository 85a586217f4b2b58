"""The proof that the model file of a trained network gives what the network gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import HeadstartError, ImageError
from headstart.core.text import quoted
from headstart.data.decode import decode
from headstart.data.table import ImageTable
from headstart.features.pixels import PixelSession
from headstart.prediction.classifier import Classifier
from headstart.preprocess.spec import Preprocess
from headstart.settings.recipe import Recipe

if TYPE_CHECKING:
    from headstart.training.network import Network

# Images on which the finished model is compared with the network itself.
PROOF_IMAGES = 8
# Of a probability: both compute in float32, in another order.
PARITY = 1e-3


def prove_against_network(
    model: bytes, network: Network, temperature: float, preprocess: Preprocess, table: ImageTable, recipe: Recipe
) -> None:
    """Compare the finished model file, from the bytes of image files, with the network that was trained.

    Raises:
        HeadstartError: They differ; the model is not handed out.
    """
    from headstart.training.export import probabilities

    classifier, session = Classifier(model), PixelSession(preprocess)
    for row in range(0, len(table), max(1, len(table) // PROOF_IMAGES)):
        try:
            file = table.storage.read(table.rows[row].path)
            image = decode(
                file,
                max_megapixels=recipe.max_megapixels,
                enough_px=preprocess.enough_px,
                white_level=preprocess.white_level,
            )
            got = classifier.run_file(file).probabilities
        except ImageError:  # it has vanished since it was read
            continue
        expected = probabilities(network, session.run(image.pixels)[None], temperature)[0]
        difference = float(np.abs(got - expected).max())
        if not difference <= PARITY:
            raise HeadstartError(
                f"The finished model differs from the trained network by {difference:.1e} of a probability for "
                f"{quoted(table.rows[row].path)}; at most {PARITY:.0e} is accepted, and it was not saved.",
                "Please report the backbone.",
            )
