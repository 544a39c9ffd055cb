"""What the page shows about gradients through time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf

import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError

from configs.gradients import Config
from experiments.formal import CELL_NAMES
from experiments.gradients.measure import COSTS, GATES, Measurement, check, measure
from jaxrnn.cells import CELLS
from jaxrnn.rundir.read import describe, read_curves
from jaxrnn.study import plots, stats
from jaxrnn.study.arms import ArmScheme
from jaxrnn.study.format import NONE, code, format_estimate
from jaxrnn.study.page import Block, Figure, Table
from jaxrnn.study.study import Measured, Study, each

FORMULAS: dict[str, tuple[str, Callable[[int, int], int]]] = {
    "rnn": ("H(D + H + 1)", lambda d, h: h * (d + h + 1)),
    "linear_rnn": ("H(D + H + 1)", lambda d, h: h * (d + h + 1)),
    "lstm": ("4H(D + H + 1)", lambda d, h: 4 * h * (d + h + 1)),
    "peephole": ("4H(D + 1) + 3H²", lambda d, h: 4 * h * (d + 1) + 3 * h**2),
    "gers_peephole": ("4H(D + H + 1) + 3H", lambda d, h: 4 * h * (d + h + 1) + 3 * h),
    "gru": ("3H(D + H + 1) + H", lambda d, h: 3 * h * (d + h + 1) + h),
    "gru_cho": ("3H(D + H + 1)", lambda d, h: 3 * h * (d + h + 1)),
}
"""Numbers of parameters of a cell with D inputs and H hidden units (Question 1.2b); the head adds HC + C."""
_LAST = 5


class _Gates(BaseModel):
    """Gates over one sequence, by name: a row for each unit and a column for each token."""

    run: str
    tokens: list[int]
    gates: dict[str, list[list[float]]]


def _by_state(rows: Iterable[Measurement]) -> dict[tuple[str, str], list[Measurement]]:
    """Rows by cell and state, in words."""
    found: dict[tuple[str, str], list[Measurement]] = {}
    for row in rows:
        state = "as initialised" if row.state == "initial" else f"trained ({row.source})" if row.source else "trained"
        if row.spectral_radius is not None:
            state = f"spectral radius {row.spectral_radius:g}"
        found.setdefault((_title(row.cell), state), []).append(row)
    return found


def _title(cell: str) -> str:
    return CELL_NAMES.get(cell, cell)


# --- How far back gradients reach -------------------------------------------------------------------------------------


@each
def _introduction(one: Measured) -> list[str]:
    return [
        f"{one.source}: the loss's gradient with respect to the carry at each of {one.rows[0].length} positions of "
        f"{one.config.batch_size} palindromes, in float64, as the root mean square over the palindromes."
    ]


@each
def _decay_figure(one: Measured) -> Iterator[Figure]:
    found = _by_state(row for row in one.rows if len(one.curves[row.run].steps) == row.length)
    panels: dict[str, list[plots.Band]] = {}
    for (cell, state), rows in found.items():
        nth = [other for title, other in found if title == cell].index(state)
        for field in sorted(rows[0].rates, reverse=True):
            # All start at 1, because the size of the loss says nothing about how far back its gradient reaches.
            curves = [one.curves[row.run].metrics for row in rows]
            values = np.stack([curve[field] / curve["h"][0] for curve in curves])
            if (values > 0).all(axis=0).sum() > 1:
                label = f"{state}, {field}" if len(rows[0].rates) > 1 else state
                band = plots.Band(label, plots.COLOURS[nth % len(plots.COLOURS)], values, dashed=field == "c")
                panels.setdefault(cell, []).append(band)
    if panels:
        axes = ("T - t, steps before the end", "norm of the gradient, that of the last h being 1")
        yield Figure(
            f"gradients_decay{one.suffix}",
            plots.svg(plots.decays(panels, *axes)),
            "How far back the gradient reaches: its norm against the distance from the end, relative to that of the "
            "last hidden state; lines: geometric mean over seeds, bands: all seeds",
            "Norms of gradients on a logarithmic axis against the distance from the end, one panel per cell.",
        )


@each
def _rate_table(one: Measured) -> list[Table]:
    fields = sorted({field for row in one.rows for field in row.rates}, reverse=True)
    table = []
    for (cell, state), rows in _by_state(one.rows).items():
        has_terms = any(row.shares for row in rows)
        rates = [[rate for row in rows if (rate := row.rates.get(field)) is not None] for field in fields]
        table.append(
            [
                *(cell, state, str(len(rows)), _range([row.loss for row in rows])),
                *(format_estimate(stats.mean(values, (0, inf)), ".4f") if values else NONE for values in rates),
                _range([row.gradient_norm for row in rows]),
                _range([row.clipped_norm / row.gradient_norm for row in rows]),
                format_estimate(stats.mean([sum(row.shares[:_LAST]) for row in rows]), ".2f") if has_terms else NONE,
            ]
        )
    columns = (
        *("cell", "state", "seeds", "loss"),
        *(f"factor a step, {field}" for field in fields),
        *("norm of the whole gradient", f"times, by clipping at {one.config.clip_norm:g}"),
        f"share of the last {_LAST} steps",
    )
    caption = (
        "Gradients through time. The factor is that of the norm from one distance to the next, by least squares of its "
        "logarithm. It says much only where the line in the figure is straight: a trained cell may keep the norm over "
        "the palindrome and lose it in the padding. Clipping scales all steps' terms alike, so it holds an explosion "
        "in check but does not bring back what has vanished. Brackets are 95 % intervals over seeds"
    )
    return [Table(caption, columns, table)]


def _range(values: Sequence[float]) -> str:
    """The lowest and the highest of numbers that span many orders of magnitude."""
    low, high = f"{min(values):.2g}", f"{max(values):.2g}"
    return low if low == high else f"{low} to {high}"


# --- Identities -------------------------------------------------------------------------------------------------------


def _linear_error(row: Measurement) -> float | None:
    rate = row.rates["h"] if row.cell == "linear_rnn" else None
    return abs(rate / row.spectral_radius - 1) if rate is not None and row.spectral_radius else None


_IDENTITIES: Sequence[tuple[str, float, Callable[[Measurement], float | None]]] = (
    ("the sum over steps is the gradient that training takes (1.1b), float64", 1e-10, lambda row: row.sum_error),
    ("the same in float32, where that does not overflow", 1e-5, lambda row: row.sum_error_float32),
    ("the head's gradient is h_T^T (softmax - y), of the last state alone (1.1a)", 1e-10, lambda row: row.head_error),
    ("the linear RNN's factor a step is its spectral radius", 1e-6, _linear_error),
)
"""What has to be true, the allowed relative deviation, and the deviation of a row, None where it tests nothing."""


def _judge(one: Measured) -> list[list[str]]:
    """Each identity with the number of its deviations, the largest one, the allowed one and the verdict."""
    rows = []
    for what, allowed, deviation in _IDENTITIES:
        errors = [error for row in one.rows if (error := deviation(row)) is not None]
        if errors:
            verdict = "holds" if max(errors) <= allowed else "does not hold"
            rows.append([what, str(len(errors)), f"{max(errors):.1e}", f"{allowed:.0e}", verdict])
    return rows


@each
def _verdicts(one: Measured) -> list[str]:
    beside = f" (source {one.source})" if one.suffix else ""  # To tell several directories apart.
    return ["\n".join(f"- {what}: **{verdict}**{beside}" for what, *_, verdict in _judge(one))]


@each
def _identity_table(one: Measured) -> list[Table]:
    return [Table("Identities", ("what", "cells", "largest relative deviation", "allowed", "verdict"), _judge(one))]


# --- Steps, gates, parameters, costs ----------------------------------------------------------------------------------


@each
def _terms_figure(one: Measured) -> Iterator[Figure]:
    """The steps' shares, for the first seed of each cell and state whose cell has a recurrent matrix."""
    found = _by_state(row for row in one.rows if row.shares)
    shares = {f"{cell}, {state}": rows[0].shares for (cell, state), rows in found.items()}
    if not shares:
        return
    caption = (
        "What each step adds to the gradient of the recurrent matrix (Question 1.1b), along that gradient, for the "
        "sequence with the largest loss; the steps add up to 1"
    )
    alt = "Bars of each step's share of the recurrent matrix's gradient, one panel per cell."
    svg = plots.svg(plots.shares_of_sum(shares, "T - i, steps before the end"))
    yield Figure(f"gradients_terms{one.suffix}", svg, caption, alt)


