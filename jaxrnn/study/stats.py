"""Statistics over seeds: estimates with 95 % intervals and comparisons of two arms, on the host.

The observation is one run (one seed). Everything is deterministic: resampling starts from a fixed seed. A quantity that
the sample does not determine is `None`, never NaN, and a `note` says what is special about it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from math import ceil, comb, hypot, inf, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import scipy  # Its modules load on first use; `stats` takes a second.
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
RESAMPLES = 9999
_RESAMPLING: dict[str, Any] = {"vectorized": True, "n_resamples": RESAMPLES, "rng": 0}
# Coverage of the BCa interval of a mean over simulated log-normal steps: 0.46 with 2 seeds, 0.70 with 3, 0.85 with 5,
# 0.90 with 8, and from 10 seeds on 0.94 to 0.96.
FEW_SEEDS = 10
POWER, MOST_SEEDS = 0.8, 1000
"""For the seeds that would decide: the power of the test, and the largest number worth naming."""
PLATEAU = 0.5, 0.7, 0.05
"""The range of a loss on the plateau, and the loss at which it has dropped from there."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; what the sample does not determine is None."""

    value: float | None
    low: float | None
    high: float | None
    note: str = ""


def mean(values: ArrayLike, within: tuple[float, float] = (-inf, inf)) -> Estimate:
    """Mean of `[n]` values with Student's t interval.

    The interval is cut off at the range of possible values, `within`. If all values are alike, it is a point; fewer
    than `FEW_SEEDS` such values have no interval, since they do not show how much they vary.
    """
    sample = np.asarray(values, np.float64)
    if sample.size == 0:
        return Estimate(None, None, None, "no values")
    centre = float(sample.mean())
    if sample.size == 1:
        return Estimate(centre, None, None, "one value")
    if np.ptp(sample) == 0:
        end, missing = (centre, "") if sample.size >= FEW_SEEDS else (None, "; no interval")
        return Estimate(centre, end, end, f"all values alike{missing}")
    half = (
        float(scipy.special.stdtrit(sample.size - 1, (1 + CONFIDENCE) / 2))
        * float(sample.std(ddof=1))
        / sqrt(sample.size)
    )
    return Estimate(centre, max(centre - half, within[0]), min(centre + half, within[1]))


def proportion(successes: int, trials: int) -> Estimate:
    """Share of successes with its Clopper-Pearson ("exact") interval."""
    if trials == 0:
        return Estimate(None, None, None, "no runs")
    low, high = clopper_pearson(np.array(successes), np.array(trials))
    return Estimate(successes / trials, float(low), float(high))


def bootstrap(values: ArrayLike, statistic: Callable[..., Any]) -> Estimate:
    """``statistic(values, axis)``, such as `numpy.median`, of `[n]` values, with its percentile bootstrap interval."""
    sample = np.asarray(values, np.float64)
    if sample.size == 0:
        return Estimate(None, None, None, "no values")
    value = float(statistic(sample, axis=-1))
    if sample.size == 1:
        return Estimate(value, None, None, "one value")
    found = scipy.stats.bootstrap((sample,), statistic, method="percentile", batch=1000, **_RESAMPLING)
    return Estimate(value, float(found.confidence_interval.low), float(found.confidence_interval.high))


def bootstrap_table(values: NDArray[np.float64]) -> Estimate:
    """The mean of a table `[R, D]`, with a percentile interval: its rows and its columns are both resampled."""
    if values.size == 0:
        return Estimate(None, None, None, "no values")
    rng, (rows, columns) = np.random.default_rng(0), values.shape
    means = [values[rng.integers(0, rows, rows)].mean(0)[rng.integers(0, columns, columns)].mean() for _ in range(2000)]
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(values.mean()), float(low), float(high))


