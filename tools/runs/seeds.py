"""Results of several seeds: what they say of the mean over all seeds."""

import math
import statistics
from collections.abc import Sequence

from scipy.stats import t as student


def interval_of_mean(values: Sequence[float]) -> tuple[float, float] | None:
    """Compute Student's 95% interval of the mean over seeds. Return None of fewer than two values."""
    if len(values) < 2:
        return None
    mean, error = statistics.mean(values), statistics.stdev(values) / math.sqrt(len(values))
    margin = error * student.ppf(0.975, len(values) - 1)
    return mean - margin, mean + margin
