"""Figures from plain arrays; the only file that imports matplotlib.

Every function returns a `Figure` of matplotlib's object-oriented interface, which needs no display and keeps no global
state; `png` turns it into bytes, the same bytes for the same arrays.
"""

import textwrap
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from jaxrnn.study.stats import Estimate, SurvivalCurve

# Okabe and Ito (2008), "Color Universal Design": told apart with any colour vision.
BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)

# More classes than this many colours have further markers.
CLASS_COLOURS = (*COLOURS, "#F0E442", "#999999")
MARKERS = ("o", "s", "^", "D", "v")
# Of points in the plane, this share at either end of an axis is moved in to its edge: some nodes lie far out.
FAR_OUT = 0.005

_TITLE_WIDTH = 50  # characters

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
    """One arm in a plot of dots and intervals.

    Attributes:
        label: of its row.
        colour: of all that is drawn in it.
        values: its runs'; may be empty.
        estimate: from them.
        reference: what others found, drawn as a black stroke; or None.
    """

    label: str
    colour: str
    values: Sequence[float]
    estimate: Estimate
    reference: float | None = None


@dataclass(frozen=True)
class Points:
    """Classified points in the plane: one panel of a figure.

    Attributes:
        title: of the panel.
        x: `[n]`.
        y: `[n]`.
        classes: `[n]`, a class each, from 0.
        ringed: positions in these of the points that get a black ring.
    """

    title: str
    x: Sequence[float]
    y: Sequence[float]
    classes: Sequence[int]
    ringed: Sequence[int]


def seed_curves(columns: Sequence[Curves], colour: str, step: str = "training step") -> Figure:
    """Each run's metrics against the step, which has the name `step`.

    Up to six runs get a colour and a name each, more share `colour`.
    """

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

    return _metric_grid(columns, draw, step)


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


def dots_and_intervals(panels: Mapping[str, Sequence[Dots]], *, from_zero: bool = True) -> Figure:
    """One row per arm: the runs as faint dots, the estimate as a disc with its interval.

    Each panel, by the title of its x-axis, shows another quantity of the same arms in the same order; the axis starts
    at zero, or with the data.
    """
    arms = next(iter(panels.values()))
    lines = [arm.label.splitlines() for arm in arms]
    label_width = max(1.6, 0.085 * max(len(line) for label in lines for line in label))
    row_height = max(0.6, 0.18 * max(map(len, lines)))
    figure = Figure(figsize=(label_width + 3.8 * len(panels), 1.0 + row_height * len(arms)), layout="constrained")
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, panel) in zip(row, panels.items(), strict=True):
        for y, arm in enumerate(panel):
            axes.scatter(arm.values, _below(arm.values, y), s=10, color=arm.colour, alpha=0.4, linewidths=0)
            estimate = arm.estimate
            if estimate.low is not None and estimate.high is not None:
                axes.plot([estimate.low, estimate.high], [y, y], color=arm.colour, linewidth=2.2, clip_on=False)
            if estimate.value is not None:
                axes.scatter([estimate.value], [y], s=34, color=arm.colour, edgecolors="white", zorder=3, clip_on=False)
            if arm.reference is not None:
                axes.plot([arm.reference] * 2, [y - 0.25, y + 0.1], color="black", linewidth=1.4, clip_on=False)
        axes.set_xlabel(title)
        if from_zero:
            axes.set_xlim(left=0)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        _plain(axes)
    row[0].set_ylim(len(arms) - 0.2, -0.4)
    row[0].set_yticks(range(len(arms)), [_literal(arm.label) for arm in arms])
    return figure