@each
def _gate_figure(one: Measured) -> Iterator[Block]:
    """The gates of the first trained cell, or of the first cell if none is trained."""
    path = one.directory.path / GATES
    try:
        found = TypeAdapter(list[_Gates]).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        yield f"{code(path)} cannot be read ({describe(error)})"
        return
    trained = {row.run for row in one.rows if row.state == "trained"}
    for shown in sorted(found, key=lambda gates: gates.run not in trained)[:1]:
        symbols = ["·" if token == 0 else str(token - 1) for token in shown.tokens]
        panels = {f"gate {name}": values for name, values in shown.gates.items()}
        yield Figure(
            f"gradients_gates{one.suffix}",
            plots.svg(plots.heat_maps(panels, symbols)),
            f"Gates over one palindrome (Question 1.2a), {code(shown.run)}: the {len(next(iter(panels.values())))} "
            "units that change most; a dot marks padding",
            "Activations of each gate, a row for each unit and a column for each symbol of the sequence.",
        )


@each
def _parameter_table(one: Measured) -> list[Table]:
    rows: dict[tuple[str, ...], None] = {}
    for row in one.rows:
        if row.cell in FORMULAS:
            (formula, count), (d, h, c, counted) = FORMULAS[row.cell], row.sizes.values()
            sizes, by_formula = f"D={d}, H={h}, C={c}", count(d, h) + h * c + c
            rows[_title(row.cell), f"{formula} + HC + C", sizes, str(by_formula), str(counted)] = None
    columns = ("cell", "formula", "sizes", "by the formula", "counted")
    caption = "Parameters of a cell and its head (Question 1.2b)"
    return [Table(caption, columns, [*map(list, rows)])] if rows else []


