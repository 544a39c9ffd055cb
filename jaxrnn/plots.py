"""Figures from plain arrays; the only file that imports matplotlib.

Every function returns a `Figure` of matplotlib's object-oriented interface, which needs no display and keeps no global
state; `png` turns it into bytes, the same bytes for the same arrays.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from jaxrnn.stats import Estimate, SurvivalCurve

# Okabe and Ito (2008), "Color Universal Design": told apart with any colour vision.
BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)

# More runs than this are drawn thin, in one colour, and counted in the legend instead of named.
NAMED_RUNS = len(COLOURS)


@dataclass(frozen=True)
class Curves:
    """The curves of the runs of one arm: one column of a figure.

    Attributes:
        title: of the column.
        labels: a name per run.
        steps: per run, `[k]` steps of its looks, on a grid that all runs share from its start.
        metrics: by name, per run, `[k]` values; each metric is one row of the figure.
    """

    title: str
    labels: Sequence[str]
    steps: Sequence[NDArray]
    metrics: Mapping[str, Sequence[NDArray]]


@dataclass(frozen=True)
class Survival:
    """One arm's Kaplan-Meier curve."""

    label: str
    colour: str
    curve: SurvivalCurve


@dataclass(frozen=True)
class Dots:
    """One arm in a plot of dots and intervals: its runs' values (may be empty) and the estimate from them."""

    label: str
    colour: str
    values: Sequence[float]
    estimate: Estimate


def seed_curves(columns: Sequence[Curves], colour: str) -> Figure:
    """Each run's metrics against the step: up to six runs get a colour and a name each, more share `colour`."""

    def draw(axes: Axes, column: Curves, metric: str) -> None:
        named = len(column.labels) <= NAMED_RUNS
        for i, (label, steps, values) in enumerate(
            zip(column.labels, column.steps, column.metrics[metric], strict=True)
        ):
            if named:
                axes.plot(steps, values, color=COLOURS[i], linewidth=1.4, label=label)
            else:
                every = f"{len(column.labels)} runs" if i == 0 else None
                axes.plot(steps, values, color=colour, linewidth=0.7, alpha=0.35, label=every)

    return _metric_grid(columns, draw)


def mean_band(columns: Sequence[Curves], colour: str) -> Figure:
    """Mean over runs with a band of one standard deviation (of these runs: divisor n) on either side.

    A finished run keeps its last finite value until the longest run ends (report, Figures 1c and 1d).
    """

    def draw(axes: Axes, column: Curves, metric: str) -> None:
        steps = max(column.steps, key=len)
        values = hold_last(column.metrics[metric], len(steps))
        mean, deviation = values.mean(axis=0), values.std(axis=0)
        axes.fill_between(steps, mean - deviation, mean + deviation, color=colour, alpha=0.22, linewidth=0)
        runs = f"{len(values)} runs" if len(values) > 1 else "1 run"
        axes.plot(steps, mean, color=colour, linewidth=1.8, label=f"mean ± 1 std. dev., {runs}")

    return _metric_grid(columns, draw)


def hold_last(curves: Sequence[NDArray], length: int) -> NDArray[np.float64]:
    """Stacks curves of different lengths to `[n, length]`, each keeping its last finite value.

    Raises:
        ValueError: if a curve is longer than `length` or has no finite value at its start.
    """
    held = np.full((len(curves), length), np.nan)
    for row, curve in zip(held, curves, strict=True):
        row[: len(curve)] = curve
    finite = np.isfinite(held)
    if not finite[:, 0].all():
        raise ValueError("a curve needs a finite first value")
    last = np.maximum.accumulate(np.where(finite, np.arange(length), 0), axis=1)
    return np.take_along_axis(held, last, axis=1)


def survival_curves(panels: Mapping[str, Sequence[Survival]]) -> Figure:
    """Kaplan-Meier curves with their interval bands: share of runs not yet converged, one panel per title."""
    figure = Figure(figsize=(4.4 * len(panels), 3.6), layout="constrained")
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, arms) in zip(row, panels.items(), strict=True):
        for arm in arms:
            curve = arm.curve
            axes.fill_between(
                curve.steps, curve.low, curve.high, step="post", color=arm.colour, alpha=0.15, linewidth=0
            )
            axes.step(curve.steps, curve.not_converged, where="post", color=arm.colour, linewidth=1.8, label=arm.label)
        axes.set(title=title, xlabel="training step", ylim=(-0.02, 1.02))
        axes.set_xlim(left=0)
        axes.legend(frameon=False, fontsize="small")
        _plain(axes)
    row[0].set_ylabel("share of runs not yet converged")
    return figure


