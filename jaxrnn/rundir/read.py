"""Run directories as a report reads them: what is damaged or unfinished is said in remarks, and never raises."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

FORMAT = 2
"""Of ``config.json`` and the files beside it; older ones are not read."""


@dataclass(frozen=True, eq=False)
class Curve:
    """One run's evaluations: `[k]` steps, and by name `[k]` float64 metrics (NaN where the file has null)."""

    steps: NDArray[np.int64]
    metrics: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Run:
    """One seed under one setting.

    Attributes:
        name: as in the files.
        seed: its seed.
        swept: its values of the swept fields.
        path: the run directory.
        result: its row of ``results.json``; None while it is in training.
        curve: its evaluations; None where ``metrics.jsonl`` has no whole curve of it.
    """

    name: str
    seed: int
    swept: Mapping[str, Any]
    path: Path
    result: Mapping[str, Any] | None = None
    curve: Curve | None = None

    def curve_in(self, file: str) -> Curve | None:
        """What a callback wrote of the run into another ``.jsonl`` file of its directory."""
        return read_curves(self.path / file)[0].get(self.name)


@dataclass(frozen=True, eq=False)
class Directory:
    """A run directory.

    Attributes:
        path: the directory.
        study: its name; empty where there is none, or ``config.json`` could not be read.
        config: the whole config.
        data: what the runs were trained on.
        origins: versions and device, as one line for each that the runs were made with.
        complete: whether all runs have ended.
        runs: those that have ended, then those in training.
        remarks: what a reader has to know: what is damaged, missing or unfinished.
    """

    path: Path
    study: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    origins: Sequence[str] = ()
    complete: bool = False
    runs: Sequence[Run] = ()
    remarks: Sequence[str] = ()


class _Origin(BaseModel):
    versions: dict[str, str] = {}
    commit: str | None = None
    device: dict[str, Any] = {}

    def __str__(self) -> str:
        commit = f" ({self.commit})" if self.commit else ""
        device = f"{self.device.get('count', '?')} x {self.device.get('kind', 'an unknown device')}"
        return f"jaxrnn {self.versions.get('jaxrnn', '?')}{commit}, jax {self.versions.get('jax', '?')}, {device}"


class _ConfigFile(_Origin):
    format: int
    study: str | None
    config: dict[str, Any]
    sweep: dict[str, list[Any]] = {}
    data: dict[str, Any] = {}
    earlier: list[_Origin] = []


class _Result(BaseModel, extra="allow"):
    run: str
    seed: int


class _ResultsFile(BaseModel):
    complete: bool
    runs: list[_Result]


def read_directories(root: Path) -> list[Directory]:
    """Every directory at or below `root` that has a ``config.json``, in the order of their paths."""
    found = []
    for directory, subdirectories, files in os.walk(root):
        if "config.json" in files:
            found.append(Path(directory))
            subdirectories.clear()  # What lies in a run directory is its own affair.
    return [read_directory(path) for path in sorted(found)]


def read_directory(path: Path) -> Directory:
    """One run directory."""
    try:
        text = (path / "config.json").read_bytes()
        if json.loads(text).get("format") != FORMAT:
            return Directory(path, remarks=["was written by an older version of jaxrnn: left out"])
        file = _ConfigFile.model_validate_json(text)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        return Directory(path, remarks=[f"config.json is damaged ({describe(error)}): left out"])
    if file.study is None:
        return Directory(path, remarks=["is of no study (`jaxrnn.train` wrote it): left out"])
    directory = Directory(path, file.study, file.config, file.data, [str(one) for one in (file, *file.earlier)])
    results = _ResultsFile(complete=False, runs=[])
    try:
        results = _ResultsFile.model_validate_json((path / "results.json").read_bytes())
    except FileNotFoundError:
        pass
    except (OSError, ValidationError) as error:
        return replace(directory, remarks=[f"results.json is damaged ({describe(error)}): left out"])
    rows, damaged = read_lines(path / "metrics.jsonl")
    curves, remarks = curves_of(rows, drop=("seed", *file.sweep))
    remarks = [*damaged, *remarks]
    heads = {row["run"]: row for row in reversed(rows) if row.get("run") in curves}
    ended = [result.model_dump() for result in results.runs]
    without = [row["run"] for row in ended if row["run"] not in curves]
    if without:
        remarks.append(f"{len(without)} runs have no curve, the first is {without[0]}")
    if not results.complete:
        remarks.append(f"in training, {len(ended)} runs have ended: not judged")

    def run(row: Mapping[str, Any], result: Mapping[str, Any] | None) -> Run:
        swept = {name: row.get(name) for name in file.sweep}
        return Run(row["run"], row.get("seed", 0), swept, path, result, curves.get(row["run"]))

    names = {row["run"] for row in ended}
    runs = [run(row, row) for row in ended] + [run(row, None) for name, row in heads.items() if name not in names]
    return replace(directory, complete=results.complete, runs=runs, remarks=remarks)


def read_curves(path: Path) -> tuple[dict[str, Curve], list[str]]:
    """The curves by run in a file such as ``metrics.jsonl``, and what is wrong with it."""
    rows, remarks = read_lines(path)
    curves, more = curves_of(rows)
    return curves, [*remarks, *more]


def curves_of(rows: Sequence[Mapping[str, Any]], drop: Sequence[str] = ("seed",)) -> tuple[dict[str, Curve], list[str]]:
    """The curves by run in rows of evaluations, without the keys `drop`, and what is wrong with the rows."""
    evaluations: dict[str, dict[int, dict[str, float]]] = {}
    damaged = 0
    for row in rows:
        try:
            run, step = row["run"], int(np.int64(int(row["step"])))
            metrics = {name: value for name, value in row.items() if name not in ("run", "step", *drop)}
            evaluations.setdefault(run, {})[step] = {
                name: np.nan if value is None else float(value) for name, value in metrics.items()
            }
        except (ValueError, TypeError, KeyError, OverflowError):
            damaged += 1
    remarks = [f"{damaged} lines are no evaluations: left out"] if damaged else []
    return {run: _curve(by_step) for run, by_step in evaluations.items()}, remarks


def read_lines(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The objects in a ``.jsonl`` file, and what is wrong with it; a file that is not there is empty."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [f"{path.name} cannot be read ({describe(error)})"]
    rows, damaged = [], []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            damaged.append(number)
    remarks = [f"{path.name}: {len(damaged)} damaged lines left out, the first is line {damaged[0]}"] if damaged else []
    return rows, remarks


def _curve(evaluations: Mapping[int, Mapping[str, float]]) -> Curve:
    steps = sorted(evaluations)
    names = dict.fromkeys(name for step in steps for name in evaluations[step])
    return Curve(
        np.array(steps, np.int64),
        {name: np.array([evaluations[step].get(name, np.nan) for step in steps], np.float64) for name in names},
    )


def describe(error: Exception) -> str:
    """An error of reading or checking a file, in one line: the first thing that is wrong, and where."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg']}" if where else first["msg"]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())
