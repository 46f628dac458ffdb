"""Numbers from labels and probabilities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from stages.dataset import CLASSES

Labels = NDArray[np.uint8]  # (n,), 0-9
Probabilities = NDArray[np.float32]  # (n, 10), each row sums to 1

DIGITS = range(CLASSES)
CALIBRATION_BINS = 15


def accuracy_and_loss(labels: Labels, probabilities: Probabilities) -> dict[str, float]:
    """Compute the fraction classified correctly and the mean cross-entropy in nats, NaN if a probability is."""
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return {
        "accuracy": _rounded((probabilities.argmax(axis=1) == labels).mean()),
        "loss": _rounded(-np.log(np.maximum(of_label, np.finfo(np.float32).tiny)).mean()),
    }


def full_report(labels: Labels, probabilities: Probabilities) -> dict[str, Any]:
    """Compute everything reported of a test set.

    Precision, recall and F1 are means over the ten classes, each class counting the same; `per_class` has
    them for each digit. A class never predicted has precision 0.
    """
    predicted = probabilities.argmax(axis=1)
    per_class = precision_recall_fscore_support(labels, predicted, labels=list(DIGITS), zero_division=0)
    precision, recall, f1, images = per_class
    return {
        **accuracy_and_loss(labels, probabilities),
        "errors": int((predicted != labels).sum()),
        "calibration_error": _rounded(calibration_error(labels, probabilities)),
        "precision": _rounded(precision.mean()),
        "recall": _rounded(recall.mean()),
        "f1": _rounded(f1.mean()),
        # DVC's tables leave lists out, so that these thirty figures do not bury the ones above.
        "per_class": [
            {
                "digit": digit,
                "images": int(images[digit]),
                "precision": _rounded(precision[digit]),
                "recall": _rounded(recall[digit]),
                "f1": _rounded(f1[digit]),
            }
            for digit in DIGITS
        ],
    }


def calibration_error(labels: Labels, probabilities: Probabilities, bins: int = CALIBRATION_BINS) -> float:
    """Compute the expected calibration error: how far confidence is from accuracy, 0 to 1, over equal-width bins.

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    # Bins are open below and closed above.
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(bin_of, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def _rounded(value: float) -> float:
    return round(float(value), 6)
