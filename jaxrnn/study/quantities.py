"""What a run yields, as seeds say it together: its estimate with an interval, its test between two arms, its words.

A quantity reads one number from each run. Its kind decides the rest: a time to an event that some runs do not reach, a
mean, or a share of runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from jaxrnn.rundir.read import Run
from jaxrnn.study import stats
from jaxrnn.study.arms import Arm, Setting
from jaxrnn.study.format import NONE, format_estimate, format_p, format_share

Comparison = stats.Comparison


@dataclass(frozen=True)
class Quantity:
    """What all kinds have.

    Attributes:
        name: in words, with its unit.
        value: of a run; None where the run does not have it.
    """

    name: str
    value: Callable[[Run], float | None]

    def values(self, arm: Arm) -> list[float]:
        """Of the runs that have one, in the order of their seeds."""
        return [value for run in arm.runs if (value := self.value(run)) is not None]

    def estimate(self, arm: Arm) -> stats.Estimate:
        """What the arm's runs say together."""
        raise NotImplementedError

    def compare(self, a: Arm, b: Arm) -> Comparison | None:
        """The first arm minus the second; None where there is nothing to compare."""
        raise NotImplementedError

    def smallest_p(self, a: Arm, b: Arm) -> float:
        """The smallest p-value that the test can reach with so many runs."""
        return stats.smallest_p(len(self.values(a)), len(self.values(b)))

    def seeds_to_decide(self, a: Arm, b: Arm, alpha: float) -> int | None:
        """Seeds an arm that would tell the two apart, were what was seen the truth; None where nobody can say."""
        del a, b, alpha
        return None

    def describe_pair(self, a: Arm, b: Arm) -> str:
        """What else is known of the difference."""
        del a, b
        return ""

    def cells(self, arm: Arm) -> dict[str, str]:
        """Columns of a table of arms."""
        return {self.name: self.format(self.estimate(arm))}

    def format(self, estimate: stats.Estimate, signed: bool = False) -> str:
        """An estimate, or a difference of two (`signed`), in words."""
        raise NotImplementedError


@dataclass(frozen=True)
class TimeToEvent(Quantity):
    """Steps until a run has stopped by its rule; a run that has not is censored at the horizon.

    Attributes:
        horizon: the last step that a setting allows.
    """

    horizon: Callable[[Setting], int] = lambda setting: int(setting["max_steps"])

    def values(self, arm: Arm) -> list[float]:
        """Of all runs; a censored one has the horizon."""
        return [float(value) for value in self.sample(arm).steps]

    def sample(self, arm: Arm) -> stats.StepsSample:
        """The arm's runs for the functions of `jaxrnn.study.stats`."""
        steps = [None if value is None else int(value) for value in map(self.value, arm.runs)]
        return stats.steps_sample(steps, self.horizon(arm.setting))

    def estimate(self, arm: Arm) -> stats.Estimate:
        """The restricted mean, with a bootstrap interval."""
        return stats.restricted_mean(self.sample(arm))

    def compare(self, a: Arm, b: Arm) -> Comparison | None:
        """The difference of restricted means, with a permutation test."""
        if self.horizon(a.setting) != self.horizon(b.setting):
            return None
        return stats.compare_restricted_means(self.sample(a), self.sample(b))

    def seeds_to_decide(self, a: Arm, b: Arm, alpha: float) -> int | None:
        """As in `jaxrnn.study.stats.seeds_to_decide`."""
        return stats.seeds_to_decide(self.values(a), self.values(b), alpha=alpha)

    def describe_pair(self, a: Arm, b: Arm) -> str:
        """The log-rank test."""
        test = stats.log_rank(self.sample(a), self.sample(b))
        if test.z is None or test.p_value is None:
            return f"log-rank {test.note}"
        return f"log-rank z = {test.z:.2f}, {format_p(test.p_value)}"

    def cells(self, arm: Arm) -> dict[str, str]:
        """Converged runs, restricted mean and median."""
        sample = self.sample(arm)
        mean = stats.restricted_mean(sample)
        beyond = NONE if sample.converged.all() else f"> {sample.horizon}"
        return {
            "converged": format_share(int(sample.converged.sum()), len(sample.steps)),
            f"{self.name}, restricted mean": self.format(mean) + (f" ({mean.note})" if mean.note else ""),
            "median": format_estimate(stats.median_steps(sample), ".0f", beyond=beyond),
        }

    def format(self, estimate: stats.Estimate, signed: bool = False) -> str:
        """Whole steps."""
        return format_estimate(estimate, "+.0f" if signed else ".0f")