def dots_and_intervals(panels: Mapping[str, Sequence[Dots]]) -> Figure:
    """One row per arm: the runs as faint dots, the estimate as a disc with its interval.

    Each panel, by the title of its x-axis, shows another quantity of the same arms in the same order.
    """
    arms = next(iter(panels.values()))
    figure = Figure(figsize=(1.6 + 3.8 * len(panels), 1.0 + 0.6 * len(arms)), layout="constrained")
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, panel) in zip(row, panels.items(), strict=True):
        for y, arm in enumerate(panel):
            axes.scatter(arm.values, _below(arm.values, y), s=10, color=arm.colour, alpha=0.4, linewidths=0)
            estimate = arm.estimate
            if estimate.low is not None and estimate.high is not None:
                axes.plot([estimate.low, estimate.high], [y, y], color=arm.colour, linewidth=2.2, clip_on=False)
            if estimate.value is not None:
                axes.scatter([estimate.value], [y], s=34, color=arm.colour, edgecolors="white", zorder=3, clip_on=False)
        axes.set_xlabel(title)
        axes.set_xlim(left=0)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        _plain(axes)
    row[0].set_ylim(len(arms) - 0.2, -0.4)
    row[0].set_yticks(range(len(arms)), [arm.label for arm in arms])
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's bytes."""
    buffer = BytesIO()
    # Without its default "Software" entry the bytes depend on the arrays alone.
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()


def _metric_grid(columns: Sequence[Curves], draw: Callable[[Axes, Curves, str], None]) -> Figure:
    """A grid of axes, one row per metric and one column per arm, filled by `draw(axes, column, metric)`."""
    metrics = list(columns[0].metrics)
    figure = Figure(figsize=(4.6 * len(columns), 2.6 * len(metrics)), layout="constrained")
    grid = figure.subplots(len(metrics), len(columns), sharex="col", sharey="row", squeeze=False)
    for row, metric in zip(grid, metrics, strict=True):
        for axes, column in zip(row, columns, strict=True):
            draw(axes, column, metric)
            _plain(axes)
        row[0].set_ylabel(metric)
        # Once all is drawn: setting one limit stops the axes from following the data with the other.
        row[0].set_ylim((None, 1.02) if metric == "accuracy" else (0, None))
    for axes, column in zip(grid[0], columns, strict=True):
        axes.set_title(column.title, loc="left", fontsize="medium")
        # Above the axes: a plateau may run along any edge inside.
        axes.legend(frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderpad=0)
    for axes in grid[-1]:
        axes.set_xlim(left=0)
        axes.set_xlabel("training step")
    return figure


def _below(values: Sequence[float], row: float) -> NDArray[np.float64]:
    """Heights that stack equal values below their row's interval."""
    seen: Counter[float] = Counter()
    places = []
    for value in values:
        places.append(seen[value])
        seen[value] += 1
    notch = min(0.06, 0.5 / max(seen.values(), default=1))
    return row + 0.2 + notch * np.array(places, np.float64)


def _plain(axes: Axes) -> None:
    """A light grid and no box."""
    axes.grid(color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def shares_of_limit(panels: Mapping[str, Mapping[str, float]]) -> Figure:
    """Bars of each variant's share of the limit, 1 being the limit itself; one panel per title."""
    bars = max(len(shares) for shares in panels.values())
    figure = Figure(figsize=(6.4 * len(panels), 1.2 + 0.35 * bars), layout="constrained")
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, shares) in zip(row, panels.items(), strict=True):
        drawn = axes.barh(list(shares), list(shares.values()), height=0.6, color=BLUE)
        axes.bar_label(drawn, fmt="{:.0%}", padding=3)
        axes.invert_yaxis()
        axes.set_title(title, loc="right", fontsize="small")
        axes.set_xlabel("share of the limit")
        axes.set_xlim(0, 1)
        _plain(axes)
    return figure