@each
def _cost_figure(one: Measured) -> Iterator[Block]:
    """The cost of the one cell that was timed."""
    for cell, curve in read_curves(one.directory.path / COSTS).items():
        panels = {
            unit: [
                plots.Line("forward", plots.SKY, curve.steps, curve.metrics[f"forward_{unit}"]),
                plots.Line("forward and gradient", plots.VERMILION, curve.steps, curve.metrics[f"gradient_{unit}"]),
            ]
            for unit in ("seconds", "bytes")
        }
        load = curve.metrics["load"]
        yield Figure(
            f"gradients_cost{one.suffix}",
            plots.svg(plots.scaling({unit: (lines, None) for unit, lines in panels.items()}, "length T")),
            f"Time and memory of the {_title(cell)}'s forward pass, without and with its gradient, against the length "
            f"(Question 1.1c), batch {one.config.batch_size}; bytes are those of XLA's plan besides arguments and "
            f"results; load before a measurement {load.min():.1f} to {load.max():.1f}",
            "Seconds and bytes against the length of the sequence, on logarithmic axes.",
        )
        first, last = curve.steps[0], curve.steps[-1]
        growth = [f"{gradient.y[-1] / gradient.y[0]:.1f} times the {unit}" for unit, (_, gradient) in panels.items()]
        yield (
            f"From T = {first} to {last}, {last / first:g} times as long, the {_title(cell)}'s gradient takes "
            f"{' and '.join(growth)}."
        )


STUDY = Study(
    name="gradients",
    title="Gradients through time (Questions 1.1 and 1.2)",
    config=Config,
    arms=ArmScheme(Config),
    choices={"cells": CELLS},
    check=check,
    measure=measure,
    row=Measurement,
    tiny={
        **{"cells": ("linear_rnn", "lstm"), "spectral_radius": (0.5,), "digits": 1, "hidden_size": 3},
        **{"batch_size": 4, "train_steps": 3, "num_seeds": 2},
    },
    headline=_verdicts,
    sections={
        "How far back gradients reach": [_introduction, _decay_figure, _rate_table],
        "Identities (Question 1.1)": [_identity_table],
        "What each step adds (Question 1.1b)": [_terms_figure],
        "Gates (Question 1.2a)": [_gate_figure],
        "Parameters (Question 1.2b)": [_parameter_table],
        "Cost (Question 1.1c)": [_cost_figure],
    },
)
