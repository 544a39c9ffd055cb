"""Memory and time of a dense and of a sparse GCN layer against the number of nodes (Soons 2020, Question 3.1b).

Both layers compute the same ``S X W``, and the gradients of half the sum of its squares with respect to ``X`` and
``W``: one has ``S`` as a matrix ``[N, N]``, the other as a list of edges. At the largest size a GAT layer of one head
is measured too. In ``metrics.jsonl`` a run is a layer, its `step` is the number of nodes, and

- `predicted_bytes` is by the formula: the matrix or the edges, and the layer's arrays ``[N, H]`` and ``[E, H]``;
- `planned_bytes` is what XLA's buffers take together: arguments, outputs and temporaries;
- `process_bytes` is the peak of the process's resident memory so far; the sparse layers come first;
- `seconds` is the median over calls after one to warm up, `load` the machine's load average beforehand.
"""

import functools
import os
import re
import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from tqdm import tqdm

from configs.graph_memory import Config
from experiments._cli import main
from experiments._timing import time_calls
from jaxrnn import graph
from jaxrnn.arrays import Array, PyTree
from jaxrnn.data.graphs import stochastic_block_model
from jaxrnn.rundir.directory import METRICS, RunDirectory
from jaxrnn.rundir.read import read_lines
from jaxrnn.study import plots
from jaxrnn.study.arms import ArmScheme
from jaxrnn.study.format import format_bytes, format_digits
from jaxrnn.study.page import Figure, Table
from jaxrnn.study.study import Measured, Study, each
from jaxrnn.training.signals import Interrupted, catch_signals

MARGIN = 1.2
"""This factor times the formula's bytes must be free, since a graph is made and a program is compiled as well."""


class Layer(NamedTuple):
    """A layer: its label and colour, ``apply(S, X, *parameters)``, and the shapes of its parameters from H.

    It is expected to hold `node_arrays` arrays ``[N, H]`` and `edge_arrays` arrays ``[E, H]`` at once, as counted in
    XLA's plan for a CPU.
    """

    label: str
    colour: str
    apply: Callable[..., Array]
    shapes: Callable[[int], Sequence[tuple[int, ...]]]
    node_arrays: int
    edge_arrays: int


def _gat(edges: graph.GraphsTuple, x: Array, w_dkh: Array, a_sender_kf: Array, a_receiver_kf: Array) -> Array:
    return graph.gat(edges, graph.project(x, w_dkh), a_sender_kf, a_receiver_kf)


SPARSE, GAT, DENSE = "sparse_gcn", "sparse_gat", "dense_gcn"
LAYERS = {
    SPARSE: Layer("sparse GCN", plots.BLUE, graph.gcn, lambda h: [(h, h)], 3, 1),
    GAT: Layer("sparse GAT", plots.GREEN, _gat, lambda h: [(h, 1, h), (1, h), (1, h)], 6, 3),
    DENSE: Layer("dense GCN", plots.VERMILION, lambda matrix_nn, x, w: matrix_nn @ (x @ w), lambda h: [(h, h)], 4, 0),
}


def predict_bytes(config: Config, name: str, num_nodes: int) -> int:
    """Bytes of a layer by the formula: ``4 N^2``, or 12 per edge for its weight and ends, and its float32 arrays."""
    layer, num_edges = LAYERS[name], (config.mean_degree + 1) * num_nodes  # With the self-loops.
    structure = 4 * num_nodes**2 if name == DENSE else 12 * num_edges
    return structure + 4 * config.hidden_size * (layer.node_arrays * num_nodes + layer.edge_arrays * num_edges)


def make_operands(config: Config, name: str, num_nodes: int) -> tuple[int, tuple[PyTree, ...]]:
    """The number of edges of a random graph, self-loops included, and the arguments of `Layer.apply`."""
    # A single block: every pair of nodes has an edge with the same probability.
    drawn = stochastic_block_model(config.graph_seed, num_nodes, 1, config.mean_degree, 1).edges
    edges = jax.device_put(graph.normalize(graph.build(*drawn, num_nodes)))
    shapes = [(num_nodes, config.hidden_size), *LAYERS[name].shapes(config.hidden_size)]
    keys = jax.random.split(jax.random.key(0), len(shapes))
    arrays = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
    return len(edges.senders), (_matrix(edges, num_nodes) if name == DENSE else edges, *arrays)


