"""Draw image sets that ImageNet's features do not answer: textures, counted dots, and characters in many fonts.

Every image follows from the set, its class, its number and the seed alone, so that two machines draw the same. The
fonts are those that matplotlib brings. See README.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIZE_PX = 224
DIRECTIONS, PERIODS_PX = (0, 45, 90, 135), (10, 14)
MOST_DOTS = 6
LETTERS = "ABDEFGHJKLMNPQRTUVXY"
FONTS = (
    "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf", "DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf",
    "DejaVuSerif-Italic.ttf", "DejaVuSansMono.ttf", "DejaVuSansMono-BoldOblique.ttf", "STIXGeneral.ttf",
    "STIXGeneralItalic.ttf", "STIXGeneralBol.ttf", "cmr10.ttf", "cmss10.ttf", "cmtt10.ttf", "cmb10.ttf", "cmmi10.ttf",
)  # fmt: skip


def textures(rng: np.random.Generator, label: str) -> Image.Image:
    """Stripes of one of four directions and two periods, bent, under noise, of any colours and contrast."""
    degrees, period = map(int, label.split("-"))
    y, x = np.mgrid[:SIZE_PX, :SIZE_PX].astype(np.float64)
    bend = rng.uniform(2, 6) * np.sin(2 * np.pi * (x + y) / rng.uniform(150, 400) + rng.uniform(0, 2 * np.pi))
    angle = np.deg2rad(degrees + rng.normal(0, 6))
    along = x * np.cos(angle) + y * np.sin(angle) + bend
    wave = np.sin(2 * np.pi * along / (period * rng.uniform(0.94, 1.06)) + rng.uniform(0, 2 * np.pi))
    dark, light = np.sort(rng.uniform(0, 255, (2, 3)), 0)
    pixels = dark + (light - dark) * (0.5 + 0.5 * rng.uniform(0.3, 1) * wave)[..., None]
    pixels += rng.normal(0, rng.uniform(10, 50), (SIZE_PX, SIZE_PX, 1))
    return _image(pixels)


def dots(rng: np.random.Generator, label: str) -> Image.Image:
    """As many dots as the class says, of any size and colour, none on another, on a cloudy ground."""
    clouds = Image.fromarray(rng.integers(60, 200, (7, 7, 3), np.uint8)).resize((SIZE_PX, SIZE_PX), 3)
    pixels = np.array(clouds, np.float64)
    y, x = np.mgrid[:SIZE_PX, :SIZE_PX]
    placed: list[tuple[float, float, float]] = []
    while len(placed) < int(label):
        radius = rng.uniform(7, 22)
        row, column = rng.uniform(radius + 2, SIZE_PX - radius - 2, 2)
        if all(np.hypot(row - r, column - c) > radius + other + 4 for r, c, other in placed):
            placed.append((row, column, radius))
            colour = rng.choice([rng.uniform(0, 50, 3), rng.uniform(215, 255, 3)])
            pixels[np.hypot(y - row, x - column) < radius] = colour
    return _image(pixels + rng.normal(0, 8, pixels.shape))


def characters(rng: np.random.Generator, label: str) -> Image.Image:
    """A letter of any font, size, place, turn, colour and blur, among smaller signs that do not matter."""
    ground, ink = rng.choice([rng.integers(0, 110, 3), rng.integers(145, 256, 3)], 2, replace=False)
    image = Image.new("RGB", (SIZE_PX, SIZE_PX), tuple(map(int, ground)))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(4, 12)):
        shade = tuple(map(int, rng.integers(0, 256, 3)))
        draw.text(tuple(rng.uniform(-10, SIZE_PX, 2)), str(rng.choice(list("0123456789#%&*+?"))), shade,
                  _font(rng, rng.uniform(14, 34)))  # fmt: skip
    letter = Image.new("L", (SIZE_PX, SIZE_PX), 0)
    place = SIZE_PX / 2 + rng.uniform(-32, 32, 2)
    ImageDraw.Draw(letter).text(tuple(place), label, 255, _font(rng, rng.uniform(70, 150)), anchor="mm")
    letter = letter.rotate(rng.uniform(-25, 25), Image.Resampling.BICUBIC)
    image.paste(tuple(map(int, ink)), (0, 0), letter)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.8)))
    return _image(np.asarray(image, np.float64) + rng.normal(0, rng.uniform(2, 18), (SIZE_PX, SIZE_PX, 3)))


SETS: dict[str, tuple[Callable[[np.random.Generator, str], Image.Image], tuple[str, ...]]] = {
    "textures": (textures, tuple(f"{degrees}-{period}" for degrees in DIRECTIONS for period in PERIODS_PX)),
    "dots": (dots, tuple(map(str, range(1, MOST_DOTS + 1)))),
    "characters": (characters, tuple(LETTERS)),
}


def write(name: str, folder: Path, *, train: int, test: int, seed: int = 0) -> Path:
    """Write a set as PNG files, ``train/CLASS/N.png`` and ``test/CLASS/N.png``.

    Args:
        name: ``textures``, ``dots`` or ``characters``.
        folder: Where to; it may exist.
        train: Images of each class to learn from.
        test: Images of each class to measure on.
        seed: Another seed is another set.
    """
    draw, labels = SETS[name]
    for place, label in enumerate(labels):
        for number in range(train + test):
            part = "train" if number < train else "test"
            (folder / part / label).mkdir(parents=True, exist_ok=True)
            image = draw(np.random.default_rng([seed, sorted(SETS).index(name), place, number]), label)
            image.save(folder / part / label / f"{number:04}.png")
    return folder


def _font(rng: np.random.Generator, size: float) -> ImageFont.FreeTypeFont:
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / str(rng.choice(list(FONTS)))), int(size))


def _image(pixels: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def main() -> None:
    """Write one set, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="each set becomes a folder in it")
    parser.add_argument("--sets", nargs="*", choices=list(SETS), default=list(SETS))
    parser.add_argument("--train", type=int, default=60, help="images of each class to learn from; default 60")
    parser.add_argument("--test", type=int, default=40, help="images of each class to measure on; default 40")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in arguments.sets:
        write(name, arguments.folder / name, train=arguments.train, test=arguments.test, seed=arguments.seed)


if __name__ == "__main__":
    main()
