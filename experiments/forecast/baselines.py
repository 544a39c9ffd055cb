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
_VAR_LAGS = 3


def measure(problem: Problem) -> dict[str, dict[str, Any]]:
    """By baseline, the errors of its forecasts of the test part, as ``results.json`` has them for a run."""
    test = problem.parts.test
    rows = _target_rows(problem, test)
    truth, counts = problem.values[rows], problem.seen[rows] & test.counts[..., None]
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
    """Forecasts the change from the last row by ridge regression on the last rows of all nodes, in the data's units."""
    lags = min(_VAR_LAGS, problem.protocol.input_length)
    values = problem.values.astype(np.float64)

    def inputs(part: Windows) -> np.ndarray:
        return values[_input_rows(problem, part)[:, -lags:]].reshape(len(part.starts), -1)

    fitted, test = problem.parts.fitted, problem.parts.test
    x, last, rows = inputs(fitted), values[_input_rows(problem, fitted)[:, -1]], _target_rows(problem, fitted)
    found = np.repeat(values[_input_rows(problem, test)[:, -1]][:, None], problem.horizon, axis=1)
    for h in range(problem.horizon):
        counts = fitted.counts[:, h]
        change = (values[rows[:, h]] - last)[counts]
        centre, mean_change = x[counts].mean(0), change.mean(0)
        centred = x[counts] - centre
        square = centred.T @ centred
        ridge = problem.protocol.ridge or np.diag(square).mean() or 1.0
        coefficients = np.linalg.solve(square + ridge * np.eye(len(square)), centred.T @ (change - mean_change))
        found[:, h] += (inputs(test) - centre) @ coefficients + mean_change
    return found
