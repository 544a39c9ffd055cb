"""Question 3.2 worked out: a graph of six nodes, its matrix, and a feature that spreads from C layer by layer.

    python -m experiments.toy_graph --workdir=runs/toy_graph

The layers are GCN layers as everywhere here, with the identity for weights and no activation: it would change nothing,
since no value is negative. A node has a value once a layer has brought it one; the report says that E has it after 4.
Seconds. ``report.md`` in the run directory, or ``report.html``, shows what was found.
"""

from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from absl import flags
from numpy.typing import NDArray

from experiments import launch
from jaxrnn import graph
from jaxrnn.data.graphs import TOY_NODES, toy
from jaxrnn.rundir.directory import RunDirectory, RunError
from jaxrnn.study import plots
from jaxrnn.study.report import NONE, Block, Curve, Figure, Run, Section, Table, read_runs, table_markdown, write_report

EXPERIMENT = "toy graph"
RUN = "gcn"
SOURCE, TARGET = "C", "E"
NUM_LAYERS = 5
REPORTED_LAYERS = 4
"""Until E is reached (report, Question 3.2b)."""
REPORTED_MATRIX = "110011 110100 001100 011101 100010 100101"
"""A + I, rows and columns A to F (report, Question 3.2a)."""

# From C at the left: x is the distance, so that a layer reaches one column more.
_PLACES = {"C": (0, 0), "D": (1, 0), "B": (2, 0.6), "F": (2, -0.6), "A": (3, 0), "E": (4, 0)}


def matrix() -> NDArray[np.int64]:
    """A + I ``[6, 6]`` from the graph's edges."""
    edges = graph.build(*toy(), len(TOY_NODES))
    a = np.zeros((len(TOY_NODES),) * 2, np.int64)
    np.add.at(a, (edges.receivers, edges.senders), edges.edges.astype(int))
    return a


def difference() -> list[str]:
    """Where the report's matrix is not that of the graph's edges, such as ``AB``; row, then column."""
    reported = np.array([[int(entry) for entry in row] for row in REPORTED_MATRIX.split()])
    return [TOY_NODES[i] + TOY_NODES[j] for i, j in np.argwhere(reported != matrix())]


def spread(source: str, num_layers: int) -> NDArray[np.float32]:
    """The nodes' feature before and after each of the layers, ``[num_layers + 1, 6]``; at first 1 at `source`."""
    edges = graph.normalize(graph.build(*toy(), len(TOY_NODES)))
    xs = [jnp.zeros((len(TOY_NODES), 1)).at[TOY_NODES.index(source)].set(1)]
    for _ in range(num_layers):
        xs.append(graph.gcn(edges, xs[-1], jnp.eye(1)))
    return np.array(xs)[..., 0]


def first_layers(values: NDArray) -> dict[str, int | None]:
    """After which layer each node has a value first; None where it never has."""
    return {
        node: int(reached.argmax()) if reached.any() else None
        for node, reached in zip(TOY_NODES, (values != 0).T, strict=True)
    }


def run(path: Path) -> None:
    """Writes a run directory with its page, and prints the tables.

    Raises:
        RunError: the directory holds a run, or cannot be written.
    """
    if (path / "config.json").exists():
        raise RunError(f"{path}: holds a run already; take another --workdir")
    config = {"source": SOURCE, "target": TARGET, "num_layers": NUM_LAYERS}
    with RunDirectory.create(path, launch.record(EXPERIMENT, config)) as directory:
        values, where = spread(SOURCE, NUM_LAYERS), {"run": RUN, "seed": 0}  # Nothing is random.
        looks = [dict(zip(TOY_NODES, row.tolist(), strict=True)) for row in values]
        directory.append("metrics.jsonl", [{**where, "step": layer, **look} for layer, look in enumerate(looks)])
        found = {
            "matrix": matrix().tolist(),
            "differs_from_report": difference(),
            "first_layers": first_layers(values),
        }
        directory.write("results.json", {"complete": True, "runs": [{**where, **found}]}, indent=None)
        (section,) = sections(read_runs(path, "this machine"))
        try:
            write_report([section], path)
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror}: {error.filename}") from error
    for block in section.blocks:
        if not isinstance(block, Figure):
            print(table_markdown(block) if isinstance(block, Table) else block, end="\n\n")
    print(f"With pictures: {path / 'report.html'}")


def sections(runs: Sequence[Run]) -> list[Section]:
    """The study's section, from one of its run directories: all say the same."""
    curves = [run.curves[RUN] for run in runs if run.experiment == EXPERIMENT and run.complete and RUN in run.curves]
    whole = [curve for curve in curves if {*TOY_NODES} <= {*curve.metrics}]
    return [Section("A feature on a graph of six nodes (Question 3.2)", _blocks(whole[-1]))] if whole else []


def _blocks(curve: Curve) -> list[Block]:
    values = np.array([curve.metrics[node] for node in TOY_NODES]).T
    first = first_layers(values)[TARGET]
    wrong = difference()
    edges = np.array([pair for pair in zip(*toy(), strict=True) if pair[0] < pair[1]])
    listed = ", ".join(f"{TOY_NODES[i]}-{TOY_NODES[j]}" for i, j in sorted(edges.tolist()))
    panels = {"after no layer" if not layer else f"after layer {layer}": row for layer, row in enumerate(values)}
    picture = plots.node_values(panels, TOY_NODES, [_PLACES[node] for node in TOY_NODES], edges.T)
    return [
        f"The graph has the edges {listed}. Its adjacency matrix with self-loops, made from them, "
        + (f"differs from the one printed in the report at {', '.join(wrong)}." if wrong else "is the report's."),
        Table(
            ["", *TOY_NODES],
            [[node, *map(str, row)] for node, row in zip(TOY_NODES, matrix(), strict=True)],
            "The adjacency matrix with self-loops, A + I",
        ),
        f"A feature at {SOURCE} "
        + (f"reaches {TARGET} in layer {first}" if first is not None else f"does not reach {TARGET}")
        + f"; the report says {REPORTED_LAYERS}. Each layer carries it one edge further.",
        Table(
            ["layer", *TOY_NODES],
            [[str(layer), *(f"{value:.4f}" if value else NONE for value in row)] for layer, row in enumerate(values)],
            f"The feature after each layer, 1 at {SOURCE} before the first; weights are the identity",
        ),
        Figure(
            "figures/toy_graph.png",
            plots.png(picture),
            f"The graph, and the feature as it spreads from {SOURCE}; darker is more, white is none",
            "The graph before and after each layer; the coloured nodes spread from C at the left to E at the right.",
        ),
    ]


def main(argv: list[str]) -> None:
    """Writes what the flag asks for."""
    del argv
    run(launch.workdir())


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Directory of the run: created, and refused if it holds a run already.")
    launch.run_main(main)
