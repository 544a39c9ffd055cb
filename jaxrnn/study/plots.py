"""Figures from plain arrays; the only file that imports matplotlib.

Every function returns a `Figure` of matplotlib's object-oriented interface, which needs no display and keeps no global
state. `svg` turns it into text, which is the same for the same arrays and follows the reader's light or dark theme.
"""

from __future__ import annotations

import re
import textwrap
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from jaxrnn.study.format import format_count
from jaxrnn.study.stats import Estimate
from jaxrnn.study.survival import SurvivalCurve

# Functions import matplotlib themselves: it takes a quarter of a second, and few binaries draw.
if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Figure
    from matplotlib.legend import Legend

# Okabe and Ito (2008), "Color Universal Design": distinct with any colour vision, on a light or a dark background.
BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
GREY = "#808080"

# Lines and classes are told apart by more than their colour.
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v")
# More runs than this are drawn thin, in one colour, and counted in the legend instead of named.
NAMED_RUNS = len(COLOURS)
# More points than this are drawn as pixels: as shapes they would make the file large.
MOST_SHAPES = 1500

T = TypeVar("T")


@dataclass(frozen=True)
class Curves:
    """The curves of one arm's runs: a column of a figure, with a row for each metric.

    Each run has a label, `[k]` steps of its evaluations and, by metric, `[k]` values there.
    """

    title: str
    labels: Sequence[str]
    steps: Sequence[NDArray]
    metrics: Mapping[str, Sequence[NDArray]]


def seed_curves(columns: Sequence[Curves], step: str = "training step", *, is_band: bool = False) -> Figure:
    """Each run's metrics against the step, whose axis is labelled `step`.

    Up to six runs each get a colour and a name; more share one colour. With `is_band`, there is instead their mean with
    a band of one standard deviation on either side.
    """
    width = len(columns)
    panels = [("", (column, metric)) for metric in columns[0].metrics for column in columns]
    figure, drawn = _panels(panels, 4.6, 2.7, columns=width, sharex="col", sharey="row")
    for i, (axes, (column, metric)) in enumerate(drawn):
        runs = format_count(len(column.labels), "run")
        if is_band:
            style = {"color": BLUE, "label": f"mean ± 1 std. dev., {runs}"}
            _band(axes, column.steps, column.metrics[metric], **style)
        else:
            _runs(axes, column, metric, runs)
        if i < width:
            _legend_above(axes, column.title, 3)
        if i >= len(drawn) - width:
            _step_axis(axes, step)
    for axes, (_, metric) in drawn[::width]:
        axes.set_ylabel(metric)
        _limit(axes, metric)
    return figure


def _runs(axes: Axes, column: Curves, metric: str, count: str) -> None:
    style: dict[str, Any] = {"color": BLUE, "linewidth": 0.7, "alpha": 0.35, "label": count}
    style["rasterized"] = sum(map(len, column.steps)) > MOST_SHAPES
    for i, (label, steps, values) in enumerate(zip(column.labels, column.steps, column.metrics[metric], strict=True)):
        if len(column.labels) <= NAMED_RUNS:
            style = {"color": COLOURS[i], "linestyle": STYLES[i % len(STYLES)], "linewidth": 1.4, "label": label}
        axes.plot(steps, values, **style)
        style["label"] = None


def hold_last(steps: Sequence[NDArray], curves: Sequence[NDArray]) -> tuple[NDArray, NDArray[np.float64]]:
    """The grid `[k]` of all steps, and the curves there, `[n, k]`; between and after steps, each keeps its last value.

    Values that are not finite are skipped. Before its first finite value, a curve is NaN.
    """
    grid = np.unique(np.concatenate(steps))
    held = []
    for at, values in zip(steps, curves, strict=True):
        finite = np.isfinite(values)
        held.append(np.append(np.nan, values[finite])[np.searchsorted(at[finite], grid, side="right")])
    return grid, np.array(held)


def _band(axes: Axes, steps: Sequence[NDArray], values: Sequence[NDArray], **style: Any) -> None:
    grid, held = hold_last(steps, values)
    mean, deviation = held.mean(axis=0), held.std(axis=0)
    # A band beyond all runs would show accuracies above 1.
    low, high = np.maximum(mean - deviation, held.min(axis=0)), np.minimum(mean + deviation, held.max(axis=0))
    axes.fill_between(grid, low, high, color=style["color"], alpha=0.2, linewidth=0)
    axes.plot(grid, mean, linewidth=1.8, **style)


