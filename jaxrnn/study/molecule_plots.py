"""Figures of searches for molecules, from plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from numpy.typing import NDArray

from jaxrnn.study.plots import GREY, STYLES, _band, _panels, _step_axis, _style_of

if TYPE_CHECKING:
    from jaxrnn.study.plots import Figure

Seeds = tuple[Sequence[NDArray], Sequence[NDArray]]
"""For each seed, how many molecules had been scored, and the rewards there."""


def rewards_against_scored(
    panels: Mapping[str, Mapping[str, Seeds]], marks: Mapping[str, Mapping[str, float]]
) -> Figure:
    """Means over seeds with a band of one standard deviation, a line for each way to search; marks are grey levels."""
    figure, drawn = _panels([(title, (title, ways)) for title, ways in panels.items()], 5.4, 3.8)
    for axes, (title, ways) in drawn:
        for i, (name, (scored, values)) in enumerate(ways.items()):
            _band(axes, scored, values, **_style_of(i), label=name)
        for i, (name, level) in enumerate(marks.get(title, {}).items()):
            axes.axhline(level, color=GREY, linestyle=STYLES[1 + i], linewidth=1.2, label=name)
        _step_axis(axes, "scored molecules")
    # One legend for all panels, which show the same ways to search; the last panel has the marks too.
    lines = drawn[-1][0].get_legend_handles_labels()
    figure.legend(*lines, frameon=False, fontsize="small", loc="outside upper left", ncols=4)
    return figure
