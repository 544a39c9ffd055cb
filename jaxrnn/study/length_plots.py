"""Figures of accuracy against length, from plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from jaxrnn.study.plots import GREY, _band, _limit, _panels, _step_axis, _style_of, _wrapped

if TYPE_CHECKING:
    from jaxrnn.study.plots import Figure


@dataclass(frozen=True)
class Lengths:
    """Accuracies of one task against length.

    Attributes:
        arms: by label, ``[k]`` lengths and ``[n, k]`` accuracies of runs.
        trained: the longest length that was trained on.
        chance: the accuracy of the best guess without reading the input.
    """

    arms: Mapping[str, tuple[NDArray, NDArray]]
    trained: float
    chance: float


def accuracy_by_length(panels: Mapping[str, Lengths]) -> Figure:
    """The mean over each arm's runs with a band of one standard deviation, a panel for each title."""
    labels = list(dict.fromkeys(label for panel in panels.values() for label in panel.arms))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, drawn = _panels(panels.items(), 4.2, 2.7 + 0.2 * len(labels) / columns / rows, sharey=True)
    lines: dict[str, Any] = {}
    for axes, panel in drawn:
        for label, (lengths, values) in panel.arms.items():
            style = _style_of(labels.index(label))
            _band(axes, [lengths] * len(values), [*values], **style, label=_wrapped(label))
        axes.axhline(panel.chance, color=GREY, linewidth=0.8)
        axes.axvline(panel.trained, color=GREY, linestyle=":")
        _limit(axes, "accuracy")
        _step_axis(axes, "length")
        lines |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    for axes, _ in drawn[::columns]:
        axes.set_ylabel("accuracy")
    figure.legend(
        lines.values(), lines.keys(), frameon=False, fontsize="small", loc="outside upper left", ncols=columns
    )
    return figure