def _limit(axes: Axes, metric: str) -> None:
    """Limits the y axis. Call it once all is drawn, since the other limit then no longer follows the data."""
    low, high = (None, 1.02) if metric.endswith("accuracy") else (0, None)
    axes.set_ylim(low, high)


def _step_axis(axes: Axes, step: str = "training step") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(step)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))  # Leaves room for long numbers.


def mean_curves(panels: Mapping[str, Mapping[str, tuple[Sequence[NDArray], Sequence[NDArray]]]]) -> Figure:
    """The mean over each arm's runs with a band of one standard deviation.

    The panels have each run's steps and its values there, by metric and arm.
    """
    labels = list(dict.fromkeys(label for arms in panels.values() for label in arms))
    figure, drawn = _panels(panels.items(), 5.2, 3.4 + 0.2 * len(labels) / len(panels))
    for (axes, arms), metric in zip(drawn, panels, strict=True):
        for label, (steps, values) in arms.items():
            _band(axes, steps, values, **_style_of(labels.index(label)), label=_wrapped(label))
        _limit(axes, metric)
        _step_axis(axes)
    # One legend for all panels, which have the same arms.
    lines = drawn[0][0].get_legend_handles_labels()
    figure.legend(*lines, frameon=False, fontsize="small", loc="outside upper left", ncols=len(panels))
    return figure


def _style_of(i: int) -> dict[str, Any]:
    style = {"color": COLOURS[i % len(COLOURS)], "linestyle": STYLES[i % len(STYLES)]}
    return style | {"marker": MARKERS[i % len(MARKERS)], "markevery": 0.2, "markersize": 4}


def survival_curves(panels: Mapping[str, Mapping[str, SurvivalCurve]]) -> Figure:
    """Kaplan-Meier curves with their interval bands, by panel and arm: the share of runs not yet converged."""
    figure, drawn = _panels(panels.items(), 4.4, 3.2 + 0.2 * max(map(len, panels.values())), sharey=True)
    for (axes, arms), title in zip(drawn, panels, strict=True):
        for i, (label, curve) in enumerate(arms.items()):
            style = _style_of(i)
            # Once all runs have converged, there is nothing left to be uncertain of.
            last = min(np.count_nonzero(curve.not_converged) + 1, len(curve.steps))
            band = curve.steps[:last], curve.low[:last], curve.high[:last]
            axes.fill_between(*band, step="post", color=style["color"], alpha=0.15, linewidth=0)
            axes.step(curve.steps, curve.not_converged, where="post", linewidth=1.8, label=_wrapped(label), **style)
        _step_axis(axes)
        axes.set_ylim(-0.02, 1.02)
        _legend_above(axes, title, 1)
    drawn[0][0].set_ylabel("share of runs not yet converged")
    return figure


@dataclass(frozen=True)
class Band:
    """Runs that are drawn as one line, their geometric mean, in a band from the lowest to the highest.

    The values have a row for each run; nothing is drawn where one is zero. Dashes tell lines of the same colour apart.
    """

    label: str
    colour: str
    values: NDArray[np.float64]
    dashed: bool = False


def decays(panels: Mapping[str, Sequence[Band]], xlabel: str, ylabel: str) -> Figure:
    """Values on a logarithmic axis against their index; the panels share their axes, at most three in a row."""
    figure, drawn = _panels(panels.items(), 4.2, 3.3, sharex=True, sharey=True)
    for axes, bands in drawn:
        for band in bands:
            x = np.flatnonzero((band.values > 0).all(axis=0))
            values = band.values[:, x]
            mean = np.exp(np.log(values).mean(axis=0))
            axes.fill_between(x, values.min(axis=0), values.max(axis=0), color=band.colour, alpha=0.2, linewidth=0)
            axes.plot(x, mean, "--" if band.dashed else "-", color=band.colour, linewidth=1.6, label=band.label)
        axes.set_yscale("log")
        axes.tick_params(labelbottom=True)
        _legend(axes)
    figure.supxlabel(xlabel, fontsize="medium")
    figure.supylabel(ylabel, fontsize="medium")
    return figure


@dataclass(frozen=True)
class Line:
    """A line of `scaling` or `lines`: `[k]` sizes and values, dashed if not measured, or points without a line."""

    label: str
    colour: str
    x: NDArray
    y: NDArray
    dashed: bool = False
    points: bool = False


