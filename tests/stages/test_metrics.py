import math

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.errors import InputError
from stages.metrics import accuracy_and_loss, calibration_error, checked


def certain(predicted: list[int], confidence: float = 1.0) -> NDArray[np.float32]:
    """Probabilities of these predictions, the rest spread evenly."""
    probabilities = np.full((len(predicted), 10), (1 - confidence) / 9, np.float32)
    probabilities[np.arange(len(predicted)), predicted] = confidence
    return probabilities


def labels(*digits: int) -> NDArray[np.uint8]:
    return np.array(digits, np.uint8)


def test_accuracy_and_loss_by_hand() -> None:
    # Two right with probability 0.8, one wrong, whose digit got 0.2 / 9.
    accuracy, loss = accuracy_and_loss(labels(0, 1, 2), certain([0, 1, 3], 0.8))
    assert accuracy == pytest.approx(2 / 3, abs=1e-6)
    assert loss == pytest.approx(-(2 * math.log(0.8) + math.log(0.2 / 9)) / 3, abs=1e-6)


def test_a_certain_right_prediction_has_no_loss_and_a_certain_wrong_one_a_finite_loss() -> None:
    assert accuracy_and_loss(labels(7), certain([7])) == (1.0, 0.0)
    accuracy, loss = accuracy_and_loss(labels(7), certain([1]))
    assert accuracy == 0
    # The probability is raised to the smallest normal float32.
    assert loss == pytest.approx(-math.log(2.0**-126), abs=1e-6)
    _, unknown = accuracy_and_loss(labels(7), certain([1]) * np.float32(np.nan))
    assert math.isnan(unknown)


@pytest.mark.parametrize("spoiled", [np.nan, 2.0, -0.1])
def test_outputs_that_are_not_probabilities_are_refused(spoiled: float) -> None:
    probabilities = certain([1, 2], 0.9)
    assert checked(probabilities, "model") is probabilities
    probabilities[1, 3] = spoiled
    with pytest.raises(InputError, match="model: expected probabilities with a sum of 1 for every image"):
        checked(probabilities, "model")


def test_calibration_error_by_hand() -> None:
    # Three of four right at 0.75 is perfectly calibrated.
    assert calibration_error(labels(0, 1, 2, 3), certain([0, 1, 2, 4], 0.75)) == pytest.approx(0, abs=1e-6)
    # Two bins: half of all at 0.95 and right, half at 0.55 and wrong: (0.05 + 0.55) / 2.
    both = np.concatenate([certain([0, 1], 0.95), certain([2, 3], 0.55)])
    assert calibration_error(labels(0, 1, 9, 9), both) == pytest.approx(0.3, abs=1e-6)


def test_a_bin_includes_its_upper_edge() -> None:
    # With two bins, 0.5 is in the lower and a little more in the upper: the gaps of opposite sign do not cancel.
    probabilities = np.array([[0.5, 0.5], [0.500001, 0.499999]], np.float32)
    assert calibration_error(labels(0, 1), probabilities, bins=2) == pytest.approx(0.5, abs=1e-5)
    assert calibration_error(labels(0, 1), probabilities, bins=1) == pytest.approx(0, abs=1e-5)
