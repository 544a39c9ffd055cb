"""An example of what a trained model does, written beside the results when all runs have ended."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.grnn.build import build_model, draw, roll, shift_of
from jaxrnn.arrays import Array
from jaxrnn.cells.gated import KINDS
from jaxrnn.data import on_graphs
from jaxrnn.rundir.directory import RunDirectory, read_config
from jaxrnn.rundir.restore import load_run
from jaxrnn.study.study import Row
from jaxrnn.training.seeds import Stream, stream_key

EXAMPLE = "example.json"
_MOST_EDGES = 400


def write_example(path: Path, rows: Sequence[Row]) -> None:
    """Writes what one run does on a sequence: the first GRNN, gated or not, on an epidemic, else the first gated one.

    The file has the run, `places` of the nodes, some `edges`, `panels` by title with a value for each node, and
    `gates`, for each of the two the mean over the nodes at each step.
    """
    base = read_config(path)["config"]
    ended = [base | row for row in rows if row["failed_at"] is None]
    fields = [row for row in ended if row["model"] in ("grnn", *KINDS)]
    chosen = [row for row in fields if row["task"] == "epidemic"] + [row for row in fields if row["model"] in KINDS]
    if not chosen:
        return
    row = chosen[0]
    config, params, *_ = load_run(path, row["run"])
    model = build_model(config)
    with jax.default_matmul_precision(config.precision):
        shift = jax.jit(lambda: shift_of(config, row["seed"]))()
        xs, targets = roll(config, shift, draw(config, stream_key(row["seed"], Stream.EVAL, 1), len(shift)))
        xs, targets = xs[:, :, :1], targets[:, :, :1]
        panels: dict[str, Any] = {}
        gates: dict[str, Any] = {}
        if config.model in KINDS:
            found = _gates(model, params, shift, xs[..., None])
            gates = {name: np.asarray(values).mean(axis=1).round(4).tolist() for name, values in found.items()}
            if config.task == "kstep":
                last = len(xs) - 1
                for name, values in found.items():
                    panels |= {f"gate of {name}, step {t}": values[t] for t in sorted({0, last // 2, last})}
        if config.task == "epidemic":
            share = jax.nn.sigmoid(model.apply({"params": params}, shift, xs[..., None])[-1, :, 0])
            last, ahead = len(xs) - 1, on_graphs.DAYS_AHEAD
            panels |= {f"infected on day {last}": xs[-1, :, 0], f"infected on day {last + ahead}": targets[-1, :, 0]}
            panels[f"predicted for day {last + ahead}"] = share
    adjacency = np.asarray(shift) != 0
    edges = np.array(np.nonzero(np.triu(adjacency)))
    if edges.shape[1] > _MOST_EDGES:
        edges = edges[:, np.random.default_rng(0).choice(edges.shape[1], _MOST_EDGES, replace=False)]
    example = {
        "run": row["run"],
        "places": _places(adjacency).round(3).tolist(),
        "edges": edges.tolist(),
        "panels": {title: np.asarray(values).round(3).tolist() for title, values in panels.items()},
        "gates": gates,
    }
    with RunDirectory(path) as directory:
        directory.write(EXAMPLE, example, indent=None)


def _gates(model: Any, params: Any, shift: Array, xs: Array) -> dict[str, Array]:
    """Both gates ``[T, N]`` on one sequence ``[T, N, 1, 1]``; for edge gates, the largest into each node."""
    cell = model.cell
    fields = {name: params[name] for name in cell.params_type._fields if name in params}
    cell_params = cell.params_type(**fields, shift=shift)
    start = cell.start(cell_params, xs.shape[1:-1], xs.dtype)

    def step(carry: Any, x: Array) -> tuple[Any, dict[str, Array]]:
        carry, _, gates = cell.step(cell_params, carry, cell.project(cell_params, x))
        return carry, gates

    _, gates = jax.jit(lambda: jax.lax.scan(step, start, xs))()
    size = xs.shape[:2]
    names = {"x": "the input", "h": "the state"}
    if model.model == "edge":
        return {names[name]: alpha[:, 0].max(axis=-1) for name, alpha in gates.items()}
    return {names[name]: jnp.broadcast_to(q.reshape(len(q), -1), size) for name, q in gates.items()}


def _places(adjacency: np.ndarray) -> np.ndarray:
    """Places ``[N, 2]``: neighbours attract each other, all nodes repel each other (Fruchterman and Reingold 1991)."""
    num_nodes = len(adjacency)
    places = np.random.default_rng(0).normal(size=(num_nodes, 2))
    unit = num_nodes**-0.5
    for heat in np.linspace(0.1, 0.001, 200):
        apart = places[:, None] - places
        distance = np.linalg.norm(apart, axis=-1) + 1e-9
        force = unit**2 / distance**2 - adjacency * distance / unit
        move = (apart * force[..., None]).sum(axis=1)
        length = np.linalg.norm(move, axis=-1, keepdims=True) + 1e-9
        places += move / length * np.minimum(length, heat)
    return places - places.mean(axis=0)
