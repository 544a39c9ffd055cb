"""Memory and time of a dense and of a sparse GCN layer against the number of nodes (report, Question 3.1b).

    python -m experiments.graph_memory --workdir=runs/graph_memory

Both layers compute the same ``S X W`` with 16 features in and out, and the gradients of half the sum of its squares
with respect to ``X`` and ``W``: one has ``S`` as a matrix ``[N, N]``, the other as a list of edges. The graphs are
random, with 5 directed edges a node and a self-loop. Sizes grow by factors of about 3; each layer goes as far as the
memory for it is there, which is known beforehand. At the largest size a GAT layer, one head of 16, is measured too.
Expect two to three minutes and 5 GB on two CPU cores; ``--resume`` goes on with what was interrupted, or up to a larger
``--max_nodes``.

Each measurement has a process of its own. In ``metrics.jsonl`` its ``step`` is the number of nodes, and

- `predicted_bytes` is the formula's: the matrix or the edges, and the layer's arrays ``[N, H]`` and ``[E, H]``;
- `planned_bytes` is what XLA's buffers take together: arguments, outputs and temporaries;
- `peak_bytes` is what was measured: the peak while the layer ran, less what the same process held after it had run the
  layer on a graph of ten nodes. On a CPU that is resident memory, and some tens of MB are the process's own affair;
- `process_bytes` is the whole process's resident peak, with its libraries, the making of the graph and compilation;
- `seconds` is the median over `repeats` runs after one to warm up, `load` the machine's load average beforehand.
"""

import contextlib
import ctypes
import itertools
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from numpy.typing import NDArray

from experiments import launch
from jaxrnn import graph
from jaxrnn.arrays import Array, PyTree
from jaxrnn.data.graphs import stochastic_block_model
from jaxrnn.rundir.directory import RunDirectory, RunError, read_config
from jaxrnn.study import plots
from jaxrnn.study.report import Block, Curve, Figure, Run, Section, Table, code, read_curves, read_runs, table_markdown

EXPERIMENT = "graph memory"
SIZE = 16
"""H: features of a node, before and after the layer."""
DEGREE = 5
SEED = 0
PRECISION = "highest"
SETTINGS = {"hidden_size": SIZE, "mean_degree": DEGREE, "num_heads": 1, "graph_seed": SEED, "precision": PRECISION}
MIN_NODES, MAX_NODES = 30, 1_000_000
IDLE_NODES = 10
MARGIN = 1.2
"""Times the formula's bytes have to be there: a graph is made and a program is compiled as well."""
MIN_REPEATS, MIN_SECONDS = 5, 0.5
RESOLUTION = 2e7
"""Bytes below which resident memory says more of the process than of the layer."""
METRICS = (
    "edges",
    "predicted_bytes",
    "planned_bytes",
    "peak_bytes",
    "process_bytes",
    "compile_seconds",
    "seconds",
    "repeats",
    "load",
)

_STATUS, _FORGET, _MEMINFO = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/meminfo")


# --- Layers -----------------------------------------------------------------------------------------------------------


class Layer(NamedTuple):
    """A layer and what it is expected to hold in memory.

    Attributes:
        label: for people.
        colour: of its curves.
        apply: ``apply(S, X, *parameters)``; ``S`` is a graph, or its matrix where the layer `is_dense`.
        parameters: shapes.
        is_dense: as above.
        node_arrays: arrays ``[N, H]`` that are there at once, forward and backward.
        edge_arrays: arrays ``[E, H]``, likewise. How many, of both, is counted in XLA's plan for a CPU.
        largest_only: measured at the largest size alone.
    """

    label: str
    colour: str
    apply: Callable[..., Array]
    parameters: Sequence[tuple[int, ...]]
    is_dense: bool
    node_arrays: int
    edge_arrays: int
    largest_only: bool = False


def _dense_gcn(matrix_nn: Array, x: Array, w: Array) -> Array:
    return matrix_nn @ (x @ w)


def _gat(edges: graph.GraphsTuple, x: Array, w_dkh: Array, a_sender_kf: Array, a_receiver_kf: Array) -> Array:
    return graph.gat(edges, graph.project(x, w_dkh), a_sender_kf, a_receiver_kf)


DENSE, SPARSE, GAT = "dense_gcn", "sparse_gcn", "sparse_gat"
LAYERS = {
    DENSE: Layer("dense GCN", plots.VERMILION, _dense_gcn, [(SIZE, SIZE)], True, 4, 0),
    SPARSE: Layer("sparse GCN", plots.BLUE, graph.gcn, [(SIZE, SIZE)], False, 3, 1),
    GAT: Layer(
        "sparse GAT", plots.GREEN, _gat, [(SIZE, 1, SIZE), (1, SIZE), (1, SIZE)], False, 6, 3, largest_only=True
    ),
}


