"""Trains without a study or a config: a `Training` and its runs, in memory or in a directory."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrnn.arrays import PyTree
from jaxrnn.rundir.checkpoint import shapes_of
from jaxrnn.rundir.directory import CONFIG, METRICS, RunDirectory, RunError, read_config, read_lines
from jaxrnn.rundir.provenance import make_record
from jaxrnn.rundir.read import curves_of
from jaxrnn.rundir.restore import load_run
from jaxrnn.rundir.session import Hooks, difference, train_in
from jaxrnn.training import loop
from jaxrnn.training.definition import Run, Training
from jaxrnn.training.ledger import Program
from jaxrnn.training.loop import Progress
from jaxrnn.training.placement import make_plan
from jaxrnn.training.recording import Recorder


class Trained(NamedTuple):
    """What a training gave.

    Attributes:
        results: the rows that ``results.json`` has.
        metrics: by run, columns of equal length: the steps, and each metric at these steps.
        params: by run, the parameters by which it is judged.
    """

    results: list[dict[str, Any]]
    metrics: dict[str, dict[str, np.ndarray]]
    params: dict[str, PyTree]


def train(
    training: Training,
    runs: Sequence[Run | int],
    directory: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Trained:
    """Trains all runs, placed on the devices as is fastest.

    Args:
        training: what is trained.
        runs: seeds, or runs with values of their own for fields in `training.hyper`.
        directory: where the runs are recorded and go on if they were interrupted; by default they are not recorded.
        progress: called after each call of the compiled program.

    Raises:
        Interrupted: SIGINT or SIGTERM, if there is a directory; all is saved.
        RunError, CheckpointError: the directory holds another training, or cannot be read or written. Trainings are
            told apart by their sizes, hyperparameters and shapes; nobody can compare their functions.
        ValueError: a run has a value for a field that the training does not have.
    """
    all_runs = [run if isinstance(run, Run) else Run(run) for run in runs]
    for run in all_runs:
        if unknown := run.values.keys() - training.hyper.keys():
            raise ValueError(f"run {run.name}: {', '.join(unknown)} is not in training.hyper")
    program = Program(training, all_runs, make_plan(training, len(all_runs)))
    if directory is None:
        memory = Recorder()
        results = loop.train([program], memory, progress=progress)
        rows = memory.files[METRICS]
        params = {name: jax.tree.map(lambda x: np.asarray(x[0]), tree) for name, tree in memory.params.items()}
    else:
        path, record = Path(directory), make_record(None, _describe(training), {}, {})
        is_new = not (path / CONFIG).exists()
        saved = record if is_new else read_config(path)
        if different := difference(saved["config"], record["config"]) or saved.get("study"):
            raise RunError(f"{path}: holds another training: {different}")
        with RunDirectory(path, record if is_new else None) as opened:
            results = train_in([program], Hooks(progress), opened)
        rows = read_lines(path / METRICS)[0]
        params = {run.name: load_run(path, run.name).params for run in all_runs}
    curves = curves_of(rows)
    return Trained(results, {run: {"step": curve.steps, **curve.metrics} for run, curve in curves.items()}, params)


def _describe(training: Training) -> dict[str, Any]:
    """By what a training is known again: its sizes, the shapes of its arrays, and the precision of the moment."""
    sizes = {name: getattr(training, name) for name in ("max_steps", "eval_every", "stop_every", "batch_size")}
    arrays = {"params": jax.eval_shape(training.init, jax.random.key(0)), "data": jax.eval_shape(lambda: training.data)}
    of_jax: Any = jax.config  # Its type does not have what it holds.
    precision = of_jax.jax_default_matmul_precision
    return {**sizes, "hyper": dict(training.hyper), **shapes_of(arrays), "precision": precision}
