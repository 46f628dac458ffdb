"""Two classifiers on the same images: is one better?

Images that both get right, or both get wrong, do not tell which is better. The others are `fixed` or `broken`. If the
two classifiers are equally good, an image is fixed or broken with equal probability: this is what the exact McNemar
test tests. Tango's score interval says how large the difference may be.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import beta, binomtest, norm

from stages import dataset, predictions
from stages.dataset import CLASSES
from stages.errors import InputError
from tools.runs.revision import Revision, read, read_lock

Labels = NDArray[Any]  # (n,), 0-9
Verdict = Literal["better", "worse", "inconclusive"]

SIGNIFICANCE = 0.05  # of the test; the interval covers the rest
MINUS = "\N{MINUS SIGN}"
Z = norm.ppf(1 - SIGNIFICANCE / 2)


@dataclass(frozen=True)
class Change:
    """What happened to the images of one digit."""

    digit: int
    images: int
    right_before: int
    fixed: int
    broken: int

    @property
    def right_after(self) -> int:
        return self.right_before + self.fixed - self.broken


@dataclass(frozen=True)
class Paired:
    """A classifier compared with the one before it."""

    images: int
    fixed: int  # wrong before, right after
    broken: int  # right before, wrong after
    difference: float  # of accuracy, after less before
    interval: tuple[float, float]  # of the difference, 95%
    p_value: float  # exact, two-sided
    verdict: Verdict
    per_class: tuple[Change, ...]


def compare_predictions(actual: Labels, before: Labels, after: Labels) -> Paired:
    """Compare two classifiers by their predicted digits (n,) for the same images.

    The exact test decides the verdict. The interval is that of an approximate test, which rejects more: it may exclude
    0 where the verdict is inconclusive.
    Raises `InputError` if there are no images, or other numbers of them.
    """
    actual, before, after = (np.asarray(labels) for labels in (actual, before, after))
    if not (len(actual) == len(before) == len(after) > 0):
        raise InputError(
            f"expected two predictions for each of at least one image, found {len(actual):,} images, "
            f"{len(before):,} predictions before and {len(after):,} after"
        )
    right_before, right_after = before == actual, after == actual
    is_fixed, is_broken = right_after & ~right_before, right_before & ~right_after
    images, fixed, broken = len(actual), int(is_fixed.sum()), int(is_broken.sum())
    p_value = float(binomtest(fixed, fixed + broken).pvalue) if fixed + broken else 1.0
    return Paired(
        images,
        fixed,
        broken,
        (fixed - broken) / images,
        score_interval(images, fixed, broken),
        p_value,
        "inconclusive" if p_value >= SIGNIFICANCE else "better" if fixed > broken else "worse",
        tuple(
            Change(
                digit,
                int((actual == digit).sum()),
                int(right_before[actual == digit].sum()),
                int(is_fixed[actual == digit].sum()),
                int(is_broken[actual == digit].sum()),
            )
            for digit in range(CLASSES)
        ),
    )


def one_sided(more: int, fewer: int) -> float:
    """Compute the exact probability of at least so many out of both if one is as likely as the other."""
    return float(binomtest(more, more + fewer, alternative="greater").pvalue) if more + fewer else 1.0


def score_interval(images: int, fixed: int, broken: int) -> tuple[float, float]:
    """Compute the 95% interval of the difference of accuracy: all differences that Tango's score test does not reject.

    T. Tango: Equivalence test and confidence interval for the difference in proportions for the paired-sample design.
    Statistics in Medicine 17 (1998), 891-908.
    """
    return -_upper_limit(images, broken, fixed), _upper_limit(images, fixed, broken)


def _upper_limit(images: int, fixed: int, broken: int) -> float:
    difference = (fixed - broken) / images
    if difference == 1:
        return 1.0

    def excess(limit: float) -> float:
        # If `limit` is the true difference, the likeliest share of broken images is the root of 2 x^2 + b x + c.
        b = (2 - difference) * limit - (fixed + broken) / images
        c = -broken / images * limit * (1 - limit)
        share = (math.sqrt(max(b * b - 8 * c, 0)) - b) / 4  # rounding may leave less than 0
        variance = (2 * share + limit * (1 - limit)) / images
        return limit - difference - Z * math.sqrt(max(variance, 0))

    # The difference itself is another root if no image is fixed or broken, or if all are broken: start above it.
    return float(brentq(excess, difference + 1e-12, 1))


def compare_revisions(before: Revision, after: Revision) -> Paired:
    """Compare what two revisions predict of the test images.

    Raises `InputError` if these are not the same images.
    """
    test = dataset.TEST
    hashes = [read_lock(each).hashes.get(test.as_posix()) for each in (before, after)]
    tables = [read(each, predictions.PATH, predictions.parse) for each in (before, after)]
    if hashes[0] == hashes[1] and not tables[0]["actual"].equals(tables[1]["actual"]):
        raise InputError(
            f"{predictions.PATH} of {before} and {after} are of other digits, though {test} is the same: one of them "
            "is of another run; check each out, run `dvc repro` and commit the result"
        )
    if hashes[0] != hashes[1]:
        raise InputError(
            f"{before} and {after} were tested on other images ({test}: MD5 {hashes[0]} and {hashes[1]}) and cannot be "
            "compared; give both the same section `prepare` in params.yaml and run `dvc repro`"
        )
    actual, predicted_before, predicted_after = (
        table[name].to_numpy()
        for table, name in ((tables[0], "actual"), (tables[0], "predicted"), (tables[1], "predicted"))
    )
    return compare_predictions(actual, predicted_before, predicted_after)


def compare_own(before: pd.DataFrame, after: pd.DataFrame) -> Paired | None:
    """Compare what two runs predict of test pictures of our own: of those with the same digit in both.

    A picture stays a test picture as the set grows, so the later run has those of the earlier one. Returns None if they
    have none in common.
    """
    if before.empty or after.empty:
        return None
    both = before.merge(after, on=["picture", "actual"], suffixes=("_before", "_after"))
    names = ("actual", "predicted_before", "predicted_after")
    return None if both.empty else compare_predictions(*(both[name].to_numpy() for name in names))


def share(part: int | np.integer, whole: int | np.integer) -> tuple[str, str]:
    """Show a share in percent, and Clopper and Pearson's exact 95% interval for it; empty texts of nothing."""
    if not whole:
        return "", ""
    low, high = exact_interval(part, whole)
    return f"{part / whole:.2%}", f"{low:.2%} to {high:.2%}"