def predicted_bytes(layer: Layer, num_nodes: int) -> int:
    """Bytes of a layer by its formula: ``4 N^2``, or 12 an edge for weight and ends, and its arrays of float32."""
    num_edges = (DEGREE + 1) * num_nodes  # With the self-loops.
    structure = 4 * num_nodes**2 if layer.is_dense else 12 * num_edges
    return structure + 4 * SIZE * (layer.node_arrays * num_nodes + layer.edge_arrays * num_edges)


def operands(layer: Layer, num_nodes: int) -> tuple[int, tuple[PyTree, ...]]:
    """The number of edges of a random graph, self-loops included, and the arguments of `Layer.apply`."""
    # A single block: every pair of nodes has an edge with the same probability.
    drawn = stochastic_block_model(SEED, num_nodes, 1, DEGREE, 1).edges
    edges = jax.device_put(graph.normalize(graph.build(*drawn, num_nodes)))
    keys = jax.random.split(jax.random.key(0), 1 + len(layer.parameters))
    shapes = [(num_nodes, SIZE), *layer.parameters]
    arrays = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
    return len(edges.senders), (_matrix(edges, num_nodes) if layer.is_dense else edges, *arrays)


@jax.jit(static_argnums=1)
def _matrix(edges: graph.GraphsTuple, num_nodes: int) -> Array:
    """``S [N, N]``, filled in place: with a copy on the host the largest ones would not fit."""
    return jnp.zeros((num_nodes, num_nodes)).at[edges.receivers, edges.senders].set(edges.edges)


def compiled(layer: Layer, arguments: Sequence[PyTree]) -> Any:
    """The program that runs the layer forward and backward."""

    def loss(arrays: Sequence[Array], s: PyTree) -> Array:
        return 0.5 * jnp.sum(layer.apply(s, *arrays) ** 2)

    program = jax.jit(lambda s, *arrays: jax.value_and_grad(loss)(arrays, s))
    with jax.default_matmul_precision(PRECISION):
        return program.lower(*arguments).compile()


# --- One measurement --------------------------------------------------------------------------------------------------


class Shortage(NamedTuple):
    """Why there is no measurement."""

    needed_bytes: int
    available_bytes: int

    def __str__(self) -> str:
        return f"needs {_size(self.needed_bytes)} with a fifth to spare, {_size(self.available_bytes)} are there"


def measure(name: str, num_nodes: int) -> dict[str, float] | Shortage:
    """The `METRICS` of a layer on this process's first device; to be called once in a process."""
    layer = LAYERS[name]
    _, small = operands(layer, IDLE_NODES)
    jax.block_until_ready(compiled(layer, small)(*small))
    idle, available = _in_use(), available_bytes()
    if (needed := int(MARGIN * predicted_bytes(layer, num_nodes))) > available:
        return Shortage(needed, available)

    num_edges, arguments = jax.block_until_ready(operands(layer, num_nodes))
    started = time.perf_counter()
    run = compiled(layer, arguments)
    compile_seconds = time.perf_counter() - started
    plan = run.memory_analysis()
    before, load = _resident("VmHWM"), os.getloadavg()[0]

    _in_use()
    _FORGET.write_text("5")  # Sets the peak of resident memory back to what is resident now; see proc(5).
    jax.block_until_ready(run(*arguments))
    seconds: list[float] = []
    while len(seconds) < MIN_REPEATS or sum(seconds) < MIN_SECONDS:
        started = time.perf_counter()
        jax.block_until_ready(run(*arguments))
        seconds.append(time.perf_counter() - started)
    resident = _resident("VmHWM")
    stats = _device_stats()
    values = (
        num_edges,
        predicted_bytes(layer, num_nodes),
        plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes,
        (stats["peak_bytes_in_use"] if stats else resident) - idle,
        max(before, resident),
        compile_seconds,
        float(np.median(seconds)),
        len(seconds),
        load,
    )
    return dict(zip(METRICS, values, strict=True))


def available_bytes() -> int:
    """Memory that a program may still take: the device's, or of a CPU what the system and its control group give."""
    if stats := _device_stats():
        return stats["bytes_limit"] - stats["bytes_in_use"]
    found = re.search(r"MemAvailable:\s+(\d+) kB", _MEMINFO.read_text())
    assert found is not None
    return min([1024 * int(found[1]), *launch.memory_limits()])


