"""Reads parameters back from the checkpoints of a run directory."""

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
from flax.traverse_util import unflatten_dict

from jaxrnn.rundir.checkpoint import CheckpointError, CheckpointStore
from jaxrnn.rundir.directory import RunError, is_complete, read_config
from jaxrnn.rundir.fields import saved_fields
from jaxrnn.rundir.saved import FINISHED, RUNNING, newest_first


class Loaded(NamedTuple):
    """A config, parameters as nested dicts of arrays, and the name of the run."""

    config: SimpleNamespace
    params: dict[str, Any]
    run: str


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
        ``model.apply({"params": params}, ...)``. Fields that were added to the study since have the values that its
        config in `configs` marks as `Absent`.

    Raises:
        RunError: if the directory holds no such run, or several; the message lists those there are.
        CheckpointError: if its checkpoint is damaged.
    """
    found = load_run(workdir, run, seed, step)
    return found.config, found.params


def load_run(workdir: str | Path, run: str | None = None, seed: int | None = None, step: int | None = None) -> Loaded:
    """As `load`, and says which run that is."""
    path = Path(workdir)
    record = read_config(path)
    freed = "its checkpoints were freed, or left out of an archive; its results are still there"
    nothing = RunError(f"{path}: {freed if is_complete(path) else 'no checkpoint has been saved there'}")
    if not (path / FINISHED).is_dir():
        raise nothing
    with CheckpointStore(path / RUNNING) as running, CheckpointStore(path / FINISHED) as finished:
        found = _find(running, finished, path)
        if not found:
            raise nothing
        wanted = {*(run.split(",") if run else ()), *(() if seed is None else (f"seed={seed}",))}
        chosen = [one for one in found if wanted <= {*one.run.split(",")} and step in (None, one.step)]
        available = ", ".join(dict.fromkeys(f"{one.run} at step {one.step}" for one in found)) or "none"
        if not chosen:
            raise RunError(f"{path}: no such run has been saved; there are: {available}")
        if len({one.run for one in chosen}) > 1:
            raise RunError(f"{path}: which run? Give its seed or its name (run); there are: {available}")
        name, _, store, number, place = max(chosen, key=lambda one: one.step)
        arrays, _ = store.read(number)
    params = jax.tree.map(lambda x: x[place], unflatten_dict(arrays, sep="/")["params"])
    swept = {
        field: next((v for v in values if f"{field}={v!r}" in name.split(",")), None)
        for field, values in record.get("sweep", {}).items()
    }
    return Loaded(SimpleNamespace(**_complete_fields(record) | swept), params, name)


def _complete_fields(record: dict[str, Any]) -> dict[str, Any]:
    """The config's fields, with those that were added later if the study's config is at hand."""
    try:
        schema = importlib.import_module(f"configs.{record.get('study')}").Config
    except (ImportError, AttributeError):
        return dict(record["config"])
    return saved_fields(schema, record["config"])


class _Place(NamedTuple):
    """Where the parameters of a run after a step are: a checkpoint, and the place along the first axis."""

    run: str
    step: int
    store: CheckpointStore
    number: int
    place: int


def _find(running: CheckpointStore, finished: CheckpointStore, path: Path) -> list[_Place]:
    """What sound checkpoints have; the newest first."""
    found, rejected = [], []
    for checkpoint in newest_first(running):
        if checkpoint.reason:
            rejected.append(checkpoint.reason)
        # The parameters by which a run is judged come before those after its last step.
        saved = sorted(checkpoint.meta.saved, key=lambda saved: saved.row is None)
        found += [_Place(one.run, one.step, finished, one.checkpoint, 0) for one in saved]
        for i, run in enumerate(checkpoint.meta.places):
            if run and (step := int(checkpoint.arrays["step"][i])):  # The one to take next.
                found.append(_Place(run, step - 1, running, checkpoint.number, i))
    if rejected and not found:
        raise CheckpointError(f"{path}: no checkpoint is sound: {'; '.join(rejected)}")
    return found
