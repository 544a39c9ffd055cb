"""Lists all runs below directories: what sets them apart, how far they are, and their results.

    python -m experiments.runs runs
    python -m experiments.runs runs --sort=value
    python -m experiments.runs runs --best
    python -m experiments.runs --diff runs/lstm runs/gru
    python -m experiments.runs runs --csv > runs.csv
    python -m experiments.runs runs/lstm runs/gru --archive=results
    python -m experiments.runs runs --free

A row is an arm of a run directory. `jaxrnn.runs` gives the same in Python, also with a row for each run or evaluation.
"""

import csv
import datetime
import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import _cli
from experiments._cli import UsageError
from jaxrnn.data.files import expand
from jaxrnn.rundir import archive
from jaxrnn.rundir.directory import RunError, status
from jaxrnn.rundir.read import find_directories
from jaxrnn.study.arms import with_values
from jaxrnn.study.differences import differences
from jaxrnn.study.format import NONE, format_bytes
from jaxrnn.study.overview import Entry, Row, find_entries
from jaxrnn.study.quantities import Quantity


def main(*directories: str) -> None:
    """Reads the flags."""
    given = flags.FLAGS
    roots, form = [expand(directory) for directory in directories], "json" if given.json else "csv" if given.csv else ""
    if given.diff and len(roots) != 2:
        raise UsageError("--diff: needs two run directories, as in --diff runs/a runs/b")
    if not roots:
        raise UsageError("needs directories that are run directories or hold some: python -m experiments.runs DIR")
    if given.diff:
        show_differences(roots[0], roots[1], form)
    elif given.archive:
        archive_all(roots, expand(given.archive))
    elif given.free:
        free_all(roots)
    else:
        show(roots, given.sort, given.best, form)


# --- What there is ----------------------------------------------------------------------------------------------------


def show(roots: Sequence[Path], sort: str = "", only_best: bool = False, form: str = "") -> None:
    """Prints a row for each arm, or for the best ones, as text, "csv" or "json"."""
    entries = _sorted(find_entries(roots), sort)
    groups = _best_first(entries) if only_best else []
    if form:
        _write([entry.row() for entry in ([group[0] for group in groups] if only_best else entries)], form)
    elif only_best:
        print(*(line for group in groups for line in _about_best(group)), sep="\n")
    elif entries:
        _print_arms(entries)


