"""Reads parameters back from the checkpoints of a run directory."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax

from jaxrnn.arrays import PyTree
from jaxrnn.rundir.checkpoint import CheckpointError, CheckpointStore, subtree
from jaxrnn.rundir.directory import RunDirectory, RunError, read_config
from jaxrnn.rundir.saved import FINISHED, RUNNING, Meta, Saved, newest_first


def deposit(directory: RunDirectory, run: str, params: PyTree) -> None:
    """Saves parameters that were not trained here, for `load_run` to find under the name `run`, at step 0.

    Raises:
        CheckpointError: if they could not be written.
    """
    with CheckpointStore(directory.path / RUNNING) as running, CheckpointStore(directory.path / FINISHED) as finished:
        finished.save(0, {"params": jax.tree.map(lambda x: x[None], params)}, {"run": run})
        finished.wait()
        running.save(0, {}, Meta(saved=[Saved(run=run, step=0, checkpoint=0)]).model_dump())
        running.wait()


class Loaded(NamedTuple):
    """A config, parameters as nested dicts of arrays, and the run and the step that they belong to."""

    config: SimpleNamespace
    params: dict[str, Any]
    run: str
    step: int


def load(
    workdir: str | Path, run: str | None = None, seed: int | None = None, step: int | None = None
) -> tuple[SimpleNamespace, dict[str, Any]]:
    """A run's config and parameters, from its newest checkpoint or from the one at a training step.

    Args:
        workdir: the run directory.
        run: its name as in ``results.json``, e.g. ``seed=2,learning_rate=0.001``, or as much of it as tells it from
            others: ``learning_rate=0.001``.
        seed: the same as ``run="seed=2"``; both together narrow the choice.
        step: index of the last step taken; the newest saved by default.

    Returns:
        The config, fields as attributes, and the parameters as nested dicts of NumPy arrays, ready for
        ``model.apply({"params": params}, ...)``.

    Raises:
        RunError: if the directory holds no such run, or several; the message lists those there are.
        CheckpointError: if its checkpoint is damaged.
    """
    found = load_run(workdir, run, seed, step)
    return found.config, found.params


def load_run(workdir: str | Path, run: str | None = None, seed: int | None = None, step: int | None = None) -> Loaded:
    """As `load`, and says which run and step that is."""
    path = Path(workdir)
    record = read_config(path)
    config = SimpleNamespace(**record["config"])
    if not (path / FINISHED).is_dir():
        raise RunError(f"{path}: no checkpoint has been saved there")
    with CheckpointStore(path / RUNNING) as running, CheckpointStore(path / FINISHED) as finished:
        found = _find(running, finished, path)
        wanted = {*(run.split(",") if run else ()), *(() if seed is None else (f"seed={seed}",))}
        chosen = {at: where for at, where in found.items() if wanted <= {*at[0].split(",")} and step in (None, at[1])}
        available = ", ".join(f"{name} at step {step}" for name, step in found) or "none"
        if not chosen:
            raise RunError(f"{path}: no such run has been saved; there are: {available}")
        if len({name for name, _ in chosen}) > 1:
            raise RunError(f"{path}: which run? Give its seed or its name (run); there are: {available}")
        (name, last), (store, number, place) = max(chosen.items(), key=lambda one: one[0][1])
        arrays, _ = store.read(number)
    params = jax.tree.map(lambda x: x[place], subtree(arrays, "params"))
    for field, values in record.get("sweep", {}).items():
        vars(config)[field] = next((v for v in values if f"{field}={v!r}" in name.split(",")), None)
    return Loaded(config, params, name, last)


def _find(
    running: CheckpointStore, finished: CheckpointStore, path: Path
) -> dict[tuple[str, int], tuple[CheckpointStore, int, int]]:
    """By run and step, where sound checkpoints have parameters: store, number and place; the newest first."""
    found: dict[tuple[str, int], tuple[CheckpointStore, int, int]] = {}
    rejected = []
    for checkpoint in newest_first(running):
        if isinstance(checkpoint, CheckpointError):
            rejected.append(str(checkpoint))
            continue
        meta = checkpoint.meta
        # The parameters by which a run is judged come before those after its last step.
        for saved in sorted(meta.saved, key=lambda saved: saved.row is None):
            found.setdefault((saved.run, saved.step), (finished, saved.checkpoint, 0))
        for i, run in enumerate(meta.places):
            if run and (step := int(checkpoint.arrays["step"][i])):  # The one to take next.
                found.setdefault((run, step - 1), (running, checkpoint.number, i))
    if rejected and not found:
        raise CheckpointError(f"{path}: no checkpoint is sound: {'; '.join(rejected)}")
    return found
