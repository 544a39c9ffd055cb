"""Sessions: studies and trainings that are started, resumed and made sure of in a run directory."""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrnn.rundir.directory import FORMAT, Rows, RunDirectory, RunError, is_complete, read_config, read_results
from jaxrnn.rundir.fields import make_config, marked, saved_fields
from jaxrnn.rundir.provenance import provenance
from jaxrnn.rundir.recorder import DirectoryRecorder
from jaxrnn.training import loop
from jaxrnn.training.definition import ConfigError, Run, Training, product
from jaxrnn.training.loop import Progress
from jaxrnn.training.placement import Plan, make_plan
from jaxrnn.training.signals import catch_signals

_ORIGIN = ("host", "versions", "commit", "device")
_OUT_OF_MEMORY = re.compile("RESOURCE_EXHAUSTED|Out of memory")

Sweep = Mapping[str, Sequence[float]]


Study = Any
"""A `jaxrnn.study.study.Study`, which is a room above: its name, config, build, measure, check, data and finish."""


class Caller(NamedTuple):
    """Who started a session.

    Attributes:
        progress: called after each call of the compiled program.
        listener: called with the name of a ``.jsonl`` file and its new rows.
        command: the arguments with which the process was started, for ``config.json``.
    """

    progress: Callable[[Progress], None] | None = None
    listener: Callable[[str, Rows], None] | None = None
    command: Sequence[str] = ()


NO_CALLER = Caller()


def start(
    study: Study, config: Any, path: Path, sweep: Sweep | None = None, caller: Caller = NO_CALLER
) -> list[dict[str, Any]]:
    """Carries out a study in a directory that holds no runs.

    Args:
        study: what is done.
        config: its config.
        path: the directory, which is created.
        sweep: values of fields that differ between runs; there is a run for each seed and each setting.
        caller: who started it.

    Returns:
        The rows of ``results.json``.

    Raises:
        ConfigError: the config or the sweep cannot be used; nothing is written.
        Interrupted: by a signal; all is saved.
        RunError, CheckpointError: files cannot be read or written.
    """
    sweep = _check(study, config, sweep or {})
    return _carry_out(study, config, sweep, path, _record(study, config, sweep, caller), caller, is_new=True)


def resume(
    study: Study,
    path: Path,
    changes: Mapping[str, Any] | None = None,
    sweep: Sweep | None = None,
    caller: Caller = NO_CALLER,
) -> list[dict[str, Any]]:
    """Goes on with the study in a directory, with its own config.

    Args:
        study: what is done.
        path: the directory.
        changes: fields that have other values now: those marked as `Growing` may grow, as `Changeable` may change.
        sweep: the values of a swept field, behind which there may be more now.
        caller: who started it.

    Returns, raises:
        As in `start`; a ConfigError for what may not change.
    """
    record = read_record(path, study.name)
    saved, changes = saved_fields(study.config, record["config"]), changes or {}
    config = make_config(study.config, {**saved, **changes})
    for name in changes:
        _check_change(study.config, name, saved.get(name), getattr(config, name))
    sweep = _check(study, config, _grown(record["sweep"], sweep or {}))
    return _go_on(study, config, sweep, path, record, caller)


def ensure(study: Study, config: Any, path: Path, caller: Caller = NO_CALLER) -> list[dict[str, Any]]:
    """Sees to it that the runs of a config are in a directory: starts them, goes on with them, or finds them complete.

    Runs that are there keep how they were placed, and where there are more seeds, all of them are carried out.

    Returns:
        As in `start`.

    Raises:
        RunError: the directory holds other runs, and not these with fewer steps or seeds.
    """
    if not (path / "config.json").exists():
        return start(study, config, path, caller=caller)
    record = read_record(path, study.name)
    saved = make_config(study.config, saved_fields(study.config, record["config"]))
    arranged = marked(study.config, "Bookkeeping").keys() & marked(study.config, "Changeable").keys()
    config = dataclasses.replace(config, **{name: getattr(saved, name) for name in arranged})
    if hasattr(saved, "num_seeds"):
        config = dataclasses.replace(config, num_seeds=max(config.num_seeds, saved.num_seeds))
    study.check(config)
    before, now = dataclasses.asdict(saved), dataclasses.asdict(config)
    changed = {name for name, value in now.items() if before[name] != value}
    grows = changed <= marked(study.config, "Growing").keys() and all(now[name] > before[name] for name in changed)
    if record["sweep"] or not grows:
        difference = _difference(before, now) or "has a sweep"
        raise RunError(f"{path}: holds a run with another config: {difference}; take another --workdir")
    return _go_on(study, config, {}, path, record, caller)


def saved_config(study: Study, path: Path) -> Any:
    """The config of the runs in a directory.

    Raises:
        RunError: there are none, or of another study.
        ConfigError: this version does not take their config.
    """
    config = make_config(study.config, saved_fields(study.config, read_record(path, study.name)["config"]))
    study.check(config)
    return config


