"""Photos whose EXIF is damaged: read, and turned in one of EXIF's eight ways."""

import random
from pathlib import Path

import pytest

from stages.pictures import load
from tests.faults.pipeline import SAMPLE
from tests.stages.test_pictures import CORNERS, corners, damaged, exif_block, four_shades, saved

CASES = 50 if SAMPLE else 750


@pytest.mark.fault("photos with damaged EXIF read", CASES)
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_photo_with_damaged_exif_is_read(ending: str, tmp_path: Path) -> None:
    rng = random.Random(1)  # noqa: S311 - the same damage every time
    for _ in range(CASES):
        path = saved(four_shades(), tmp_path / f"damaged.{ending}", exif=damaged(exif_block(), rng))
        assert corners(load(path)) in CORNERS.values()