def exact_interval(part: int | np.integer, whole: int | np.integer) -> tuple[float, float]:
    """Return Clopper and Pearson's exact 95% interval for a share."""
    low = float(beta.ppf(0.025, part, whole - part + 1)) if part else 0.0
    high = float(beta.ppf(0.975, part + 1, whole - part)) if part < whole else 1.0
    return low, high


def signed(value: float, form: str = ",.2f") -> str:
    """Show a difference with its sign, which is a true minus; one that is shown as 0 has none."""
    shown = format(abs(value), form)
    if not re.search("[1-9]", shown):
        return shown
    return f"{'+' if value > 0 else MINUS}{shown}"


def sentence(paired: Paired, before: str, after: str, images: str = "test images") -> str:
    """Say the verdict with its figures. If the interval disagrees, say that the test decides."""
    low, high = paired.interval
    differ = paired.verdict == "inconclusive" and not low <= 0 <= high
    return (
        f"{after} is {_AS[paired.verdict]} {before} on {paired.images:,} {images}: {figures(paired)}, exact McNemar "
        f"p = {paired.p_value:.2g}" + ("; the test decides, the interval is approximate" if differ else "")
    )


def figures(paired: Paired) -> str:
    """Say how many images are fixed and broken, and the difference of accuracy."""
    low, high = paired.interval
    return (
        f"{paired.fixed:,} fixed, {paired.broken:,} broken, accuracy {signed(100 * paired.difference)} points "
        f"(95% interval {signed(100 * low)} to {signed(100 * high)})"
    )


_AS: Mapping[Verdict, str] = {
    "better": "better than",
    "worse": "worse than",
    "inconclusive": "not proven different from",
}