def scaling(panels: Mapping[str, tuple[Sequence[Line], float | None]], xlabel: str) -> Figure:
    """Costs against size on logarithmic axes, a panel for each title; a panel may mark where lines cross."""
    from matplotlib.ticker import NullLocator

    figure, drawn = _panels(panels.items(), 5.2, 4)
    for axes, (lines, mark) in drawn:
        for i, line in enumerate(lines):
            style, marker = ("--", "") if line.dashed else ("-", MARKERS[i % len(MARKERS)])
            axes.plot(line.x, line.y, style, marker=marker, markersize=4, color=line.colour, label=line.label)
        if mark is not None:
            axes.axvline(mark, color=GREY, linestyle=":", label="crossing")
        axes.set(xscale="log", yscale="log", xlabel=xlabel)
        sizes = np.unique(np.concatenate([line.x for line in lines]))
        if sizes[-1] < 100 * sizes[0]:  # Too few powers of ten to label the axis.
            axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
            axes.xaxis.set_minor_locator(NullLocator())
        _legend(axes)
    return figure


def lines(panels: Mapping[str, Sequence[Line]], xlabel: str, ylabel: str) -> Figure:
    """Values against a number on linear axes, a panel for each title."""
    figure, drawn = _panels(panels.items(), 4.8, 3.6)
    for axes, shown in drawn:
        for i, line in enumerate(shown):
            style, marker = ("--", "") if line.dashed else ("" if line.points else "-", MARKERS[i % len(MARKERS)])
            axes.plot(line.x, line.y, style, marker=marker, markersize=4, color=line.colour, label=line.label)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        _legend(axes)
    return figure


@dataclass(frozen=True)
class Dots:
    """One arm in a plot of dots and intervals: its runs' values and their estimate.

    The reference, if there is one, is what others found; it is drawn as a stroke.
    """

    label: str
    values: Sequence[float]
    estimate: Estimate
    reference: float | None = None


def dots_and_intervals(panels: Mapping[str, Sequence[Dots]], *, from_zero: bool = True) -> Figure:
    """One row per arm: the runs as faint dots, the estimate as a disc with its interval.

    Each panel shows another quantity of the same arms in the same order, under its title. The axis starts at zero, or
    with the data.
    """
    from matplotlib.ticker import MaxNLocator

    arms = next(iter(panels.values()))
    width = 3.8 + max(1.6, 0.085 * max(len(arm.label) for arm in arms)) / len(panels)
    figure, drawn = _panels(panels.items(), width, 1 + 0.6 * len(arms), columns=len(panels), sharey=True)
    for axes, panel in drawn:
        for y, arm in enumerate(panel):
            colour = COLOURS[y % len(COLOURS)]
            axes.scatter(arm.values, _below(arm.values, y), s=10, color=colour, alpha=0.4, linewidths=0)
            value, low, high = arm.estimate.value, arm.estimate.low, arm.estimate.high
            if low is not None and high is not None:
                axes.plot([low, high], [y, y], color=colour, linewidth=2.2, clip_on=False)
            if value is not None:
                axes.scatter([value], [y], s=34, color=colour, edgecolors="white", zorder=3, clip_on=False)
            if arm.reference is not None:
                axes.plot([arm.reference] * 2, [y - 0.25, y + 0.1], color="black", linewidth=1.4, clip_on=False)
        if from_zero:
            axes.set_xlim(left=0)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(6))
    drawn[0][0].set_ylim(len(arms) - 0.2, -0.4)
    drawn[0][0].set_yticks(range(len(arms)), [_literal(arm.label) for arm in arms])
    return figure


def _below(values: Sequence[float], row: float) -> NDArray[np.float64]:
    """Heights that stack equal values below their row's interval."""
    seen = [list(values[:i]).count(value) for i, value in enumerate(values)]
    return row + 0.2 + min(0.06, 0.5 / (1 + max(seen, default=0))) * np.array(seen, np.float64)


@dataclass(frozen=True)
class Points:
    """Classified points in the plane: one panel of a figure.

    Each point has a class, counted from 0. The points at the indices in `ringed` get a ring.
    """

    title: str
    x: Sequence[float]
    y: Sequence[float]
    classes: Sequence[int]
    ringed: Sequence[int]


