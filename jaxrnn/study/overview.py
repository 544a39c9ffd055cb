"""Runs at a glance: the content of run directories, with a row for each arm, run or evaluation."""

import functools
import importlib
import itertools
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from jaxrnn.rundir.archive import disk_bytes
from jaxrnn.rundir.directory import TIMING, RunError, read_config, read_lines, status
from jaxrnn.rundir.read import Directory, describe, find_directories, read_directory
from jaxrnn.rundir.restore import NO_STUDIES
from jaxrnn.study.arms import Arm, whole_curve
from jaxrnn.study.quantities import Quantity
from jaxrnn.study.stats import Estimate
from jaxrnn.study.study import Study

Row = dict[str, Any]
_LEFT_OUT = "left out"
"""What a remark on damaged data says."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Entry:
    """An arm of one run directory.

    Attributes:
        arm: the arm with its runs in the directory; without runs if they have not started.
        study: None if there is no module for it.
        record: the content of ``config.json``.
        about: the directory's status, start, seconds of training and bytes on disk.
    """

    arm: Arm
    path: Path
    study: Study | None
    record: Mapping[str, Any]
    about: Mapping[str, Any]

    @property
    def estimate(self) -> Estimate | None:
        """The estimate of `quantity` once all runs have ended; those that end first are not a fair sample."""
        return self._estimated[1]

    @property
    def quantity(self) -> Quantity | None:
        """The study's primary quantity, or the first that the runs have if their task lacks it, as ratings do."""
        return self._estimated[0]

    @functools.cached_property
    def _estimated(self) -> tuple[Quantity | None, Estimate | None]:
        quantities = self.study.quantities if self.study else ()
        if not quantities or not self.arm.is_complete:
            return next(iter(quantities), None), None
        found = ((one, one.estimate(self.arm)) for one in quantities)
        return next((pair for pair in found if pair[1].value is not None), (quantities[0], None))

    def row(self) -> Row:
        """The columns of a table of arms; `duration` is in seconds, `disk` in bytes, both for the whole directory."""
        ended = [run.result for run in self.arm.runs if run.result is not None]
        estimate = self.estimate or Estimate(None, None, None)
        first = {"directory": str(self.path), "study": self.record.get("study"), "arm": self.arm.title or None}
        last = {
            "status": self.about["status"],
            "seeds": len({result["seed"] for result in ended}),
            "asked": self.arm.asked,
            "failed": sum(result.get("failed_at") is not None for result in ended),
            "quantity": self.quantity.name if self.quantity else None,
            **{name: getattr(estimate, name) for name in ("value", "low", "high")},
            **{name: self.about[name] for name in ("started", "duration", "disk")},
        }
        return _flat(first, self.arm.setting, last)

    def rows_of_runs(self) -> Iterator[Row]:
        """A row for each run, with its results."""
        for run in self.arm.runs:
            result = {name: value for name, value in (run.result or {}).items() if name not in run.swept}
            last = {"status": "ended" if run.result else self.about["status"], **result}
            yield _flat(self._first(run.name, run.seed), self.arm.setting, last)

    def rows_of_evaluations(self) -> Iterator[Row]:
        """A row for each run and evaluation, with its metrics."""
        for run, curve in [(run, run.curve) for run in self.arm.runs if run.curve]:
            for i, step in enumerate(curve.steps.tolist()):
                metrics = {name: float(values[i]) for name, values in curve.metrics.items()}
                yield _flat(self._first(run.name, run.seed), self.arm.setting, {"step": step, **metrics})

    def _first(self, run: str, seed: int) -> Row:
        return {"directory": str(self.path), "study": self.record.get("study"), "run": run, "seed": seed}


def _flat(first: Row, setting: Mapping[str, Any], last: Row) -> Row:
    """One row; a field with the name of another column is called ``config.NAME``, like its flag."""
    taken = first.keys() | last.keys()
    return {**first, **{f"config.{k}" if k in taken else k: v for k, v in setting.items()}, **last}


