"""Figures of forecasts, from plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jaxrnn.study.plots import BLUE, COLOURS, GREY, MARKERS, STYLES, Line, _legend, _panels

if TYPE_CHECKING:
    from jaxrnn.study.plots import Figure


@dataclass(frozen=True)
class Forecast:
    """The truth, and the mean and spread of the forecast, at the same rows; all are `[k]`."""

    rows: NDArray
    truth: NDArray[np.float64]
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]


def truth_and_forecast(panels: Mapping[str, Forecast]) -> Figure:
    """The truth and the mean forecast with a band of one spread on either side, a panel for each title."""
    figure, drawn = _panels(panels.items(), 4.6, 2.7)
    for axes, one in drawn:
        axes.plot(one.rows, one.truth, color=GREY, linewidth=1.2, label="truth")
        axes.fill_between(one.rows, one.mean - one.spread, one.mean + one.spread, color=BLUE, alpha=0.25, linewidth=0)
        axes.plot(one.rows, one.mean, color=BLUE, linewidth=1.2, label="forecast")
        axes.set_xlabel("row")
    _legend(drawn[0][0])
    return figure


def errors_by_horizon(panels: Mapping[str, Sequence[Line]]) -> Figure:
    """Lines of errors against the horizon, a panel for each title; baselines are dashed, in grey."""
    figure, drawn = _panels(panels.items(), 5.2, 4)
    for axes, lines in drawn:
        for i, line in enumerate(lines):
            style = STYLES[1 + i % (len(STYLES) - 1)] if line.dashed else "-"
            marker = MARKERS[i % len(MARKERS)]
            axes.plot(line.x, line.y, style, marker=marker, markersize=4, color=line.colour, label=line.label)
        axes.set_xlabel("rows ahead")
        axes.locator_params(axis="x", integer=True)
    _legend(drawn[0][0])
    return figure


def model_colour(i: int) -> str:
    """The colour of model number `i`."""
    return COLOURS[i % len(COLOURS)]


def errors_on_graph(panels: Mapping[str, Sequence[float]], places: NDArray, edges: NDArray) -> Figure:
    """The graph with its nodes coloured by their errors, a panel for each title; edges are pairs of nodes, `[2, E]`."""
    figure, drawn = _panels(panels.items(), 4.2, 3.6)
    x, y = places.T
    pairs = np.unique(np.sort(edges, axis=0), axis=1)
    # One line with gaps: a path for each of thousands of edges would make the file large.
    line_x, line_y = (np.concatenate([of[pairs], np.full((1, pairs.shape[1]), np.nan)]).T.ravel() for of in (x, y))
    highest = max(max(values) for values in panels.values())
    for axes, values in drawn:
        axes.plot(line_x, line_y, color=GREY, linewidth=0.5, alpha=0.35, zorder=1)
        dots = axes.scatter(x, y, s=max(12, 900 / len(x)), c=values, cmap="viridis", vmin=0, vmax=highest, zorder=2)
        axes.set_axis_off()
    figure.colorbar(dots, ax=[axes for axes, _ in drawn], fraction=0.04, pad=0.01, label="RMSE")
    return figure
