"""What is trained: the graph of a config, its split, and the models by their papers' rules."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import scipy

from configs.nodes import Config
from jaxrnn import graph
from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.data import graphs, knn, nodes
from jaxrnn.data.graphs import CITATION_SIZES, NodeTask, Split, SplitSizes
from jaxrnn.nn import losses
from jaxrnn.nn.nodes import GATClassifier, GCNClassifier
from jaxrnn.training.definition import ConfigError, Training, check_one_of
from jaxrnn.training.seeds import Stream, stream_key
from jaxrnn.training.stop import stop_above_recent_mean, stop_without_progress

MODELS = ("gcn", "gat")
_MANY_EDGES = 10**6
"""A GCN's graph with more edges is multiplied by rows, because the time of a product then matters."""
NEIGHBOURS = Config().neighbours


# --- The data ---------------------------------------------------------------------------------------------------------


def load(config: Any) -> NodeTask:
    """The graph of a config."""
    return nodes.load(config.dataset, config.neighbours)


def describe_task(config: Config) -> dict[str, Any]:
    """What ``config.json`` keeps of the data."""
    task = load(config)
    edges = len(task.edges.senders)
    return {"sha256": task.sha256, "nodes": len(task.labels), "edges": edges, "classes": task.num_classes}


def check(config: Config) -> None:
    """Refuses names that do not exist, a split that the data do not have, and fields that would not be read."""
    for field in ("num_heads", "num_output_heads") if config.model == "gcn" else ():
        if getattr(config, field) > 1:
            raise ConfigError(field, getattr(config, field), "a gcn has no attention heads; a gat has")
    is_file = nodes.is_planetoid(config.dataset) or nodes.is_documents(config.dataset)
    if not (is_file or Path(config.dataset).suffix or "/" in config.dataset or Path(config.dataset).is_dir()):
        check_one_of("dataset", config.dataset, nodes.NAMES)
    for field, default in CITATION_SIZES._asdict().items():
        if getattr(config, field) != default and not nodes.has_sizes(config.dataset, config.split):
            reason = "only a random split of a file's graph has such a size; give --config.split=random"
            raise ConfigError(field, getattr(config, field), reason)
    if config.dataset == knn.DIGITS:
        try:
            load(config)
        except ValueError as error:
            raise ConfigError("neighbours", config.neighbours, str(error)) from error
    elif config.neighbours != NEIGHBOURS:
        raise ConfigError("neighbours", config.neighbours, "only digits have nearest neighbours")
    jax.eval_shape(lambda: draw_split(config, 0))
    if config.normalize_features and (load(config).features.data < 0).any():
        reason = "some features are negative, so a row may sum to anything; give --config.normalize_features=False"
        raise ConfigError("normalize_features", True, reason)


def draw_split(config: Any, seed: Array | int) -> Split:
    """A run's masks: the public split, or one that is a function of its seed."""
    sizes = SplitSizes(config.train_per_class, config.num_validation, config.num_test)
    return _draw(config.dataset, config.split, sizes, seed)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _draw(dataset: str, split: str, sizes: SplitSizes, seed: Array | int) -> Split:
    return nodes.draw_split(dataset, split, stream_key(seed, Stream.DATA), sizes)


def host_split(config: Any, seed: int) -> Split:
    """`draw_split` as NumPy arrays."""
    return Split(*map(np.asarray, draw_split(config, seed)))


def inputs(config: Any) -> tuple[Any, Any]:
    """The graph with GCN's weights, and the features, as the models take them."""
    task = load(config)
    adjacency = graph.build(*task.edges, num_nodes=len(task.labels), weights=task.weights)
    try:
        adjacency = graph.normalize(adjacency)
    except ValueError as error:  # From the edge weights.
        raise ConfigError("dataset", config.dataset, str(error)) from error
    is_large = len(adjacency.senders) > _MANY_EDGES and config.model == "gcn"
    return graph.by_rows(adjacency) if is_large else adjacency, graph.sparse_rows(features_of(config))


def features_of(config: Any) -> "scipy.sparse.csr_array":
    """The features ``[N, D]``, normalised or not."""
    features = load(config).features
    return graphs.row_normalize(features) if config.normalize_features else features


# --- The training -----------------------------------------------------------------------------------------------------


def build_model(config: Any, num_classes: int) -> GCNClassifier | GATClassifier:
    """The model of a config: a `Config`, or what `jaxrnn.load` returns."""
    if config.model == "gcn":
        return GCNClassifier(num_classes, config.hidden_size, config.dropout)
    return GATClassifier(
        num_classes, config.num_heads, config.hidden_size, config.num_output_heads, dropout=config.dropout
    )


def build(config: Config) -> Training:
    """The training of a config; the memory is the run's split."""
    task, is_gcn = load(config), config.model == "gcn"
    model = build_model(config, task.num_classes)
    adjacency, features = inputs(config)

    def penalty(params: PyTree) -> Array:
        """As in the papers' code, the first layer of the GCN decays, and all of the GAT, biases included."""
        decayed = params["layer_0"] if is_gcn else params
        return config.weight_decay * optax.tree.norm(decayed, squared=True) / 2

    def loss(params: PyTree, split: Split, batch: None, key: Key, data: PyTree) -> tuple[Array, Any]:
        logits, _ = model.apply({"params": params}, *data["inputs"], deterministic=False, rngs={"dropout": key})
        value = losses.cross_entropy(logits, data["labels"], split.train)
        return value + penalty(params), ({"accuracy": losses.accuracy(logits, data["labels"], split.train)}, split)

    def validate(params: PyTree, split: Split, data: PyTree) -> dict[str, Array]:
        logits, _ = model.apply({"params": params}, *data["inputs"])
        value = losses.cross_entropy(logits, data["labels"], split.validation)
        return {
            # The loss that is compared includes the penalty in the GCN's code, but not in the GAT's.
            "validation_loss": value + penalty(params) if is_gcn else value,
            "validation_accuracy": losses.accuracy(logits, data["labels"], split.validation),
        }

    def test(params: PyTree, split: Split, seed: Array, data: PyTree) -> dict[str, Array]:
        logits, _ = model.apply({"params": params}, *data["inputs"])
        parts = {"test_accuracy": split.test, "validation_accuracy": split.validation}
        return {name: losses.accuracy(logits, data["labels"], part) for name, part in parts.items()}

    return Training(
        init=lambda key: model.init(key, adjacency, features)["params"],
        sample=lambda key, step, data: None,
        loss=loss,
        optimizer=lambda hyper: optax.adam(hyper["learning_rate"]),
        test=test,
        hyper={"learning_rate": config.learning_rate},
        max_steps=config.max_steps,
        eval_every=config.eval_every,
        chunk_steps=config.chunk_steps,
        stop=stop_above_recent_mean(config.patience) if is_gcn else stop_without_progress(config.patience),
        stop_every=1,
        start_memory=lambda seed, data: draw_split(config, seed),
        validate=validate,
        data={"inputs": (adjacency, features), "labels": task.labels},
    )
