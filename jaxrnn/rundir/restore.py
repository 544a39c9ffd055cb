"""Reads parameters back from the checkpoints of a run directory."""

import importlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import jax
from flax.traverse_util import unflatten_dict

from jaxrnn.rundir.checkpoint import CheckpointError, CheckpointStore
from jaxrnn.rundir.directory import RunError, data_of, is_complete, read_config
from jaxrnn.rundir.fields import plain, saved_fields
from jaxrnn.rundir.saved import FINISHED, RUNNING, newest_first
from jaxrnn.training.definition import name_parts, text_of

NO_STUDIES = "the folder `experiments` is not on Python's path, so that models and quantities of studies are unknown"
_SHOWN = 10
"""How many runs a message names."""


class Loaded(NamedTuple):
    """A run's config, its parameters as nested dicts of arrays, its name, what it was trained on, and its study."""

    config: SimpleNamespace
    params: dict[str, Any]
    run: str
    data: dict[str, Any]
    study: str | None


def load(
    workdir: str | Path,
    run: str | None = None,
    seed: int | None = None,
    step: int | Literal["best"] | None = None,
    build: Callable[[Any, Mapping[str, Any]], Any] | None = None,
) -> tuple[SimpleNamespace, Any, dict[str, Any]]:
    """A run's config, model and parameters, from its newest checkpoint or from the one at a training step.

    Args:
        workdir: the run directory.
        run: its name as in ``results.json``, e.g. ``seed=2,cell=gru,learning_rate=0.001``, or as much of it as tells it
            from others: ``seed=2,cell=gru``.
        seed: the same as ``run="seed=2"``; both together narrow the choice.
        step: index of the last step taken; or "best", the evaluation with the lowest value on validation data, if the
            study keeps that; the newest saved by default.
        build: ``build(config, data) -> model``, where data is what ``config.json`` says about the data; by default,
            that of the study in `experiments` that the directory names.

    Returns:
        The config, fields as attributes; the model; and the parameters as nested dicts of NumPy arrays, ready for
        ``model.apply({"params": params}, ...)``. Fields that were added to the study later have the values that its
        config in `configs` marks as `Absent`. The model is None where there is no such study, as in directories of
        `jaxrnn.train`, or it has no model.

    Raises:
        RunError: if the directory holds no such run, or several; the message lists those there are.
        CheckpointError: if its checkpoint is damaged.
    """
    found = load_run(workdir, run, seed, step)
    build = build or _builder(found.study)
    model = build(found.config, found.data) if build else None
    return found.config, model, found.params


def load_run(
    workdir: str | Path,
    run: str | None = None,
    seed: int | None = None,
    step: int | Literal["best"] | None = None,
) -> Loaded:
    """As `load`, but without the model, and with the name of the run."""
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
        wanted = (name_parts(run) if run else set()) | (set() if seed is None else {f"seed={seed}"})
        chosen = [one for one in found if wanted <= name_parts(one.run) and step in (None, one.step, one.label)]
        available = _names(chosen or found)
        if not chosen:
            raise RunError(f"{path}: no such run has been saved; there are: {available}")
        if len({one.run for one in chosen}) > 1:
            raise RunError(f"{path}: which run? Give its seed or its name (run); there are: {available}")
        newest = max(chosen, key=lambda one: one.step)
        name, params = newest.run, newest.params()
    swept = {
        field: next((v for v in values if name_parts(f"{field}={text_of(v)}") <= name_parts(name)), None)
        for field, values in record.get("sweep", {}).items()
    }
    fields = _complete_fields(record.get("study"), {**record["config"], **swept})
    return Loaded(SimpleNamespace(**fields), params, name, data_of(record, swept), record.get("study"))


