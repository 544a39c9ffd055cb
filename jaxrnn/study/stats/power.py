"""How many seeds would decide a comparison or a claim."""

from collections.abc import Sequence
from math import ceil, sqrt
from statistics import NormalDist

import numpy as np

from jaxrnn.study.stats.comparisons import smallest_p
from jaxrnn.study.stats.estimates import clopper_pearson


def seeds_to_decide(
    a: Sequence[float], b: Sequence[float], *, alpha: float = 0.05, power: float = 0.8, limit: int = 1000
) -> int | None:
    """Seeds per arm that would tell two means apart, were the means and variances seen the truth.

    Normal approximation: `(z_{1-alpha/2} + z_power)^2 (var_a + var_b) / difference^2`, but no fewer than the
    permutation test needs to reach alpha at all.

    Returns:
        None where the difference is zero, an arm has a single run, or more than `limit` would be needed.
    """
    difference = np.mean(a) - np.mean(b)
    if difference == 0 or min(len(a), len(b)) == 1:
        return None
    z = NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)
    needed = float(z**2 * (np.var(a, ddof=1) + np.var(b, ddof=1)) / difference**2)
    return _seeds(needed, alpha, limit)


def seeds_to_decide_proportions(
    p_a: float, p_b: float, *, alpha: float = 0.05, power: float = 0.8, limit: int = 1000
) -> int | None:
    """Seeds per arm for Fisher's exact test to tell two shares apart, were these the truth.

    Normal approximation with the continuity correction for Fisher's test (Casagrande, Pike and Smith 1978; Fleiss,
    Statistical Methods for Rates and Proportions, chapter 3). It asks for some too many where a share is 0 or 1.

    Returns:
        None where the shares are equal or more than `limit` would be needed.
    """
    difference = abs(p_a - p_b)
    if difference == 0:
        return None
    pooled = (p_a + p_b) / 2
    under_null = NormalDist().inv_cdf(1 - alpha / 2) * sqrt(2 * pooled * (1 - pooled))
    under_truth = NormalDist().inv_cdf(power) * sqrt(p_a * (1 - p_a) + p_b * (1 - p_b))
    uncorrected = ((under_null + under_truth) / difference) ** 2
    return _seeds(uncorrected / 4 * (1 + sqrt(1 + 4 / (uncorrected * difference))) ** 2, alpha, limit)


def seeds_to_clear(share: float, threshold: float, *, limit: int = 1000) -> int | None:
    """The number of runs from which on the interval of `proportion` lies on one side of a threshold, for a given share.

    Returns:
        None where more than `limit` would be needed.
    """
    trials = np.arange(1, limit + 1)
    low, high = clopper_pearson(np.rint(share * trials).astype(int), trials)
    undecided = trials[(low <= threshold) & (threshold <= high)]
    needed = 1 + int(undecided.max(initial=0))
    return needed if needed <= limit else None


def _seeds(needed: float, alpha: float, limit: int) -> int | None:
    fewest = next((n for n in range(2, limit + 1) if smallest_p(n, n) <= alpha), None)
    if fewest is None:
        return None
    seeds = max(ceil(needed), fewest)
    return seeds if seeds <= limit else None
