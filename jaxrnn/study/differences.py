"""Differences between two run directories: in settings, in what they were made with, and in results."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxrnn.rundir.directory import read_config
from jaxrnn.rundir.fields import saved_fields
from jaxrnn.study.format import value_text
from jaxrnn.study.overview import Entry, Row, find_entries


def differences(a: Path, b: Path) -> list[Row]:
    """A row for each difference: its kind and name, the values in `a` and `b`, and for a quantity `b` minus `a`.

    If each directory has a single arm, these two are compared. Otherwise, arms are matched by their swept values.

    Raises:
        RunError: one of them is not a run directory, or is damaged.
    """
    records = [read_config(path) for path in (a, b)]
    entries = [find_entries([path]) for path in (a, b)]
    rows = [
        {"of": kind, "what": name, "a": x, "b": y, "difference": None}
        for kind, read in (("settings", _settings), ("made with", _origin))
        for name, x, y in _unequal(*(read(record, found) for record, found in zip(records, entries, strict=True)))
    ]
    return [*rows, *_results(*entries)]


def _unequal(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    return [(name, a.get(name), b.get(name)) for name in {**a, **b} if a.get(name) != b.get(name)]


def _settings(record: Mapping[str, Any], entries: list[Entry]) -> dict[str, Any]:
    """The whole config, including fields that the file lacks, and the sweep."""
    study = entries[0].study if entries else None
    fields = dict(record["config"])
    if study:
        known = {one.name: one.default for one in dataclasses.fields(study.config)}
        fields = {**known, **saved_fields(study.config, fields)}
    swept = {f"sweep of {name}": values for name, values in record.get("sweep", {}).items()}
    return {"study": record.get("study"), **fields, **swept}


def _origin(record: Mapping[str, Any], entries: list[Entry]) -> dict[str, Any]:
    """Versions, commit, device and data."""
    del entries
    parts = {f"{part} {name}": v for part in ("data", "device") for name, v in record.get(part, {}).items()}
    return {**record.get("versions", {}), "commit": record.get("commit"), "prng": record.get("prng"), **parts}


def _results(first: list[Entry], second: list[Entry]) -> Iterator[Row]:
    """For each quantity, the estimates that differ, and how many runs have different results."""
    if len(first) == len(second) == 1:
        pairs: list[tuple[str, Entry | None, Entry | None]] = [("", first[0], second[0])]
    else:
        a, b = ({_values(entry): entry for entry in entries} for entries in (first, second))
        pairs = [(name, a.get(name), b.get(name)) for name in {**a, **b}]
    for name, x, y in pairs:
        yield from _of_arms(name, x, y)


def _values(entry: Entry) -> str:
    """The values of the swept fields."""
    return ", ".join(f"{name}={value_text(entry.arm.setting.get(name))}" for name in entry.record.get("sweep", {}))


def _of_arms(name: str, a: Entry | None, b: Entry | None) -> Iterator[Row]:
    pair = [one for one in (a, b) if one]
    quantities = {quantity.name: quantity for one in pair if one.study for quantity in one.study.quantities}
    prefix = f"{name}: " if name else ""
    for title, quantity in quantities.items():
        complete = [one and title in _names(one) and one.arm.is_complete for one in (a, b)]
        values = [
            {run.seed: quantity.value(run) for run in one.arm.runs} if one and ok else None
            for one, ok in zip((a, b), complete, strict=True)
        ]
        if values[0] == values[1]:
            continue
        cells = [
            quantity.format(quantity.estimate(one.arm)) if one and ok else None
            for one, ok in zip((a, b), complete, strict=True)
        ]
        difference = None
        if a and b and all(complete):
            found = quantity.compare(b.arm, a.arm)
            difference = found if isinstance(found, str) else f"{quantity.format(found)}, p = {found.p_value:.2g}"
        yield {"of": "results", "what": prefix + title, "a": cells[0], "b": cells[1], "difference": difference}
    if a and b:
        x, y = ({run.name: run.result for run in one.arm.runs} for one in (a, b))
        other, both = sum(x[run] != y[run] for run in x.keys() & y.keys()), len(x.keys() & y.keys())
        if other:
            yield {
                **{"of": "results", "what": f"{prefix}runs of the same name", "a": None, "b": None},
                "difference": f"{other} of {both} have other results",
            }


def _names(entry: Entry) -> list[str]:
    return [quantity.name for quantity in entry.study.quantities] if entry.study else []