def points_by_class(panels: Sequence[Points], ring: str) -> Figure:
    """Points by their classes, with the panels side by side; in the legend, `ring` says what a ring means.

    Both axes have the same scale and no numbers. The outermost percent of the points along each axis is drawn at the
    edge.
    """
    figure, drawn = _panels([(panel.title, panel) for panel in panels], 5.2, 5.6)
    colours = (*COLOURS, GREY)  # Seven colours and five markers: 35 combinations.
    for axes, panel in drawn:
        x, y, classes = _moved_in(panel.x), _moved_in(panel.y), np.array(panel.classes)
        size = float(np.clip(6000 / max(len(x), 1), 7, 50))
        style: dict[str, Any] = {"alpha": 0.8, "linewidths": 0, "rasterized": len(x) > MOST_SHAPES}
        for one in np.unique(classes):
            at = x[classes == one], y[classes == one]
            marker, colour = MARKERS[one % len(MARKERS)], colours[one % len(colours)]
            axes.scatter(*at, s=size, color=colour, marker=marker, label=f"class {one}", **style)
        ringed = np.array(panel.ringed, int)
        if ringed.size:
            style = {"facecolors": "none", "edgecolors": "black", "linewidths": 0.6}
            axes.scatter(x[ringed], y[ringed], s=2.2 * size, label=ring, **style)
        axes.set_aspect("equal", adjustable="datalim")
        axes.tick_params(length=0, labelbottom=False, labelleft=False)
        # Below the axes: points may lie anywhere inside.
        _legend(axes, loc="upper left", bbox_to_anchor=(0, 0), ncols=2, markerscale=6 / size**0.5)
    return figure


@dataclass(frozen=True)
class Against:
    """Predictions for items, with their standard deviations, against measured values, ``[n]`` each."""

    title: str
    measured: NDArray
    predicted: NDArray
    deviation: NDArray


def predicted_against_measured(panels: Sequence[Against]) -> Figure:
    """A point with its standard deviation for each item; on the line, prediction and measurement are equal."""
    figure, drawn = _panels([(panel.title, panel) for panel in panels], 3.8, 3.6)
    for axes, panel in drawn:
        style: dict[str, Any] = {"color": BLUE, "alpha": 0.4, "rasterized": len(panel.measured) > MOST_SHAPES / 3}
        bars: dict[str, Any] = {
            "yerr": panel.deviation,
            "fmt": "o",
            "markersize": 2.5,
            "linewidth": 0,
            "elinewidth": 0.6,
        }
        axes.errorbar(panel.measured, panel.predicted, **bars, **style)
        both = np.append(panel.measured, panel.predicted)
        axes.plot([both.min(), both.max()], [both.min(), both.max()], color=GREY, linewidth=1)
    figure.supxlabel("measured", fontsize="medium")
    figure.supylabel("predicted", fontsize="medium")
    return figure


def _moved_in(values: Sequence[float]) -> NDArray[np.float64]:
    """Coordinates with the outermost half percent at either end moved in to the edge of the rest; some lie far out."""
    low, high = np.quantile(values, 0.005, method="lower"), np.quantile(values, 0.995, method="higher")
    return np.clip(values, low, high)


def node_values(
    panels: Mapping[str, Sequence[float]], names: str, places: Sequence[tuple[float, float]], edges: NDArray
) -> Figure:
    """A graph for each title, its nodes coloured by their values in `0..1`; white nodes have none.

    Each node has a place and, in a small graph, a letter as its name. Edges are pairs of nodes, `[2, E]`.
    """
    figure, drawn = _panels(panels.items(), 3.6, 2.3 if names else 3.3)
    x, y = np.array(places, np.float64).T
    size, width = (420, 1.0) if names else (28, 0.3)
    for axes, values in drawn:
        axes.plot(x[edges], y[edges], color=GREY, linewidth=width, zorder=1)
        # Small values should differ visibly from none.
        strengths: Any = [0.15 + 0.85 * min(value, 1) ** 0.5 if value else 0 for value in values]
        axes.scatter(x, y, s=size, c="white", edgecolors=GREY, zorder=2)
        axes.scatter(x, y, s=size, c=SKY if names else BLUE, alpha=strengths, linewidths=0, zorder=3)
        for name, value, at in zip(names, values, places, strict=False):
            # Nearly black, since `svg` replaces black by the theme's colour: the discs are light in every theme.
            axes.annotate(name, at, ha="center", va="center", color="#111111", zorder=4)
            if value:
                axes.annotate(f"{value:.3f}", at, (0, -19), textcoords="offset points", ha="center", fontsize=8)
        axes.margins(0.15, 0.35)
        axes.set_axis_off()
    return figure


