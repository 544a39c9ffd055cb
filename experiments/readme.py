"""Writes the README's results and its pictures from the kept results: ``python -m experiments.readme``."""

import json
from typing import Any, NamedTuple

import numpy as np

from experiments import gradients_report, launch, nodes_report, palindrome_report, text_report
from experiments.benchmark import FLAX, ONE_AT_A_TIME, OURS, PLAIN, PYG, TORCH_LOOP, TORCH_LSTM
from experiments.report import KEPT
from jaxrnn.rundir.directory import RunError
from jaxrnn.study.report import NONE, Table, read_runs, table_markdown

README = launch.ROOT / "README.md"
DOCS = launch.ROOT / "docs"

MACHINES = {"benchmark": "AMD Milan", "benchmark_avx512": "Intel Xeon with AVX-512"}
"""The kept benchmarks by directory; each is of 2 cores."""


class Work(NamedTuple):
    """Rows of the table of speed.

    Attributes:
        name: in the table.
        comparison: how the comparison's title begins.
        group: the variants' group.
        ours: our variant, whose time is 1.
        peers: the variants beside it.
    """

    name: str
    comparison: str
    group: str
    ours: str
    peers: tuple[str, ...]


PALINDROME, TEXT, WRITING = "Palindrome training step", "Character LSTM training step", "Generation"
TABLES = "Tables 1 and 2"
SMALL, CORA = "A seed's palindrome training step, T=41, B=32, H=32", "Node classification, cora"
CALLS, ONE_SEED = "PyTorch, a call a character", f"{TORCH_LSTM}, one seed"
LOOP_ONE_SEED = f"{TORCH_LOOP}, one seed"
WORKS = (
    Work(
        "palindrome training step, LSTM (T=81, batch 256, hidden 256)",
        PALINDROME,
        "lstm",
        OURS,
        (FLAX, TORCH_LSTM, TORCH_LOOP),
    ),
    Work(
        "the same, padding not shared and the batch not divided",
        PALINDROME,
        "lstm",
        PLAIN,
        (FLAX, TORCH_LSTM, TORCH_LOOP),
    ),
    Work("palindrome training step, the report's peephole", PALINDROME, "peephole", OURS, (TORCH_LOOP,)),
    Work(
        "the steps of a mean run of each arm of Tables 1 and 2, a seed on each core",
        TABLES,
        "all arms",
        OURS,
        (LOOP_ONE_SEED,),
    ),
    Work("the same, one seed alone", TABLES, "all arms", ONE_AT_A_TIME, (LOOP_ONE_SEED,)),
    Work("a small one (T=41, batch 32, hidden 32), a seed on each core", SMALL, "lstm", OURS, (ONE_SEED,)),
    Work("the same, one seed alone", SMALL, "lstm", ONE_AT_A_TIME, (ONE_SEED,)),
    Work("character LSTM training step (2 layers of 512, T=30, batch 64)", TEXT, "lstm", OURS, (FLAX, TORCH_LSTM)),
    Work("generating a character, one text", WRITING, "batch 1", OURS, (CALLS,)),
    Work("generating a character, 64 texts", WRITING, "batch 64", OURS, (CALLS,)),
    Work("an epoch on Cora, GCN", CORA, "gcn", OURS, (PYG,)),
    Work("an epoch on Cora, GAT", CORA, "gat", OURS, (PYG,)),
)


def with_results(text: str) -> tuple[str, dict[str, bytes]]:
    """The README's text with what stands between its marks renewed, and the pictures that go with it, by name."""
    runs = read_runs(KEPT, "kept")
    blocks, survival = palindrome_report.summary(runs)
    text_blocks, written, curves = text_report.summary(runs)
    blocks += text_blocks
    blocks += nodes_report.summary(runs)
    results = "\n\n".join(table_markdown(block) if isinstance(block, Table) else str(block) for block in blocks)
    text = _renewed(text, "results", results)
    text = _renewed(text, "written", table_markdown(written) if written else NONE)
    text = _renewed(text, "speed", table_markdown(_speed()))
    pictures = {"survival.png": survival, "gradients.png": gradients_report.picture(runs), "text.png": curves}
    return text, {name: png for name, png in pictures.items() if png}


def _renewed(text: str, name: str, content: str) -> str:
    begin, end = f"<!-- {name}: make readme -->", f"<!-- end of {name} -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise RunError(f"{README}: should have the lines {begin!r} and {end!r}, in this order")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def _speed() -> Table:
    """What the others take on each machine."""
    kept = [json.loads((KEPT / name / "benchmark.json").read_text())["comparisons"] for name in MACHINES]
    rows = [
        ["" if nth else work.name, peer, *(_ratio(comparisons, work, peer) for comparisons in kept)]
        for work in WORKS
        for nth, peer in enumerate(work.peers)
    ]
    caption = "The time of others, ours being 1: median over turns (least to most)"
    return Table(("work", "beside", *MACHINES.values()), rows, caption)


def _ratio(comparisons: list[dict[str, Any]], work: Work, peer: str) -> str:
    seconds = {
        row["name"]: np.array(row["seconds"])
        for comparison in comparisons
        if comparison["title"].startswith(work.comparison)
        for row in comparison["rows"]
        if row["group"] == work.group and row["seconds"]
    }
    if not {peer, work.ours} <= seconds.keys():
        return NONE
    ratios = seconds[peer] / seconds[work.ours]
    median, low, high = (f"{ratio:#.2g}".rstrip(".") for ratio in (np.median(ratios), ratios.min(), ratios.max()))
    return f"{median} ({low} to {high})"


def main(argv: list[str]) -> None:
    """Rewrites the file."""
    del argv
    text, pictures = with_results(README.read_text())
    README.write_text(text)
    DOCS.mkdir(exist_ok=True)
    for name, png in pictures.items():
        (DOCS / name).write_bytes(png)


if __name__ == "__main__":
    launch.run_main(main)