def read_record(path: Path, *studies: str) -> dict[str, Any]:
    """``config.json`` of runs of one of the studies.

    Raises:
        RunError: there are none, or of another study.
    """
    record = read_config(path)
    if record.get("study") not in studies:
        raise RunError(f"{path}: holds runs of the study {record.get('study')!r}, not of {studies[0]!r}")
    return record


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python or XLA ran out of memory."""
    is_of_xla = isinstance(error, jax.errors.JaxRuntimeError) and _OUT_OF_MEMORY.search(str(error))
    return isinstance(error, MemoryError) or bool(is_of_xla)


# --- A study in a directory -------------------------------------------------------------------------------------------


def _go_on(
    study: Study, config: Any, sweep: Sweep, path: Path, saved: dict[str, Any], caller: Caller
) -> list[dict[str, Any]]:
    before = saved_fields(study.config, saved["config"]), saved["sweep"]
    if is_complete(path) and (dataclasses.asdict(config), sweep) == before:
        rows = read_results(path)
        study.finish(path, rows)  # Anew, as it may have been interrupted just before this.
        return rows
    record = _record(study, config, sweep, caller)
    if saved["data"] != record["data"]:
        raise RunError(f"{path}: the run was started on other data: {_difference(saved['data'], record['data'])}")
    return _carry_out(study, config, sweep, path, {**record, **_origin(saved, record)}, caller, is_new=False)


def _carry_out(
    study: Study, config: Any, sweep: Sweep, path: Path, record: dict[str, Any], caller: Caller, *, is_new: bool
) -> list[dict[str, Any]]:
    with jax.default_matmul_precision(config.precision):
        carry_out = _prepare(study, config, sweep, caller)
        with RunDirectory.create(path, record) if is_new else RunDirectory.resume(path) as directory:
            directory.record, directory.listener = record, caller.listener
            try:
                rows = carry_out(directory)
            except Exception as error:
                if is_new and is_out_of_memory(error):
                    directory.discard()  # So that the same command works with smaller sizes.
                raise
    study.finish(path, rows)
    return rows


def _prepare(study: Study, config: Any, sweep: Sweep, caller: Caller) -> Callable[[RunDirectory], list[dict[str, Any]]]:
    """What needs no directory: building, and what can be refused before anything is written."""
    if study.build is None:
        for field in sweep:
            raise ConfigError(field, sweep[field], "cannot be swept: this study trains nothing")
        return functools.partial(_measure, study, config)
    if config.first_seed + config.num_seeds > 2**31:
        raise ConfigError("first_seed", config.first_seed, "all seeds should stay below 2**31")
    training = study.build(config)
    for field in sweep:
        if field not in training.hyper:
            raise ConfigError(field, sweep[field], f"cannot be swept; {', '.join(training.hyper)} can")
        if len({np.float32(value) for value in sweep[field]}) < len(sweep[field]):
            raise ConfigError(field, sweep[field], "has the same value twice")
    runs = product(range(config.first_seed, config.first_seed + config.num_seeds), sweep)
    plan = make_plan(training, len(runs), config.runs_per_program, config.data_devices)
    return functools.partial(train_in, training, runs, plan, caller)


def train_in(
    training: Training, runs: Sequence[Run], plan: Plan, caller: Caller, directory: RunDirectory
) -> list[dict[str, Any]]:
    """Trains, or goes on, in an open directory; SIGINT and SIGTERM save."""
    with DirectoryRecorder.open(directory, training.callback.files) as recorder, catch_signals() as interrupted:
        return loop.train(training, runs, plan, recorder, progress=caller.progress, interrupted=interrupted)


def _measure(study: Study, config: Any, directory: RunDirectory) -> list[dict[str, Any]]:
    directory.write_results([], complete=False)
    directory.write_config()
    rows: list[dict[str, Any]] = study.measure(config, directory)
    directory.write_results(rows, complete=True, indent=None)
    return rows


def _check(study: Study, config: Any, sweep: Sweep) -> dict[str, list[float]]:
    """The sweep with plain values; refuses configs that no training can have."""
    study.check(config)
    checked = {}
    for field, values in sweep.items():
        configs = [make_config(study.config, {**dataclasses.asdict(config), field: value}) for value in values]
        checked[field] = [getattr(c, field) for c in configs]
    return checked


def _check_change(schema: type[Any], name: str, before: Any, now: Any) -> None:
    if now == before or name in marked(schema, "Changeable"):
        return
    if name not in marked(schema, "Growing"):
        raise ConfigError(name, now, f"the run was started with {before!r}, which --resume keeps")
    if now < before:
        raise ConfigError(name, now, f"the run was started with {before!r}, which may only grow")


def _grown(saved: Sweep, given: Sweep) -> Sweep:
    """The values of each swept field, and those that were added."""
    for field, values in given.items():
        before = list(saved.get(field, ()))
        if not before or list(values)[: len(before)] != before:
            raise ConfigError(
                field, values, f"the sweep was started with {before or 'no values'}, and may only get more behind"
            )
    return {**saved, **given}


def _record(study: Study, config: Any, sweep: Sweep, caller: Caller) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "study": study.name,
        "config": dataclasses.asdict(config),
        "sweep": dict(sweep),
        "data": study.data(config),
        **provenance(caller.command),
        "precision": config.precision,
    }


def _origin(saved: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What ``config.json`` says of a resumed run besides: its first start, and "earlier" where it was."""
    then, here = ({name: one.get(name) for name in _ORIGIN} for one in (saved, now))
    earlier = saved.get("earlier", [])
    if then not in (here, *earlier):
        earlier = [*earlier, then]
    return {"command": saved["command"], "start": saved["start"], **({"earlier": earlier} if earlier else {})}


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} was {before.get(name)!r} and is {now.get(name)!r}" for name in changed)
