"""Sessions start, resume or ensure studies and trainings in a run directory.

A study is a `jaxrnn.study.study.Study`. That package is a layer above this one, so `study` has no type here.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxrnn.rundir import initial, sweeps
from jaxrnn.rundir.directory import (
    CONFIG,
    Listener,
    RunDirectory,
    RunError,
    data_of,
    is_complete,
    read_config,
    read_results,
)
from jaxrnn.rundir.fields import make_config, marked, saved_fields
from jaxrnn.rundir.provenance import make_record
from jaxrnn.rundir.recorder import DirectoryRecorder
from jaxrnn.rundir.sweeps import Part, Sweep
from jaxrnn.training import loop
from jaxrnn.training.definition import ConfigError, product, text_of
from jaxrnn.training.ledger import Program
from jaxrnn.training.loop import Progress
from jaxrnn.training.placement import make_plan
from jaxrnn.training.signals import catch_signals

_OUT_OF_MEMORY = re.compile("RESOURCE_EXHAUSTED|Out of memory")

Rows = list[dict[str, Any]]


class Hooks(NamedTuple):
    """What the caller of a session is told: each call of the compiled program, and new rows of files."""

    progress: Callable[[Progress], object] | None = None
    listener: Listener | None = None


NO_HOOKS = Hooks()


def start(
    study: Any,
    config: Any,
    path: Path,
    sweep: Sweep | None = None,
    hooks: Hooks = NO_HOOKS,
    weights: initial.Weights | None = None,
) -> Rows:
    """Carries out a study in a directory that is new or holds no runs: a run for each seed and each setting of `sweep`.

    Settings that differ only in scalars that the training takes as arrays share a program. Each setting of the other
    fields is a program of its own; programs are trained one after another. Runs start from `weights`, if there are any;
    the digest of the weights is then the config's `init_from`.

    Returns:
        The rows of ``results.json``.

    Raises:
        ConfigError: the config or the sweep cannot be used; nothing is written.
        Interrupted: by a signal; all is saved.
        RunError, CheckpointError: files cannot be read or written.
    """
    if weights:
        config = make_config(study.config, {**dataclasses.asdict(config), "init_from": weights.digest})
    elif getattr(config, "init_from", "") or "init_from" in (sweep or {}):
        raise ConfigError("init_from", config.init_from, "is a digest, which --init_from=DIR sets")
    return _open_and_run(study, config, sweeps.checked(study, config, sweep or {}), path, hooks, weights=weights)


def resume(
    study: Any,
    path: Path,
    changes: Mapping[str, Any] | None = None,
    sweep: Sweep | None = None,
    hooks: Hooks = NO_HOOKS,
) -> Rows:
    """Goes on with the study in a directory, with its own config; returns and raises as `start`.

    Of the fields in `changes`, those marked as `Growing` may grow, and those marked as `Changeable` may change. A swept
    field may have more values after those that it had.
    """
    record = read_record(path, study.name)
    saved, changes = saved_fields(study.config, record["config"]), changes or {}
    config = make_config(study.config, {**saved, **changes})
    changeable, growing = (marked(study.config, mark) for mark in ("Changeable", "Growing"))
    for name in changes:
        before, now = saved.get(name), getattr(config, name)
        if now != before and name not in changeable and not (name in growing and now > before):
            rule = "may only grow" if name in growing else "--resume keeps"
            raise ConfigError(name, now, f"the run was started with {before!r}, which {rule}")
    sweep = sweeps.checked(study, config, sweeps.grown(record["sweep"], sweep or {}))
    return _open_and_run(study, config, sweep, path, hooks, record)


def ensure(study: Any, config: Any, path: Path, hooks: Hooks = NO_HOOKS) -> Rows:
    """Makes sure that the runs of a config are in a directory: starts them, goes on with them, or finds them complete.

    If the directory has more seeds, all of them are carried out. Returns and raises as `start`; also raises a RunError
    if the directory holds other runs.
    """
    if not (path / CONFIG).exists():
        return start(study, config, path, hooks=hooks)
    if read_record(path, study.name)["sweep"]:
        raise RunError(f"{path}: holds a sweep; take another --workdir")
    saved = dataclasses.asdict(saved_config(study, path))
    changes = {name: value for name, value in dataclasses.asdict(config).items() if value != saved[name]}
    if "num_seeds" in changes and changes["num_seeds"] < saved["num_seeds"]:
        del changes["num_seeds"]
    try:
        return resume(study, path, changes, hooks=hooks)
    except ConfigError as error:
        raise RunError(f"{path}: holds other runs: {error}; take another --workdir") from error


def saved_config(study: Any, path: Path) -> Any:
    """The config of the runs in a directory.

    Raises:
        RunError: there are no runs, or they are of another study.
        ConfigError: this version does not take their config.
    """
    config = make_config(study.config, saved_fields(study.config, read_record(path, study.name)["config"]))
    study.validate(config)
    return config


def read_record(path: Path, *studies: str) -> dict[str, Any]:
    """``config.json`` of runs of one of the studies.

    Raises:
        RunError: there are no runs, or they are of another study.
    """
    record = read_config(path)
    if record.get("study") not in studies:
        raise RunError(f"{path}: holds runs of the study {record.get('study')!r}, not of {studies[0]!r}")
    return record


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python or XLA ran out of memory."""
    is_of_xla = isinstance(error, jax.errors.JaxRuntimeError) and _OUT_OF_MEMORY.search(str(error))
    return isinstance(error, MemoryError) or bool(is_of_xla)


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs, in words; empty if nothing does."""
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} was {before.get(name)!r} and is {now.get(name)!r}" for name in changed)


# --- A study in a directory -------------------------------------------------------------------------------------------


def _open_and_run(
    study: Any,
    config: Any,
    sweep: Sweep,
    path: Path,
    hooks: Hooks,
    saved: dict[str, Any] | None = None,
    weights: initial.Weights | None = None,
) -> Rows:
    """Carries out what is left of the runs, and what follows when all have ended; `saved` is their ``config.json``."""
    now = dataclasses.asdict(config), sweep
    before = saved and (saved_fields(study.config, saved["config"]), sweeps.plain_sweep(saved["sweep"]))
    if now == before and is_complete(path):
        rows = read_results(path)
    else:
        parts, within = sweeps.divide(study, config, sweep)
        record = make_record(study.name, *now, {}, saved) | _describe_data(study, parts, path, saved or {})
        with jax.default_matmul_precision(config.precision):
            run_in = _prepare(study, config, parts, within, hooks, weights, path)
            with RunDirectory(path, None if saved else record) as directory:
                directory.record, directory.listener = record, hooks.listener
                if weights:
                    initial.keep_weights(path, weights)
                try:
                    rows = run_in(directory)
                except Exception as error:
                    if not saved and is_out_of_memory(error):
                        directory.discard()  # So that the same command works with smaller sizes.
                    raise
    study.finish(path, rows)  # Also for complete runs: it may have been interrupted just before this.
    return rows


def _describe_data(study: Any, parts: Sequence[Part], path: Path, saved: Mapping[str, Any]) -> dict[str, Any]:
    """What ``config.json`` says about the data: that of the first part, and that of parts with other data.

    Raises:
        RunError: a part was started on other data.
    """
    data = [(values, study.data(config)) for values, config in parts]
    for values, now in data if saved else ():
        is_new = any(text_of(value) not in map(text_of, saved["sweep"][field]) for field, value in values.items())
        different = "" if is_new else difference(data_of(saved, values), now)
        if different:
            raise RunError(f"{path}: the run was started on other data: {different}")
    others = [{"sweep": values, "data": other} for values, other in data if other != data[0][1]]
    return {"data": data[0][1], **({"other_data": others} if others else {})}


def _prepare(
    study: Any,
    config: Any,
    parts: Sequence[Part],
    within: Sweep,
    hooks: Hooks,
    weights: initial.Weights | None,
    path: Path,
) -> Callable[[RunDirectory], Rows]:
    """Does what needs no directory: builds, and refuses what can be refused before anything is written."""
    if study.build is None:
        return functools.partial(_measure, study, config)
    if config.first_seed + config.num_seeds > 2**31:
        raise ConfigError("first_seed", config.first_seed, "all seeds should stay below 2**31")
    seeds, programs = range(config.first_seed, config.first_seed + config.num_seeds), []
    for values, own in parts:
        with jax.default_matmul_precision(own.precision):
            training = study.build(own)
        if getattr(config, "init_from", ""):
            weights = weights or initial.kept_weights(path, initial.shapes_of_params(training))
            training = initial.start_from(training, weights)
            for seed in seeds:
                weights.of_seed(seed)
        runs = product(seeds, {**{field: [value] for field, value in values.items()}, **within})
        plan = make_plan(training, len(runs), config.runs_per_program, getattr(config, "data_devices", 0))
        programs.append(Program(training, runs, plan, own.precision))
    return functools.partial(train_in, programs, hooks)


def train_in(programs: Sequence[Program], hooks: Hooks, directory: RunDirectory) -> Rows:
    """Trains, or goes on, in an open directory; SIGINT and SIGTERM save and interrupt."""
    files = dict.fromkeys(file for program in programs for file in program.training.callback.files)
    with DirectoryRecorder.open(directory, tuple(files)) as recorder, catch_signals() as interrupted:
        return loop.train(programs, recorder, progress=hooks.progress, interrupted=interrupted)


def _measure(study: Any, config: Any, directory: RunDirectory) -> Rows:
    directory.write_results([], complete=False)
    directory.write_config()
    rows: Rows = study.measure(config, directory)
    directory.write_results(rows, complete=True, indent=None)
    return rows