def runs(*directories: str | Path, each: Literal["arm", "run", "evaluation"] = "arm") -> Any:
    """Lists what is in all run directories at or below some directories.

    Args:
        directories: each is a run directory, or contains some.
        each: what gets a row: an arm of a directory, as ``python -m experiments.runs`` shows it, with the study's
            primary quantity and its 95 % interval over seeds; a run, with its results; or an evaluation of a run, with
            its metrics. Every row has the directory, the study and the whole setting. `duration` is in seconds of
            training, `disk` in bytes, both for the whole directory.

    Returns:
        A pandas DataFrame, or a list of its rows as dicts if pandas is not installed. Damaged data are left out, with a
        warning.

    Raises:
        RunError: a directory does not exist, or there is no run directory.
        ValueError: `each` is not one of the three.
    """
    found = find_entries([Path(directory) for directory in directories])
    kinds = {
        "arm": lambda: [one.row() for one in found],
        "run": lambda: [row for one in found for row in one.rows_of_runs()],
        "evaluation": lambda: [row for one in found for row in one.rows_of_evaluations()],
    }
    if each not in kinds:
        raise ValueError(f"each={each!r}: takes {', '.join(kinds)}")
    rows = kinds[each]()
    try:
        import pandas
    except ImportError:
        return rows
    return pandas.DataFrame(rows)


def find_entries(roots: Sequence[Path]) -> list[Entry]:
    """The arms of each run directory, in the order of the paths and of the sweeps; raises as `runs` does."""
    paths = {path: None for root in roots for path in find_directories(root)}
    for root in roots:
        if not root.is_dir():
            raise RunError(f"{root}: no such directory")
    if not paths:
        raise RunError(f"{', '.join(map(str, roots))}: no run directory found there")
    found: list[Entry] = []
    for path in paths:
        try:
            found += _read(path)
        except RunError as error:
            _LOG.warning("%s: %s", error, _LEFT_OUT)
        except (ValueError, KeyError, TypeError) as error:
            reason = f"has no {error}" if isinstance(error, KeyError) else describe(error)
            _LOG.warning("%s: %s: %s", path, reason, _LEFT_OUT)
    return found


def _read(path: Path) -> list[Entry]:
    record, directory = read_config(path), read_directory(path)
    study = _study(directory.study)
    for remark in directory.remarks:
        if _LEFT_OUT in remark and directory.study:
            _LOG.warning("%s: %s", path, remark)
    if not directory.complete and not directory.runs and any(_LEFT_OUT in remark for remark in directory.remarks):
        return []
    about = {
        "status": status(path),
        "started": record.get("start"),
        "duration": sum(row.get("seconds", 0.0) for row in read_lines(path / TIMING)[0]) or None,
        "disk": disk_bytes(path),
    }
    found = [Entry(arm, path, study, record, about) for arm in _arms(directory, study, record.get("sweep", {}))]
    for one in found:
        _ = one.estimate  # Raises here if the results cannot be read.
    return found


def _arms(directory: Directory, study: Study | None, sweep: Mapping[str, Any]) -> Iterator[Arm]:
    """The arms that the sweep asks for, started or not."""
    for chosen in itertools.product(*sweep.values()):
        values = dict(zip(sweep, chosen, strict=True))
        fields = {**directory.config, **values}
        setting = study.arms.setting(fields) if study else fields
        mine = [run for run in directory.runs if dict(run.swept) == values]
        whole = [replace(run, curve=whole_curve(run, fields.get("eval_every"))) for run in mine]
        ended = sum(run.result is not None for run in mine)
        asked = fields.get("num_seeds", len({run.seed for run in mine}))
        is_complete = directory.complete or ended >= asked > 0
        title = study.arms.name(setting) if study else ""
        yield Arm(title, setting, "own", whole, is_complete=is_complete, asked=asked)


@functools.cache
def _study(name: str) -> Study | None:
    """The study of this name, from its module in `experiments`, if both exist."""
    try:
        study: Study = importlib.import_module(f"experiments.{name}").STUDY
    except (ImportError, AttributeError) as error:
        if isinstance(error, ImportError) and error.name == "experiments":
            warnings.warn(NO_STUDIES, stacklevel=2)
        return None
    return study