@jax.jit(static_argnums=1)
def _matrix(edges: graph.GraphsTuple, num_nodes: int) -> Array:
    """``S [N, N]``, filled in place, since the largest ones would not fit with a copy on the host."""
    return jnp.zeros((num_nodes, num_nodes)).at[edges.receivers, edges.senders].set(edges.edges)


def compile_layer(name: str, operands: Sequence[PyTree]) -> Any:
    """The program that runs the layer forward and backward."""

    def loss(arrays: Sequence[Array], s: PyTree) -> Array:
        return 0.5 * jnp.sum(LAYERS[name].apply(s, *arrays) ** 2)

    return jax.jit(lambda s, *arrays: jax.value_and_grad(loss)(arrays, s)).lower(*operands).compile()


# --- Measurements -----------------------------------------------------------------------------------------------------


class Largest(BaseModel):
    """A row of ``results.json``: how far a layer goes, and why it goes no further."""

    run: str
    seed: int
    nodes: int
    beyond: str | None


def measure(config: Config, directory: RunDirectory) -> list[dict[str, Any]]:
    """Measures what is missing in ``metrics.jsonl``, and returns the rows of ``results.json``."""
    directory.cut_torn_line(METRICS)
    done = {(line["run"], line["step"]) for line in read_lines(directory.path / METRICS)[0]}
    rows = []
    with catch_signals() as interrupted:
        for name, layer in LAYERS.items():
            nodes, beyond = 0, None
            for size in tqdm([config.max_nodes] if name == GAT else list_sizes(config), layer.label, disable=None):
                if interrupted():
                    raise Interrupted
                if (name, size) not in done:
                    if (needed := MARGIN * predict_bytes(config, name, size)) > (free := available_bytes()):
                        spare = f"with a fifth to spare, {format_bytes(free)} were there"
                        beyond = f"{size} nodes need {format_bytes(needed)} {spare}"
                        break
                    line = {"run": name, "seed": config.graph_seed, "step": size}
                    directory.append(METRICS, [line | measure_layer(config, name, size)])
                nodes = size
            rows.append({"run": name, "seed": config.graph_seed, "nodes": nodes, "beyond": beyond})
    return rows


def measure_layer(config: Config, name: str, num_nodes: int) -> dict[str, float]:
    """The memory and time that a layer takes at a size."""
    num_edges, operands = jax.block_until_ready(make_operands(config, name, num_nodes))
    program, load = compile_layer(name, operands), os.getloadavg()[0]
    plan = program.memory_analysis()
    return {
        "edges": num_edges,
        "predicted_bytes": predict_bytes(config, name, num_nodes),
        "planned_bytes": plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes,
        "seconds": time_calls(functools.partial(program, *operands)),
        "process_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "load": load,
    }


def list_sizes(config: Config) -> list[int]:
    """30, 100, 300, 1000, ... up to the largest graph, which comes last."""
    grid = [step * 10**power for power in range(1, 10) for step in (3, 10)]
    return [*(size for size in grid if size < config.max_nodes), config.max_nodes]


def available_bytes() -> int:
    """Memory that a program may still take, of the device or, on a CPU, of the system."""
    if stats := jax.devices()[0].memory_stats():  # None on a CPU.
        return stats["bytes_limit"] - stats["bytes_in_use"]
    return 1024 * int(re.findall(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())[0])


# --- The page ---------------------------------------------------------------------------------------------------------


def find_crossing(nodes: NDArray, values: NDArray, others: NDArray) -> float | None:
    """The number of nodes from which on `values` exceed `others`; None if the last value does not.

    Both are ``[k]`` and are interpolated linearly between the `nodes`, all in logarithms.
    """
    gaps = np.log(values / others)
    if gaps[-1] <= 0 or (gaps > 0).all():
        return None if gaps[-1] <= 0 else float(nodes[0])
    last = np.flatnonzero(gaps <= 0)[-1]
    between = slice(last, last + 2)
    return float(np.exp(np.interp(0, gaps[between], np.log(nodes[between]))))


