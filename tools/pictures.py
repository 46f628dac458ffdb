"""People's pictures of a digit, made to what MNIST's images are.

MNIST's digits were scaled into 20 x 20 pixels, keeping their proportions, and laid with their centre of mass at the
centre of 28 x 28 (http://yann.lecun.com/exdb/mnist/). A picture must show one digit and nothing else, dark on light or
light on dark, with some paper around it.
"""

import math
import stat
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stages.dataset import SIDE
from stages.errors import InputError
from stages.terminal import printable

Grey = NDArray[np.float32]  # (height, width), 0 is black and 1 is white

BOX = 20  # pixels, of the longer side of a digit
CONTRAST = 0.1  # from paper to ink, of black to white: less is a blank picture
FAINTEST = 0.1  # ink, of the darkest: less is the paper's grain or a JPEG's traces

LONGEST = 400  # pixels of a picture's longer side: a digit of a tenth of that has still more than MNIST's 28
PIXELS = 50_000_000  # of a picture that cannot be decoded smaller: they take about 0.5 GB
TURNS = {  # by the value of EXIF's orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION = 0x0112  # EXIF's tag


def read(path: Path) -> NDArray[np.float32]:
    """Read a PNG or JPEG as (28, 28), 0 for paper and 1 for ink.

    Raises `InputError` if it is no picture of one digit.
    """
    try:
        return normalized(load(path))
    except InputError as error:
        raise InputError(f"{printable(str(path))}: {error}") from None


def load(path: Path) -> Grey:
    """Read a PNG or JPEG, at most `LONGEST` in height and width.

    Raises `InputError` if it is none, damaged, or too large.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError("no readable PNG or JPEG: expected a file, found a folder, pipe or device")
        with (
            warnings.catch_warnings(action="ignore"),  # of metadata
            path.open("rb") as file,
            Image.open(file, formats=("PNG", "JPEG")) as image,
        ):
            return to_grey(image)
    except (InputError, MemoryError):
        raise
    except FileNotFoundError:
        raise InputError("not found") from None
    except UnidentifiedImageError:
        raise InputError("no readable PNG or JPEG") from None
    except Exception as error:  # noqa: BLE001 - whatever a damaged file makes Pillow raise
        raise InputError(f"no readable PNG or JPEG: {error}") from None


def to_grey(image: Image.Image) -> Grey:
    """Decode a picture as shades of grey, small and upright."""
    image.draft("L", (LONGEST, LONGEST))  # a JPEG is decoded smaller; the size is that from here on
    width, height = image.size
    if width * height > PIXELS:
        raise InputError(f"expected at most {PIXELS:,} pixels, found {width:,} x {height:,}; make the picture smaller")
    turn = TURNS.get(orientation(image))
    if image.mode.startswith("I"):  # 16 bits, as Pillow names them
        image = Image.fromarray(of_16_bits(np.asarray(image, np.float32)))
    else:
        image = image.convert("RGBA" if image.has_transparency_data else "L")
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.BICUBIC)
    if turn is not None:
        image = image.transpose(turn)
    if image.mode == "RGBA":
        return on_paper(np.asarray(image.convert("LA"), np.float32) / np.float32(255))
    return np.asarray(image, np.float32) / np.float32(255 if image.mode == "L" else 1)


def orientation(image: Image.Image) -> int:
    """Read how the camera was held, 1 to 8; upright if the metadata cannot be read."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - whatever damaged metadata makes Pillow raise
        return 1


def of_16_bits(values: NDArray[np.float32]) -> Grey:
    """Scale to 0 to 1: cameras and scanners store 10, 12 or 14 bits in 16."""
    bits = max(8, int(np.quantile(values, 0.999)).bit_length())  # a single hot pixel decides nothing
    return np.minimum(values / np.float32(2**bits - 1), 1)


def on_paper(grey_and_alpha: NDArray[np.float32]) -> Grey:
    """Lay a partly transparent picture (height, width, 2) on paper.

    If most of it is opaque and has several shades, the paper is seen, and its shade goes on. Otherwise the ink alone is
    seen, and the paper is black below light ink and white below dark ink.
    """
    grey, alpha = grey_and_alpha[..., 0], grey_and_alpha[..., 1]
    opaque = grey[alpha > 0.5]
    if not opaque.size:
        return np.ones_like(grey)
    darkest, shade, lightest = np.quantile(opaque, [0.05, 0.5, 0.95])
    paper_is_seen = opaque.size > grey.size / 2 and lightest - darkest > CONTRAST
    paper = np.float32(shade if paper_is_seen else shade < 0.5)
    return paper + alpha * (grey - paper)


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
