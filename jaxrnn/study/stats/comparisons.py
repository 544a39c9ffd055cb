"""Two arms against each other, with intervals and p-values, and the correction of p-values for their number."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb, hypot

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from jaxrnn.study.stats.estimates import (
    CONFIDENCE,
    RESAMPLES,
    bootstrap_means,
    describe,
    describe_interval,
    join_arms,
    join_notes,
    mean,
)


@dataclass(frozen=True)
class Comparison:
    """A difference (first arm minus second) with its 95 % interval and a two-sided p-value."""

    difference: float
    low: float | None
    high: float | None
    p_value: float
    note: str = ""


def compare_means(a: ArrayLike, b: ArrayLike) -> Comparison:
    """The mean of the `[n]` values of one arm minus that of the `[m]` values of another.

    The BCa bootstrap interval resamples each arm by itself. The p-value is that of the permutation test of exchangeable
    arms, twice the smaller tail. It is exact where there are at most 9999 ways to divide the runs (7 against 7), else
    from 9999 random divisions; the observed division counts too, so that it is never 0.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    low, high = bootstrap_means(first, second)
    return Comparison(
        difference=float(first.mean() - second.mean()),
        low=low,
        high=high,
        p_value=permutation_p(first, second),
        note=join_notes(join_arms(describe(first), describe(second)), describe_interval(first, second)),
    )


def compare_paired(differences: ArrayLike) -> Comparison:
    """The mean of `[n]` paired differences with Student's t interval and the p-value of `sign_flip`."""
    sample = np.asarray(differences, np.float64)
    estimate = mean(sample)
    return Comparison(float(sample.mean()), estimate.low, estimate.high, sign_flip(sample), estimate.note)


def difference_of_proportions(successes_a: int, trials_a: int, successes_b: int, trials_b: int) -> Comparison:
    """A share of successes minus another, with Newcombe's interval and the p-value of `fisher_exact`.

    The interval is made of the Wilson intervals of the two shares (Newcombe 1998, method 10).
    """
    p_value = fisher_exact(successes_a, trials_a, successes_b, trials_b)
    share_a, share_b = successes_a / trials_a, successes_b / trials_b
    wilson_a, wilson_b = (
        scipy.stats.binomtest(successes, trials).proportion_ci(CONFIDENCE, method="wilson")
        for successes, trials in ((successes_a, trials_a), (successes_b, trials_b))
    )
    difference = share_a - share_b
    low = difference - hypot(share_a - wilson_a.low, wilson_b.high - share_b)
    high = difference + hypot(wilson_a.high - share_a, share_b - wilson_b.low)
    return Comparison(difference, float(low), float(high), p_value)


def fisher_exact(successes_a: int, trials_a: int, successes_b: int, trials_b: int) -> float:
    """Two-sided p-value of Fisher's exact test that two shares of successes are the same."""
    table = np.array([[successes_a, trials_a - successes_a], [successes_b, trials_b - successes_b]])
    return float(scipy.stats.fisher_exact(table).pvalue)


def sign_flip(differences: NDArray[np.float64]) -> float:
    """Two-sided p-value that the mean of paired differences is zero, by flipping signs; 1 for fewer than two.

    Twice the smaller tail, exact for up to 13 differences, else from 9999 random flips.
    """
    if differences.size < 2:
        return 1.0
    test = scipy.stats.permutation_test(
        (differences, np.zeros_like(differences)),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=1000,
        rng=np.random.default_rng(0),
    )
    return float(test.pvalue)


def permutation_p(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Twice the smaller tail of the first arm's mean over the ways to divide the runs, the observed one among them."""
    if min(first.size, second.size) == 1:  # SciPy refuses these: a division is the choice of the one run.
        alone = first if first.size == 1 else second
        pooled = np.append(first, second)
        return min(1.0, 2 * min(float(np.mean(pooled <= alone)), float(np.mean(pooled >= alone))))
    # With the sizes fixed, the sum of one arm orders the divisions as the difference of means does, and sums of whole
    # steps are exact: ties are ties.
    test = scipy.stats.permutation_test(
        (first, second),
        lambda chosen, _rest, axis: chosen.sum(axis=axis),
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(test.pvalue)


def smallest_p(n: int, m: int) -> float:
    """The smallest p-value that the permutation test of `compare_means` can reach with `n` and `m` runs."""
    return min(1.0, 2 / min(comb(n + m, n), RESAMPLES + 1))


def smallest_p_paired(n: int) -> float:
    """The smallest p-value that `sign_flip` can reach with `n` differences."""
    return min(1.0, 2 / min(2**n, RESAMPLES + 1))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm-Bonferroni adjusted p-values, in the order given: claims below alpha hold together at level alpha."""
    ranked = sorted(p_values, key=p_values.__getitem__)
    factors = np.arange(len(ranked), 0, -1)
    adjusted = np.minimum(np.maximum.accumulate([p_values[claim] for claim in ranked] * factors), 1)
    by_claim = dict(zip(ranked, adjusted.tolist(), strict=True))
    return {claim: by_claim[claim] for claim in p_values}
