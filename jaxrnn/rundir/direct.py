"""Trains without a study or a config: a `Training` and its runs, in memory or in a directory."""

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.arrays import PyTree
from jaxrnn.rundir.checkpoint import flatten, shapes_of
from jaxrnn.rundir.directory import CONFIG, METRICS, RunDirectory, RunError, read_config, read_lines
from jaxrnn.rundir.provenance import make_record
from jaxrnn.rundir.read import curves_of
from jaxrnn.rundir.restore import load_run
from jaxrnn.rundir.session import Hooks, difference, train_in
from jaxrnn.training import loop
from jaxrnn.training.cores import keep_programs, use_all_cores
from jaxrnn.training.definition import Run, Training
from jaxrnn.training.display import show_progress
from jaxrnn.training.ledger import Program
from jaxrnn.training.loop import Progress
from jaxrnn.training.placement import make_plan
from jaxrnn.training.recording import Recorder
from jaxrnn.training.signals import Interrupted
from jaxrnn.training.trainer import make_trainer


class Trained(NamedTuple):
    """What a training gave.

    Attributes:
        results: the columns of ``results.json``, arrays ``[S, ...]`` in the order of the runs; NaN where there is none.
        metrics: by run, columns of equal length: the steps, and each metric at these steps.
        params: by run, the parameters by which it is judged.
    """

    results: dict[str, np.ndarray]
    metrics: dict[str, dict[str, np.ndarray]]
    params: dict[str, PyTree]


def train(
    training: Training,
    runs: Sequence[Run | int],
    directory: str | Path | None = None,
    progress: Callable[[Progress], object] | bool = False,
) -> Trained:
    """Trains all runs, placed on the devices in the fastest way, with JAX's current matrix precision.

    If JAX has not started yet, each core of a CPU becomes a device (see `use_all_cores`). Compiled programs are kept in
    ``~/.cache/jaxrnn``, unless JAX has been told another folder. In another thread than the main one, no signal
    interrupts the training.

    Args:
        training: what is trained.
        runs: seeds, or runs with values of their own for fields in `training.hyper`.
        directory: where the runs are recorded, and go on if they were interrupted; by default they are not recorded.
            There may be more runs, and more steps, than last time.
        progress: True shows a line that is updated on a terminal or in a notebook, and elsewhere new lines: the
            first after some seconds, and later one a minute. A function is called at the beginning, and after each
            call of the compiled program.

    Raises:
        Interrupted: SIGINT or SIGTERM, if there is a directory; all is saved.
        RunError, CheckpointError: the directory holds another training, or cannot be read or written. Trainings are
            told apart by sizes, hyperparameters, shapes, data and, with the same versions and devices, by what their
            functions compute; not by `batches` and `callback`, which cannot be compared.
        ValueError: there is no run, or one twice, or a run has a value for a field that the training does not have.
    """
    use_all_cores()
    keep_programs()
    all_runs = [run if isinstance(run, Run) else Run(run) for run in runs]
    if not all_runs or len({run.name for run in all_runs}) < len(all_runs):
        raise ValueError(f"runs should be at least one, all of them different, not {[run.name for run in all_runs]}")
    for run in all_runs:
        if unknown := run.values.keys() - training.hyper.keys():
            raise ValueError(f"run {run.name}: {', '.join(unknown)} is not in training.hyper")
    with contextlib.ExitStack() as stack:
        report = stack.enter_context(show_progress()) if progress is True else progress or None
        if directory is None:
            memory = Recorder()
            results = loop.train([_program(training, all_runs)], memory, progress=report)
            rows = memory.files[METRICS]
            params = {run.name: jax.tree.map(lambda x: np.asarray(x[0]), memory.params[run.name]) for run in all_runs}
        else:
            results = _train_in(training, all_runs, Path(directory), report)
            rows = read_lines(Path(directory) / METRICS)[0]
            params = {run.name: load_run(directory, run.name).params for run in all_runs}
    columns = {name: _column([row[name] for row in results]) for name in results[0]}
    curves = curves_of(rows)
    metrics = {run.name: {"step": curves[run.name].steps, **curves[run.name].metrics} for run in all_runs}
    return Trained(columns, metrics, params)


