"""The training and the test of both tasks; the test includes the best predictor that is known."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs.grnn import Config
from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.data import on_graphs
from jaxrnn.nn.on_graphs import SIZED, GraphForecaster
from jaxrnn.training.definition import Training
from jaxrnn.training.seeds import Stream, stream_key

LENGTHS = {"kstep": 10, "epidemic": 8}
LARGER = 4
"""The additional test is on a graph with this many times as many nodes."""
PERTURBATIONS = (0.01, 0.03, 0.1)
"""Spectral norms of the perturbations that are added to the shift, whose own norm is 1."""
_THRESHOLDS = np.linspace(0.02, 0.98, 49, dtype=np.float32)


def length_of(config: Any) -> int:
    """The number of inputs."""
    return int(config.length or LENGTHS[config.task])


@functools.cache
def network(name: str) -> np.ndarray:
    """`on_graphs.contact_network`, cached."""
    return on_graphs.contact_network(name)


def describe_data(config: Config) -> dict[str, Any]:
    """What ``config.json`` keeps of the data."""
    if config.task == "kstep":
        return {}
    adjacency = network(config.network)
    return {"nodes": len(adjacency), "edges": int(adjacency.sum()) // 2}


def build_model(config: Any, num_nodes: int | None = None) -> GraphForecaster:
    """The model of a config: a `Config`, or what `jaxrnn.load` returns."""
    if num_nodes is None:
        num_nodes = config.num_nodes if config.task == "kstep" else len(network(config.network))
    return GraphForecaster(config.model, num_nodes, config.hidden_size, config.num_taps)


def shift_of(config: Any, seed: Array | int) -> Array:
    """A run's graph ``[N, N]``: drawn from its seed, or the contact network."""
    if config.task == "kstep":
        return on_graphs.block_graph(stream_key(seed, Stream.SAMPLE), config.num_nodes)
    return on_graphs.unit_shift(jnp.asarray(network(config.network)))


def draw(config: Any, key: Key, num_nodes: int) -> PyTree:
    """Draws what is random in a batch."""
    sizes = length_of(config), num_nodes, config.batch_size
    if config.task == "kstep":
        return on_graphs.draw_diffusion(key, *sizes, config.temporal_correlation)
    return on_graphs.draw_epidemic(key, *sizes)


def roll(config: Any, shift: Array, noise: PyTree) -> tuple[Array, Array]:
    """A batch's inputs and targets, ``[T, N, B]``."""
    if config.task == "kstep":
        return on_graphs.diffuse(shift, noise)
    _, infected = on_graphs.spread((shift != 0).astype(jnp.float32), noise)
    return infected[: -on_graphs.DAYS_AHEAD], infected[on_graphs.DAYS_AHEAD :]


def build(config: Config) -> Training:
    """The training of a config; the memory is the run's graph."""
    model = build_model(config)
    num_nodes = model.num_nodes

    def loss(params: PyTree, shift: Array, noise: PyTree, key: Key, data: PyTree) -> tuple[Array, Any]:
        del key, data
        xs, targets = roll(config, shift, noise)
        ys = model.apply({"params": params}, shift, xs[..., None])
        if config.task == "kstep":
            return jnp.abs(ys - targets).mean(), ({}, shift)
        return optax.sigmoid_binary_cross_entropy(ys, targets).mean(), ({}, shift)

    def test(params: PyTree, shift: Array, seed: Array, data: PyTree) -> dict[str, Array]:
        del data
        predict = functools.partial(model.apply, {"params": params})
        key = stream_key(seed, Stream.EVAL)
        measured = _test_diffusion if config.task == "kstep" else _test_epidemic
        found = measured(config, predict, shift, jax.random.fold_in(key, 0))
        found |= _test_graph(config, predict, shift, jax.random.fold_in(key, 1))
        if config.task == "kstep" and config.model not in SIZED:
            graph_key, data_key = jax.random.split(jax.random.fold_in(key, 2))
            larger = on_graphs.block_graph(graph_key, LARGER * num_nodes)
            other = functools.partial(build_model(config, LARGER * num_nodes).apply, {"params": params})
            found["larger_share"] = _test_diffusion(config, other, larger, data_key, 1)["attainable_share"]
        return found | counts

    def init(key: Key, model: GraphForecaster = model) -> PyTree:
        sizes = model.num_nodes, model.num_nodes
        return model.init(key, jnp.zeros(sizes), jnp.zeros((1, model.num_nodes, 1, 1)))["params"]

    def count(model: GraphForecaster) -> Array:
        shapes = jax.eval_shape(lambda: init(jax.random.key(0), model))
        return jnp.int32(sum(leaf.size for leaf in jax.tree.leaves(shapes)))

    counts = {"parameters": count(model), "parameters_larger": count(build_model(config, LARGER * num_nodes))}
    return Training(
        init=init,
        sample=lambda key, step, data: draw(config, key, num_nodes),
        loss=loss,
        optimizer=lambda hyper: optax.adam(hyper["learning_rate"]),
        test=test,
        hyper={"learning_rate": config.learning_rate},
        max_steps=config.max_steps,
        eval_every=config.eval_every,
        chunk_steps=config.chunk_steps,
        start_memory=lambda seed, data: shift_of(config, seed),
    )


