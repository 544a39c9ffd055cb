"""The part of the report that looks at gradients through time (Questions 1.1 and 1.2)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, FiniteFloat, TypeAdapter, ValidationError

from jaxrnn.study import plots, stats
from jaxrnn.study.report import (
    NONE,
    Block,
    Curve,
    Figure,
    Run,
    Section,
    Table,
    code,
    describe,
    interval,
    read_curves,
    valid_runs,
)

EXPERIMENT = "gradients"
GATES = "gates.json"
"""A file of a run directory: a list of `_Gates`."""
COSTS = "costs.jsonl"
"""A file of a run directory: by the name of a cell, what its gradient costs at each length."""
CELL_NAMES = {
    "rnn": "Vanilla RNN",
    "linear_rnn": "Linear RNN",
    "lstm": "LSTM",
    "peephole": "Peephole LSTM (the report's)",
    "gers_peephole": "Peephole LSTM (Gers)",
    "gru": "GRU",
    "gru_cho": "GRU (Cho)",
}
FORMULAS: dict[str, tuple[str, Callable[[int, int], int]]] = {
    "rnn": ("H(D + H + 1)", lambda d, h: h * (d + h + 1)),
    "linear_rnn": ("H(D + H + 1)", lambda d, h: h * (d + h + 1)),
    "lstm": ("4H(D + H + 1)", lambda d, h: 4 * h * (d + h + 1)),
    "peephole": ("4H(D + 1) + 3H²", lambda d, h: 4 * h * (d + 1) + 3 * h**2),
    "gers_peephole": ("4H(D + H + 1) + 3H", lambda d, h: 4 * h * (d + h + 1) + 3 * h),
    "gru": ("3H(D + H + 1) + H", lambda d, h: 3 * h * (d + h + 1) + h),
    "gru_cho": ("3H(D + H + 1)", lambda d, h: 3 * h * (d + h + 1)),
}
"""Numbers of parameters of a cell with D inputs and H hidden units (report, Question 1.2b); the head adds HC + C."""
TOLERANCE, TOLERANCE_FLOAT32, HEAD_TOLERANCE = 1e-10, 1e-5, 1e-10
FAILS = "does not hold"
RATE_TOLERANCE = 1e-6
"""Of the linear RNN's rate and its spectral radius."""
_FIELDS = ("h", "c")
"""Of carries."""
_LAST = 5
_COST_METRICS = ("forward_seconds", "gradient_seconds", "forward_bytes", "gradient_bytes")


# --- What is read -----------------------------------------------------------------------------------------------------


class _Setting(BaseModel):
    clip_norm: float
    batch_size: int


class _Sizes(BaseModel):
    inputs: int
    hidden: int
    outputs: int
    parameters: int


class _Look(BaseModel):
    """A row of ``results.json``."""

    run: str
    seed: int
    cell: str
    spectral_radius: float | None
    source: str | None
    length: int
    loss: FiniteFloat
    rates: dict[str, FiniteFloat | None]
    gradient_norm: FiniteFloat
    clipped_norm: FiniteFloat
    head_error: FiniteFloat
    sum_error: FiniteFloat
    sum_error_float32: FiniteFloat | None
    """None where float32 overflows."""
    shares: list[FiniteFloat]
    sizes: _Sizes


class _Gates(BaseModel):
    """The gates of one sequence, a row for each unit and a column for each token."""

    run: str
    tokens: list[int]
    gates: dict[str, list[list[Annotated[float, Field(ge=-1, le=1)]]]]


class State(NamedTuple):
    """A cell as it was looked at with several seeds."""

    cell: str
    spectral_radius: float | None
    source: str | None

    def __str__(self) -> str:
        if self.spectral_radius is not None:
            return f"spectral radius {self.spectral_radius:g}"
        if self.source is None:
            return "as initialised"
        return "trained" if self.source == f"trained/{self.cell}" else f"trained ({self.source})"