def _program(training: Training, runs: Sequence[Run]) -> Program:
    return Program(training, runs, make_plan(training, len(runs)))


def _column(values: Sequence[Any]) -> np.ndarray:
    shape = next((np.shape(value) for value in values if value is not None), ())
    column = np.array([np.full(shape, np.nan) if value is None else value for value in values])
    return column.astype(np.float64) if column.dtype == object else column


# --- In a directory ---------------------------------------------------------------------------------------------------


def _train_in(
    training: Training, runs: Sequence[Run], path: Path, progress: Callable[[Progress], object] | None
) -> list[dict[str, Any]]:
    """Begins, or goes on with what is in the directory."""
    saved = read_config(path) if (path / CONFIG).exists() else None
    record = make_record(None, _describe(training, runs), {}, {}, saved)
    if saved and (reason := _other_training(saved, record)):
        raise RunError(f"{path}: holds another training: {reason}; take another directory")
    with RunDirectory(path, None if saved else record) as opened:
        opened.record = record
        try:
            return train_in([_program(training, runs)], Hooks(progress), opened)
        except Interrupted:
            raise Interrupted(f"all is saved in {path}; the same call goes on") from None


def _describe(training: Training, runs: Sequence[Run]) -> dict[str, Any]:
    """What a training is recognized by, and how far it goes."""
    sizes = {name: getattr(training, name) for name in ("max_steps", "eval_every", "stop_every", "batch_size")}
    arrays = {"params": jax.eval_shape(training.init, jax.random.key(0)), "data": jax.eval_shape(lambda: training.data)}
    of_jax: Any = jax.config  # Its type does not declare what it holds.
    return {
        **sizes,
        "hyper": dict(training.hyper),
        **shapes_of(arrays),
        "precision": of_jax.jax_default_matmul_precision,
        "digest of data": _digest(*(array.tobytes() for array in flatten(training.data).values())),
        "digest of functions": _digest(*_programs(training, runs[0].seed)),
        "runs": [run.name for run in runs],
    }


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def _programs(training: Training, seed: int) -> list[bytes]:
    """What the functions compute, as JAX hands it to the compiler, for any number of steps."""
    trainer = make_trainer(training._replace(max_steps=0, chunk_steps=1))
    data, seeds = jax.eval_shape(lambda: training.data), jax.ShapeDtypeStruct((), jnp.int32)
    hyper = dict.fromkeys(training.hyper, jax.ShapeDtypeStruct((), jnp.float32))
    state = jax.eval_shape(trainer.init, data, seeds, hyper)
    batches: PyTree = ()
    if training.batches:
        batches = jax.tree.map(lambda x: np.stack([x, x]), training.batches(seed, 0))
    lowered = (
        jax.jit(trainer.init).lower(data, seeds, hyper),
        jax.jit(trainer.chunk).lower(data, state, seeds, batches),
        jax.jit(trainer.test).lower(data, state),
    )
    return [program.as_text().encode() for program in lowered]


def _other_training(saved: dict[str, Any], record: dict[str, Any]) -> str:
    """Why a directory's runs are not the beginning of these runs; empty if they are."""
    if saved.get("study"):
        return f"runs of the study {saved['study']!r}"
    before, now = dict(saved["config"]), dict(record["config"])
    runs = now.pop("runs")
    if missing := [name for name in before.pop("runs", ()) if name not in runs]:
        return f"runs that are not asked for, {', '.join(missing)}"
    if before["max_steps"] < now["max_steps"]:
        del before["max_steps"], now["max_steps"]
    if any(saved.get(name) != record[name] for name in ("versions", "commit", "device")):
        # Another version compiles the same functions to something else.
        before["digest of functions"] = now["digest of functions"]
    return difference(before, now)