def _device_stats() -> dict[str, int] | None:
    """None on a CPU."""
    return jax.devices()[0].memory_stats()


def _in_use() -> int:
    """Bytes that the device's programs hold, or on a CPU the process, after it has given back what it has freed."""
    if stats := _device_stats():
        return stats["bytes_in_use"]
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # Of glibc.
    if trim is not None:
        trim(0)
    return _resident("VmRSS")


def _resident(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", _STATUS.read_text())
    assert found is not None
    return 1024 * int(found[1])


def in_own_process(function: Callable[..., Any], *args: Any) -> Any:
    """The result of a function in a new process, which ends with it.

    Raises:
        RunError: the process ended without a result.
    """
    # A fork would take over memory and threads. This process leaves JAX alone: it would take the accelerator's memory.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, *args), daemon=True)
    try:
        with _held_back():  # Half a start would leave a process that complains.
            process.start()
        sender.close()
        return receiver.recv()
    except EOFError:
        process.join()
        said = f"{function.__name__}({', '.join(map(str, args))})"
        raise RunError(f"the process of {said} ended with exit code {process.exitcode} and no result") from None
    finally:
        if process.pid is not None:
            process.kill()
            process.join()


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """SIGINT and SIGTERM wait until the end, and are one KeyboardInterrupt then."""
    received: list[int] = []
    previous = {s: signal.signal(s, lambda number, _: received.append(number)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for s, handler in previous.items():
            signal.signal(s, handler)
    if received:
        raise KeyboardInterrupt


def _send(sender: Connection, function: Callable[..., Any], *args: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes: the first one ends the others.
    sender.send(function(*args))


# --- The run ----------------------------------------------------------------------------------------------------------


def sizes(max_nodes: int) -> list[int]:
    """30, 100, 300, 1000, ... up to `max_nodes`, which comes last."""
    grid = (step * 10**power for power in itertools.count(1) for step in (3, 10))
    return [*itertools.takewhile(lambda size: size < max_nodes, grid), max_nodes]


def run(path: Path, max_nodes: int | None, *, resume: bool) -> None:
    """Measures what is missing in a run directory, new or resumed, and writes its results, table and figure.

    Raises:
        RunError: the directory cannot be used, or a measurement failed.
    """
    config = {"max_nodes": MAX_NODES if max_nodes is None else max_nodes, **SETTINGS}
    record = in_own_process(launch.record, EXPERIMENT, config)
    if resume:
        _check_resumed(path, record, max_nodes)
    with RunDirectory.resume(path) if resume else RunDirectory.create(path, record) as directory:
        directory.record = record
        # In this order: a run that is to grow is never complete under its new config.
        directory.write("results.json", {"complete": False, "runs": []})
        directory.write_config()
        missing = _measure_missing(directory)
        directory.write("results.json", _results(_curves(path), missing))
        (measured,) = read_runs(path, "this machine")
        text = f"{table_markdown(_table(measured))}\n\n{_summary(measured)}\n"
        try:
            (path / "graph_memory.md").write_text(text)
            (path / "graph_memory.png").write_bytes(plots.png(figure(measured)))
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror}") from error
    print(text, end="")


def _check_resumed(path: Path, record: dict[str, Any], max_nodes: int | None) -> None:
    """Takes `max_nodes` of the saved run where none is given, and refuses what cannot stand beside it."""
    saved = launch.of_experiment((EXPERIMENT,), path)
    before = saved["config"].get("max_nodes")
    if not isinstance(before, int):
        raise RunError(f"{path / 'config.json'}: does not say max_nodes")
    if max_nodes is None:
        record["config"]["max_nodes"] = before
    elif max_nodes < before:
        raise launch.UsageError(f"--max_nodes={max_nodes}: the run was started with {before}, which may only grow")
    settings = {name: value for name, value in saved["config"].items() if name != "max_nodes"}
    if settings != SETTINGS:
        raise RunError(f"{path}: was measured with other settings: {settings}")
    for what in ("device", "versions"):
        if saved.get(what) != record[what]:
            raise RunError(f"{path}: was measured with another {what}: {saved.get(what)} instead of {record[what]}")


def _measure_missing(directory: RunDirectory) -> dict[str, tuple[int, Shortage]]:
    """Appends to ``metrics.jsonl``; returns for what layers which size was the first not to fit."""
    metrics = "metrics.jsonl"
    directory.cut_torn_line(metrics)
    done = {name: set(curve.steps.tolist()) for name, curve in _curves(directory.path).items()}
    missing: dict[str, tuple[int, Shortage]] = {}
    max_nodes = directory.record["config"]["max_nodes"]
    for num_nodes, (name, layer) in itertools.product(sizes(max_nodes), LAYERS.items()):
        if num_nodes in done.get(name, ()) or name in missing or (layer.largest_only and num_nodes < max_nodes):
            continue
        found = in_own_process(measure, name, num_nodes)
        if isinstance(found, Shortage):
            missing[name] = (num_nodes, found)
            print(f"{layer.label}, {num_nodes} nodes: {found}", flush=True)
        else:
            directory.append(metrics, [{"run": name, "seed": SEED, "step": num_nodes, **found}])
            said = f"{_size(found['peak_bytes'])}, {_digits(1000 * found['seconds'], 3)} ms"
            print(f"{layer.label}, {num_nodes} nodes: {said}", flush=True)
    return missing


# --- Results ----------------------------------------------------------------------------------------------------------


def crossing(nodes: NDArray, values: NDArray, others: NDArray) -> float | None:
    """From where on `values` exceed `others`; None where the last does not.

    Both are ``[k]`` and taken as straight between the `nodes`, all in logarithms.
    """
    gaps = np.log(values / others)
    below = np.flatnonzero(gaps <= 0)
    i = below[-1] + 1 if below.size else 0
    if i == len(gaps):
        return None
    if i == 0:
        return float(nodes[0])
    return float(np.exp(np.interp(0, gaps[i - 1 : i + 1], np.log(nodes[i - 1 : i + 1]))))


def _curves(path: Path) -> dict[str, Curve]:
    """By layer; without what is damaged."""
    curves, _ = read_curves(path / "metrics.jsonl")
    return _whole(curves)


def _whole(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    return {name: curves[name] for name in LAYERS if name in curves and {*METRICS} <= {*curves[name].metrics}}


def _crossings(curves: Mapping[str, Curve]) -> dict[str, float | None]:
    """By metric: from how many nodes on the dense layer takes more."""
    if not {DENSE, SPARSE} <= {*curves}:
        return {}
    dense, sparse = curves[DENSE], curves[SPARSE]
    nodes, i, j = np.intersect1d(dense.steps, sparse.steps, return_indices=True)
    return {
        metric: crossing(nodes, dense.metrics[metric][i], sparse.metrics[metric][j])
        for metric in ("planned_bytes", "seconds")
    }


def _results(curves: Mapping[str, Curve], missing: Mapping[str, tuple[int, Shortage]]) -> dict[str, Any]:
    """What ``results.json`` says: each layer's largest size, why it goes no further, and where the GCNs cross."""
    rows = []
    for name in LAYERS:
        row: dict[str, Any] = {"run": name, "seed": SEED}
        if name in curves:
            row["nodes"] = int(curves[name].steps[-1])
            for metric, values in curves[name].metrics.items():
                row[metric] = int(values[-1]) if values[-1].is_integer() else float(values[-1])
        if name in missing:
            num_nodes, shortage = missing[name]
            row["beyond"] = f"{num_nodes} nodes: {shortage}"
        rows.append(row)
    return {"complete": True, "runs": rows, "crossing_nodes": _crossings(curves)}


def sections(runs: Sequence[Run]) -> list[Section]:
    """The study's section from all run directories; those of other experiments are passed over."""
    used = [run for run in runs if run.experiment == EXPERIMENT and run.complete and _whole(run.curves)]
    blocks: list[Block] = []
    for i, run in enumerate(used):
        source = f"{code(run.path)}, {run.kind}: {_summary(run)}"
        blocks += [source, Figure(f"figures/graph_memory_{i}.png", plots.png(figure(run)), _CAPTION, _ALT), _table(run)]
    return [Section("Graph layers: memory and time, dense and sparse (Question 3.1b)", blocks)] if blocks else []


_CAPTION = (
    "Memory and time, forward and backward, against the number of nodes; discs: measured, dashed: the formula, dotted: "
    "where the GCN layers cross. The dense one ends where it no longer fits"
)
_ALT = "Memory and time of a dense and a sparse graph layer against the number of nodes, on logarithmic axes."


def _summary(run: Run) -> str:
    """Markdown: where the GCN layers cross, and how far each layer goes."""
    names = {"planned_bytes": "memory (by XLA's buffers)", "seconds": "time"}
    curves = _whole(run.curves)
    said = [
        f"The dense GCN layer takes more {names[metric]} than the sparse one "
        + ("at no size that was measured." if nodes is None else f"from about {_digits(nodes, 2)} nodes on.")
        for metric, nodes in _crossings(curves).items()
    ]
    for name, curve in curves.items():
        last = {metric: values[-1] for metric, values in curve.metrics.items()}
        said.append(
            f"{LAYERS[name].label} at {curve.steps[-1]} nodes and {last['edges']:.0f} edges: "
            f"{_size(last['peak_bytes'])}; the whole process {_size(last['process_bytes'])}."
        )
    said += [f"No further: {result['run']}, {result['beyond']}." for result in run.results if "beyond" in result]
    return " ".join(said)


def _table(run: Run) -> Table:
    columns = ("layer", "nodes", "edges", "formula", "XLA's buffers", "measured", "whole process", "ms", "compile, s")
    rows, loads = [], []
    for name, curve in _whole(run.curves).items():
        for i, num_nodes in enumerate(curve.steps):
            values = {metric: curve.metrics[metric][i] for metric in METRICS}
            loads.append(values["load"])
            memory = (_size(values[f"{what}_bytes"]) for what in ("predicted", "planned", "peak", "process"))
            times = (_digits(1000 * values["seconds"], 3), f"{values['compile_seconds']:.2f}")
            rows.append([LAYERS[name].label, f"{num_nodes}", f"{values['edges']:.0f}", *memory, *times])
    caption = (
        f"A layer of {SIZE} features, forward and backward, on random graphs of {DEGREE} edges a node and self-loops, "
        f"float32; {run.device.get('kind', 'unknown device')}; jax {run.versions.get('jax', 'unknown')}; load before a "
        f"measurement {min(loads):.1f} to {max(loads):.1f}. Measured is the peak less what an idle process holds, on a "
        "CPU good to some tens of MB; the whole process is with its libraries; times are medians"
    )
    return Table(columns, rows, caption)


def figure(run: Run) -> plots.Figure:
    """Both curves of each layer; memory only where it is well above the process's own."""
    curves = _whole(run.curves)
    last = max(int(curve.steps[-1]) for curve in curves.values())
    grid = np.array(sizes(last))
    memory, seconds = [], []
    for name, curve in curves.items():
        layer, bytes_held = LAYERS[name], curve.metrics["peak_bytes"]
        sure = curve.metrics["planned_bytes"] > RESOLUTION
        memory.append(plots.Line(layer.label, layer.colour, curve.steps[sure], bytes_held[sure]))
        if not layer.largest_only:
            formula = np.array([predicted_bytes(layer, size) for size in grid.tolist()])
            memory.append(plots.Line(f"{layer.label}, formula", layer.colour, grid, formula, dashed=True))
        seconds.append(plots.Line(layer.label, layer.colour, curve.steps, curve.metrics["seconds"]))
    crossings = _crossings(curves)
    panels = {
        "memory, bytes": (memory, crossings.get("planned_bytes")),
        "time, seconds": (seconds, crossings.get("seconds")),
    }
    return plots.scaling(panels, "nodes")


def _digits(number: float, digits: int) -> str:
    """Rounded to so many digits, without an exponent."""
    return np.format_float_positional(number, precision=digits, fractional=False, trim="-")


def _size(num_bytes: float) -> str:
    """Bytes with three digits, in kB, MB or GB of powers of ten."""
    unit, name = next(
        ((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB")) if abs(num_bytes) >= unit), (1e3, "kB")
    )
    return f"{_digits(num_bytes / unit, 3)} {name}"


# --- The binary -------------------------------------------------------------------------------------------------------


def main(argv: list[str]) -> None:
    """Measures what the flags ask for."""
    del argv
    path, resume = launch.workdir(), flags.FLAGS.resume
    if resume:
        read_config(path)  # Before processes start, which takes its time.
    try:
        _FORGET.write_text("5")
    except OSError as error:
        raise RunError(f"{_FORGET}: cannot be written, but memory is measured through it: {error.strerror}") from error
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(path, flags.FLAGS.max_nodes, resume=resume)
    except KeyboardInterrupt:
        launch.interrupted(f"--resume --workdir={path}" if (path / "config.json").exists() else "the same command")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Directory of the run: created, and refused if it holds a run already.")
    flags.DEFINE_integer("max_nodes", None, f"The largest graph; {MAX_NODES} by default.", lower_bound=MIN_NODES)
    flags.DEFINE_bool("resume", False, "Go on with the run in --workdir, or up to a larger --max_nodes.")
    launch.run_main(main)