@dataclass(frozen=True)
class Mean(Quantity):
    """A number whose mean over seeds counts.

    Attributes:
        form: how it is printed.
        within: what it can be at all.
        paired: runs of the same seed share what is random, such as a split: arms are compared seed by seed.
        deviation: show the standard deviation too.
    """

    form: str = ".4f"
    within: tuple[float, float] = (-inf, inf)
    paired: bool = False
    deviation: bool = False

    def estimate(self, arm: Arm) -> stats.Estimate:
        """The mean, with Student's t interval."""
        return stats.mean(self.values(arm), self.within)

    def differences(self, a: Arm, b: Arm) -> list[float]:
        """The first arm minus the second, by the seeds that both have."""
        first, second = ({run.seed: self.value(run) for run in arm.runs} for arm in (a, b))
        pairs = [(first[seed], second.get(seed)) for seed in first]
        return [x - y for x, y in pairs if x is not None and y is not None]

    def compare(self, a: Arm, b: Arm) -> Comparison | None:
        """By pairs with a sign-flip test, else by the difference of means with a permutation test."""
        if self.paired:
            differences = self.differences(a, b)
            return stats.compare_paired(differences) if differences else None
        first, second = self.values(a), self.values(b)
        return stats.compare_means(first, second) if first and second else None

    def describe_pair(self, a: Arm, b: Arm) -> str:
        """By pairs, in how many the first is larger."""
        differences = self.differences(a, b) if self.paired else []
        larger, ties = sum(d > 0 for d in differences), sum(d == 0 for d in differences)
        alike = f", {ties} alike" if ties else ""
        return f"the first is larger in {larger} of {len(differences)} seeds{alike}" if differences else ""

    def smallest_p(self, a: Arm, b: Arm) -> float:
        """Of the sign-flip test, or the permutation test."""
        return stats.smallest_p_paired(len(self.differences(a, b))) if self.paired else super().smallest_p(a, b)

    def cells(self, arm: Arm) -> dict[str, str]:
        """The mean, and the standard deviation where it is asked for."""
        found = super().cells(arm)
        if self.deviation:
            values = self.values(arm)
            found["standard deviation"] = f"{np.std(values, ddof=1):.2f}" if len(values) > 1 else NONE
        return found

    def format(self, estimate: stats.Estimate, signed: bool = False) -> str:
        """With the quantity's digits."""
        return format_estimate(estimate, ("+" if signed else "") + self.form)


@dataclass(frozen=True)
class Share(Quantity):
    """A share of runs: `value` is true or false, or None for a run that does not count."""

    def counts(self, arm: Arm) -> tuple[int, int]:
        """Successes and trials."""
        values = self.values(arm)
        return sum(map(bool, values)), len(values)

    def estimate(self, arm: Arm) -> stats.Estimate:
        """The share, with Clopper and Pearson's interval."""
        return stats.proportion(*self.counts(arm))

    def compare(self, a: Arm, b: Arm) -> Comparison | None:
        """The difference, with Newcombe's interval and Fisher's exact test."""
        first, second = self.counts(a), self.counts(b)
        return stats.difference_of_proportions(*first, *second) if first[1] and second[1] else None

    def smallest_p(self, a: Arm, b: Arm) -> float:
        """Of Fisher's test, where all runs of one arm succeed and none of the other."""
        return stats.fisher_exact(0, self.counts(a)[1], self.counts(b)[1], self.counts(b)[1])

    def seeds_to_decide(self, a: Arm, b: Arm, alpha: float) -> int | None:
        """As in `jaxrnn.study.stats.seeds_to_decide_proportions`."""
        shares = [successes / trials for successes, trials in (self.counts(a), self.counts(b))]
        return stats.seeds_to_decide_proportions(*shares, alpha=alpha)

    def cells(self, arm: Arm) -> dict[str, str]:
        """The count and the share."""
        return {self.name: format_share(*self.counts(arm))}

    def format(self, estimate: stats.Estimate, signed: bool = False) -> str:
        """Two digits."""
        return format_estimate(estimate, "+.2f" if signed else ".2f")


def result(key: str, factor: float = 1, optional: bool = False) -> Callable[[Run], float | None]:
    """The value that ``results.json`` has under `key`, times `factor`; None where it is null.

    An `optional` one is also None where the key is missing, since not every setting has it.
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
    """The mean of a metric over a run's last evaluations; None where it is not known or not finite."""

    def value(run: Run) -> float | None:
        if run.curve is None or metric not in run.curve.metrics or _has_failed(run):
            return None
        found = float(run.curve.metrics[metric][-evaluations:].mean())
        return found if np.isfinite(found) else None

    return value


def at_best(metric: str, by: str, file: str) -> Callable[[Run], float | None]:
    """A metric, or the step, where another one was lowest in a file that a callback wrote.

    None for a run that failed or has no such metric there.
    """

    def value(run: Run) -> float | None:
        curve = run.curve_in(file)
        values = curve.metrics.get(by, np.empty(0)) if curve else np.empty(0)
        if curve is None or not np.isfinite(values).any() or metric not in {"step", *curve.metrics} or _has_failed(run):
            return None
        best = np.nanargmin(values)
        return float(curve.steps[best] if metric == "step" else curve.metrics[metric][best])

    return value


def _has_failed(run: Run) -> bool:
    return (run.result or {}).get("failed_at") is not None


def losses(arm: Arm) -> Sequence[np.ndarray]:
    """The loss curves of the runs that have a whole one."""
    return [curve.metrics["loss"] for curve in arm.curves.values() if "loss" in curve.metrics]
