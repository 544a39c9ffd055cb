"""Run directories as a report reads them: what is damaged or unfinished becomes a remark, never an error."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from jaxrnn.rundir.directory import CONFIG, METRICS, RESULTS, RunError, data_of, read_config
from jaxrnn.rundir.directory import read_lines as read_lines


@dataclass(frozen=True, eq=False)
class Curve:
    """One run's evaluations: `[k]` steps, and by name `[k]` float64 metrics (NaN where the file has null)."""

    steps: NDArray[np.int64]
    metrics: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Run:
    """One seed under one setting.

    Attributes:
        swept: its values of the swept fields.
        path: the run directory.
        data: what it was trained on.
        result: its row of ``results.json``; None while it is in training.
        curve: its evaluations; None where ``metrics.jsonl`` has none.
    """

    name: str
    seed: int
    swept: Mapping[str, Any]
    path: Path
    result: Mapping[str, Any] | None = None
    curve: Curve | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def curve_in(self, file: str) -> Curve | None:
        """What a callback wrote about the run into another ``.jsonl`` file of its directory."""
        mine = [row for row in read_lines(self.path / file)[0] if row["run"] == self.name]
        return curves_of(mine, drop=("seed", *self.swept)).get(self.name)


@dataclass(frozen=True, eq=False)
class Directory:
    """A run directory.

    Attributes:
        study: its name; empty where there is none, or ``config.json`` could not be read.
        origins: the versions and device that the runs were made with, one line for each combination.
        complete: whether all runs have ended.
        runs: those that have ended, then those in training.
        remarks: what a reader has to know: what is damaged, missing or unfinished.
    """

    path: Path
    study: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    origins: Sequence[str] = ()
    complete: bool = False
    runs: Sequence[Run] = ()
    remarks: Sequence[str] = ()


class _Result(BaseModel, extra="allow"):
    run: str
    seed: int


class _ResultsFile(BaseModel):
    complete: bool
    runs: list[_Result]


def read_directories(root: Path) -> list[Directory]:
    """Every run directory at or below `root`, in the order of their paths."""
    return [read_directory(path) for path in find_directories(root)]


def find_directories(root: Path) -> list[Path]:
    """Every directory at or below `root` that has a ``config.json``, in the order of their paths."""
    found = []
    for directory, subdirectories, files in os.walk(root):
        if CONFIG in files:
            found.append(Path(directory))
            subdirectories.clear()  # Nothing inside a run directory is searched.
    return sorted(found)


def read_directory(path: Path) -> Directory:
    """One run directory."""
    try:
        record = read_config(path)
    except RunError as error:
        return Directory(path, remarks=[f"{str(error).removeprefix(f'{path}: ')}: left out"])
    origins = [_origin(one) for one in (record, *record.get("earlier", ()))]
    directory = Directory(path, record.get("study") or "", record["config"], origins)
    results = _ResultsFile(complete=False, runs=[])
    try:
        results = _ResultsFile.model_validate_json((path / RESULTS).read_bytes())
    except FileNotFoundError:
        pass
    except (OSError, ValidationError) as error:
        return replace(directory, remarks=[f"{RESULTS} is damaged ({describe(error)}): left out"])
    rows, remarks = read_lines(path / METRICS)
    if not directory.study:
        remarks.append("belongs to no study (`jaxrnn.train` wrote it): left out")
    sweep = record.get("sweep", {})
    curves = curves_of(rows, drop=("seed", *sweep))
    ended = {result.run: result.model_dump() for result in results.runs}
    without = [name for name in ended if name not in curves]
    if without:
        remarks.append(f"{len(without)} runs have no curve, the first is {without[0]}")
    if not results.complete:
        remarks.append(f"still in training, with {len(ended)} runs ended: not judged")
    in_training = {row["run"]: row for row in reversed(rows) if row["run"] not in ended}
    runs = []
    for name, row in {**ended, **in_training}.items():
        swept = {one: row.get(one) for one in sweep}
        of_run = ended.get(name), curves.get(name), data_of(record, swept)
        runs.append(Run(name, row.get("seed", 0), swept, path, *of_run))
    return replace(directory, complete=results.complete, runs=runs, remarks=remarks)


def _origin(record: Mapping[str, Any]) -> str:
    versions, device = record.get("versions", {}), record.get("device", {})
    commit = f" ({record['commit']})" if record.get("commit") else ""
    made_on = f"{device.get('count', '?')} x {device.get('kind', 'an unknown device')}"
    return f"jaxrnn {versions.get('jaxrnn', '?')}{commit}, jax {versions.get('jax', '?')}, {made_on}"


def read_curves(path: Path, drop: Sequence[str] = ("seed",)) -> dict[str, Curve]:
    """The curves by run in a file such as ``metrics.jsonl``, without the keys `drop`."""
    return curves_of(read_lines(path)[0], drop)


def curves_of(rows: Sequence[Mapping[str, Any]], drop: Sequence[str] = ("seed",)) -> dict[str, Curve]:
    """The curves by run in rows of evaluations, without the keys `drop`."""
    by_run: dict[str, dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        by_run.setdefault(row["run"], {})[row["step"]] = row
    curves = {}
    for run, by_step in by_run.items():
        steps = sorted(by_step)
        names = dict.fromkeys(name for step in steps for name in by_step[step] if name not in ("run", "step", *drop))
        metrics = {name: np.array([by_step[step].get(name) for step in steps], np.float64) for name in names}
        curves[run] = Curve(np.array(steps, np.int64), metrics)
    return curves


def describe(error: Exception) -> str:
    """An error of reading or checking a file, in one line: the first thing that is wrong, and where."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg']}" if where else first["msg"]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())