def bootstrap_means(*arms: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """BCa interval of the mean of one arm, or of the first arm's minus the second's, each arm resampled by itself.

    It is that of `scipy.stats.bootstrap` (Efron and Tibshirani 1993, equations 14.10, 14.14 and 14.15) in a thirtieth
    of the time: arms of the same size share their resamples, and the jackknife of a mean has a closed form.
    """
    smallest = min(arm.size for arm in arms)
    if smallest == 1:
        return None, None
    signed = [arm if i == 0 else -arm for i, arm in enumerate(arms)]
    value = float(sum(arm.mean() for arm in signed))
    if all(np.ptp(arm) == 0 for arm in arms):  # BCa divides by a variance of zero.
        point = value if smallest >= FEW_SEEDS else None
        return point, point
    means = sum(
        counts @ arm / arm.size for counts, arm in zip(_resamples(*(a.size for a in arms)), signed, strict=True)
    )
    bias = scipy.special.ndtri((np.mean(means < value) + np.mean(means <= value)) / 2)
    cubes, squares = (sum(np.sum((arm - arm.mean()) ** k) / arm.size**k for arm in signed) for k in (3, 2))
    acceleration = cubes / squares**1.5 / 6
    shifted = bias + scipy.special.ndtri(np.array([1 - CONFIDENCE, 1 + CONFIDENCE]) / 2)
    low, high = np.quantile(means, scipy.special.ndtr(bias + shifted / (1 - acceleration * shifted)))
    return float(low), float(high)


@lru_cache(maxsize=8)
def _resamples(*sizes: int) -> list[NDArray[np.float64]]:
    """How often each resample contains each value, `[RESAMPLES, n]`, for arms of these sizes."""
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, n, (RESAMPLES, n)) + n * np.arange(RESAMPLES)[:, None] for n in sizes]
    flat = zip(drawn, sizes, strict=True)
    return [np.bincount(i.ravel(), minlength=i.size).reshape(RESAMPLES, n).astype(np.float64) for i, n in flat]


