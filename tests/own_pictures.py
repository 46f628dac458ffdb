"""Labelled pictures of another source than MNIST, always the same: `python -m tests.own_pictures FOLDER`.

Two of three are digits of fonts that Matplotlib ships, drawn with the strokes of a pen. The others are scikit-learn's
handwritten digits, enlarged. Both are tilted and slanted, and photographed on paper with shadows and grain. The files
are FOLDER/0/ to FOLDER/9/, half PNG and half JPEG, as `make collect` takes them.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from sklearn.datasets import load_digits

from stages.dataset import CLASSES
from tests.photos import Scene, as_image, shadow, thinned

Ink = NDArray[np.float32]  # (SIDE, SIDE), 0 to 1

FONTS = (
    *("DejaVuSans", "DejaVuSans-BoldOblique", "DejaVuSansMono", "DejaVuSerif", "DejaVuSerif-Italic"),
    *("STIXGeneral", "STIXGeneralItalic", "cmr10", "cmtt10", "cmss10", "cmmi10"),
)
SIDE = 140  # pixels of a drawn digit; 100 of them are the digit, as 20 of 28 are in MNIST's images
COUNT = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where to write them, in folders 0 to 9")
    parser.add_argument("--count", type=int, default=COUNT, help=f"pictures (default: {COUNT})")
    arguments = parser.parse_args()
    for number, (digit, picture) in enumerate(draw_all(arguments.count)):
        path = arguments.folder / str(digit) / f"{number:04}.{'jpg' if number % 2 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)


def draw_all(count: int) -> Iterator[tuple[int, Image.Image]]:
    """Draw so many pictures, each with its digit; the first ones are the same for every count."""
    handwritten = load_digits()
    for number in range(count):
        rng = np.random.default_rng([17, number])
        digit = number % CLASSES
        if number // CLASSES % 3:
            ink = of_font(digit, FONTS[rng.integers(len(FONTS))], rng)
        else:
            of_digit = handwritten.images[handwritten.target == digit]
            ink = enlarged(of_digit[rng.integers(len(of_digit))])
        yield digit, photograph(bent(ink, rng), rng)


def of_font(digit: int, name: str, rng: np.random.Generator) -> Ink:
    """Draw a digit of a font with a pen of any width, from a fine one to the font's own."""
    font = ImageFont.truetype(Path(mpl.get_data_path(), "fonts/ttf", f"{name}.ttf"), 130)
    image = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(image).text((SIDE / 2, SIDE / 2), str(digit), fill=255, font=font, anchor="mm")
    glyph = np.asarray(image, np.float32) / np.float32(255)
    return thinned(glyph, part, SIDE / 28) if (part := rng.uniform(0.3, 1.2)) < 1 else glyph


def enlarged(image: NDArray[np.float64]) -> Ink:
    """Enlarge a digit of 8 x 8 pixels to smooth strokes."""
    smooth = Image.fromarray(image.astype(np.float32) / 16).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.clip((np.asarray(smooth) - np.float32(0.45)) * 4 + np.float32(0.5), 0, 1)


def bent(ink: Ink, rng: np.random.Generator) -> Ink:
    """Tilt by up to 30 degrees, slant, and let the hand tremble."""
    tilt, slant = np.radians(rng.uniform(-30, 30)), rng.uniform(-0.3, 0.3)
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    places = np.indices((SIDE, SIDE)).reshape(2, -1) - (SIDE - 1) / 2
    tremble = ndimage.gaussian_filter(rng.normal(0, 1, (2, SIDE, SIDE)), (0, 12, 12)).reshape(2, -1)
    moved = 1.1 * turn @ np.array([[1, 0], [slant, 1]]) @ places + 100 * tremble + (SIDE - 1) / 2
    return ndimage.map_coordinates(ink, moved, order=1).reshape(SIDE, SIDE).astype(np.float32)


def photograph(ink: Ink, rng: np.random.Generator) -> Image.Image:
    scene = Scene(rng, longer=(100, 300), digit_height=(0.4, 0.75))
    scene.write(ink)
    shadow(scene)
    return as_image(scene.photographed())


if __name__ == "__main__":
    main()