def points_by_class(panels: Sequence[Points], ring: str) -> Figure:
    """Points by their classes, one panel beside the other; the legend says with `ring` what a ring means.

    Both axes have the same scale, and no numbers. The outermost percent along each of them stands at the edge.
    """
    figure = Figure(figsize=(5.2 * len(panels), 5.2), layout="constrained")
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(row, panels, strict=True):
        x, y, classes = _moved_in(panel.x), _moved_in(panel.y), np.array(panel.classes)
        size = float(np.clip(6000 / max(len(x), 1), 7, 50))
        for one in np.unique(classes):
            those = classes == one
            round_, place = divmod(one, len(CLASS_COLOURS))
            colour, marker = CLASS_COLOURS[place], MARKERS[round_ % len(MARKERS)]
            at = x[those], y[those]
            axes.scatter(*at, s=size, color=colour, marker=marker, alpha=0.8, linewidths=0, label=f"class {one}")
        ringed = np.array(panel.ringed, int)
        if ringed.size:
            at = x[ringed], y[ringed]
            axes.scatter(*at, s=1.8 * size, facecolors="none", edgecolors="black", linewidths=0.5, label=ring)
        axes.set_title(_literal(panel.title), loc="left", fontsize="medium")
        axes.set_aspect("equal", adjustable="datalim")
        axes.tick_params(length=0, labelbottom=False, labelleft=False)
        # Below the axes: points may lie anywhere inside.
        axes.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4)
        _plain(axes)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's bytes."""
    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # A box will do.
        # Without its default "Software" entry the bytes depend on the arrays alone.
        figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()


def _metric_grid(
    columns: Sequence[Curves], draw: Callable[[Axes, Curves, str], None], step: str = "training step"
) -> Figure:
    """A grid of axes, one row per metric and one column per arm, filled by `draw(axes, column, metric)`."""
    metrics = list(columns[0].metrics)
    titles = [_wrapped(column.title) for column in columns]
    lines = max(title.count("\n") for title in titles)
    figure = Figure(figsize=(4.6 * len(columns), 2.6 * len(metrics) + 0.17 * lines), layout="constrained")
    grid = figure.subplots(len(metrics), len(columns), sharex="col", sharey="row", squeeze=False)
    for row, metric in zip(grid, metrics, strict=True):
        for axes, column in zip(row, columns, strict=True):
            draw(axes, column, metric)
            _plain(axes)
        row[0].set_ylabel(metric)
        # Once all is drawn: setting one limit stops the axes from following the data with the other.
        row[0].set_ylim((None, 1.02) if metric.endswith("accuracy") else (0, None))
    for axes, title in zip(grid[0], titles, strict=True):
        # Above the axes: a plateau may run along any edge inside.
        legend = axes.legend(
            frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderpad=0
        )
        rows = -(-len(legend.get_texts()) // 3)
        axes.set_title(title, loc="left", fontsize="medium", pad=6 + 15 * rows)
    for axes in grid[-1]:
        axes.set_xlim(left=0)
        axes.set_xlabel(step)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))  # Long numbers have room.
    return figure


def _wrapped(title: str) -> str:
    """A title of any length above one column."""
    return _literal("\n".join(textwrap.wrap(title, _TITLE_WIDTH)))


def _literal(text: str) -> str:
    """A name in which a dollar sign is one, and begins no formula."""
    return text.replace("$", r"\$")


def _moved_in(values: Sequence[float]) -> NDArray[np.float64]:
    """Coordinates without those that are far out of the others."""
    ordered = np.sort(np.array(values, np.float64))
    few = int(FAR_OUT * len(ordered))
    return np.clip(values, ordered[few], ordered[-1 - few])


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


@dataclass(frozen=True)
class Line:
    """A line of `scaling`: `[k]` sizes and values; dashed is what was not measured."""

    label: str
    colour: str
    x: NDArray
    y: NDArray
    dashed: bool = False


def scaling(panels: Mapping[str, tuple[Sequence[Line], float | None]], xlabel: str) -> Figure:
    """Costs against size on logarithmic axes; a panel, by the title of its y-axis, may mark where lines cross."""
    figure = Figure(figsize=(5.2 * len(panels), 4), layout="constrained")
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, (lines, mark)) in zip(row, panels.items(), strict=True):
        for line in lines:
            style, marker = ("--", "") if line.dashed else ("-", "o")
            axes.plot(line.x, line.y, style, marker=marker, markersize=4, color=line.colour, label=line.label)
        if mark is not None:
            axes.axvline(mark, color="0.5", linestyle=":", label="crossing")
        axes.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=title)
        sizes = np.unique(np.concatenate([line.x for line in lines]))
        if sizes[-1] < 100 * sizes[0]:  # Too few powers of ten to read.
            axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
            axes.xaxis.set_minor_locator(NullLocator())
        axes.legend(frameon=False, fontsize="small")
        _plain(axes)
    return figure


