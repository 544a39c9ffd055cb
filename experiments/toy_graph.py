"""A graph of six nodes, its matrix, and a feature that spreads layer by layer (Soons 2020, Question 3.2).

The layers are GCN layers with the identity as weights and no activation, which would change nothing, since no value is
negative. A node has a value once a layer has brought it one.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from configs.toy_graph import Config
from experiments._cli import main
from jaxrnn import graph
from jaxrnn.data.graphs import TOY_NODES, toy
from jaxrnn.rundir.directory import METRICS, RunDirectory
from jaxrnn.study import plots
from jaxrnn.study.arms import ArmScheme
from jaxrnn.study.format import NONE
from jaxrnn.study.page import Block, Figure, Table
from jaxrnn.study.study import Measured, Study, each

SOURCE, TARGET = "C", "E"
PUBLISHED_LAYERS = 4
"""Layers until E is reached from C (Soons 2020, Question 3.2b)."""
PUBLISHED_MATRIX = "110011 110100 001100 011101 100010 100101"
"""A + I, rows and columns A to F (Soons 2020, Question 3.2a)."""
# From C at the left: x is the distance, so that a layer reaches one column more.
_PLACES = {"C": (0, 0), "D": (1, 0), "B": (2, 0.6), "F": (2, -0.6), "A": (3, 0), "E": (4, 0)}


class Spread(BaseModel):
    """The row of ``results.json``: A + I, and the layer after which each node first has a value, or None."""

    run: str
    seed: int
    matrix: list[list[int]]
    first_layers: dict[str, int | None]


def make_matrix() -> NDArray[np.int64]:
    """A + I ``[6, 6]`` from the graph's edges."""
    return np.array(graph.propagate(graph.build(*toy(), len(TOY_NODES)), jnp.eye(len(TOY_NODES)))).astype(np.int64)


def spread(source: str, num_layers: int) -> NDArray[np.float32]:
    """The nodes' feature before and after each of the layers, ``[num_layers + 1, 6]``; first 1 at `source` alone."""
    edges = graph.normalize(graph.build(*toy(), len(TOY_NODES)))
    xs = [jnp.array([[node == source] for node in TOY_NODES], jnp.float32)]
    for _ in range(num_layers):
        xs.append(graph.gcn(edges, xs[-1], jnp.eye(1)))
    return np.array(xs)[..., 0]


def find_first_layers(values: NDArray) -> dict[str, int | None]:
    """The layer after which each node first has a value, or None, from values ``[layers, 6]``."""
    reached = zip(TOY_NODES, (values != 0).T, strict=True)
    return {node: int(layers.argmax()) if layers.any() else None for node, layers in reached}


def measure(config: Config, directory: RunDirectory) -> list[dict[str, Any]]:
    """Writes the feature after each layer to ``metrics.jsonl``; nothing is random."""
    values, where = spread(SOURCE, config.num_layers), {"run": "gcn", "seed": 0}
    lines = [{**where, "step": k, **dict(zip(TOY_NODES, xs.tolist(), strict=True))} for k, xs in enumerate(values)]
    directory.truncate({METRICS: 0})
    directory.append(METRICS, lines)
    return [{**where, "matrix": make_matrix().tolist(), "first_layers": find_first_layers(values)}]


@each
def _summary(one: Measured) -> list[str]:
    first = one.rows[0].first_layers[TARGET]
    reaches = f"does not reach {TARGET}" if first is None else f"reaches {TARGET} in layer {first}"
    return [f"A feature at {SOURCE} {reaches}; Soons (2020) says {PUBLISHED_LAYERS}. Each layer carries it one edge."]


@each
def _matrix(one: Measured) -> list[Block]:
    edges = sorted(TOY_NODES[i] + TOY_NODES[j] for i, j in zip(*toy(), strict=True) if i < j)
    printed = [[int(entry) for entry in row] for row in PUBLISHED_MATRIX.split()]
    compared = "is" if one.rows[0].matrix == printed else "is not"
    rows = [[node, *map(str, row)] for node, row in zip(TOY_NODES, one.rows[0].matrix, strict=True)]
    return [
        f"{one.source}: the edges are {', '.join(edges)}; A + I {compared} the published one.",
        Table("The adjacency matrix with self-loops, A + I", ["", *TOY_NODES], rows),
    ]


@each
def _values(one: Measured) -> list[Block]:
    values = np.array([one.curves["gcn"].metrics[node] for node in TOY_NODES]).T
    rows = [[str(layer), *(f"{value:.4f}" if value else NONE for value in row)] for layer, row in enumerate(values)]
    panels = {f"after layer {layer}" if layer else "after no layer": row for layer, row in enumerate(values)}
    picture = plots.node_values(panels, TOY_NODES, [_PLACES[node] for node in TOY_NODES], np.array(toy()))
    caption = f"The feature after each layer, 1 at {SOURCE} before the first; weights are the identity"
    shown = f"The graph, and the feature as it spreads from {SOURCE}; darker is more, white is none"
    alt = f"The graph before and after each layer; the coloured nodes spread from {SOURCE} to {TARGET}."
    table = Table(caption, ["layer", *TOY_NODES], rows)
    return [table, Figure(f"toy_graph{one.suffix}", plots.svg(picture), shown, alt)]


STUDY = Study(
    name="toy_graph",
    title="A feature on a graph of six nodes (Question 3.2)",
    config=Config,
    arms=ArmScheme(Config),
    measure=measure,
    row=Spread,
    tiny={"num_layers": 4},
    headline=_summary,
    sections={"The matrix (a)": [_matrix], "The feature (b)": [_summary, _values]},
)

if __name__ == "__main__":
    main(STUDY)
