"""Quantities of runs: their estimates with intervals over seeds, their tests between two arms, and their texts.

A quantity reads one number from each run. Its kind decides the rest: a time to an event that some runs do not reach, a
mean, or a share of runs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

import numpy as np

from jaxrnn.rundir.read import Run
from jaxrnn.study import stats, survival
from jaxrnn.study.arms import Arm
from jaxrnn.study.format import NONE, format_estimate, format_p, format_share
from jaxrnn.study.stats import Comparison

_NO_VALUES = "one of them has no values"
_UNPAIRED = "Differences have bootstrap intervals and the p-value of a permutation test."
_PAIRED = (
    "Differences are means over pairs of runs with the same seed, with Student's t intervals and the p-value of a test "
    "that flips their signs."
)


@dataclass(frozen=True)
class Quantity:
    """What all kinds of quantities have.

    Attributes:
        name: in words, with its unit.
        value: ``value(run)``, a run's number, or None if the run does not have it.
        form: how a number is printed.
        is_better: whether the arm with the larger or the smaller estimate comes first in a ranking.
    """

    name: str
    value: Callable[[Run], float | None]
    form: str = ".4f"
    is_better: Literal["larger", "smaller"] = field(default="larger", kw_only=True)

    @property
    def about_intervals(self) -> str:
        """For the page: what an estimate is, and how its interval is made."""
        raise NotImplementedError

    @property
    def about_differences(self) -> str:
        """For the page: how `compare` makes its interval and p-value."""
        raise NotImplementedError

    def values(self, arm: Arm) -> list[float]:
        """The values of the runs that have one, in the order of their seeds."""
        return [value for run in arm.runs if (value := self.value(run)) is not None]

    def estimate(self, arm: Arm) -> stats.Estimate:
        """The estimate from the arm's runs."""
        raise NotImplementedError

    def compare(self, a: Arm, b: Arm) -> Comparison | str:
        """The first arm minus the second, or the reason why they cannot be compared."""
        raise NotImplementedError

    def cells(self, arm: Arm) -> dict[str, str]:
        """The arm's cells in a table of arms, by heading."""
        return {self.name: self.cell(arm, self.estimate(arm))}

    def cell(self, arm: Arm, estimate: stats.Estimate, beyond: str = NONE) -> str:
        """An arm's estimate with its note, if any; a single seed or a missing value needs none."""
        shown = format_estimate(estimate, self.form, beyond)
        return f"{shown} ({estimate.note})" if estimate.note and shown != NONE and len(arm.runs) > 1 else shown

    def brief(self, arm: Arm) -> str:
        """The estimate in short, for a line with others."""
        return self.format(self.estimate(arm))

    def format(self, estimate: stats.Estimate | Comparison) -> str:
        """An estimate, or a difference of two with its sign."""
        if isinstance(estimate, stats.Estimate):
            return format_estimate(estimate, self.form)
        difference = stats.Estimate(estimate.difference, estimate.low, estimate.high)
        return format_estimate(difference, f"+{self.form}")


@dataclass(frozen=True)
class TimeToEvent(Quantity):
    """Steps until a run stops by its rule; a run that does not is censored at the horizon of its setting."""

    form: str = ".0f"
    is_better: Literal["larger", "smaller"] = field(default="smaller", kw_only=True)
    about_intervals = (
        "The restricted mean counts a run that has not converged with the most steps that it may take; its interval is "
        "that of the bootstrap."
    )
    about_differences = (
        f"{_UNPAIRED} The log-rank test compares whole survival curves; z is positive where the first arm converges "
        "sooner."
    )

    def values(self, arm: Arm) -> list[float]:
        """The values of all runs; that of a censored run is the horizon."""
        return [float(value) for value in self.sample(arm).steps]

    def sample(self, arm: Arm) -> survival.StepsSample:
        """The arm's runs for the functions of `jaxrnn.study.survival`."""
        return survival.steps_sample([self.value(run) for run in arm.runs], arm.setting["max_steps"])

    def estimate(self, arm: Arm) -> stats.Estimate:
        """The restricted mean, with a bootstrap interval."""
        return survival.restricted_mean(self.sample(arm))

    def brief(self, arm: Arm) -> str:
        """The restricted mean, and how many runs have converged where not all have."""
        sample = self.sample(arm)
        count = int(sample.converged.sum())
        shown = super().brief(arm) if count else f"> {sample.horizon}"
        return shown if sample.converged.all() else f"{shown}, {count} of {len(sample.steps)} converged"

    def compare(self, a: Arm, b: Arm) -> Comparison | str:
        """The difference of restricted means with a permutation test; its note has the log-rank test."""
        horizons = [arm.setting["max_steps"] for arm in (a, b)]
        if horizons[0] != horizons[1]:
            return f"their horizons differ: {horizons[0]} and {horizons[1]} steps"
        ranks = survival.log_rank(self.sample(a), self.sample(b))
        said = f"z = {ranks[0]:.2f}, {format_p(ranks[1])}" if ranks else "undefined, no step tells them apart"
        return stats.compare_means(self.values(a), self.values(b)).noting(f"log-rank {said}")

    def cells(self, arm: Arm) -> dict[str, str]:
        """Converged runs, restricted mean and median."""
        sample = self.sample(arm)
        beyond = NONE if sample.converged.all() else f"> {sample.horizon}"
        return {
            "converged": format_share(int(sample.converged.sum()), len(sample.steps)),
            f"{self.name}, restricted mean": self.cell(arm, survival.restricted_mean(sample)),
            "median": self.cell(arm, survival.median_steps(sample), beyond),
        }