def load_all(workdir: str | Path, part: str = "") -> dict[str, Any]:
    """The newest parameters of each run with this part in its name, by that name; raises as `load`."""
    path = Path(workdir)
    read_config(path)
    if not (path / FINISHED).is_dir():
        raise RunError(f"{path}: no checkpoint has been saved there")
    wanted, newest = name_parts(part) if part else set(), dict[str, _Place]()
    with CheckpointStore(path / RUNNING) as running, CheckpointStore(path / FINISHED) as finished:
        found = _find(running, finished, path)
        for one in found:
            if wanted <= name_parts(one.run) and one.step > newest.get(one.run, one._replace(step=-1)).step:
                newest[one.run] = one
        if not newest:
            raise RunError(f"{path}: no such run has been saved; there are: {_names(found)}")
        return {name: one.params() for name, one in newest.items()}


def load_setting(workdir: str | Path, part: str = "") -> tuple[Loaded, dict[str, Any]]:
    """The first of the runs with this part in their names, and what `load_all` gives for them; raises as `load`.

    Raises:
        RunError: also if the runs are of several settings.
    """
    params = load_all(workdir, part)
    # A name is the seed, and then the setting.
    settings = dict.fromkeys(name.partition(",")[2] for name in params)
    if len(settings) > 1:
        raise RunError(f"{workdir}: which setting? Give --run=SETTING; there are: {'; '.join(settings)}")
    return load_run(workdir, next(iter(params))), params


def _complete_fields(study: str | None, config: dict[str, Any]) -> dict[str, Any]:
    """The config's fields, with those that were added later if the study's config is at hand."""
    try:
        schema = importlib.import_module(f"configs.{study}").Config
    except (ImportError, AttributeError):
        return {name: plain(value) for name, value in config.items()}
    return saved_fields(schema, config)


def _builder(study: str | None) -> Callable[[Any, Mapping[str, Any]], Any] | None:
    """How a study in `experiments` builds its model."""
    name = f"experiments.{study}"
    try:
        build: Callable[[Any, Mapping[str, Any]], Any] | None = importlib.import_module(name).STUDY.model
    except ModuleNotFoundError as error:
        if error.name not in ("experiments", name):
            raise
        if error.name == "experiments" and study is not None:
            warnings.warn(NO_STUDIES, stacklevel=3)
        return None
    return build


class _Place(NamedTuple):
    """Where the parameters of a run after a step are: a checkpoint, and the place along the first axis."""

    run: str
    step: int
    store: CheckpointStore
    number: int
    place: int = 0
    label: Literal["best"] | None = None

    def params(self) -> dict[str, Any]:
        """The parameters as nested dicts of NumPy arrays."""
        arrays, _ = self.store.read(self.number)
        params: dict[str, Any] = jax.tree.map(lambda x: x[self.place], unflatten_dict(arrays, sep="/")["params"])
        return params


def _names(found: list[_Place]) -> str:
    labels = [*dict.fromkeys(f"{one.run} at step {one.step}{' (best)' if one.label else ''}" for one in found)]
    more = [f"and {len(labels) - _SHOWN} more"] if len(labels) > _SHOWN else []
    return "; ".join([*labels[:_SHOWN], *more]) or "none"


def _find(running: CheckpointStore, finished: CheckpointStore, path: Path) -> list[_Place]:
    """What the sound checkpoints hold, the newest first."""
    found: list[_Place] = []
    rejected = []
    for checkpoint in newest_first(running):
        if checkpoint.reason:
            rejected.append(checkpoint.reason)
        if not found:  # The newest knows all that the others know.
            # The parameters by which a run is judged come before those after its last step.
            saved = sorted(checkpoint.meta.saved, key=lambda saved: saved.row is None)
            best = checkpoint.meta.best
            found += [
                _Place(one.run, one.step, finished, one.checkpoint, label="best" if one in best else None)
                for one in saved
                if one.passed is None
            ]
        for i, run in enumerate(checkpoint.meta.places):
            if run and (step := int(checkpoint.arrays["step"][i])):  # The one to take next.
                found.append(_Place(run, step - 1, running, checkpoint.number, i))
    if rejected and not found:
        raise CheckpointError(f"{path}: no checkpoint is sound: {'; '.join(rejected)}")
    return found
