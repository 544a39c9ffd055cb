"""Steps until convergence, right-censored: restricted means, survival curves, medians and the log-rank test."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from jaxrnn.study.stats import CONFIDENCE, FEW_SEEDS, Estimate, bootstrap_means, describe


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

    Each Kaplan-Meier estimate and its pointwise 95 % interval hold from their step on, from 0 to the horizon.
    """

    steps: NDArray[np.float64]
    not_converged: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def steps_sample(steps: Sequence[float | None], horizon: int) -> StepsSample:
    """Builds a sample from each run's step of convergence.

    The step is None for a run that did not converge or that failed with a NaN. Such a run is censored at the horizon;
    after a NaN, it would not have converged however long one had waited.
    """
    return StepsSample(
        steps=np.array([horizon if step is None else step for step in steps], np.float64),
        converged=np.array([step is not None for step in steps], np.bool_),
        horizon=horizon,
    )


def restricted_mean(sample: StepsSample) -> Estimate:
    """Restricted mean: the mean of min(steps, horizon), with a BCa bootstrap interval over runs.

    If all runs are alike, the interval is a point; fewer than `FEW_SEEDS` such runs have none.
    """
    return Estimate(float(sample.steps.mean()), *bootstrap_means(sample.steps), describe(sample.steps))


def median_steps(sample: StepsSample) -> Estimate:
    """Kaplan-Meier median: the first step at which at most half of the runs have not converged.

    The interval has the steps at which the log-log band of the curve contains one half (Brookmeyer and Crowley 1982).
    None stands for a median, or an end of its interval, beyond the horizon. There is no interval for a single run, and
    none for fewer than `FEW_SEEDS` runs that are all alike.
    """
    curve = survival_curve(sample)
    # The share is a product of fractions, which may miss one half by a rounding error.
    reached = [curve.steps[share <= 0.5 + 1e-9] for share in (curve.not_converged, curve.low, curve.high)]
    value, low, high = (float(steps[0]) if steps.size else None for steps in reached)
    if value is not None and np.ptp(sample.steps) == 0:
        low = high = value if sample.steps.size >= FEW_SEEDS else None
    if sample.steps.size == 1:
        low = high = None
    is_open = low is not None and high is None and sample.converged.all()
    return Estimate(value, low, high, "with so few seeds it has no upper end" if is_open else "")


def survival_curve(sample: StepsSample) -> SurvivalCurve:
    """Kaplan-Meier curve from step 0, where it is 1, to the horizon, with its log-log (exponential Greenwood) interval.

    The formula has no interval where the curve is 0 or 1. At 1 the interval is that point; at 0, once all runs have
    converged, the last upper end is carried on.
    """
    share = scipy.stats.ecdf(_censored(sample)).sf
    with warnings.catch_warnings(action="ignore"):  # For the ends that the formula does not have.
        band: Any = share.confidence_interval(CONFIDENCE, method="log-log")
    steps = np.append(np.unique(sample.steps[sample.converged]), sample.horizon)
    values, low, high = (np.append(1.0, curve.evaluate(steps)) for curve in (share, band.low, band.high))
    return SurvivalCurve(
        steps=np.append(0.0, steps),
        not_converged=values,
        low=np.where(np.isnan(low), values, low),
        high=np.fmin.accumulate(high),
    )


def log_rank(a: StepsSample, b: StepsSample) -> tuple[float, float] | None:
    """Log-rank test that the two arms converge at the same rate (Mantel 1966).

    It is weak where the survival curves cross.

    Returns:
        The statistic, whose square is the chi-square that most other programs print, positive where the first arm
        converges sooner; and its two-sided p-value. None where no step tells the arms apart.
    """
    with np.errstate(all="ignore"):
        test = scipy.stats.logrank(_censored(a), _censored(b))
    return (float(test.statistic), float(test.pvalue)) if np.isfinite(test.statistic) else None


def _censored(sample: StepsSample) -> "scipy.stats.CensoredData":
    return scipy.stats.CensoredData(
        uncensored=sample.steps[sample.converged].tolist(), right=sample.steps[~sample.converged].tolist()
    )
