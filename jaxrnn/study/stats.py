"""What many seeds say together: estimates with 95 % intervals and comparisons of two arms, on the host.

The observation is one run (one seed). A run that has not converged by the horizon, the last step it was allowed, is
right-censored there: neither dropped nor averaged in. Everything is deterministic: resampling starts from a fixed seed.
A quantity that the sample does not determine is `None`, never NaN, and a `note` says in words what is special.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import ceil, comb, inf, sqrt
from statistics import NormalDist

import numpy as np
import scipy  # Its parts load when they are first used: a second, for `stats`.
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
RESAMPLES = 9999
# Coverage of the BCa interval of a mean over simulated log-normal steps: 0.46 with 2 seeds, 0.70 with 3, 0.85 with 5,
# 0.90 with 8, and from 10 seeds on 0.94 to 0.96.
FEW_SEEDS = 10
# A loss at or below this has fallen from the plateau.
DROPPED = 0.05


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; what the sample does not determine is None."""

    value: float | None
    low: float | None
    high: float | None
    note: str = ""

    def record(self) -> dict[str, float | None]:
        """The three numbers, as ``results.json`` has them."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Comparison:
    """A difference (first arm minus second) with its 95 % interval and a two-sided p-value."""

    difference: float
    low: float | None
    high: float | None
    p_value: float
    note: str = ""


@dataclass(frozen=True)
class LogRank:
    """The log-rank statistic and its two-sided p-value; `z` is positive where the first arm converges sooner."""

    z: float | None
    p_value: float | None
    note: str = ""


@dataclass(frozen=True, eq=False)
class StepsSample:
    """Steps until convergence of several runs, right-censored.

    Attributes:
        steps: `[n]` float64, the step of convergence, or the last step seen of a run that did not converge.
        converged: `[n]` bool, False for a censored run.
        horizon: the last step that a run was allowed.

    Raises:
        ValueError: if there is no run, the shapes differ, or a step lies outside 0..horizon.
    """

    steps: NDArray[np.float64]
    converged: NDArray[np.bool_]
    horizon: float

    def __post_init__(self) -> None:
        if self.steps.ndim != 1 or self.steps.shape != self.converged.shape:
            raise ValueError(f"steps {self.steps.shape} and converged {self.converged.shape} must both have shape [n]")
        if self.steps.size == 0:
            raise ValueError("a sample of steps needs at least one run")
        outside = ~((self.steps >= 0) & (self.steps <= self.horizon))
        if outside.any():
            raise ValueError(f"steps must lie in 0..{self.horizon:g}, got {self.steps[outside].tolist()}")


@dataclass(frozen=True, eq=False)
class SurvivalCurve:
    """Share of runs not yet converged, ready for a step plot (`where="post"`); all arrays are `[k]` float64.

    Attributes:
        steps: where the curve changes, from 0 to the horizon.
        not_converged: Kaplan-Meier estimate from that step on.
        low: lower end of its pointwise 95 % interval.
        high: upper end.
        note: what is special about the sample.
    """

    steps: NDArray[np.float64]
    not_converged: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    note: str = ""


@dataclass(frozen=True)
class Plateau:
    """How long a loss stood still, and how suddenly it fell.

    Attributes:
        share: share of looks on the plateau.
        drop: looks from the last one at or above its lower edge to the first later one at or below 0.05, or None.
    """

    share: float
    drop: int | None


def steps_sample(steps: Sequence[int | None], horizon: int) -> StepsSample:
    """Builds a sample from each run's step of convergence.

    Args:
        steps: the step, or None for a run that did not converge or failed with a NaN: censored at the horizon, because
            it would not have converged however long one had waited.
        horizon: the last step that a run was allowed.

    Raises:
        ValueError: if `steps` is empty or a step lies outside 0..horizon.
    """
    return StepsSample(
        steps=np.array([horizon if step is None else step for step in steps], np.float64),
        converged=np.array([step is not None for step in steps], np.bool_),
        horizon=horizon,
    )


def restricted_mean(sample: StepsSample) -> Estimate:
    """Restricted mean: the mean of min(steps, horizon), with a BCa bootstrap interval over runs.

    Where all runs are alike it is a point, but none for fewer than `FEW_SEEDS` runs.

    Raises:
        ValueError: if a run was censored before the horizon.
    """
    steps = _restricted_steps(sample)
    low, high = _bootstrap_interval(steps)
    return Estimate(float(steps.mean()), low, high, _join(_describe(sample), _few_seeds(sample)))


def compare_restricted_means(a: StepsSample, b: StepsSample) -> Comparison:
    """The primary comparison: restricted mean steps of `a` minus that of `b`.

    The BCa bootstrap interval resamples the runs of each arm by themselves. The p-value is that of the permutation test
    of exchangeable arms, twice the smaller tail. It is exact where there are at most 9999 ways to divide the runs (7
    against 7), else from 9999 random ones; the division observed is among those counted, so that it is never 0.

    Raises:
        ValueError: if the horizons differ, or a run was censored before its horizon.
    """
    _check_same_horizon(a, b)
    steps_a, steps_b = _restricted_steps(a), _restricted_steps(b)
    low, high = _bootstrap_interval(steps_a, steps_b)
    return Comparison(
        difference=_difference_of_means(steps_a, steps_b),
        low=low,
        high=high,
        p_value=_permutation_p_value(steps_a, steps_b),
        note=_join(_describe_arms(a, b), _few_seeds(a, b)),
    )


def median_steps(sample: StepsSample) -> Estimate:
    """Kaplan-Meier median: the first step at which at most half of the runs have not converged.

    The interval holds the steps at which the log-log band of the curve contains one half (Brookmeyer and Crowley 1982).
    None stands for a median, or an end of its interval, beyond the horizon. There is no interval for a single run, and
    none for fewer than `FEW_SEEDS` runs that are all alike.
    """
    curve = survival_curve(sample)
    value = _first_at_most_half(curve.steps, curve.not_converged)
    low = _first_at_most_half(curve.steps, curve.low)
    high = _first_at_most_half(curve.steps, curve.high)
    if sample.steps.size == 1:
        low, high = None, None
    elif value is not None and np.ptp(sample.steps) == 0:
        low = high = value if sample.steps.size >= FEW_SEEDS else None
    beyond = "" if value is not None else "the median lies beyond the horizon"
    return Estimate(value, low, high, _join(_describe(sample), beyond))


def survival_curve(sample: StepsSample) -> SurvivalCurve:
    """Kaplan-Meier curve from step 0, where it is 1, to the horizon, with its log-log (exponential Greenwood) interval.

    The formula has no interval where the curve is 0 or 1. At 1 the interval is that point; at 0, once all runs have
    converged, its upper end is carried on.
    """
    events, converging = np.unique(sample.steps[sample.converged], return_counts=True)
    at_risk = _at_risk(sample, events)
    surviving = np.cumprod((at_risk - converging) / at_risk)

    # Only the last event can leave nobody. (scipy.stats.ecdf answers there with a NaN and a warning.)
    inner = surviving > 0
    log_surviving = np.log(surviving[inner])
    greenwood = np.cumsum(converging[inner] / (at_risk * (at_risk - converging))[inner])
    log_width = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * np.sqrt(greenwood) / -log_surviving
    low = np.zeros_like(surviving)
    low[inner] = np.exp(log_surviving * np.exp(log_width))
    high = np.exp(log_surviving * np.exp(-log_width))

    def whole(values: NDArray[np.floating]) -> NDArray[np.float64]:
        """From step 0 to the horizon: 1 before the first event, then the last value is kept."""
        missing = events.size + 1 - values.size
        return np.pad(np.append(1.0, values), (0, missing), mode="edge")

    return SurvivalCurve(
        steps=np.concatenate(([0.0], events, [sample.horizon])),
        not_converged=whole(surviving),
        low=whole(low),
        high=whole(high),
        note=_describe(sample),
    )


def log_rank(a: StepsSample, b: StepsSample) -> LogRank:
    """Log-rank test that the two arms converge at the same rate (Mantel 1966).

    Its square is the chi-square that most other programs print. It is weak where the survival curves cross.
    """
    if not (a.converged.any() or b.converged.any()):
        return LogRank(None, None, "no run converged in either arm")
    events, converging = np.unique(np.append(a.steps[a.converged], b.steps[b.converged]), return_counts=True)
    at_risk_a, at_risk_b = _at_risk(a, events), _at_risk(b, events)
    if not np.any((at_risk_a > 0) & (at_risk_b > 0) & (converging < at_risk_a + at_risk_b)):
        return LogRank(None, None, "no step tells the arms apart: the statistic is undefined")
    test = scipy.stats.logrank(_censored(a), _censored(b))
    return LogRank(float(test.statistic), float(test.pvalue), _describe_arms(a, b))


def proportion(successes: int, trials: int) -> Estimate:
    """Share of successes with its Clopper-Pearson ("exact") interval.

    Raises:
        ValueError: unless 0 <= successes <= trials.
    """
    _check_counts(successes, trials)
    if trials == 0:
        return Estimate(None, None, None, "no runs")
    interval = scipy.stats.binomtest(successes, trials).proportion_ci(CONFIDENCE, method="exact")
    return Estimate(successes / trials, float(interval.low), float(interval.high))


def fisher_exact(successes_a: int, trials_a: int, successes_b: int, trials_b: int) -> float:
    """Two-sided p-value of Fisher's exact test that two shares of successes are the same.

    Raises:
        ValueError: unless 0 <= successes <= trials in both arms.
    """
    _check_counts(successes_a, trials_a)
    _check_counts(successes_b, trials_b)
    table = np.array([[successes_a, trials_a - successes_a], [successes_b, trials_b - successes_b]])
    return float(scipy.stats.fisher_exact(table).pvalue)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm-Bonferroni adjusted p-values, in the order given: claims below alpha hold together at level alpha.

    Raises:
        ValueError: if a p-value lies outside 0..1.
    """
    for claim, p in p_values.items():
        if not 0 <= p <= 1:
            raise ValueError(f"the p-value of {claim!r} must lie in 0..1, got {p}")
    ranked = sorted(p_values, key=p_values.__getitem__)
    factors = np.arange(len(ranked), 0, -1)
    adjusted = np.minimum(np.maximum.accumulate([p_values[claim] for claim in ranked] * factors), 1)
    by_claim = dict(zip(ranked, adjusted.tolist(), strict=True))
    return {claim: by_claim[claim] for claim in p_values}


