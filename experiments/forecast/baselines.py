"""Forecasts that need no training, which a network has to beat.

They are fitted to the whole training part, even if its last tenth is the validation part, as in publications.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.forecast.build import Problem, summary, totals
from jaxrnn.data.windows import Windows, node_means
from jaxrnn.nn.forecasters import normalized

_RIDGE = 0.01
"""The ridge penalty of the autoregressions, on scaled values."""
_VAR_LAGS, _SHARES = 3, (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Of the vector autoregression: rows that it reads, and penalties to choose from, relative to the inputs' squares."""


def measure(problem: Problem) -> dict[str, dict[str, Any]]:
    """By baseline, the errors of its forecasts of the test part, as ``results.json`` has them for a run."""
    truth, counts = _targets(problem, problem.parts.test)
    found = {}
    for name, forecast in forecasts(problem).items():
        squares, magnitudes, numbers = totals(forecast.astype(np.float64) - truth, counts)
        measured = summary(squares, magnitudes, numbers, problem.blocks)
        found[name] = {key: np.asarray(value, np.float64).tolist() for key, value in measured.items()}
    return found


def forecasts(problem: Problem) -> dict[str, np.ndarray]:
    """By baseline, its forecasts ``[W, horizon, N]`` of the test windows, in the data's units."""
    season = {"season_mean": _season_mean} if problem.protocol.season > 1 else {}
    makers: dict[str, Callable[[Problem], np.ndarray]] = {
        **{"persistence": _persistence, "mean": _mean, **season, "shared_ar": _shared_ar, "graph_ar": _graph_ar},
        **{"own_ar": _own_ar, "ridge_var": _ridge_var},
    }
    return {name: make(problem) for name, make in makers.items()}


def _target_rows(problem: Problem, part: Windows) -> np.ndarray:
    """The rows of targets ``[W, horizon]``; beyond the end, where no target counts, the last row."""
    rows = part.starts[:, None] + problem.protocol.input_length + np.arange(problem.horizon)
    return np.minimum(rows, len(problem.values) - 1)


def _targets(problem: Problem, part: Windows) -> tuple[np.ndarray, np.ndarray]:
    """The targets of a part and which of them count, both ``[W, horizon, N]``."""
    rows = _target_rows(problem, part)
    return problem.values[rows], problem.seen[rows] & part.counts[..., None]


def _input_rows(problem: Problem, part: Windows) -> np.ndarray:
    return part.starts[:, None] + np.arange(problem.protocol.input_length)


def _persistence(problem: Problem) -> np.ndarray:
    last = problem.values[_input_rows(problem, problem.parts.test)[:, -1]]
    return np.repeat(last[:, None], problem.horizon, axis=1)


def _mean(problem: Problem) -> np.ndarray:
    means = node_means(problem.signals.values[: problem.parts.train_rows])
    return np.broadcast_to(means, (len(problem.parts.test.starts), problem.horizon, len(means)))


def _season_mean(problem: Problem) -> np.ndarray:
    """The mean of the training rows at the same time of the season; of all of them where there is none."""
    values, season = problem.signals.values[: problem.parts.train_rows], problem.protocol.season
    means = node_means(values)
    at_time = np.tile(means, (season, 1))
    for time in range(min(season, len(values))):
        there = ~np.isnan(values[time::season])
        sums = np.where(there, values[time::season], 0).sum(0, dtype=np.float64)
        at_time[time] = np.where(there.any(0), sums / np.maximum(there.sum(0), 1), means)
    return at_time[_target_rows(problem, problem.parts.test) % season]


# --- Autoregressions --------------------------------------------------------------------------------------------------


def _shared_ar(problem: Problem) -> np.ndarray:
    return _autoregression(problem, [problem.scaled.astype(np.float64)])


def _graph_ar(problem: Problem) -> np.ndarray:
    """Autoregression on `x` and ``A_hat x``: the linear model that sees what a graph network of one layer sees."""
    scaled = problem.scaled.astype(np.float64)
    return _autoregression(problem, [scaled, scaled @ normalized(problem.signals.adjacency).T.astype(np.float64)])