def states(run: Run) -> tuple[dict[State, list[_Look]], list[str]]:
    """The rows of a valid run by what they looked at, in their order, and remarks on those without a whole curve."""
    found: dict[State, list[_Look]] = {}
    remarks = []
    for result in run.results:
        look = _Look.model_validate(result)
        if _is_whole(run.curves.get(look.run), look):
            found.setdefault(State(look.cell, look.spectral_radius, look.source), []).append(look)
        else:
            remarks.append(f"{code(run.path)}: {code(look.run)} has no whole curve: left out")
    return found, remarks


def _is_whole(curve: Curve | None, look: _Look) -> bool:
    return (
        curve is not None
        and np.array_equal(curve.steps, np.arange(look.length))
        and {"h", *look.rates} <= {*curve.metrics}
        and all(np.isfinite(curve.metrics[field]).all() for field in look.rates)
    )


def read_gates(path: Path) -> tuple[list[_Gates], str | None]:
    """The gates in a run directory, or why there are none."""
    try:
        return TypeAdapter(list[_Gates]).validate_json((path / GATES).read_bytes()), None
    except (OSError, ValidationError) as error:
        return [], f"{code(path / GATES)} cannot be read ({describe(error)})"


# --- The section ------------------------------------------------------------------------------------------------------


def picture(runs: Sequence[Run]) -> bytes | None:
    """How far back gradients reach in the first of the runs; None where there is none."""
    used, _ = _valid(runs)
    figures = _decay_figure(used[0], states(used[0])[0], "figures/gradients") if used else iter(())
    return next((figure.png for figure in figures), None)