def mean(values: ArrayLike, within: tuple[float, float] = (-inf, inf)) -> Estimate:
    """Mean of `[n]` values with Student's t interval.

    Where all are alike it is a point, but none for fewer than `FEW_SEEDS` values: they do not say how much they vary.

    Args:
        values: the sample.
        within: the range that values can have at all, such as 0 to 1; the interval goes no further.

    Raises:
        ValueError: if a value is not finite.
    """
    sample = np.asarray(values, np.float64)
    if not np.isfinite(sample).all():
        raise ValueError(f"values must be finite, got {sample.tolist()}")
    if sample.size == 0:
        return Estimate(None, None, None, "no values")
    centre = float(sample.mean())
    if sample.size == 1:
        return Estimate(centre, None, None, "one value")
    if np.ptp(sample) == 0:
        end = centre if sample.size >= FEW_SEEDS else None
        return Estimate(centre, end, end, "all values alike")
    low, high = scipy.stats.t.interval(CONFIDENCE, sample.size - 1, loc=centre, scale=scipy.stats.sem(sample))
    return Estimate(centre, max(float(low), within[0]), min(float(high), within[1]))


def seeds_to_decide(
    a: StepsSample, b: StepsSample, *, alpha: float = 0.05, power: float = 0.8, limit: int = 1000
) -> int | None:
    """Seeds per arm that would decide the primary comparison, were the means and variances seen the truth.

    Normal approximation: `(z_{1-alpha/2} + z_power)^2 (var_a + var_b) / difference^2`, but no fewer than the
    permutation test needs to reach alpha at all.

    Returns:
        None where the difference is zero, an arm has a single run, or more than `limit` would be needed.

    Raises:
        ValueError: as `compare_restricted_means`.
    """
    _check_same_horizon(a, b)
    steps_a, steps_b = _restricted_steps(a), _restricted_steps(b)
    difference = _difference_of_means(steps_a, steps_b)
    if difference == 0 or min(steps_a.size, steps_b.size) == 1:
        return None
    z = NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)
    needed = float(z**2 * (steps_a.var(ddof=1) + steps_b.var(ddof=1)) / difference**2)
    return _seeds(needed, alpha, limit)


