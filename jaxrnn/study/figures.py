"""Figures of arms, as studies declare them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from numpy.typing import NDArray

from jaxrnn.rundir.read import Curve
from jaxrnn.study import plots, survival
from jaxrnn.study.arms import Arm, Setting
from jaxrnn.study.format import format_count
from jaxrnn.study.page import Figure
from jaxrnn.study.quantities import Quantity, TimeToEvent
from jaxrnn.study.study import ArmChoice, Evidence

_COLUMNS = 3
"""Arms side by side in one figure."""


def curves_with(arm: Arm, metrics: Sequence[str], file: str = "") -> dict[int, Curve]:
    """The arm's curves with these metrics, by seed, from ``metrics.jsonl`` or another file that a callback wrote."""
    curves = {run.seed: run.curve_in(file) for run in arm.runs} if file else arm.curves
    return {seed: curve for seed, curve in curves.items() if curve and {*metrics} <= curve.metrics.keys()}


@dataclass(frozen=True)
class SeedCurves:
    """Each run's metrics against the step, a column for each arm.

    Attributes:
        metrics: the labels of the axes, by the metrics' names in the file.
        settings: which arms to show, see `ArmChoice`; all by default.
        step: the label of the step axis.
        is_band: True to show the mean and standard deviation instead of each run.
        file: a ``.jsonl`` file that a callback wrote, to read instead of ``metrics.jsonl``.
    """

    name: str
    caption: str
    metrics: Mapping[str, str]
    settings: ArmChoice = None
    step: str = "training step"
    is_band: bool = False
    file: str = ""

    def __call__(self, evidence: Evidence) -> list[Figure]:
        """Figures of the arms that have such curves, a few arms in each."""
        columns = []
        for title, arm in evidence.rows(self.settings):
            curves = curves_with(arm, [*self.metrics], self.file) if arm else {}
            if not curves:
                continue
            steps = [curve.steps for curve in curves.values()]
            metrics = {shown: [c.metrics[key] for c in curves.values()] for key, shown in self.metrics.items()}
            columns.append(plots.Curves(title, [f"seed {seed}" for seed in curves], steps, metrics))
        figures = []
        for first in range(0, len(columns), _COLUMNS):
            some = columns[first : first + _COLUMNS]
            plot = plots.seed_curves(some, self.step, is_band=self.is_band)
            alt = f"{', '.join(self.metrics.values())} against the {self.step}: {'; '.join(c.title for c in some)}"
            name = self.name + (f"_{first // _COLUMNS + 1}" if first else "")
            figures.append(Figure(name, plots.svg(plot), self.caption, alt))
        return figures


@dataclass(frozen=True)
class Survival:
    """Kaplan-Meier curves, a panel for each title; each arm is given by a label and its setting."""

    name: str
    quantity: TimeToEvent
    panels: Mapping[str, Sequence[tuple[str, Setting]]]

    def __call__(self, evidence: Evidence) -> list[Figure]:
        """The figure, with those of the arms that were found."""
        panels = {
            title: [(label, arm) for label, setting in arms if (arm := evidence.found.arm(setting))]
            for title, arms in self.panels.items()
        }
        return survival_figure(self.name, self.quantity, {title: arms for title, arms in panels.items() if arms})


def survival_figure(name: str, quantity: TimeToEvent, panels: Mapping[str, Sequence[tuple[str, Arm]]]) -> list[Figure]:
    """Kaplan-Meier curves of labelled arms, a panel for each title."""
    if not panels:
        return []
    drawn = {
        title: {_with_count(label, arm.runs): survival.survival_curve(quantity.sample(arm)) for label, arm in arms}
        for title, arms in panels.items()
    }
    caption = "Share of runs not yet converged (Kaplan-Meier), with 95 % intervals"
    alt = f"Survival curves: {'; '.join(f'{title}: {label}' for title, arms in panels.items() for label, _ in arms)}"
    return [Figure(name, plots.svg(plots.survival_curves(drawn)), caption, alt)]


def _with_count(label: str, runs: Sequence[object]) -> str:
    return f"{label}, {format_count(len(runs), 'run')}"


@dataclass(frozen=True)
class Dots:
    """Each run's value and the arm's estimate, a row for each arm and a panel for each quantity.

    Attributes:
        quantities: by the titles of their axes.
        settings: which arms to show, see `ArmChoice`; all by default.
        published: ``published(arm)``, the value that others found, if any; drawn as a stroke.
        from_zero: whether the axes begin at zero; if not, they begin with the data.
    """

    name: str
    caption: str
    quantities: Mapping[str, Quantity]
    settings: ArmChoice = None
    published: Callable[[Arm], float | None] = lambda arm: None
    from_zero: bool = True

    def __call__(self, evidence: Evidence) -> list[Figure]:
        """The figure, with those of the arms that were found."""
        arms = {title: arm for title, arm in evidence.rows(self.settings) if arm}
        if not arms:
            return []
        panels = {
            axis: [
                plots.Dots(title, quantity.values(arm), quantity.estimate(arm), self.published(arm))
                for title, arm in arms.items()
            ]
            for axis, quantity in self.quantities.items()
        }
        plot = plots.dots_and_intervals(panels, from_zero=self.from_zero)
        alt = f"Dot plots of {', '.join(panels)}: {'; '.join(arms)}"
        return [Figure(self.name, plots.svg(plot), self.caption, alt)]


def comparison_curves(name: str, arms: Mapping[str, Arm], metrics: Sequence[str]) -> list[Figure]:
    """The arms' mean curves on the same axes; a run that has ended keeps its last value."""
    panels: dict[str, dict[str, tuple[list[NDArray], list[NDArray]]]] = {}
    for metric in metrics:
        for title, arm in arms.items():
            curves = [*curves_with(arm, [metric]).values()]
            if curves:
                shown = [c.steps for c in curves], [c.metrics[metric] for c in curves]
                panels.setdefault(metric, {})[_with_count(title, curves)] = shown
    if not panels:
        return []
    caption = (
        "Learning curves: mean over seeds, in a band of one standard deviation that ends at the outermost runs; a run "
        "that has ended keeps its last value"
    )
    alt = f"Mean {' and '.join(panels)} against the training step: {'; '.join(arms)}"
    return [Figure(name, plots.svg(plots.mean_curves(panels)), caption, alt)]
