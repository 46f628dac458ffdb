"""Images without a download."""

from pathlib import Path

import numpy as np
from PIL import Image

from stages.dataset import Dataset, Named


def random_digits(count: int) -> Dataset:
    """Random images and labels."""
    rng = np.random.default_rng(0)
    return Dataset(rng.random((count, 28, 28), np.float32), rng.integers(0, 10, count).astype(np.uint8))


def named_digits(count: int) -> Named:
    """Random images, labels and names; the first name looks like a number."""
    images = random_digits(count)
    return Named(images.images, images.labels, np.array([f"{number:032}" for number in range(count)], "U32"))


def save_stroke(path: Path, width: int = 6) -> None:
    """Save a picture of a vertical stroke, dark on light."""
    grey = np.full((60, 60), 255, np.uint8)
    grey[10:50, 27 : 27 + width] = 0
    Image.fromarray(grey).save(path)
