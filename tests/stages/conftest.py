from pathlib import Path

import pytest

from stages.dataset import Dataset
from stages.prepare import digits_images


@pytest.fixture
def digits(in_empty_folder: Path) -> Dataset:
    """The training part of scikit-learn's digits."""
    assert in_empty_folder  # where prepare puts its raw files
    training, _ = digits_images()
    return training
