"""Writes what was measured as tables and JSON."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmark.grid import geometric_means
from experiments.benchmark.harness import OURS, PRECISION
from experiments.benchmark.peers import version
from jaxrnn.rundir.provenance import device, versions
from jaxrnn.study.format import NONE
from jaxrnn.study.page import Table, table_markdown
from jaxrnn.training.cores import num_cores

_PEERS = ("torch", "torch_geometric", "torch_geometric_temporal", "memax")


def settings() -> dict[str, Any]:
    """What the numbers depend on: versions, device, precision, CPU threads, and the load average of the last minute."""
    return {
        "versions": {**versions(), **{name: version(name) for name in _PEERS}},
        "device": device(),
        "precision": f"float32, products {PRECISION}",
        "threads": num_cores(),
        "load": round(os.getloadavg()[0], 2),
    }


def make_table(measured: Mapping[str, Any], used: Mapping[str, Any]) -> Table:
    """The table of a comparison, as `measure` returns it; `used` are the `settings`."""
    unit, known, on = measured["unit"], used["versions"], used["device"]
    packages = ", ".join(f"{name} {known[name] or 'not installed'}" for name in ("jax", "flax", *_PEERS))
    caption = (
        f"{measured['title']}; {used['precision']}; {on['count']} x {on['kind']}, {used['threads']} CPU threads, "
        f"load before the start {used['load']}; {packages}. "
        f"The limit: {measured['counted']} alone at the last row's {measured['rate'] / 1e9:.4g} GFLOP/s. "
        "Times are medians over turns; ratio and share are medians of values within the same turn."
    )
    columns = ("group", "variant", f"ms a {unit}", "min to max", f"ratio to {OURS}", "share of the limit", "compile, s")
    return Table(caption, columns, [_cells(row) for row in measured["rows"]])


def _cells(row: Mapping[str, Any]) -> list[str]:
    milliseconds = 1000 * np.array(row["seconds"])
    ratio, compiling = row["ratio"], row["compile_seconds"]
    return [
        row["group"],
        row["name"],
        f"{np.median(milliseconds):.4g}",
        f"{milliseconds.min():.4g} to {milliseconds.max():.4g}",
        NONE if ratio is None else f"{ratio:.2f}",
        f"{row['share']:.0%}",
        NONE if compiling is None else f"{compiling:.1f}",
    ]


def write(out: Path, record: Mapping[str, Any], measured: Sequence[Mapping[str, Any]]) -> None:
    """Writes ``benchmark.json`` (seconds, FLOP/s) and the tables."""
    (out / "benchmark.json").write_text(json.dumps({**record, "comparisons": measured}, indent=1) + "\n")
    tables = [*(make_table(one, record) for one in measured), *geometric_means(measured)]
    (out / "benchmark.md").write_text("\n\n".join(map(table_markdown, tables)) + "\n")