@dataclass(frozen=True)
class Mean(Quantity):
    """A number that is averaged over seeds.

    Attributes:
        within: the range of possible values.
        paired: True if runs of the same seed share what is random, such as a split; arms are compared seed by seed.
        deviation: True to show the standard deviation too.
    """

    within: tuple[float, float] = (-inf, inf)
    paired: bool = False
    deviation: bool = False

    about_intervals = "Means have Student's t intervals."

    @property
    def about_differences(self) -> str:
        """Of means, or of means of pairs."""
        return _PAIRED if self.paired else _UNPAIRED

    def estimate(self, arm: Arm) -> stats.Estimate:
        """The mean, with Student's t interval."""
        return stats.mean(self.values(arm), self.within)

    def differences(self, a: Arm, b: Arm) -> list[float]:
        """The first arm minus the second, for each seed that both have."""
        first, second = ({run.seed: self.value(run) for run in arm.runs} for arm in (a, b))
        pairs = [(first[seed], second.get(seed)) for seed in first]
        return [x - y for x, y in pairs if x is not None and y is not None]

    def compare(self, a: Arm, b: Arm) -> Comparison | str:
        """Compares pairs with a sign-flip test, or else means with a permutation test."""
        if not self.paired:
            first, second = self.values(a), self.values(b)
            return stats.compare_means(first, second) if first and second else _NO_VALUES
        pairs = self.differences(a, b)
        if not pairs:
            return "they have no seed in common"
        larger, ties = sum(d > 0 for d in pairs), sum(d == 0 for d in pairs)
        alike = f", {ties} alike" if ties else ""
        return stats.compare_paired(pairs).noting(f"the first is larger in {larger} of {len(pairs)} seeds{alike}")

    def cells(self, arm: Arm) -> dict[str, str]:
        """The mean, and the standard deviation where it is asked for."""
        found = super().cells(arm)
        if self.deviation:
            values = self.values(arm)
            found["standard deviation"] = f"{np.std(values, ddof=1):.2f}" if len(values) > 1 else NONE
        return found


@dataclass(frozen=True)
class Share(Quantity):
    """A share of runs: `value` is true or false, or None for a run that does not count."""

    form: str = ".2f"
    about_intervals = "Shares have Clopper-Pearson intervals."
    about_differences = "Differences have Newcombe's intervals and the p-value of Fisher's exact test."

    def counts(self, arm: Arm) -> tuple[int, int]:
        """Successes and trials."""
        values = self.values(arm)
        return sum(map(bool, values)), len(values)

    def estimate(self, arm: Arm) -> stats.Estimate:
        """The share, with the Clopper-Pearson interval."""
        return stats.proportion(*self.counts(arm))

    def compare(self, a: Arm, b: Arm) -> Comparison | str:
        """The difference, with Newcombe's interval and Fisher's exact test."""
        first, second = self.counts(a), self.counts(b)
        return stats.difference_of_proportions(*first, *second) if first[1] and second[1] else _NO_VALUES

    def cells(self, arm: Arm) -> dict[str, str]:
        """The count and the share."""
        return {self.name: format_share(*self.counts(arm))}


def result(key: str, factor: float = 1, optional: bool = False) -> Callable[[Run], float | None]:
    """The value that ``results.json`` has under `key`, times `factor`; None where it is null.

    An `optional` value is also None where the key is missing, since not every setting has it.
    """

    def value(run: Run) -> float | None:
        found = (run.result or {}).get(key) if optional else (run.result or {})[key]
        return None if found is None else factor * float(found)

    return value


def steps_until_stop(run: Run) -> float | None:
    """The step at which the stop rule ended the run; None where it did not."""
    row: Mapping[str, Any] = run.result or {}
    return row["last_step"] if row["stopped"] else None


def last_mean(metric: str, evaluations: int) -> Callable[[Run], float | None]:
    """The mean of a metric over a run's last evaluations; None where it is not known or not finite.

    For a short run, these are the second half of its evaluations, so that its beginning does not count.
    """

    def value(run: Run) -> float | None:
        if run.curve is None or metric not in run.curve.metrics or _has_failed(run):
            return None
        values = run.curve.metrics[metric]
        found = float(values[-min(evaluations, -(-len(values) // 2)) :].mean())
        return found if np.isfinite(found) else None

    return value


def at_best(metric: str, by: str, file: str) -> Callable[[Run], float | None]:
    """A metric, or the step, at the evaluation where the metric `by` is lowest, in a file that a callback wrote.

    None for a run that failed or that lacks one of these metrics.
    """

    def value(run: Run) -> float | None:
        curve = None if _has_failed(run) else run.curve_in(file)
        if curve is None or not np.isfinite(curve.metrics.get(by, ())).any():
            return None
        values = {"step": curve.steps, **curve.metrics}.get(metric)
        return None if values is None else float(values[np.nanargmin(curve.metrics[by])])

    return value


def _has_failed(run: Run) -> bool:
    return (run.result or {}).get("failed_at") is not None