def node_values(
    panels: Mapping[str, Sequence[float]], names: str, places: Sequence[tuple[float, float]], edges: NDArray
) -> Figure:
    """One picture of a small graph for each title, its nodes coloured by their values; white ones have none.

    Args:
        panels: by title, a value in `0..1` for each node.
        names: a letter for each node.
        places: x and y of each node.
        edges: `[2, E]` nodes.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.3 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    x, y = np.array(places, np.float64).T
    for axes, (title, values) in zip(grid, panels.items(), strict=False):
        axes.plot(x[edges], y[edges], color="0.6", linewidth=1, zorder=1)
        # Small values are to be told from none.
        strengths = [0.15 + 0.85 * min(value, 1) ** 0.5 if value else 0 for value in values]
        axes.scatter(x, y, s=420, c="white", edgecolors="0.3", zorder=2)
        axes.scatter(x, y, s=420, c=BLUE, alpha=strengths, linewidths=0, zorder=3)
        for name, value, i, j in zip(names, values, x, y, strict=True):
            axes.annotate(name, (i, j), ha="center", va="center", zorder=4)
            if value:
                axes.annotate(f"{value:.3f}", (i, j), (0, -19), textcoords="offset points", ha="center", fontsize=8)
        axes.set_title(title, fontsize="medium")
        axes.margins(0.15, 0.35)
    for axes in grid:
        axes.set_axis_off()
    return figure


@dataclass(frozen=True)
class Band:
    """Runs that are drawn as one line: their geometric mean, between the lowest and the highest.

    Attributes:
        label: for the legend.
        colour: of line and band.
        values: `[n, k]`, a row for each of n runs; where one is zero there is nothing to draw.
        dashed: tells two lines of a colour apart.
    """

    label: str
    colour: str
    values: NDArray[np.float64]
    dashed: bool = False


def decays(panels: Mapping[str, Sequence[Band]], xlabel: str, ylabel: str) -> Figure:
    """Values on a logarithmic axis against their index, all panels on the same axes, at most three in a row."""
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.3 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, (title, bands) in zip(grid.ravel(), panels.items(), strict=False):
        for band in bands:
            x = np.flatnonzero((band.values > 0).all(axis=0))
            values = band.values[:, x]
            mean = np.exp(np.log(values).mean(axis=0))
            axes.fill_between(x, values.min(axis=0), values.max(axis=0), color=band.colour, alpha=0.2, linewidth=0)
            axes.plot(x, mean, "--" if band.dashed else "-", color=band.colour, linewidth=1.6, label=band.label)
        axes.set_yscale("log")
        axes.set_title(title, loc="left", fontsize="medium")
        axes.legend(frameon=False, fontsize="small")
        axes.tick_params(labelbottom=True)
        _plain(axes)
    for axes in grid.ravel()[len(panels) :]:
        axes.set_axis_off()
    figure.supxlabel(xlabel, fontsize="medium")
    figure.supylabel(ylabel, fontsize="medium")
    return figure


def shares_of_sum(panels: Mapping[str, Sequence[float]], xlabel: str) -> Figure:
    """Bars of what each term adds to a sum of 1, one panel per title, at most three in a row."""
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.4 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (title, shares) in zip(grid.ravel(), panels.items(), strict=False):
        axes.bar(range(len(shares)), shares, width=0.8, color=BLUE)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.axhline(0, color="0.3", linewidth=0.8)
        axes.set_title(title, loc="left", fontsize="medium")
        _plain(axes)
    for axes in grid.ravel()[len(panels) :]:
        axes.set_axis_off()
    figure.supxlabel(xlabel, fontsize="medium")
    figure.supylabel("share of the gradient", fontsize="medium")
    return figure


def heat_maps(panels: Mapping[str, Sequence[Sequence[float]]], symbols: Sequence[str]) -> Figure:
    """Values in `-1..1`, a row for each unit and a column for each of the `symbols`, one panel below the other."""
    figure = Figure(figsize=(max(5.0, 0.15 * len(symbols) + 2), 1.9 * len(panels)), layout="constrained")
    column = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (title, values) in zip(column, panels.items(), strict=True):
        image = axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
        axes.set_title(title, loc="left", fontsize="medium")
        axes.set_ylabel("unit")
        axes.set_yticks([])
        axes.set_xticks(range(len(symbols)), symbols, fontsize=7)
        axes.tick_params(length=0)
    figure.colorbar(image, ax=list(column), fraction=0.03, pad=0.01)
    return figure