def _valid(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    whole = [run for run in runs if run.experiment == EXPERIMENT and run.complete]
    return valid_runs(whole, _Setting, _Look)


def sections(runs: Sequence[Run]) -> list[Section]:
    """The study's section from all run directories; those of other experiments are passed over."""
    used, remarks = _valid(runs)
    blocks: list[Block] = list(remarks)
    for i, run in enumerate(used):
        blocks += _blocks(run, f"figures/gradients_{i}")
    return [Section("Gradients through time (Questions 1.1 and 1.2)", blocks)] if blocks else []


def _blocks(run: Run, prefix: str) -> Iterator[Block]:
    found, remarks = states(run)
    yield from remarks
    if not found:
        return
    length = next(iter(found.values()))[0].length
    yield (
        f"{code(run.path)}, {run.kind}: the loss's gradient with respect to the carry at each of up to {length} "
        f"positions of {run.config['batch_size']} palindromes, in float64; the root mean square over them."
    )
    yield from _decay_figure(run, found, prefix)
    yield _rate_table(run, found)
    yield _checks(found)
    yield Figure(
        f"{prefix}_terms.png",
        plots.png(plots.shares_of_sum(_first_shares(found), "T - i, steps before the end")),
        "What each step adds to the gradient of the recurrent matrix (Question 1.1b), along that gradient, for the "
        "sequence with the largest loss; all steps together are 1",
        "Bars of each step's share of the recurrent matrix's gradient, one panel a cell.",
    )
    gates, remark = read_gates(run.path)
    if remark:
        yield remark
    yield from _gate_figure(gates, prefix)
    yield _parameter_table(found)
    yield from _cost_figure(run, prefix)


def _decay_figure(run: Run, found: Mapping[State, Sequence[_Look]], prefix: str) -> Iterator[Figure]:
    panels: dict[str, list[plots.Band]] = {}
    for state, looks in found.items():
        curves = [run.curves[look.run] for look in looks]
        panel = panels.setdefault(CELL_NAMES.get(state.cell, state.cell), [])
        nth = [other for other in found if other.cell == state.cell].index(state)
        colour = plots.COLOURS[nth % len(plots.COLOURS)]
        for field in _FIELDS:
            if field not in looks[0].rates:
                continue
            # All from 1 on: what a loss is, its gradient says nothing of how far back it reaches.
            values = np.stack([curve.metrics[field] / curve.metrics["h"][0] for curve in curves])
            if (values > 0).all(axis=0).sum() > 1:
                label = f"{state}, {field}" if len(looks[0].rates) > 1 else f"{state}"
                panel.append(plots.Band(label, colour, values, dashed=field == "c"))
    panels = {title: bands for title, bands in panels.items() if bands}
    if panels:
        yield Figure(
            f"{prefix}_decay.png",
            plots.png(
                plots.decays(panels, "T - t, steps before the end", "norm of the gradient, that of the last h being 1")
            ),
            "How far back the gradient reaches: its norm against the distance from the end, relative to that of the "
            "last hidden state; lines: geometric mean over seeds, bands: all seeds",
            "Norms of gradients on a logarithmic axis against the distance from the end, one panel a cell.",
        )


def _rate_table(run: Run, found: Mapping[State, Sequence[_Look]]) -> Table:
    clip = run.config["clip_norm"]
    fields = [field for field in _FIELDS if any(field in looks[0].rates for looks in found.values())]
    rows = []
    for state, looks in found.items():
        rates = []
        for field in fields:
            values = [look.rates.get(field) for look in looks]
            rates.append(_estimate([value for value in values if value is not None], ".4f", within=(0, inf)))
        norms = [look.gradient_norm for look in looks]
        last = [sum(look.shares[:_LAST]) for look in looks]
        clipped = _range([look.clipped_norm / look.gradient_norm for look in looks])
        name = CELL_NAMES.get(state.cell, state.cell)
        loss = _range([look.loss for look in looks])
        rows.append([name, str(state), str(len(looks)), loss, *rates, _range(norms), clipped, _estimate(last, ".2f")])
    return Table(
        (
            *("cell", "state", "seeds", "loss"),
            *(f"factor a step, {field}" for field in fields),
            "norm of the whole gradient",
            f"times, by clipping at {clip:g}",
            f"share of the last {_LAST} steps",
        ),
        rows,
        "Gradients through time. The factor is that of the norm from one distance to the next, by least squares of its "
        "logarithm, and says much only where the line in the figure is straight: a trained cell may keep it over the "
        "palindrome and lose it in the padding. Clipping scales all steps' terms alike, so it holds an explosion in "
        "check and brings nothing back that has vanished. Brackets are 95 % intervals over seeds",
    )


def _checks(found: Mapping[State, Sequence[_Look]]) -> Table:
    """What has to be true, with the largest deviation that was found."""
    looks = [look for group in found.values() for look in group]
    single = [look.sum_error_float32 for look in looks if look.sum_error_float32 is not None]
    linear = [
        abs(rate / look.spectral_radius - 1)
        for look in looks
        if look.cell == "linear_rnn" and look.spectral_radius and (rate := look.rates["h"]) is not None
    ]
    identities = [
        (
            "the sum over steps is the gradient that training takes (1.1b), float64",
            [look.sum_error for look in looks],
            TOLERANCE,
        ),
        ("the same in float32, where that does not overflow", single, TOLERANCE_FLOAT32),
        (
            "the head's gradient is h_T^T (softmax - y): it depends on the last state alone (1.1a)",
            [look.head_error for look in looks],
            HEAD_TOLERANCE,
        ),
        ("the linear RNN's factor a step is its spectral radius", linear, RATE_TOLERANCE),
    ]
    rows = [
        [what, str(len(errors)), f"{max(errors):.1e}", f"{allowed:.0e}", "holds" if max(errors) <= allowed else FAILS]
        for what, errors, allowed in identities
        if errors
    ]
    return Table(("what", "cells", "largest relative deviation", "allowed", ""), rows, "Identities")


def _first_shares(found: Mapping[State, Sequence[_Look]]) -> dict[str, list[float]]:
    """Of each cell and state, the shares of the first seed."""
    return {f"{CELL_NAMES.get(state.cell, state.cell)}, {state}": looks[0].shares for state, looks in found.items()}


def _gate_figure(gates: Sequence[_Gates], prefix: str) -> Iterator[Block]:
    """Of the first trained cell, or the first that there is."""
    trained = [one for one in gates if ", initial, " not in one.run]
    if not gates:
        return
    shown = (trained or gates)[0]
    symbols = ["·" if token == 0 else str(token - 1) for token in shown.tokens]
    yield Figure(
        f"{prefix}_gates.png",
        plots.png(plots.heat_maps({f"gate {name}": values for name, values in shown.gates.items()}, symbols)),
        f"Gates over one palindrome (Question 1.2a), {code(shown.run)}: the {len(next(iter(shown.gates.values())))} "
        "units that change most; a dot is padding",
        "Activations of each gate, a row for each unit and a column for each symbol of the sequence.",
    )


def _parameter_table(found: Mapping[State, Sequence[_Look]]) -> Table:
    rows: dict[tuple[Any, ...], list[str]] = {}
    for state, looks in found.items():
        sizes = looks[0].sizes
        if state.cell in FORMULAS:
            text, count = FORMULAS[state.cell]
            by_formula = count(sizes.inputs, sizes.hidden) + sizes.hidden * sizes.outputs + sizes.outputs
            at = f"D={sizes.inputs}, H={sizes.hidden}, C={sizes.outputs}"
            cells = [CELL_NAMES[state.cell], f"{text} + HC + C", at, str(by_formula), str(sizes.parameters)]
            rows.setdefault((state.cell, *sizes.model_dump().values()), cells)
    columns = ("cell", "formula", "sizes", "by the formula", "counted")
    return Table(columns, list(rows.values()), "Parameters of a cell and its head (Question 1.2b)")


def _cost_figure(run: Run, prefix: str) -> Iterator[Block]:
    curves, _ = read_curves(run.path / COSTS)
    for cell, curve in curves.items():
        if not {*_COST_METRICS} <= {*curve.metrics}:
            continue
        title = CELL_NAMES.get(cell, cell)
        measured = [metric for metric in _COST_METRICS if np.isfinite(curve.metrics[metric]).all()]
        panels = {
            metric: (
                [_line(curve, what, metric) for what in ("forward", "gradient") if f"{what}_{metric}" in measured],
                None,
            )
            for metric in ("seconds", "bytes")
        }
        panels = {metric: panel for metric, panel in panels.items() if panel[0]}
        yield Figure(
            f"{prefix}_cost.png",
            plots.png(plots.scaling(panels, "length T")),
            f"Time and memory of the {title}'s forward pass and of one with its gradient against the length (Question "
            f"1.1c), batch {run.config['batch_size']}; bytes are those of XLA's plan besides arguments and results"
            f"{_load(curve)}",
            "Seconds and bytes against the length of the sequence, on logarithmic axes.",
        )
        first, last = (int(curve.steps[i]) for i in (0, -1))
        growth = [
            f"{curve.metrics[metric][-1] / curve.metrics[metric][0]:.1f} times the {metric.removeprefix('gradient_')}"
            for metric in ("gradient_seconds", "gradient_bytes")
            if metric in measured
        ]
        if growth:
            yield (
                f"From T = {first} to {last}, {last / first:g} times as long, the {title}'s gradient takes "
                f"{' and '.join(growth)}."
            )


def _load(curve: Curve) -> str:
    """What else the machine did, where that was written down: times from a busy one are too long."""
    load = curve.metrics.get("load", np.array([np.nan]))
    return f"; load before a measurement {load.min():.1f} to {load.max():.1f}" if np.isfinite(load).all() else ""


def _line(curve: Curve, what: str, metric: str) -> plots.Line:
    colour = {"forward": plots.SKY, "gradient": plots.VERMILION}[what]
    label = {"forward": "forward", "gradient": "forward and gradient"}[what]
    return plots.Line(label, colour, curve.steps, curve.metrics[f"{what}_{metric}"])


def _estimate(values: Sequence[float], form: str, within: tuple[float, float] = (-inf, inf)) -> str:
    return interval(stats.mean(values, within), form) if values else NONE


def _range(values: Sequence[float] | NDArray[np.float64]) -> str:
    """Numbers over many orders of magnitude: the lowest and the highest."""
    low, high = min(values), max(values)
    return f"{low:.2g}" if f"{low:.2g}" == f"{high:.2g}" else f"{low:.2g} to {high:.2g}"
