"""Forecasts of what comes next, by the trained models of a run directory."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from configs.forecast import Config
from experiments.forecast.build import build_model, features, pose
from jaxrnn.data import windows
from jaxrnn.data.files import DataError, read_if_there
from jaxrnn.data.signals import read_signals
from jaxrnn.nn.forecasters import shifts_of
from jaxrnn.rundir.directory import RunError
from jaxrnn.rundir.fields import make_config, saved_fields
from jaxrnn.rundir.restore import load_setting
from jaxrnn.rundir.session import read_record


def forecast_next(workdir: Path, runs: str | None, file: Path) -> list[dict[str, Any]]:
    """By node, forecasts of the rows that follow the last row of a file of signals: mean and spread over seeds.

    Args:
        workdir: a directory of runs of experiments.forecast.
        runs: a part of the names of the runs to take; by default all.
        file: as in `read_signals`, with a column for each node of the graph, in any order.

    Raises:
        RunError: as in `load_setting`, or the data have changed.
        CheckpointError, DataError: as in `load_setting` and `read_signals`, or other nodes, or too few rows.
    """
    read_record(workdir, "forecast")
    found, params = load_setting(workdir, runs or "")
    config = make_config(Config, saved_fields(Config, vars(found.config)))
    problem = pose(config)
    if problem.signals.sha256 != found.data["sha256"]:
        raise RunError(f"{workdir}: the data set {config.dataset} is not what it was when the runs were trained")
    values = _read(file, problem.signals.names, problem.protocol.input_length)
    # A value that is missing at the beginning becomes the mean of the training part.
    means = windows.node_means(problem.signals.values[: problem.parts.train_rows])[None]
    gapless = windows.filled(np.concatenate([means, values]), 1)[1:]
    recent = problem._replace(
        values=gapless, seen=~np.isnan(values) if not problem.seen.all() else np.ones_like(values, bool)
    )
    xs = features(recent)[-problem.protocol.input_length :, :, None]
    model, shifts = build_model(config), shifts_of(config.model, problem.signals.adjacency, config.num_taps)
    with jax.default_matmul_precision(config.precision):
        apply = jax.jit(lambda params: model.apply({"params": params}, xs, shifts)[..., 0])
        scaled = np.stack([np.asarray(apply(one)) for one in params.values()])
    forecasts = scaled * problem.scale.factor + problem.scale.offset
    spread = forecasts.std(0, ddof=1) if len(forecasts) > 1 else np.zeros(forecasts.shape[1:])
    return [
        {
            "node": name,
            "forecast": [float(f"{x:.6g}") for x in forecasts[:, :, i].mean(0)],
            "spread": [float(f"{x:.4g}") for x in spread[:, i]],
            "runs": len(forecasts),
        }
        for i, name in enumerate(problem.signals.names)
    ]


def _read(file: Path, names: tuple[str, ...], length: int) -> np.ndarray:
    """The values of the nodes with these names, `[time, N]`."""
    if (raw := read_if_there(file)) is None:
        raise DataError(f"there is no {file.absolute()}")
    columns, values = read_signals(file, raw)
    place_of = {name: place for place, name in enumerate(columns)}
    if other := [
        *(f"no {name!r}" for name in names if name not in place_of),
        *(f"{column!r}" for column in place_of.keys() - {*names}),
    ]:
        raise DataError(f"{file}, line 1: its columns are not the nodes that the runs know: {', '.join(other[:5])}")
    if len(values) < length:
        raise DataError(f"{file}: has {len(values)} rows, but the models read {length}")
    return values[:, [place_of[name] for name in names]]