def _crossing(one: Measured, metric: str) -> float | None:
    """The number of nodes from which on the dense layer takes more."""
    dense, sparse = one.curves[DENSE], one.curves[SPARSE]
    nodes, i, j = np.intersect1d(dense.steps, sparse.steps, return_indices=True)
    return find_crossing(nodes, dense.metrics[metric][i], sparse.metrics[metric][j])


@each
def _summary(one: Measured) -> list[str]:
    """Where the GCN layers cross, and how far each layer goes."""
    said = []
    for metric, name in {"planned_bytes": "memory (by XLA's buffers)", "seconds": "time"}.items():
        nodes = _crossing(one, metric)
        where = "at no size that was measured" if nodes is None else f"from about {format_digits(nodes, 2)} nodes on"
        said.append(f"The dense GCN layer takes more {name} than the sparse one {where}.")
    for row in one.rows:
        last = {metric: values[-1] for metric, values in one.curves[row.run].metrics.items()}
        peak = last.get("process_bytes", np.nan)  # The archive has it for the sparse layers only.
        until_then = f"; the peak of the process until then was {format_bytes(peak)}" if np.isfinite(peak) else ""
        beyond = f" No further: {row.beyond}." if row.beyond else ""
        taken = f"{row.nodes} nodes and {last['edges']:.0f} edges: {format_bytes(last['planned_bytes'])}"
        said.append(f"{LAYERS[row.run].label} at {taken}{until_then}.{beyond}")
    return ["\n".join(f"- {sentence}" for sentence in said)]


@each
def _figure(one: Measured) -> list[Figure]:
    sizes = np.array(list_sizes(one.config))
    panels = {}
    for metric, title in {"planned_bytes": "memory, bytes", "seconds": "time, seconds"}.items():
        curves = [(layer, one.curves[name]) for name, layer in LAYERS.items()]
        lines = [plots.Line(layer.label, layer.colour, c.steps, c.metrics[metric]) for layer, c in curves]
        panels[title] = lines, _crossing(one, metric)
    for name in (SPARSE, DENSE):
        formula = np.array([predict_bytes(one.config, name, size) for size in sizes.tolist()])
        label = f"{LAYERS[name].label}, formula"
        panels["memory, bytes"][0].append(plots.Line(label, LAYERS[name].colour, sizes, formula, dashed=True))
    caption = (
        "Memory and time, forward and backward, against the number of nodes; discs: XLA's buffers and measured times, "
        "dashed: the formula, dotted: where the GCN layers cross. The dense one ends where it no longer fits"
    )
    alt = "Memory and time of a dense and a sparse graph layer against the number of nodes, on logarithmic axes."
    return [Figure(f"graph_memory{one.suffix}", plots.svg(plots.scaling(panels, "nodes")), caption, alt)]


@each
def _table(one: Measured) -> list[Table]:
    rows = []
    for name, layer in LAYERS.items():
        curve = one.curves[name]
        columns = (curve.metrics[name] for name in ("edges", "predicted_bytes", "planned_bytes", "seconds"))
        for nodes, edges, formula, planned, seconds in zip(curve.steps, *columns, strict=True):
            memory, milliseconds = (format_bytes(formula), format_bytes(planned)), format_digits(1000 * seconds, 3)
            rows.append([layer.label, f"{nodes}", f"{edges:.0f}", *memory, milliseconds])
    loads = np.concatenate([one.curves[name].metrics["load"] for name in LAYERS])
    caption = (
        f"A layer of {one.config.hidden_size} features, forward and backward, on random graphs of "
        f"{one.config.mean_degree} edges per node and self-loops, float32; source {one.source}; load before a "
        f"measurement {loads.min():.1f} to {loads.max():.1f}; times are medians"
    )
    return [Table(caption, ("layer", "nodes", "edges", "formula", "XLA's buffers", "ms"), rows)]


STUDY = Study(
    name="graph_memory",
    title="Graph layers: memory and time, dense and sparse (Question 3.1b)",
    config=Config,
    arms=ArmScheme(Config),
    measure=measure,
    row=Largest,
    tiny={"max_nodes": 100},
    headline=_summary,
    sections={"Memory and time": [_summary, _figure, _table]},
)

if __name__ == "__main__":
    main(STUDY)