def _sums(config: Any, key: Key, of_batch: Callable[[Key], PyTree], num_batches: int | None) -> PyTree:
    """The sums over the batches of a test."""
    number = num_batches or -(-config.test_samples // config.batch_size)
    return jax.tree.map(lambda x: x.sum(axis=0), jax.lax.map(of_batch, jax.random.split(key, number)))


def _test_diffusion(
    config: Any, predict: Callable[..., Array], shift: Array, key: Key, num_batches: int | None = None
) -> dict[str, Array]:
    """Relative errors: the mean over steps and nodes of ``|e| / |y|``, with norms over the sequences."""
    means = on_graphs.mean_diffusion(shift, length_of(config))

    def of_batch(key: Key) -> dict[str, Array]:
        xs, targets = roll(config, shift, draw(config, key, len(shift)))
        predictions = {
            "relative_rmse": predict(shift, xs[..., None]),
            "persistence": xs,
            "training_mean": means,
            "optimum": on_graphs.best_diffusion(shift, xs, config.temporal_correlation),
            "target": jnp.zeros_like(xs),
        }
        return {name: ((ys - targets) ** 2).sum(axis=-1) for name, ys in predictions.items()}

    sums = _sums(config, key, of_batch, num_batches)
    target = sums.pop("target")
    found = {name: jnp.sqrt(total / target).mean() for name, total in sums.items()}
    reached, attainable = (found["training_mean"] - found[name] for name in ("relative_rmse", "optimum"))
    return {**found, "attainable_share": reached / attainable}


def _test_epidemic(config: Any, predict: Callable[..., Array], shift: Array, key: Key) -> dict[str, Array]:
    """F1 and Brier score of what is predicted on the last day seen; thresholds and mean come from other sequences."""
    adjacency, thresholds = (shift != 0).astype(jnp.float32), jnp.asarray(_THRESHOLDS)[:, None, None]

    def of_batch(key: Key) -> dict[str, Any]:
        noise_key, simulation_key = jax.random.split(key)
        days, infected = on_graphs.spread(adjacency, draw(config, noise_key, len(shift)))
        xs, truth = infected[: -on_graphs.DAYS_AHEAD], infected[-1]
        shares = {
            "model": jax.nn.sigmoid(predict(shift, xs[..., None])[-1]),
            "persistence": xs[-1],
            "ceiling": on_graphs.best_epidemic(simulation_key, adjacency, days[len(xs) - 1]),
        }
        called = {name: share > thresholds for name, share in shares.items()}
        return {
            "hits": {name: (calls * truth).sum(axis=(1, 2)) for name, calls in called.items()},
            "calls": {name: calls.sum(axis=(1, 2)).astype(jnp.float32) for name, calls in called.items()},
            "squares": {name: ((share - truth) ** 2).sum() for name, share in shares.items()},
            "infected": truth.sum(),
            "size": jnp.float32(truth.size),
        }

    validation, test = (_sums(config, k, of_batch, None) for k in jax.random.split(key))

    def f1(name: str) -> Array:
        scores, others = (
            2 * sums["hits"][name] / jnp.maximum(sums["calls"][name] + sums["infected"], 1)
            for sums in (validation, test)
        )
        return others[jnp.argmax(scores)]

    prevalence = validation["infected"] / validation["size"]
    share = test["infected"] / test["size"]
    mean_brier = share * (1 - prevalence) ** 2 + (1 - share) * prevalence**2
    brier, ceiling_brier = (test["squares"][name] / test["size"] for name in ("model", "ceiling"))
    return {
        "f1": f1("model"),
        "brier": brier,
        "persistence_f1": f1("persistence"),
        "everybody_f1": 2 * share / (1 + share),
        "ceiling_f1": f1("ceiling"),
        "mean_brier": mean_brier,
        "ceiling_brier": ceiling_brier,
        "attainable_share": (mean_brier - brier) / (mean_brier - ceiling_brier),
    }


def _test_graph(config: Any, predict: Callable[..., Array], shift: Array, key: Key) -> dict[str, Array]:
    """How outputs change when nodes are relabelled, relative to the largest output, and when the shift is perturbed."""
    data_key, order_key, noise_key = jax.random.split(key, 3)
    xs = roll(config, shift, draw(config, data_key, len(shift)))[0][..., None]
    ys, order = predict(shift, xs), jax.random.permutation(order_key, len(shift))
    relabelled = predict(shift[order][:, order], xs[:, order])
    noise = jax.random.normal(noise_key, shift.shape)
    noise = on_graphs.unit_shift(noise + noise.T)

    def change(size: Array) -> Array:
        return jnp.linalg.norm(predict(shift + size * noise, xs) - ys) / jnp.linalg.norm(ys)

    return {
        "relabelling": jnp.abs(relabelled - ys[:, order]).max() / jnp.abs(ys).max(),
        "perturbed": jax.lax.map(change, jnp.array(PERTURBATIONS)),
    }
