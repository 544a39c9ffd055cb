"""What is written when all runs have ended: a hidden layer, baselines, and which documents each run got wrong."""

import functools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from configs.nodes import Config
from experiments.nodes import baselines
from experiments.nodes.build import build_model, host_split, inputs, load
from jaxrnn.arrays import PyTree
from jaxrnn.data import nodes
from jaxrnn.data.files import DataError
from jaxrnn.rundir.directory import RunDirectory, read_config
from jaxrnn.rundir.fields import saved_fields
from jaxrnn.rundir.restore import load_all, load_run
from jaxrnn.study import stats
from jaxrnn.study.study import Row

HIDDEN, BASELINES, WRONG = "hidden.json", "baselines.json", "wrong.json"
PROBLEM = ("dataset", "split", "train_per_class", "num_validation", "num_test", "neighbours", "normalize_features")
"""The fields that say what a baseline is given."""
_MOST_POINTS = 5000


def finish(path: Path, rows: Sequence[Row]) -> None:
    """Writes the files of complete runs, as far as there is something to write."""
    record = read_config(path)
    saved = saved_fields(Config, record["config"])
    configs = [SimpleNamespace(**{**saved, **{field: row[field] for field in record["sweep"]}}) for row in rows]
    found = {
        HIDDEN: _hidden_layer(path, rows),
        BASELINES: _measure_baselines(configs, [row["seed"] for row in rows]),
        WRONG: _wrong_documents(path, rows, configs),
    }
    with RunDirectory(path) as directory:
        for file, content in found.items():
            if content:
                directory.write(file, content, indent=None)


def _forward(config: Any) -> Callable[[PyTree], tuple[np.ndarray, np.ndarray]]:
    """The function from parameters to the logits and the hidden layer of each node."""
    model, given = build_model(config, load(config).num_classes), inputs(config)
    apply = jax.jit(model.apply)

    def forward(params: PyTree) -> tuple[np.ndarray, np.ndarray]:
        with jax.default_matmul_precision(config.precision):
            logits, hidden = apply({"params": params}, *given)
        return np.asarray(logits), np.asarray(hidden, np.float64)

    return forward


def _hidden_layer(path: Path, rows: Sequence[Row]) -> dict[str, Any]:
    """The last hidden layer of the first run that has not failed, in two dimensions.

    The layer is that of the chosen weights, at nodes with a label, 5000 at most. The file has the run, the share of the
    variance in the first two principal components, `x` and `y` along them, `classes`, and `wrong`, the positions in
    these lists of the test nodes that the run got wrong.
    """
    ended = [row for row in rows if row["failed_at"] is None]
    if not ended:
        return {}
    config, params, *_ = load_run(path, ended[0]["run"])
    task = load(config)
    logits, hidden = _forward(config)(params)
    wrong = host_split(config, ended[0]["seed"]).test & (logits.argmax(-1) != task.labels)
    shown = np.flatnonzero(task.labels >= 0)
    if len(shown) > _MOST_POINTS:
        shown = np.sort(np.random.default_rng(0).choice(shown, _MOST_POINTS, replace=False))
    plane, share = stats.principal_plane(hidden[shown])
    return {
        "run": ended[0]["run"],
        "variance_share": round(share, 4),
        "x": plane[:, 0].round(3).tolist(),
        "y": plane[:, 1].round(3).tolist(),
        "classes": task.labels[shown].tolist(),
        "wrong": np.flatnonzero(wrong[shown]).tolist(),
    }


def _measure_baselines(configs: Sequence[Any], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """For each problem, its fields, and by baseline and seed what `baselines.measure` finds; none without scikit-learn.

    Baselines of a public split, which does not depend on the seed, have only the seed 0.
    """
    problems: dict[str, tuple[Any, list[int]]] = {}
    for config, seed in zip(configs, seeds, strict=True):
        if baselines.names(config.dataset):
            key = json.dumps([getattr(config, name) for name in PROBLEM])
            problems.setdefault(key, (config, []))[1].append(seed if _is_random(config) else 0)
    try:
        return [
            {
                "fields": {name: getattr(config, name) for name in PROBLEM},
                "found": baselines.measure(config, list(dict.fromkeys(own))),
            }
            for config, own in problems.values()
        ]
    except DataError as error:
        logging.getLogger("jaxrnn").warning("no baselines: %s", error)
        return []


def _is_random(config: Any) -> bool:
    return nodes.has_sizes(config.dataset, config.split)


def _wrong_documents(path: Path, rows: Sequence[Row], configs: Sequence[Any]) -> dict[str, list[int]]:
    """By run, the test documents that it got wrong; empty unless all runs have the same test documents."""
    if not all(nodes.is_documents(config.dataset) and not _is_random(config) for config in configs):
        return {}
    params, found = load_all(path), dict[str, list[int]]()
    forward = functools.cache(lambda key: _forward(SimpleNamespace(**dict(key))))
    for row, config in zip(rows, configs, strict=True):
        if row["failed_at"] is None:
            logits, _ = forward(tuple(vars(config).items()))(params[row["run"]])
            is_wrong = logits.argmax(-1) != load(config).labels
            found[row["run"]] = np.flatnonzero(host_split(config, row["seed"]).test & is_wrong).tolist()
    return found


def read(path: Path) -> Any:
    """The content of a file that `finish` writes; empty where it is missing or damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return []


def problem_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a problem, from all fields of a setting."""
    return {name: fields[name] for name in PROBLEM}
