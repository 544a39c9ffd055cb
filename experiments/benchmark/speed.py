"""Tables of the archived benchmarks: the time that each peer takes, relative to ours."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmark.grid import geometric_means
from experiments.benchmark.harness import OURS
from experiments.benchmark.peers import FLAX, PYG, TORCH_CALLS, TORCH_LOOP, TORCH_LSTM
from experiments.benchmark.suites import PLAIN, in_a_program
from jaxrnn.study.format import NONE
from jaxrnn.study.page import Table

MACHINES = {"benchmark": "AMD Milan", "benchmark_avx512": "Intel Xeon with AVX-512"}
"""The machine of each archived benchmark, by directory; each benchmark ran on 2 cores."""
GRID = "benchmark_grid"


class Work(NamedTuple):
    """Rows of the table: a comparison's key, a group in it, our variant (whose time counts as 1) and its peers."""

    name: str
    key: str
    group: str
    ours: str
    peers: Sequence[str]


_PEERS, _LSTM, _LOOP = (FLAX, TORCH_LSTM, TORCH_LOOP), (f"{TORCH_LSTM}, one seed",), (f"{TORCH_LOOP}, one seed",)
_ALONE, _SAME = in_a_program(1), "the same, one seed alone"
_MEAN_RUNS = "the steps of a mean run of each arm of Tables 1 and 2, a seed on each core"
WORKS = (
    Work("palindrome training step, LSTM (T=81, batch 256, hidden 256)", "recurrent", "lstm", OURS, _PEERS),
    Work("the same, padding not shared and the batch not divided", "recurrent", "lstm", PLAIN, _PEERS),
    Work("palindrome training step, the paper's peephole", "recurrent", "peephole", OURS, (TORCH_LOOP,)),
    # These two are only in the archive; no suite measures them any more.
    Work(_MEAN_RUNS, "tables", "all arms", OURS, _LOOP),
    Work(_SAME, "tables", "all arms", _ALONE, _LOOP),
    Work("a small one (T=41, batch 32, hidden 32), a seed on each core", "seeds_small", "lstm", OURS, _LSTM),
    Work(_SAME, "seeds_small", "lstm", _ALONE, _LSTM),
    Work("character LSTM training step (2 layers of 512, T=30, batch 64)", "text", "lstm", OURS, (FLAX, TORCH_LSTM)),
    Work("generating a character, one text", "sampling", "batch 1", OURS, (TORCH_CALLS,)),
    Work("generating a character, 64 texts", "sampling", "batch 64", OURS, (TORCH_CALLS,)),
    Work("an epoch on Cora, GCN", "graphs", "gcn", OURS, (PYG,)),
    Work("an epoch on Cora, GAT", "graphs", "gat", OURS, (PYG,)),
)


def speed_table(archive: Path) -> Table:
    """The times of the peers on each machine, relative to ours."""
    records = [json.loads((archive / name / "benchmark.json").read_text()) for name in MACHINES]
    machines = [{one["key"]: one["rows"] for one in record["comparisons"]} for record in records]
    rows = [
        ["" if nth else work.name, peer, *(_ratio(comparisons, work, peer) for comparisons in machines)]
        for work in WORKS
        for nth, peer in enumerate(work.peers)
    ]
    caption = "The time of others, ours being 1: median over turns (least to most)"
    return Table(caption, ("work", "beside", *MACHINES.values()), rows)


def grid_tables(archive: Path) -> list[Table]:
    """Geometric means over the grid of dense inputs, as `grid.geometric_means` returns them."""
    return geometric_means(json.loads((archive / GRID / "benchmark.json").read_text())["comparisons"])


def _ratio(comparisons: Mapping[str, Sequence[Mapping[str, Any]]], work: Work, peer: str) -> str:
    of_group = [row for row in comparisons.get(work.key, ()) if row["group"] == work.group and row["seconds"]]
    seconds = {row["name"]: np.array(row["seconds"]) for row in of_group}
    if not {peer, work.ours} <= seconds.keys():
        return NONE
    ratios = seconds[peer] / seconds[work.ours]
    median, low, high = (f"{ratio:#.2g}".rstrip(".") for ratio in (np.median(ratios), ratios.min(), ratios.max()))
    return f"{median} ({low} to {high})"
