"""Node classification: ``python -m experiments.nodes --config=configs/nodes.py:gcn --workdir=DIR``."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

import jaxrnn
from configs.nodes import Config
from experiments import launch, nodes_report
from experiments.nodes_report import HIDDEN, Hidden
from jaxrnn import graph
from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.data import graphs, planetoid
from jaxrnn.data.graphs import NodeTask, Split
from jaxrnn.nn import losses
from jaxrnn.nn.nodes import GATClassifier, GCNClassifier
from jaxrnn.rundir.directory import RunDirectory, RunError
from jaxrnn.study import plots, stats
from jaxrnn.study.report import interval, read_runs
from jaxrnn.training import processes as distributed
from jaxrnn.training.loop import Study, summary
from jaxrnn.training.seeds import Stream, stream_key
from jaxrnn.training.trainer import TrainState, above_recent_mean, best_validation, make_trainer

EMBEDDED: dict[str, Callable[[], NodeTask]] = {
    "karate": graphs.karate,
    # As many nodes and edges as Cora has, or nearly.
    "sbm": lambda: graphs.stochastic_block_model(
        0, num_nodes=2700, num_blocks=6, expected_degree=4.0, within_fraction=0.8
    ),
}
"""Graphs that need no file; their nodes have no features."""

_MOST_POINTS = 5000


# --- The data ---------------------------------------------------------------------------------------------------------


def load_task(config: Any) -> NodeTask:
    """The graph of a config.

    Raises:
        DataError: as in `jaxrnn.data.planetoid.load`.
    """
    return _load_task(config.dataset, launch.data_dir())


@functools.cache
def _load_task(name: str, data_dir: Path | None) -> NodeTask:
    if name in EMBEDDED:
        return EMBEDDED[name]()
    return planetoid.load(name, data_dir, launch.cache_dir())


def describe_task(config: Config) -> dict[str, Any]:
    """What ``config.json`` keeps of the data."""
    task = load_task(config)
    edges = len(task.edges.senders)
    return {"sha256": task.sha256, "nodes": len(task.labels), "edges": edges, "classes": task.num_classes}


def check(config: Config) -> None:
    """Refuses names that do not exist, and a split that the data do not have."""
    launch.check_runs(config)
    launch.choice("model", config.model, ["gcn", "gat"])
    launch.choice("split", config.split, ["public", "random"])
    for field in ("num_heads", "num_output_heads") if config.model == "gcn" else ():
        if getattr(config, field) > 1:
            raise launch.bad_value(field, getattr(config, field), "a gcn has no attention heads; a gat has")
    known = [*EMBEDDED, "cora", "citeseer"]
    if not config.dataset.startswith("planetoid:"):
        launch.choice("dataset", config.dataset, [*known, "planetoid:DIR/NAME"])
    jax.eval_shape(lambda: draw_split(config, 0))


def draw_split(config: Any, seed: Array | int) -> Split:
    """A lane's masks: the public split, or one that is a function of its seed.

    Raises:
        DataError: there are not enough nodes for a random one.
    """
    task = load_task(config)
    key = stream_key(seed, Stream.DATA)
    if config.dataset in EMBEDDED:
        return graphs.random_split_by_class(key, task.labels, task.num_classes)
    if config.split == "random":
        return graphs.random_split(key, task.labels, task.num_classes)
    return jax.tree.map(jnp.asarray, task.split)


def inputs(config: Any) -> tuple[Any, Any]:
    """The graph with GCN's weights, and the row-normalised features, as the models take them."""
    task = load_task(config)
    adjacency = graph.build(*task.edges, num_nodes=len(task.labels))
    return graph.normalize(adjacency), graph.sparse_rows(graphs.row_normalize(task.features))


# --- The study --------------------------------------------------------------------------------------------------------


def build_model(config: Any) -> GCNClassifier | GATClassifier:
    """The model of a config: a `Config`, or what `jaxrnn.load` returns."""
    num_classes = load_task(config).num_classes
    if config.model == "gcn":
        return GCNClassifier(num_classes, config.hidden_size, config.dropout)
    return GATClassifier(
        num_classes, config.num_heads, config.hidden_size, config.num_output_heads, dropout=config.dropout
    )


