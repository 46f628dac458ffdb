"""Metrics, computed from labels and probabilities."""

import numpy as np
from numpy.typing import NDArray

from stages.errors import InputError

Labels = NDArray[np.uint8]  # (n,), 0-9
Probabilities = NDArray[np.float32]  # (n, 10), each row sums to 1

CALIBRATION_BINS = 15


def checked(outputs: Probabilities, name: str) -> Probabilities:
    """Return a model's outputs if they are probabilities.

    Raises `InputError` with `name` if an output is not finite or is negative, or if the outputs of an image do not
    add up to 1.
    """
    # The comparisons are false for NaN too.
    if not (outputs.min() >= 0 and np.abs(outputs.sum(axis=1) - 1).max() < 1e-3):
        raise InputError(f"{name}: expected probabilities with a sum of 1 for every image, found others")
    return outputs


def accuracy_and_loss(labels: Labels, probabilities: Probabilities) -> tuple[float, float]:
    """Compute the fraction classified correctly and the mean cross-entropy in nats.

    The loss is NaN if the probability of a label is NaN.
    """
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    loss = -np.log(np.maximum(of_label, np.finfo(np.float32).tiny)).mean()
    return rounded((probabilities.argmax(axis=1) == labels).mean()), rounded(loss)


def calibration_error(labels: Labels, probabilities: Probabilities, bins: int = CALIBRATION_BINS) -> float:
    """Compute the expected calibration error, 0 to 1: the mean gap of confidence and accuracy over equal-width bins.

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    # A bin includes its upper edge, but not its lower edge.
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(bin_of, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def rounded(value: float) -> float:
    """Round to the six decimals that reports have."""
    return round(float(value), 6)
