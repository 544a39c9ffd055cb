"""Steps until convergence, right-censored: restricted means, survival curves, medians and the log-rank test."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import scipy
from numpy.typing import NDArray

from jaxrnn.study.stats.comparisons import Comparison, compare_means
from jaxrnn.study.stats.estimates import (
    CONFIDENCE,
    FEW_SEEDS,
    Estimate,
    bootstrap_means,
    describe,
    describe_interval,
    join_arms,
    join_notes,
)


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
        steps: `[n]` float64, the step of convergence, or the horizon.
        converged: `[n]` bool, False for a censored run.
        horizon: the last step that a run was allowed.
    """

    steps: NDArray[np.float64]
    converged: NDArray[np.bool_]
    horizon: float


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


def steps_sample(steps: Sequence[int | None], horizon: int) -> StepsSample:
    """Builds a sample from each run's step of convergence.

    Args:
        steps: the step, or None for a run that did not converge or failed with a NaN: censored at the horizon, because
            it would not have converged however long one had waited.
        horizon: the last step that a run was allowed.
    """
    return StepsSample(
        steps=np.array([horizon if step is None else step for step in steps], np.float64),
        converged=np.array([step is not None for step in steps], np.bool_),
        horizon=horizon,
    )


def restricted_mean(sample: StepsSample) -> Estimate:
    """Restricted mean: the mean of min(steps, horizon), with a BCa bootstrap interval over runs.

    Where all runs are alike it is a point, but none for fewer than `FEW_SEEDS` runs.
    """
    low, high = bootstrap_means(sample.steps)
    note = join_notes(_describe(sample), describe_interval(sample.steps))
    return Estimate(float(sample.steps.mean()), low, high, note)


def compare_restricted_means(a: StepsSample, b: StepsSample) -> Comparison:
    """The primary comparison: restricted mean steps of `a` minus that of `b`, as `compare_means` compares them."""
    note = join_notes(join_arms(_describe(a), _describe(b)), describe_interval(a.steps, b.steps))
    return dataclasses.replace(compare_means(a.steps, b.steps), note=note)


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
    return Estimate(value, low, high, join_notes(_describe(sample), beyond))


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
    return LogRank(float(test.statistic), float(test.pvalue), join_arms(_describe(a), _describe(b)))


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


def _describe(sample: StepsSample) -> str:
    if sample.converged.any():
        return describe(sample.steps)
    return join_notes("one seed" if sample.steps.size == 1 else "", "no run converged")