def seeds_to_decide_proportions(
    p_a: float, p_b: float, *, alpha: float = 0.05, power: float = 0.8, limit: int = 1000
) -> int | None:
    """Seeds per arm for Fisher's exact test to tell two shares apart, were these the truth.

    Normal approximation with the continuity correction for Fisher's test (Casagrande, Pike and Smith 1978; Fleiss,
    Statistical Methods for Rates and Proportions, chapter 3). It asks for some too many where a share is 0 or 1.

    Returns:
        None where the shares are equal or more than `limit` would be needed.

    Raises:
        ValueError: if a share lies outside 0..1.
    """
    for p in (p_a, p_b):
        if not 0 <= p <= 1:
            raise ValueError(f"a share must lie in 0..1, got {p}")
    difference = abs(p_a - p_b)
    if difference == 0:
        return None
    pooled = (p_a + p_b) / 2
    under_null = NormalDist().inv_cdf(1 - alpha / 2) * sqrt(2 * pooled * (1 - pooled))
    under_truth = NormalDist().inv_cdf(power) * sqrt(p_a * (1 - p_a) + p_b * (1 - p_b))
    uncorrected = ((under_null + under_truth) / difference) ** 2
    return _seeds(uncorrected / 4 * (1 + sqrt(1 + 4 / (uncorrected * difference))) ** 2, alpha, limit)