def _write(rows: Sequence[Row], form: str) -> None:
    """Prints rows as JSON, or as CSV, where a cell that is neither a number nor a text is JSON."""
    if form == "json":
        print(json.dumps(rows, indent=1))
        return
    writer = csv.DictWriter(sys.stdout, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        is_plain = {name: value is None or isinstance(value, str | int | float) for name, value in row.items()}
        writer.writerow({name: value if is_plain[name] else json.dumps(value) for name, value in row.items()})


def _sorted(entries: list[Entry], column: str) -> list[Entry]:
    """Sorts by a column, of values the best first, in the other order after a minus; rows without a value come last."""
    name = column.removeprefix("-")
    if not name or not entries:
        return entries
    rows = {id(entry): entry.row() for entry in entries}
    columns = dict.fromkeys(name for row in rows.values() for name in row)
    if name not in columns:
        raise UsageError(f"--sort={column}: there is no such column; there are {', '.join(columns)}")

    def key(entry: Entry) -> tuple[bool, Any]:
        value = _rank(entry) if name == "value" else rows[id(entry)][name]
        return (True, value) if isinstance(value, int | float) else (False, str(value))

    known = [entry for entry in entries if rows[id(entry)].get(name) is not None]
    return sorted(known, key=key, reverse=column != name) + [entry for entry in entries if entry not in known]


def _print_arms(entries: Sequence[Entry]) -> None:
    """Prints the table, and below it what the values are."""
    fields = dict.fromkeys(
        name
        for study in dict.fromkeys(entry.study for entry in entries)
        for settings in [[entry.arm.setting for entry in entries if entry.study is study]]
        for name in dict.fromkeys(name for setting in settings for name in setting)
        if any(setting.get(name) != settings[0].get(name) for setting in settings)
    )
    rows = [entry.row() for entry in entries]
    has_studies = len({row["study"] for row in rows}) > 1
    heads = ["directory", *(["study"] if has_studies else []), *fields]
    heads += ["status", "seeds", "value", "started", "duration", "disk"]
    table = [
        [row["directory"], *([_text(row["study"])] if has_studies else [])]
        + [_text(entry.arm.setting.get(name)) for name in fields]
        + [row["status"], _seeds(row), _value(entry), _start(row), _duration(row), format_bytes(row["disk"])]
        for entry, row in zip(entries, rows, strict=True)
    ]
    _cli.print_table(heads, table)
    for study, quantity in dict.fromkeys((entry.study, entry.quantity) for entry in entries):
        if study and quantity:
            print(f"\nvalue of {study.name}: {quantity.name}; brackets are 95 % intervals over seeds", end="")
    print()


def _text(value: Any) -> str:
    return NONE if value is None else str(value)


def _seeds(row: Row) -> str:
    failed = f", {row['failed']} met a NaN" if row["failed"] else ""
    return f"{row['seeds']} of {row['asked']}{failed}"


def _value(entry: Entry) -> str:
    return entry.quantity.format(entry.estimate) if entry.quantity and entry.estimate else NONE


def _start(row: Row) -> str:
    return row["started"][:16].replace("T", " ") if row["started"] else NONE


def _duration(row: Row) -> str:
    return str(datetime.timedelta(seconds=round(row["duration"]))) if row["duration"] else NONE


# --- The best ---------------------------------------------------------------------------------------------------------


def _best_first(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The complete arms of each study, problem and quantity, the best first."""
    problems: dict[tuple[str, Quantity | None], list[Entry]] = {}
    for entry in entries:
        if entry.estimate and entry.estimate.value is not None:
            problems.setdefault((_problem(entry), entry.quantity), []).append(entry)
    return [sorted(group, key=lambda one: _rank(one)) for group in problems.values()]


def _problem(entry: Entry) -> str:
    return with_values(entry.study.name, entry.arm.setting, entry.study.arms.problem) if entry.study else ""


def _rank(entry: Entry) -> float:
    assert entry.quantity and entry.estimate and entry.estimate.value is not None
    return -entry.estimate.value if entry.quantity.is_better == "larger" else entry.estimate.value


def _about_best(group: Sequence[Entry]) -> list[str]:
    """What the best arm is, where it is, and how to go on with it."""
    best, study, quantity = group[0], group[0].study, group[0].quantity
    others = f"the best of {len(group)} arms" if len(group) > 1 else "the only complete arm"
    ties = [one.arm.title for one in group[1:] if _rank(one) == _rank(best)]
    others += f", with the same value as {', '.join(ties)}" if ties else ""
    assert study and quantity
    pick = max if quantity.is_better == "larger" else min
    values = {run.name: quantity.value(run) for run in best.arm.runs}
    known = {name: value for name, value in values.items() if value is not None}
    resume = ["python", "-m", f"experiments.{study.name}", "--resume", f"--workdir={best.path}"]
    if best.about["status"] == "complete":
        resume.append(f"--config.num_seeds={2 * best.arm.asked}")
    lines = [
        f"{_problem(best)}: {best.arm.title}, {others}",
        f"  {quantity.name}: {_value(best)} ({quantity.is_better} is better); {_seeds(best.row())} seeds",
        f"  directory: {best.path}",
    ]
    if not (best.path / archive.CHECKPOINTS).is_dir():
        return [*lines, "  its checkpoints were freed, or left out of an archive"]
    lines.append(f"  {'more seeds' if best.about['status'] == 'complete' else 'go on'}: {shlex.join(resume)}")
    if known:
        run = pick(known, key=lambda name: known[name])
        lines.append(f'  best run, with {known[run]:{quantity.form}}: jaxrnn.load("{best.path}", "{run}")')
    return lines


# --- Two directories --------------------------------------------------------------------------------------------------


def show_differences(a: Path, b: Path, form: str = "") -> None:
    """Prints what differs, as text, "csv" or "json"."""
    rows = differences(a, b)
    if form:
        _write(rows, form)
    elif not rows:
        print("nothing differs: neither settings, nor versions, nor results")
    else:
        heads = ["", "", str(a), str(b), "second minus first"]
        cells = [[row["of"], row["what"], *(_text(row[name]) for name in ("a", "b", "difference"))] for row in rows]
        _cli.print_table(heads, cells)


# --- Complete runs ----------------------------------------------------------------------------------------------------


def archive_all(roots: Sequence[Path], destination: Path) -> None:
    """Copies complete runs: a run directory keeps its name, and those below a directory keep their places in it."""
    copies: dict[Path, Path] = {}
    for root in roots:
        for path in find_directories(root):
            target = destination / (path.relative_to(root) if path != root else root.resolve().name)
            if target in copies.values():
                raise RunError(f"{target}: two directories would have this name")
            copies[path] = target
    complete = _complete(copies)
    for path in complete:
        if copies[path].exists():
            raise RunError(f"{copies[path]}: exists already; nothing was copied")
    for path in complete:
        archive.copy(path, copies[path])
    page = shlex.join(["python", "-m", "experiments.report", f"--runs={destination}"])
    print(f"{len(complete)} run directories are in {destination}; a page of them: {page}")


def free_all(roots: Sequence[Path]) -> None:
    """Deletes the checkpoints of complete runs."""
    total = 0
    for path in _complete(path for root in roots for path in find_directories(root)):
        if freed := archive.free(path):
            print(f"{path}: {format_bytes(freed)}")
        total += freed
    print(
        f"freed {format_bytes(total)}; results stay, but these runs can no longer be loaded or get more steps or seeds"
    )


def _complete(paths: Iterable[Path]) -> list[Path]:
    """The directories whose runs are complete; the others are named, and left as they are."""
    by_status = {path: status(path) for path in paths}
    complete = [path for path, found in by_status.items() if found == "complete"]
    if not complete:
        found = ", ".join(f"{path} is {status}" for path, status in by_status.items())
        raise RunError(f"there are no complete runs: {found or 'no run directory was found'}")
    for path, found in by_status.items():
        if found != "complete":
            print(f"{path}: left as it is: {found}, not complete")
    return complete


if __name__ == "__main__":
    flags.DEFINE_string(
        "sort", "", "Sort by a column of --csv, `value` from the best on; -COLUMN sorts in the other order."
    )
    flags.DEFINE_bool("best", False, "Show only the best arm of each problem, and how to go on with it.")
    flags.DEFINE_bool("diff", False, "Show settings, versions and results that differ between two run directories.")
    flags.DEFINE_bool("csv", False, "Show all columns as CSV.")
    flags.DEFINE_bool("json", False, "Show all columns as JSON.")
    flags.DEFINE_string(
        "archive", None, "Copy complete runs to this directory, without checkpoints, host, command and folders."
    )
    flags.DEFINE_bool("free", False, "Delete the checkpoints of complete runs; results stay.")
    _cli.run(main, takes_arguments=True)
