"""How often a gate promotes by chance, and how often it finds a better model: `python -m tests.registry.simulation`.

Of 10,000 test images, 160 are hard: a model reads each of them right with a probability of 1/2, as if by the toss of a
coin. So two equally good models differ on about 80 images, as the models of two recipes in docs/team.md do. All
candidates are compared with one holder on the same images. A better candidate reads 30 more of the hard images right.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from tools.registry.attempts import share_of
from tools.tables import markdown

HARD = 160
IMAGES = 10_000
BETTER = 30  # images: 0.3 points
TEST_SETS = 40_000
ATTEMPTS = (1, 5, 20, 50)
BEFORE = 0.025  # the one side of p < 0.05, at each attempt

Counts = NDArray[np.int64]
Probabilities = NDArray[np.float64]

FIXED, BROKEN = np.indices((HARD + 1, HARD + 1))
P = binom.sf(FIXED - 1, FIXED + BROKEN, 0.5)  # one-sided, by fixed and broken images


def holders(rng: np.random.Generator) -> Counts:
    """Draw how many hard images a holder misreads, for each test set."""
    return rng.binomial(HARD, 0.5, TEST_SETS)


def equal_candidates(rng: np.random.Generator, misread: Counts) -> Probabilities:
    """Draw the p-values (test sets, attempts) of candidates that are as good as the holder."""
    shape = (TEST_SETS, max(ATTEMPTS))
    return P[rng.binomial(misread[:, None], 0.5, shape), rng.binomial(HARD - misread[:, None], 0.5, shape)]


def better_candidate(rng: np.random.Generator, misread: Counts) -> Probabilities:
    """Draw the p-value (test sets,) of a better candidate."""
    wrong = 0.5 - BETTER / HARD
    return P[rng.binomial(misread, 1 - wrong), rng.binomial(HARD - misread, wrong)]


def promoted_falsely(p: Probabilities, alphas: Sequence[float]) -> float:
    """Return the share of test sets on which at least one of the first candidates is promoted."""
    return float((p[:, : len(alphas)] <= alphas).any(axis=1).mean())


def rows() -> list[tuple[str, ...]]:
    rng = np.random.default_rng(0)
    misread = holders(rng)
    equal, better = equal_candidates(rng, misread), better_candidate(rng, misread)
    return [
        (
            str(count),
            f"{share_of(count):.5f}",
            *(
                f"{value:.1%}"
                for value in (
                    promoted_falsely(equal, [BEFORE] * count),
                    promoted_falsely(equal, [share_of(k) for k in range(1, count + 1)]),
                    (better <= BEFORE).mean(),
                    (better <= share_of(count)).mean(),
                )
            ),
        )
        for count in ATTEMPTS
    ]


HEAD = (
    "attempt", "p needed", "a false promotion by then, 5% each", "a false promotion by then",
    "the better one promoted, 5% each", "the better one promoted",
)  # fmt: skip


def table() -> str:
    return markdown(HEAD, rows(), left=0)


def main() -> None:
    print(table())


if __name__ == "__main__":
    main()