def longest_wait(losses: ArrayLike) -> int:
    """The longest run of looks without a new minimum of the loss; a NaN is no minimum.

    Raises:
        ValueError: if `losses` is not `[n]` with at least one look.
    """
    return int(_waits(losses).max())


def would_stop_at(losses: ArrayLike, patience: int) -> int | None:
    """The look (index) at which `patience` looks in a row without a new minimum would have stopped the run, or None.

    Raises:
        ValueError: if `losses` is not `[n]` with at least one look, or `patience` is below 1.
    """
    if patience < 1:
        raise ValueError(f"patience must be at least 1, got {patience}")
    stops = np.flatnonzero(_waits(losses) >= patience)
    return int(stops[0]) if stops.size else None


def plateau(losses: ArrayLike, low: float = 0.5, high: float = 0.7) -> Plateau:
    """Measures the plateau `low <= loss <= high` of a loss curve and the drop that ends it.

    The drop counts the looks from the last one at or above `low` to the first later one at or below 0.05; it is None
    where the loss never comes there, or never was at `low`.

    Raises:
        ValueError: if `losses` is not `[n]` with at least one look.
    """
    curve = _loss_curve(losses)
    share = float(np.mean((curve >= low) & (curve <= high)))
    above = np.flatnonzero(curve >= low)
    if not above.size:
        return Plateau(share, None)
    dropped = np.flatnonzero(curve[above[-1] :] <= DROPPED)
    return Plateau(share, int(dropped[0]) if dropped.size else None)


def _restricted_steps(sample: StepsSample) -> NDArray[np.float64]:
    """The steps as they are, once it is certain that their mean is the restricted mean."""
    if np.any(sample.steps[~sample.converged] < sample.horizon):
        raise ValueError("a restricted mean needs every run that did not converge to be censored at the horizon")
    return sample.steps


