"""Two classifiers on the same images: is one better?

Images that both get right, or both wrong, say nothing of which is better. The others are `fixed` or `broken`, each as
likely as the other if the two classifiers are equally good: the exact McNemar test.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from stages import dataset, predictions
from stages.dataset import CLASSES
from stages.errors import InputError
from tools.runs.revision import Revision, read, read_lock

Labels = NDArray[Any]  # (n,), 0-9
Verdict = Literal["better", "worse", "inconclusive"]

SIGNIFICANCE = 0.05  # of the test; the interval covers the rest


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
    """Compare two classifiers by the digits (n,) they take the same images for.

    Test and interval take the number of images of which just one is right as given, and so always agree.
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
    p_value, interval = _test(images, fixed, broken)
    return Paired(
        images,
        fixed,
        broken,
        (fixed - broken) / images,
        interval,
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


def _test(images: int, fixed: int, broken: int) -> tuple[float, tuple[float, float]]:
    """Compute the p-value, and the interval of the difference from Clopper and Pearson's of the share of fixed ones."""
    discordant = fixed + broken
    if not discordant:
        # Nothing tells the two apart here; on so many other images they still might differ on so large a share.
        most = 1 - (SIGNIFICANCE / 2) ** (1 / images)
        return 1.0, (-most, most)
    test = binomtest(fixed, discordant)
    share = test.proportion_ci(1 - SIGNIFICANCE)
    low, high = ((2 * end - 1) * discordant / images for end in (share.low, share.high))
    return float(test.pvalue), (float(low), float(high))


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


def share(part: int | np.integer, whole: int | np.integer) -> tuple[str, str]:
    """Show a share in percent, and Clopper and Pearson's exact 95% interval for it; empty texts of nothing."""
    if not whole:
        return "", ""
    interval = binomtest(int(part), int(whole)).proportion_ci()
    return f"{part / whole:.2%}", f"{interval.low:.2%} to {interval.high:.2%}"


def sentence(paired: Paired, before: str, after: str) -> str:
    """Say the verdict with its figures."""
    low, high = paired.interval
    return (
        f"{after} is {_AS[paired.verdict]} {before} on {paired.images:,} test images: "
        f"{paired.fixed:,} fixed, {paired.broken:,} broken, accuracy {100 * paired.difference:+.2f} points "
        f"(95% interval {100 * low:+.2f} to {100 * high:+.2f}), exact McNemar p = {paired.p_value:.2g}"
    )


_AS: Mapping[Verdict, str] = {
    "better": "better than",
    "worse": "worse than",
    "inconclusive": "not proven different from",
}