def _own_ar(problem: Problem) -> np.ndarray:
    return _autoregression(problem, [problem.scaled.astype(np.float64)], is_shared=False)


def _autoregression(problem: Problem, series: list[np.ndarray], *, is_shared: bool = True) -> np.ndarray:
    """Forecasts by least squares from the input rows of some `series` ``[time, N]`` and a constant.

    Each horizon has its own coefficients; with `is_shared`, all nodes share them.
    """
    fitted, test = problem.parts.fitted, problem.parts.test
    num_nodes, horizon = problem.values.shape[1], problem.horizon
    target_rows = _target_rows(problem, fitted)

    def inputs(part: Windows, node: int) -> np.ndarray:
        rows = _input_rows(problem, part)
        return np.concatenate([*(one[rows, node] for one in series), np.ones((len(rows), 1))], axis=1)

    size = len(series) * problem.protocol.input_length + 1
    squares = np.zeros((num_nodes, horizon, size, size))
    products = np.zeros((num_nodes, horizon, size))
    for node in range(num_nodes):
        x = inputs(fitted, node)
        for h in range(horizon):
            rows = target_rows[:, h]
            counts = fitted.counts[:, h] & problem.seen[rows, node]
            squares[node, h] = x[counts].T @ x[counts]
            products[node, h] = x[counts].T @ problem.scaled[rows[counts], node]
    if is_shared:
        squares, products = (np.broadcast_to(array.sum(0), array.shape) for array in (squares, products))
    coefficients = np.linalg.solve(squares + _RIDGE * np.eye(size), products[..., None])[..., 0]
    scaled = np.stack([inputs(test, node) @ coefficients[node].T for node in range(num_nodes)], axis=-1)
    return scaled * problem.scale.factor + problem.scale.offset


def _ridge_var(problem: Problem) -> np.ndarray:
    """Forecasts by ridge regression on all nodes, with the protocol's penalty, or else the one best in validation."""
    parts, penalty = problem.parts, problem.protocol.ridge
    if penalty is None:
        x = _last_rows(problem, parts.train)
        scale = np.square(x - x.mean(0)).sum(0).mean() or 1.0
        forecasts = {share * scale: _var(problem, parts.train, parts.validation, share * scale) for share in _SHARES}
        penalty = min(forecasts, key=lambda one: _mean_square(problem, parts.validation, forecasts[one]))
    return _var(problem, parts.fitted, parts.test, penalty)


def _last_rows(problem: Problem, part: Windows) -> np.ndarray:
    """What the vector autoregression reads, the last rows of all nodes, in the data's units ``[W, lags * N]``."""
    lags = min(_VAR_LAGS, problem.protocol.input_length)
    return problem.values[_input_rows(problem, part)[:, -lags:]].astype(np.float64).reshape(len(part.starts), -1)


def _var(problem: Problem, fitted: Windows, part: Windows, penalty: float) -> np.ndarray:
    """Forecasts ``[W, horizon, N]`` of a part: the change from the last row, by a ridge regression for each horizon."""
    values = problem.values.astype(np.float64)
    x, rows = _last_rows(problem, fitted), _target_rows(problem, fitted)
    last = values[_input_rows(problem, fitted)[:, -1]]
    inputs = _last_rows(problem, part)
    found = np.repeat(values[_input_rows(problem, part)[:, -1]][:, None], problem.horizon, axis=1)
    for h in range(problem.horizon):
        counts = fitted.counts[:, h]
        change = (values[rows[:, h]] - last)[counts]
        centre, mean_change = x[counts].mean(0), change.mean(0)
        centred = x[counts] - centre
        square = centred.T @ centred
        coefficients = np.linalg.solve(square + penalty * np.eye(len(square)), centred.T @ (change - mean_change))
        found[:, h] += (inputs - centre) @ coefficients + mean_change
    return found


def _mean_square(problem: Problem, part: Windows, forecast: np.ndarray) -> float:
    """The mean squared error of the forecasts of a part."""
    truth, counts = _targets(problem, part)
    return float(np.square(forecast - truth)[counts].mean())
