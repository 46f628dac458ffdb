"""What many tests share."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from stages.dataset import Dataset
from stages.params import Params
from stages.prepare import digits_images

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new folder as the working directory, where a stage finds nothing but what the test put there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def digits(in_empty_folder: Path) -> Dataset:
    """The training part of scikit-learn's digits."""
    assert in_empty_folder  # where prepare puts its raw files
    training, _ = digits_images()
    return training


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers on loopback are asked directly, whatever the user's network needs."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def random_digits(count: int) -> Dataset:
    """Random images and labels."""
    rng = np.random.default_rng(0)
    return Dataset(rng.random((count, 28, 28), np.float32), rng.integers(0, 10, count).astype(np.uint8))


# A run of seconds on the embedded digits.
SMALL = {
    "prepare__dataset": "digits",
    "prepare__validation_size": 200,
    "model__lstm_units": [16],
    "train__epochs": 2,
    "train__learning_rate": 0.01,
}

# Parameters with which training soon meets infinity.
DIVERGING = {
    "model__activation": "elu",
    "train__learning_rate": 10,
    "train__warmup": 0,
    "train__decay": 0,
    "train__batch_size": 32,
}


def make_params(**changes: object) -> Params:
    """The committed parameters but for `section__name=value`."""
    return Params.model_validate(changed_params(**changes))


def write_params(folder: Path, **changes: object) -> None:
    """Write a params.yaml like the committed one but for `section__name=value`, valid or not."""
    (folder / "params.yaml").write_text(yaml.safe_dump(changed_params(**changes)), encoding="utf-8")


def changed_params(**changes: object) -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for name, value in changes.items():
        section, key = name.split("__")
        assert key in values[section]
        values[section][key] = value
    return values
