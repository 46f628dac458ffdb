"""People's pictures of a digit, made to what MNIST's images are.

MNIST's digits were scaled into 20 x 20 pixels, keeping their proportions, and laid with their centre of mass at the
centre of 28 x 28 (http://yann.lecun.com/exdb/mnist/). A picture must show one digit and nothing else, dark on light or
light on dark, with some paper around it.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from stages.dataset import SIDE
from stages.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg"}
BOX = 20  # pixels, of the longer side of a digit
CONTRAST = 0.1  # from paper to ink, of black to white: less is a blank picture
FAINTEST = 0.1  # ink, of the darkest: less is the paper's grain or a JPEG's traces


def read(path: Path) -> NDArray[np.float32]:
    """Read a PNG or JPEG as (28, 28), 0 for paper and 1 for ink.

    Raises `InputError` if it is no picture, or blank.
    """
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            grey = to_grey(image)
    except FileNotFoundError:
        raise InputError(f"{path}: not found") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: no readable PNG or JPEG: {error}") from None
    try:
        return normalized(grey)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def to_grey(image: Image.Image) -> NDArray[np.float32]:
    """Turn a picture as its camera was held, lay it on white where it is transparent, and take its grey, 0 to 1."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16 bits
        return np.asarray(upright, np.float32) / np.float32(65_535)
    if upright.has_transparency_data:
        paper = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(paper, upright.convert("RGBA"))
    return np.asarray(upright.convert("L"), np.float32) / np.float32(255)


def normalized(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make any (height, width) into (28, 28), 0 for paper and 1 for ink.

    Raises `InputError` if there is no ink.
    """
    ink = without_paper(grey)
    inked = ink > 0
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    return centred(scaled(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]))


def without_paper(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Measure how far each pixel stands out from the border's usual shade, and set to 0 what does so little."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    paper = np.median(border)
    polarity = 1 if grey.max() - paper > paper - grey.min() else -1
    ink, at_border = polarity * (grey - paper), polarity * (border - paper)
    darkest = ink.max()
    if darkest < CONTRAST:
        raise InputError("blank: expected a digit that stands out from its paper")
    # Shadows on the paper show at its border too; a stroke that reaches the border is none.
    ink = ink - at_border[at_border < darkest / 2].max(initial=0)
    return np.where(ink > FAINTEST * darkest, ink, 0)


def scaled(ink: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale to 20 pixels in height or width, whichever is more, and the darkest ink to 1."""
    height, width = (max(1, round(side * BOX / max(ink.shape))) for side in ink.shape)
    small = np.asarray(Image.fromarray(ink).resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(small / small.max(), 0, 1)


def centred(digit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lay a digit into (28, 28), its centre of mass in the pixel right of and below the middle, as far as it fits."""
    field = np.zeros((SIDE, SIDE), np.float32)
    height, width = digit.shape
    top, left = (_start(digit.sum(axis=axis)) for axis in (1, 0))
    field[top : top + height, left : left + width] = digit
    return field


def _start(profile: NDArray[np.float32]) -> int:
    """Find where a digit's sums (side,) begin in (28,), their centre of mass in the 15th pixel, as MNIST's is."""
    centre = profile @ np.arange(len(profile)) / profile.sum()  # in pixels from the first one's middle
    return min(max(0, math.ceil(round(SIDE / 2 - 0.5 - centre, 3))), SIDE - len(profile))