def build_study(config: Config) -> Study:
    """The study of a config."""
    model = build_model(config)
    adjacency, features = inputs(config)
    labels = jnp.asarray(load_task(config).labels)
    is_gcn = config.model == "gcn"

    def penalty(params: PyTree) -> Array:
        """The papers' codes decay the first layer of the GCN, and all of the GAT, biases too."""
        decayed = params["layer_0"] if is_gcn else params
        return config.weight_decay * optax.tree.norm(decayed, squared=True) / 2

    def loss(params: PyTree, split: Split, _: None, key: Key) -> tuple[Array, Any]:
        logits, _ = model.apply({"params": params}, adjacency, features, deterministic=False, rngs={"dropout": key})
        value = losses.cross_entropy(logits, labels, split.train)
        return value + penalty(params), ({"accuracy": losses.accuracy(logits, labels, split.train)}, split)

    def validate(params: PyTree, split: Split) -> dict[str, Array]:
        logits, _ = model.apply({"params": params}, adjacency, features)
        value = losses.cross_entropy(logits, labels, split.validation)
        return {
            # What the GCN's code compares has the penalty in it, what the GAT's compares has not.
            "validation_loss": value + penalty(params) if is_gcn else value,
            "validation_accuracy": losses.accuracy(logits, labels, split.validation),
        }

    def evaluate(state: TrainState) -> dict[str, Array]:
        logits, _ = model.apply({"params": state.params}, adjacency, features)
        return {
            "steps": state.step + 1,
            "test_accuracy": losses.accuracy(logits, labels, state.memory.test),
            "validation_accuracy": losses.accuracy(logits, labels, state.memory.validation),
        }

    trainer = make_trainer(
        lambda key: model.init(key, adjacency, features)["params"],
        lambda key, step: None,
        loss,
        optax.scale_by_adam(),
        above_recent_mean(config.patience) if is_gcn else best_validation(config.patience),
        max_steps=config.max_steps,
        eval_every=config.eval_every,
        chunk_steps=config.chunk_steps,
        look_every=1,
        init_memory=lambda seed: draw_split(config, seed),
        validate=validate,
    )
    lanes = config.num_seeds * len(config.learning_rate)
    return Study(
        trainer=trainer,
        evaluate=evaluate,
        summarize=summarize,
        max_steps=config.max_steps,
        seeds_per_program=launch.lanes_in_a_program(config.seeds_per_program, lanes),
    )


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What seeds say together; intervals are at 95 %."""
    accuracies = [row["test_accuracy"] for row in runs if row["test_accuracy"] is not None]
    return {
        "test_accuracy": stats.mean(accuracies, within=(0, 1)).record(),
        "test_accuracy_standard_deviation": float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
    }


# --- Pictures ---------------------------------------------------------------------------------------------------------


def write_pictures(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes the figures of a complete run beside it, and what they need besides.

    Raises:
        RunError, CheckpointError: if files cannot be read or written.
    """
    ended = [row for row in rows if "failed_at" not in row]
    if ended:
        hidden = hidden_layer(path, ended[0]["run"], ended[0]["seed"])
        with RunDirectory.resume(path) as directory:
            directory.write(HIDDEN, hidden.model_dump(), indent=None)
    if not distributed.is_first():
        return
    found = nodes_report.collect(read_runs(path, "this machine"))
    pictures = {f"{one.name}.png": plots.png(one.plot) for one in nodes_report.pictures(found.arms, found.hidden)}
    for name, png in pictures.items():
        try:
            (path / name).write_bytes(png)
        except OSError as error:
            raise RunError(f"{path / name}: cannot be written: {error.strerror}") from error


def hidden_layer(path: Path, run: str, seed: int) -> Hidden:
    """The last hidden layer of a run's chosen weights in two dimensions, at nodes with a label, 5000 at most.

    Raises:
        RunError, CheckpointError: as in `jaxrnn.load`.
    """
    config, params = jaxrnn.load(path, run=run)
    with jax.default_matmul_precision(config.precision):
        logits, hidden = jax.jit(build_model(config).apply)({"params": params}, *inputs(config))
        split = jax.jit(lambda: draw_split(config, seed))()
    labels = load_task(config).labels
    wrong = np.asarray(split.test) & (np.asarray(logits).argmax(-1) != labels)
    nodes = np.flatnonzero(labels >= 0)
    if len(nodes) > _MOST_POINTS:
        nodes = np.sort(np.random.default_rng(0).choice(nodes, _MOST_POINTS, replace=False))
    plane, share = principal_plane(np.asarray(hidden, np.float64)[nodes])
    return Hidden(
        run=run,
        variance_share=round(share, 4),
        x=plane[:, 0].round(3).tolist(),
        y=plane[:, 1].round(3).tolist(),
        classes=labels[nodes].tolist(),
        wrong=np.flatnonzero(wrong[nodes]).tolist(),
    )


def principal_plane(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The first two principal components of points ``[n, H]``, and their share of the variance.

    Returns:
        Coordinates ``[n, 2]``, the largest of which is 1 or -1, and the share; zeros where all points are one.
    """
    centred = points - points.mean(axis=0)
    _, spreads, axes = np.linalg.svd(centred, full_matrices=False)
    # A component's sign is free: its largest weight is positive.
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    plane = centred @ (axes * np.sign(largest))[:2].T
    plane = np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))
    scale, variance = np.abs(plane).max(), (spreads**2).sum()
    if scale == 0:
        return plane, 0.0
    return plane / scale, float((spreads[:2] ** 2).sum() / variance)


EXPERIMENT = launch.Experiment(
    nodes_report.EXPERIMENT, Config, check, launch.trains(build_study), describe_task, finish=write_pictures
)


def main(argv: list[str]) -> None:
    """Trains, and prints a line for each run."""
    del argv
    rows = launch.launch(EXPERIMENT)
    for row in rows:
        if "failed_at" in row:
            print(f"{row['run']}: failed (NaN) at epoch {row['failed_at']}")
        else:
            accuracy = "-" if row["test_accuracy"] is None else f"{row['test_accuracy']:.4f}"
            print(f"{row['run']}: {row['steps']} epochs, test accuracy {accuracy}")
    for one in summary(rows, summarize):
        mean, deviation = stats.Estimate(**one["test_accuracy"]), one["test_accuracy_standard_deviation"]
        if deviation is not None:
            print(
                f"learning rate {one['learning_rate']:g}: mean {interval(mean, '.4f')},"
                f" standard deviation {deviation:.4f}, over {one['runs']} runs"
            )
    print(f"Figures: {', '.join(map(str, sorted(launch.workdir().glob('*.png'))))}")


if __name__ == "__main__":
    launch.define_flags("nodes.py", Config)
    launch.define_training_flags()
    launch.define_data_dir()
    launch.run_main(main)