def clopper_pearson(successes: NDArray, trials: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The ends of the Clopper-Pearson interval, for arrays of counts."""
    tail, failures = (1 - CONFIDENCE) / 2, trials - successes
    low = scipy.special.betaincinv(np.maximum(successes, 1), failures + 1, tail)
    high = scipy.special.betaincinv(successes + 1, np.maximum(failures, 1), 1 - tail)
    return np.where(successes == 0, 0.0, low), np.where(failures == 0, 1.0, high)


def describe(*arms: NDArray[np.float64]) -> str:
    """Says whether one of the arms has one seed or equal values, and what that means for a bootstrap interval."""
    names = ("first arm: ", "second arm: ") if len(arms) == 2 else ("",)
    special = ["one seed" if arm.size == 1 else "all values alike" if np.ptp(arm) == 0 else "" for arm in arms]
    notes = [name + what for name, what in zip(names, special, strict=True) if what]
    fewest = min(arm.size for arm in arms)
    if fewest == 1 or (fewest < FEW_SEEDS and all(special)):
        notes.append("no interval")
    elif fewest < FEW_SEEDS:
        notes.append(f"{fewest} seeds: the bootstrap interval is too narrow")
    return "; ".join(notes)


# --- Two arms against each other --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """A difference (first arm minus second) with its 95 % interval and a two-sided p-value.

    `smallest_p` is the smallest p-value that the test can reach with this many runs. ``seeds(alpha)`` is the number of
    seeds per arm that would tell the two apart at level `alpha` if the observed values were the truth, or None.
    """

    difference: float
    low: float | None
    high: float | None
    p_value: float
    smallest_p: float
    note: str = ""
    seeds: Callable[[float], int | None] = field(default=lambda alpha: None, compare=False, repr=False)

    def noting(self, more: str) -> "Comparison":
        """The same comparison with a further note, which may be empty."""
        return replace(self, note="; ".join(filter(None, [self.note, more])))


def compare_means(a: ArrayLike, b: ArrayLike) -> Comparison:
    """The mean of the `[n]` values of one arm minus that of the `[m]` values of another.

    The BCa bootstrap interval resamples each arm by itself. The p-value is that of the permutation test of exchangeable
    arms, twice the smaller tail. It is exact if there are at most 9999 ways to divide the runs (7 against 7). Otherwise
    it is from 9999 random divisions and the observed one, so that it is never 0.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    difference = float(first.mean() - second.mean())
    p_values = permutation_p(first, second), smallest_p(first.size, second.size)
    seeds = partial(seeds_to_decide, first, second)
    return Comparison(difference, *bootstrap_means(first, second), *p_values, describe(first, second), seeds)


def compare_paired(differences: ArrayLike) -> Comparison:
    """The mean of `[n]` paired differences with Student's t interval and the p-value of `sign_flip`."""
    sample = np.asarray(differences, np.float64)
    estimate, smallest = mean(sample), min(1.0, 2 / min(2**sample.size, RESAMPLES + 1))
    return Comparison(float(sample.mean()), estimate.low, estimate.high, sign_flip(sample), smallest, estimate.note)


def difference_of_proportions(successes_a: int, trials_a: int, successes_b: int, trials_b: int) -> Comparison:
    """A share of successes minus another, with Newcombe's interval and the p-value of `fisher_exact`.

    The interval is made from the Wilson intervals of the two shares (Newcombe 1998, method 10). The smallest p-value is
    that of all runs of one arm against none of the other.
    """
    p_values = fisher_exact(successes_a, trials_a, successes_b, trials_b), fisher_exact(0, trials_a, trials_b, trials_b)
    share_a, share_b = successes_a / trials_a, successes_b / trials_b
    wilson_a, wilson_b = (
        scipy.stats.binomtest(successes, trials).proportion_ci(CONFIDENCE, method="wilson")
        for successes, trials in ((successes_a, trials_a), (successes_b, trials_b))
    )
    difference = share_a - share_b
    low = difference - hypot(share_a - wilson_a.low, wilson_b.high - share_b)
    high = difference + hypot(wilson_a.high - share_a, share_b - wilson_b.low)
    seeds = partial(seeds_to_decide_proportions, share_a, share_b)
    return Comparison(difference, float(low), float(high), *p_values, seeds=seeds)


def fisher_exact(successes_a: int, trials_a: int, successes_b: int, trials_b: int) -> float:
    """Two-sided p-value of Fisher's exact test that two shares of successes are the same."""
    table = np.array([[successes_a, trials_a - successes_a], [successes_b, trials_b - successes_b]])
    return float(scipy.stats.fisher_exact(table).pvalue)


def sign_flip(differences: NDArray[np.float64]) -> float:
    """Two-sided p-value that the mean of paired differences is zero, by flipping signs; 1 for fewer than two.

    It is twice the smaller tail, exact for up to 13 differences, else from 9999 random flips.
    """
    if differences.size < 2:
        return 1.0
    arms = differences, np.zeros_like(differences)
    options = {"permutation_type": "samples", "batch": 1000, **_RESAMPLING}
    test = scipy.stats.permutation_test(arms, lambda a, b, axis: np.mean(a - b, axis=axis), **options)
    return float(test.pvalue)


def permutation_p(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Twice the smaller tail of the first arm's mean over the ways to divide the runs, including the observed one."""
    if min(first.size, second.size) == 1:  # SciPy refuses these: a division is the choice of the one run.
        alone = first if first.size == 1 else second
        pooled = np.append(first, second)
        return min(1.0, 2 * min(float(np.mean(pooled <= alone)), float(np.mean(pooled >= alone))))
    # With the sizes fixed, the sum of one arm orders the divisions as the difference of means does. Sums of whole steps
    # are exact, so that ties stay ties.
    test = scipy.stats.permutation_test((first, second), lambda a, _, axis: a.sum(axis=axis), **_RESAMPLING)
    return float(test.pvalue)


def smallest_p(n: int, m: int) -> float:
    """The smallest p-value that the permutation test of `compare_means` can reach with `n` and `m` runs."""
    return min(1.0, 2 / min(comb(n + m, n), RESAMPLES + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-Bonferroni adjusted p-values, in the order given: claims below alpha hold together at level alpha."""
    order, factors = np.argsort(p_values), np.arange(len(p_values), 0, -1)
    adjusted = np.maximum.accumulate(np.asarray(p_values, np.float64)[order] * factors)
    return np.minimum(adjusted, 1)[np.argsort(order)].tolist()


# --- Seeds that would decide ------------------------------------------------------------------------------------------


def seeds_to_decide(a: NDArray[np.float64], b: NDArray[np.float64], alpha: float = 0.05) -> int | None:
    """Seeds per arm that would tell two means apart at level `alpha` if the observed means and variances were true.

    Normal approximation: `(z_{1-alpha/2} + z_power)^2 (var_a + var_b) / difference^2`, but no fewer than the
    permutation test needs to reach alpha at all.

    None where the difference is zero, an arm has a single run, or more than `MOST_SEEDS` would be needed.
    """
    difference = np.mean(a) - np.mean(b)
    if difference == 0 or min(len(a), len(b)) == 1:
        return None
    z = NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(POWER)
    return _seeds(float(z**2 * (np.var(a, ddof=1) + np.var(b, ddof=1)) / difference**2), alpha)


def seeds_to_decide_proportions(p_a: float, p_b: float, alpha: float = 0.05) -> int | None:
    """Seeds per arm for Fisher's exact test to tell two shares apart at level `alpha` if these were the truth.

    Normal approximation with the continuity correction for Fisher's test (Casagrande, Pike and Smith 1978; Fleiss,
    Statistical Methods for Rates and Proportions, chapter 3). It asks for a few seeds too many where a share is 0 or 1.

    None where the shares are equal or more than `MOST_SEEDS` would be needed.
    """
    difference = abs(p_a - p_b)
    if difference == 0:
        return None
    pooled = (p_a + p_b) / 2
    under_null = NormalDist().inv_cdf(1 - alpha / 2) * sqrt(2 * pooled * (1 - pooled))
    under_truth = NormalDist().inv_cdf(POWER) * sqrt(p_a * (1 - p_a) + p_b * (1 - p_b))
    uncorrected = ((under_null + under_truth) / difference) ** 2
    return _seeds(uncorrected / 4 * (1 + sqrt(1 + 4 / (uncorrected * difference))) ** 2, alpha)


def seeds_to_clear(share: float, threshold: float) -> int | None:
    """The number of runs from which on the interval of `proportion` is on one side of a threshold, for a given share.

    It is None where more than `MOST_SEEDS` would be needed.
    """
    trials = np.arange(1, MOST_SEEDS + 1)
    low, high = clopper_pearson(np.rint(share * trials).astype(int), trials)
    undecided = trials[(low <= threshold) & (threshold <= high)]
    needed = 1 + int(undecided.max(initial=0))
    return needed if needed <= MOST_SEEDS else None


def _seeds(needed: float, alpha: float) -> int | None:
    return next((n for n in range(max(2, ceil(needed)), MOST_SEEDS + 1) if smallest_p(n, n) <= alpha), None)


# --- Loss curves, and points in a plane -------------------------------------------------------------------------------


def longest_wait(losses: ArrayLike) -> int:
    """The most evaluations in a row without a new minimum of the loss; a NaN is no minimum."""
    return int(_waits(losses).max())


def would_stop_at(losses: ArrayLike, patience: int) -> int | None:
    """The index of the evaluation at which `patience` evaluations without a new minimum would stop a run, or None."""
    stops = np.flatnonzero(_waits(losses) >= patience)
    return int(stops[0]) if stops.size else None


def plateau_share(losses: ArrayLike) -> float:
    """The share of evaluations at which a loss was on the plateau, from 0.5 to 0.7."""
    curve, (low, high, _) = np.asarray(losses, np.float64), PLATEAU
    return float(np.mean((curve >= low) & (curve <= high)))


def plateau_drop(losses: ArrayLike) -> int | None:
    """The number of evaluations from the last loss at or above 0.5 to the first later one at or below 0.05.

    None where the loss never falls that far, or was never at or above 0.5.
    """
    curve, (low, _, dropped) = np.asarray(losses, np.float64), PLATEAU
    above = np.flatnonzero(curve >= low)
    below = np.flatnonzero(curve[above[-1] :] <= dropped) if above.size else above
    return int(below[0]) if below.size else None


def _waits(losses: ArrayLike) -> NDArray[np.int64]:
    """Evaluations since the last new minimum, at each evaluation."""
    curve = np.asarray(losses, np.float64)
    best_before = np.fmin.accumulate(np.append(np.inf, curve[:-1]))
    indices = np.arange(curve.size)
    return indices - np.maximum.accumulate(np.where(curve < best_before, indices, -1))


def principal_plane(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The first two principal components of points ``[n, H]``, and their share of the variance.

    Returns:
        Coordinates ``[n, 2]``, the largest of which is 1 or -1, and the share; zeros where all points coincide.
    """
    centred = points - points.mean(axis=0)
    _, spreads, axes = np.linalg.svd(centred, full_matrices=False)
    # A component's sign is arbitrary; its largest weight is made positive.
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    plane = centred @ (axes * np.sign(largest))[:2].T
    plane = np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))
    scale, variance = np.abs(plane).max(), (spreads**2).sum()
    if scale == 0:
        return plane, 0.0
    return plane / scale, float((spreads[:2] ** 2).sum() / variance)