def _difference_of_means(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(first.mean() - second.mean())


def _bootstrap_interval(*arms: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """BCa interval of the mean of one arm, or of the first's minus the second's, each arm resampled by itself."""

    def statistic(*resampled: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        means = [arm.mean(axis=axis) for arm in resampled]
        return means[0] - sum(means[1:])

    smallest = min(arm.size for arm in arms)
    if smallest == 1:
        return None, None
    if all(np.ptp(arm) == 0 for arm in arms):  # BCa divides by a variance of zero
        point = float(statistic(*arms)) if smallest >= FEW_SEEDS else None
        return point, point
    interval = scipy.stats.bootstrap(
        arms,
        statistic,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _permutation_p_value(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Twice the smaller tail of the first arm's mean over the ways to divide the runs, the one observed among them."""
    if min(first.size, second.size) == 1:  # which scipy refuses: the divisions are the choices of that one run
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


def _at_risk(sample: StepsSample, events: NDArray[np.float64]) -> NDArray[np.int64]:
    """Runs neither converged nor censored before each event."""
    return sample.steps.size - np.searchsorted(np.sort(sample.steps), events, side="left")


def _first_at_most_half(steps: NDArray[np.float64], share: NDArray[np.float64]) -> float | None:
    # The share is a product of fractions: one half may miss by a rounding error.
    reached = steps[share <= 0.5 + 1e-9]
    return float(reached[0]) if reached.size else None


def _censored(sample: StepsSample) -> "scipy.stats.CensoredData":
    return scipy.stats.CensoredData(
        uncensored=sample.steps[sample.converged].tolist(), right=sample.steps[~sample.converged].tolist()
    )


def _seeds(needed: float, alpha: float, limit: int) -> int | None:
    # Of all divisions of 2n runs into halves, the two that separate the arms completely have the smallest p-value.
    fewest = next(n for n in count(2) if 2 / comb(2 * n, n) <= alpha)
    seeds = max(ceil(needed), fewest)
    return seeds if seeds <= limit else None


def _loss_curve(losses: ArrayLike) -> NDArray[np.float64]:
    curve = np.asarray(losses, np.float64)
    if curve.ndim != 1 or curve.size == 0:
        raise ValueError(f"losses must have shape [n] with at least one look, got {curve.shape}")
    return curve


def _waits(losses: ArrayLike) -> NDArray[np.int64]:
    """Looks since the last new minimum, at each look."""
    curve = _loss_curve(losses)
    best_before = np.fmin.accumulate(np.append(np.inf, curve[:-1]))
    looks = np.arange(curve.size)
    return looks - np.maximum.accumulate(np.where(curve < best_before, looks, -1))


def _describe(sample: StepsSample) -> str:
    alone = "one seed" if sample.steps.size == 1 else ""
    if not sample.converged.any():
        return _join(alone, "no run converged")
    return alone or ("all values alike" if np.ptp(sample.steps) == 0 else "")


def _describe_arms(a: StepsSample, b: StepsSample) -> str:
    arms = {"first arm": _describe(a), "second arm": _describe(b)}
    return _join(*(f"{arm}: {note}" for arm, note in arms.items() if note))


def _few_seeds(*samples: StepsSample) -> str:
    fewest = min(sample.steps.size for sample in samples)
    if fewest == 1 or (fewest < FEW_SEEDS and all(np.ptp(sample.steps) == 0 for sample in samples)):
        return "no interval"
    return f"{fewest} seeds: the bootstrap interval is too narrow" if fewest < FEW_SEEDS else ""


def _join(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _check_same_horizon(a: StepsSample, b: StepsSample) -> None:
    if a.horizon != b.horizon:
        raise ValueError(f"both arms need the same horizon, got {a.horizon:g} and {b.horizon:g}")


def _check_counts(successes: int, trials: int) -> None:
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must lie in 0..trials, got {successes} of {trials}")