def shares_of_sum(panels: Mapping[str, Sequence[float]], xlabel: str) -> Figure:
    """Bars of what each term adds to a sum of 1, one panel per title, at most three in a row."""
    from matplotlib.ticker import MaxNLocator

    figure, drawn = _panels(panels.items(), 4.2, 2.4)
    for axes, shares in drawn:
        axes.bar(range(len(shares)), shares, width=0.8, color=BLUE)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.axhline(0, color=GREY, linewidth=0.8)
    figure.supxlabel(xlabel, fontsize="medium")
    figure.supylabel("share of the gradient", fontsize="medium")
    return figure


def heat_maps(panels: Mapping[str, Sequence[Sequence[float]]], symbols: Sequence[str]) -> Figure:
    """Values in `-1..1`, a row for each unit and a column for each of the `symbols`, one panel below the other."""
    figure, drawn = _panels(panels.items(), max(5.0, 0.15 * len(symbols) + 2), 1.9, columns=1)
    for axes, values in drawn:
        image = axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
        axes.grid(visible=False)
        axes.set(ylabel="unit", yticks=[])
        axes.set_xticks(range(len(symbols)), symbols, fontsize=7)
        axes.tick_params(length=0)
    figure.colorbar(image, ax=[axes for axes, _ in drawn], fraction=0.03, pad=0.01)
    return figure


def _panels(
    panels: Iterable[tuple[str, T]], width: float, height: float, columns: int = 3, **shared: Any
) -> tuple[Figure, list[tuple[Axes, T]]]:
    """A figure, and its axes with what each has to show: panels of this size in inches, at most `columns` in a row."""
    from matplotlib.figure import Figure

    items = list(panels)
    columns = min(columns, len(items))
    rows = -(-len(items) // columns)
    height += 0.17 * max(_wrapped(title).count("\n") for title, _ in items)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **shared).ravel()
    for axes in grid[len(items) :]:
        axes.set_axis_off()
    for axes, (title, _) in zip(grid, items, strict=False):
        axes.set_title(_wrapped(title), loc="left", fontsize="medium")
        # A light grid and no box.
        axes.grid(color=GREY, alpha=0.25, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, [(axes, shown) for axes, (_, shown) in zip(grid, items, strict=False)]


def _legend(axes: Axes, **where: Any) -> Legend:
    legend = axes.legend(frameon=False, fontsize="small", **where)
    for handle in filter(None, legend.legend_handles):
        handle.set_alpha(1)
    return legend


def _legend_above(axes: Axes, title: str, columns: int) -> None:
    """Puts the legend between the axes and their title, since a plateau may run along any edge inside."""
    legend = _legend(axes, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderpad=0)
    pad = 6 - 15 * (-len(legend.get_texts()) // columns)
    axes.set_title(_wrapped(title), loc="left", fontsize="medium", pad=pad)


def _wrapped(title: str) -> str:
    """Wraps a title of any length to the width of one column."""
    return _literal("\n".join(textwrap.wrap(title, 50)))


def _literal(text: str) -> str:
    """A name in which a dollar sign is literal and does not begin a formula."""
    return text.replace("$", r"\$")


def svg(figure: Figure) -> str:
    """The figure as an SVG file's text: transparent, and dark on light or light on dark as the reader prefers."""
    import matplotlib

    buffer = StringIO()
    # Its ids depend only on what is drawn, and it names neither date nor program.
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "jaxrnn", "font.family": "sans-serif"}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # A box will do.
        figure.savefig(buffer, format="svg", dpi=140, transparent=True, metadata={"Date": None, "Creator": None})
    text = re.sub(r"(fill|stroke): ?#000000", r"\1: currentColor", buffer.getvalue())
    # A hundredth of a point is enough for the eye.
    text = re.sub(r'\b[dxy]="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), text)
    return text.replace(BLUE.lower(), "var(--blue)").replace("</defs>", f"</defs><style>{_THEME}</style>", 1)


_THEME = """
svg { color: #1c1c1c; --blue: #0072b2 } text { fill: currentColor; font-family: system-ui, sans-serif }
@media (prefers-color-scheme: dark) { svg { color: #e6e6e6; --blue: #2a86d1 } }
"""
