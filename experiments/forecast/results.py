"""What is written when all runs have ended: baselines, forecasts of the test part, and what figures are drawn from."""

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from configs.forecast import Config
from experiments.forecast import baselines
from experiments.forecast.build import Problem, arrays, build_model, pose, predict
from jaxrnn.arrays import PyTree
from jaxrnn.rundir.directory import RunDirectory, read_config
from jaxrnn.rundir.fields import make_config, saved_fields
from jaxrnn.rundir.restore import load_all
from jaxrnn.study.baselines import BASELINES
from jaxrnn.study.study import Row

FORECASTS, FIGURES = "forecast.csv", "forecast.json"
_PROBLEM = ("horizon", "input_length", "split", "scaling", "season")
"""The fields that say, beside the data, what is forecast and what a baseline knows."""
_MOST_ROWS = 300
"""Rows of a node's truth and forecasts in a figure."""


def finish(path: Path, rows: Sequence[Row]) -> None:
    """Writes the files of complete runs."""
    record = read_config(path)
    saved, swept = saved_fields(Config, record["config"]), list(record["sweep"])
    params = load_all(path)
    groups: dict[str, tuple[Config, list[Row]]] = {}
    for row in rows:
        values = {field: row[field] for field in swept}
        config = make_config(
            Config, {**saved, **{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}}
        )
        groups.setdefault(json.dumps(values), (config, []))[1].append(row)
    known: dict[str, dict[str, Any]] = {}
    lines = [[*swept, "row", "node", "horizon", "truth", "mean", "spread"]]
    figures: list[dict[str, Any]] = []
    for config, of_setting in groups.values():
        problem = pose(config)
        fields = problem_of(dataclasses.asdict(config), {"sha256": problem.signals.sha256})
        key = json.dumps(fields)
        if key not in known:
            known[key] = {"fields": fields, "found": baselines.measure(problem)}
        ended = [params[row["run"]] for row in of_setting if row["failed_at"] is None]
        if ended:
            forecasts = forecast(config, problem, ended)
            values = {field: of_setting[0][field] for field in swept}
            lines += _lines(problem, forecasts, list(values.values()))
            figures.append({"values": values, **_drawn(problem, forecasts)})
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(lines)
    with RunDirectory(path) as directory:
        directory.write(BASELINES, list(known.values()), indent=None)
        directory.write_text(FORECASTS, text.getvalue())
        directory.write(FIGURES, figures, indent=None)


def problem_of(setting: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """What is forecast, from a setting and what ``config.json`` says of the data, in JSON's types."""
    fields = {"data": data["sha256"], **{name: setting[name] for name in _PROBLEM}}
    return {**fields, "split": list(fields["split"])}


def forecast(config: Any, problem: Problem, params: Sequence[PyTree]) -> NDArray:
    """The forecasts ``[S, W, horizon, N]`` of the test windows by models with these parameters, in the data's units."""
    starts, size = problem.parts.test.starts, min(config.batch_size, len(problem.parts.test.starts))
    batches = np.concatenate([starts, np.repeat(starts[-1:], -len(starts) % size)]).reshape(-1, size)
    data, model = arrays(config, problem), build_model(config)
    with jax.default_matmul_precision(config.precision):
        run = jax.jit(lambda params, data, starts: predict(model, params, data, starts, problem.protocol.input_length))
        found = [np.concatenate([np.asarray(run(one, data, batch)) for batch in batches], axis=-1) for one in params]
    scaled = np.moveaxis(np.stack(found), -1, 1)[:, : len(starts)]
    return scaled * problem.scale.factor + problem.scale.offset


def _lines(problem: Problem, forecasts: NDArray, values: list[Any]) -> list[list[Any]]:
    """The lines of ``forecast.csv`` for a setting: `forecasts` are ``[S, W, horizon, N]``."""
    test, names = problem.parts.test, problem.signals.names
    mean, spread = forecasts.mean(0), forecasts.std(0, ddof=1) if len(forecasts) > 1 else np.zeros(forecasts.shape[1:])
    rows = test.starts[:, None] + problem.protocol.input_length + np.arange(problem.horizon)
    lines = []
    for window, h in zip(*np.nonzero(test.counts), strict=True):
        row = rows[window, h]
        for node, name in enumerate(names):
            truth = f"{problem.values[row, node]:.6g}" if problem.seen[row, node] else ""
            shown = f"{mean[window, h, node]:.6g}", f"{spread[window, h, node]:.4g}"
            lines.append([*values, row, name, h + 1, truth, *shown])
    return lines


def _drawn(problem: Problem, forecasts: NDArray) -> dict[str, Any]:
    """What figures show of a setting: errors by node, and forecasts of those with least, median and largest error."""
    test, h = problem.parts.test, problem.horizon - 1
    rows = test.starts + problem.protocol.input_length + np.arange(problem.horizon)[:, None]
    rows = np.minimum(rows, len(problem.values) - 1).T
    counts = problem.seen[rows] & test.counts[..., None]
    squares = np.where(counts, (forecasts - problem.values[rows]) ** 2, 0).mean(0).sum((0, 1))
    by_node = np.sqrt(squares / np.maximum(counts.sum((0, 1)), 1))
    order = np.argsort(by_node, kind="stable")
    chosen = [int(order[i]) for i in dict.fromkeys((0, len(order) // 2, len(order) - 1))]
    shown = np.flatnonzero(test.counts[:, h])[-_MOST_ROWS:]
    truth = np.where(problem.seen, problem.values, np.nan)[rows[shown, h]]
    last = forecasts[:, shown, h]
    spread = last.std(0, ddof=1) if len(last) > 1 else np.zeros(last.shape[1:])
    sources, targets = np.nonzero(problem.signals.adjacency)
    series = {"truth": truth, "mean": last.mean(0), "spread": spread}
    nodes = [{name: x[:, node].astype(float).round(4).tolist() for name, x in series.items()} for node in chosen]
    return {
        "horizon": problem.horizon,
        "rows": rows[shown, h].tolist(),
        "nodes": {problem.signals.names[node]: found for node, found in zip(chosen, nodes, strict=True)},
        "rmse_by_node": by_node.round(5).tolist(),
        "places": places(problem.signals.adjacency).round(3).tolist(),
        "edges": [sources[sources != targets].tolist(), targets[sources != targets].tolist()],
    }


def places(adjacency: NDArray) -> NDArray:
    """A place ``[N, 2]`` for each node, near its neighbours: Fruchterman and Reingold's springs, from a circle."""
    num_nodes = len(adjacency)
    linked = ((adjacency + adjacency.T) > 0) & ~np.eye(num_nodes, dtype=bool)
    angles = 2 * np.pi * np.arange(num_nodes) / num_nodes
    at, length = np.stack([np.cos(angles), np.sin(angles)], axis=1), 2 / max(num_nodes, 1) ** 0.5
    for step in np.linspace(0.2, 0.01, 150):
        ways = at[:, None] - at
        far = np.maximum(np.linalg.norm(ways, axis=-1), 1e-3)[..., None]
        pushed = (ways / far * (length**2 / far - linked[..., None] * far**2 / length)).sum(1)
        at = at + step * pushed / np.maximum(np.linalg.norm(pushed, axis=1, keepdims=True), 1e-9)
        at -= at.mean(0)
    return at / max(np.abs(at).max(), 1e-9)
