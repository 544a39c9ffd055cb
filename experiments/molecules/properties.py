"""Properties of molecules: the data of a config, the training of a model, and baselines without training."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs.molecules import Config
from experiments.molecules import baselines
from experiments.molecules.stored import Stored, stored_training
from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.data import molecule_sets, molecules
from jaxrnn.data.molecule_sets import Parts, PropertySet
from jaxrnn.graph import molecules as graph
from jaxrnn.graph.molecules import Packed, Sizes
from jaxrnn.nn.molecules import MODELS, RUNNING, Head, drift, is_running, with_running
from jaxrnn.training.definition import Training
from jaxrnn.training.seeds import Stream, stream_key
from jaxrnn.training.stop import stop_past_lowest


class Usual(NamedTuple):
    """The usual values of a model, for fields that are 0 in the config; the head is that of `head=network`.

    Runs are told apart by their configs, so these values must not change once results are archived.
    """

    hidden_size: int
    num_layers: int
    fingerprint_size: int
    learning_rate: float
    head: tuple[int, ...]
    dropout: float = 0.0
    offset: float = 0.0


USUAL = {
    "fingerprint": Usual(32, 3, 64, 2e-3, (100,), offset=1.0),
    "weave": Usual(50, 2, 128, 5e-4, (2000, 100), dropout=0.25),
    "gcn": Usual(64, 3, 64, 2e-3, (100,)),
}
RATE_DECAY = 0.75
"""The factor of the learning rate per 1000 steps."""
BASELINES = ("mean", "ridge", "forest")
"""Models that take no steps; see `experiments.molecules.baselines`."""


def model_of(config: Any) -> str:
    """The name of the model, by default the fingerprint."""
    return config.model or "fingerprint"


def falling_adam(hyper: Mapping[str, Array]) -> optax.GradientTransformation:
    """Adam with a falling rate, which averages out the noise that a constant rate leaves."""
    return optax.adam(lambda step: hyper["learning_rate"] * RATE_DECAY ** (step / 1000))


def load(config: Any) -> PropertySet:
    """The molecules of a config."""
    return molecule_sets.load(config.dataset, config.smiles, config.target, config.max_atoms)


def host_parts(config: Any, order: np.ndarray, seed: int) -> Parts:
    """`draw_parts` as NumPy arrays."""
    return Parts(*map(np.asarray, _draw_parts(config.split, order, seed)))


def draw_parts(config: Any, order: np.ndarray, seed: Array | int) -> Parts:
    """The parts of a run, by its seed."""
    return _draw_parts(config.split, order, seed)


@functools.partial(jax.jit, static_argnums=0)
def _draw_parts(split: str, order: Array, seed: Array | int) -> Parts:
    return molecule_sets.draw_parts(split, stream_key(seed, Stream.DATA), seed, order)


def usual(config: Any) -> Usual:
    """The sizes and the rate of a config's model."""
    own = USUAL[model_of(config)]
    given = {name: getattr(config, name) for name in Usual._fields[:4]}
    return own._replace(**{name: value for name, value in given.items() if value})


def describe(config: Config) -> dict[str, Any]:
    """What ``config.json`` keeps of the molecules: enough to predict without them.

    The mean and the deviation are those of all targets: a change of units that is the same for all runs.
    """
    dataset = load(config)
    scale = {"mean": float(dataset.targets.mean()), "deviation": float(dataset.targets.std()) or 1.0}
    counts = {"molecules": len(dataset.targets), "refused": len(dataset.refused)}
    return {"sha256": dataset.sha256, **counts, "unit": dataset.unit, **scale}


def build_model(config: Any, data: Mapping[str, Any]) -> Any:
    """The model of a config, a `Config` or what `jaxrnn.load` returns, with what `describe` says of the molecules."""
    if model_of(config) in BASELINES:
        return Stored()
    own = usual(config)
    hidden_sizes = own.head if config.head == "network" else ()
    head = Head(hidden_sizes, own.dropout, own.offset, data["mean"], data["deviation"])
    return MODELS[model_of(config)](own.hidden_size, own.num_layers, own.fingerprint_size, head)


def pack(config: Any, found: molecules.Molecules) -> Packed:
    """The molecules as the model reads them."""
    if model_of(config) == "weave":
        return graph.pack(found, molecules.weave_features(found), molecules.pairs(found, config.pair_distance))
    return graph.pack(found, molecules.fingerprint_features(found))


def build(config: Config) -> Training:
    """The training of a model; a run's memory is its parts, the order of its epoch, and how many steps it has taken."""
    dataset = load(config)
    order, packed = molecule_sets.fixed_order(config.split, dataset.molecules), pack(config, dataset.molecules)
    if model_of(config) in BASELINES:
        return _stored(config, dataset, order)
    described, sizes = describe(config), graph.plan_sizes(packed, config.batch_size)
    model = build_model(config, described)
    evaluate = evaluator(model, packed, config.batch_size)
    shapes = jax.eval_shape(lambda: graph.make_batch(packed, graph.plan_sizes(packed, 1), jnp.zeros(1, jnp.int32)))
    example = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)

    def start(seed: Array, data: PyTree) -> PyTree:
        del data
        parts = draw_parts(config, order, seed)
        return {"parts": parts, "order": parts.train, "step": jnp.zeros((), jnp.int32)}

    def loss(params: PyTree, memory: PyTree, key: Key, dropout_key: Key, data: PyTree) -> tuple[Array, Any]:
        ids, memory = next_ids(memory, key, config.batch_size)
        batch = graph.make_batch(data["packed"], sizes, ids)
        rngs = {"dropout": dropout_key}
        predicted, more = model.apply({"params": params}, batch, train=True, rngs=rngs, mutable=[RUNNING])
        errors = (predicted - data["targets"][jnp.maximum(ids, 0)]) / described["deviation"]
        value = jnp.where(batch.is_whole, errors**2, 0).sum() / jnp.maximum(batch.is_whole.sum(), 1)
        return value + config.l2 * mean_square(params) + drift(more), ({}, memory)

    return Training(
        init=lambda key: model.init(key, example)["params"],
        sample=lambda key, step, data: key,
        loss=loss,
        optimizer=lambda hyper: with_running(falling_adam(hyper)),
        hyper={"learning_rate": usual(config).learning_rate},
        max_steps=config.max_steps,
        eval_every=config.eval_every,
        chunk_steps=config.chunk_steps,
        stop=stop_past_lowest("validation_rmse", config.patience, config.eval_every),
        start_memory=start,
        data={"packed": packed, "targets": np.asarray(dataset.targets, np.float32)},
        **_judges(lambda params, ids, data: evaluate(params, data["packed"], ids)),
    )


def _judges(predict: Callable[[PyTree, Array, PyTree], Array]) -> dict[str, Any]:
    """`validate` and `test` of predictions in the target's unit."""

    def errors(params: PyTree, ids: Array, data: PyTree) -> Array:
        return predict(params, ids, data) - data["targets"][ids]

    def validate(params: PyTree, memory: PyTree, data: PyTree) -> dict[str, Array]:
        return {"validation_rmse": rmse(errors(params, memory["parts"].validation, data))}

    def test(params: PyTree, memory: PyTree, seed: Array, data: PyTree) -> dict[str, Array]:
        del seed
        parts: Parts = memory["parts"]
        found = errors(params, parts.test, data)
        others = {"validation_rmse": parts.validation, "train_rmse": parts.train}
        rest = {name: rmse(errors(params, ids, data)) for name, ids in others.items()}
        return {"test_rmse": rmse(found), "test_mae": jnp.abs(found).mean(), **rest}

    return {"validate": validate, "test": test}


def _stored(config: Config, dataset: PropertySet, order: np.ndarray) -> Training:
    """A baseline as a training that takes no steps: its parameters are its predictions for all molecules."""

    def initial(seed: int) -> PyTree:
        parts = host_parts(config, order, seed)
        smiles = tuple(dataset.molecules.smiles.tolist())
        found = baselines.predict(model_of(config), smiles, dataset.targets, parts, seed)
        return {"predictions": np.asarray(found, np.float32)}

    return stored_training(
        initial,
        {"predictions": (len(order),)},
        start_memory=lambda seed, data: {"parts": draw_parts(config, order, seed)},
        data={"targets": np.asarray(dataset.targets, np.float32)},
        **_judges(lambda params, ids, data: params["predictions"][ids]),
    )


def test_predictor(config: Any, data: Mapping[str, Any]) -> Callable[[PyTree, int], tuple[np.ndarray, np.ndarray]]:
    """``predict(params, seed)``: the molecules of a run's test part, and what it predicts for them."""
    dataset = load(config)
    order = molecule_sets.fixed_order(config.split, dataset.molecules)
    if model_of(config) not in BASELINES:
        packed = pack(config, dataset.molecules)
        evaluate = jax.jit(evaluator(build_model(config, data), packed, config.batch_size))

    def predict(params: PyTree, seed: int) -> tuple[np.ndarray, np.ndarray]:
        ids = host_parts(config, order, seed).test
        if model_of(config) in BASELINES:
            return ids, np.asarray(params["predictions"])[ids]
        return ids, np.asarray(evaluate(params, packed, ids))

    return predict


def next_ids(memory: PyTree, key: Key, batch_size: int) -> tuple[Array, PyTree]:
    """The next molecules of the epoch, int ``[B]``; each epoch has a new order and leaves out a last partial batch.

    Where there are fewer molecules than a batch holds, places stay empty.
    """
    count = len(memory["order"])
    steps = max(1, count // batch_size)
    place = memory["step"] % steps
    order = jax.lax.cond(
        place == 0, lambda: jax.random.permutation(key, memory["parts"].train), lambda: memory["order"]
    )
    padded = jnp.concatenate([order, jnp.full(max(0, batch_size - count), -1, order.dtype)])
    ids = jax.lax.dynamic_slice_in_dim(padded, place * batch_size, batch_size)
    return ids, {**memory, "order": order, "step": memory["step"] + 1}


def mean_square(params: PyTree) -> Array:
    """The mean square of the weights, without running means."""
    leaves = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params) if not is_running(path)]
    return sum(jnp.sum(leaf**2) for leaf in leaves) / sum(leaf.size for leaf in leaves)


def evaluator(model: Any, packed: Packed, batch_size: int) -> Callable[[PyTree, PyTree, Array], Array]:
    """The function ``evaluate(params, packed, ids) -> [n]``, which leaves out no molecule, whichever are asked for."""
    sizes: Sizes = graph.plan_sizes(packed, batch_size, is_safe=True)

    def evaluate(params: PyTree, data: PyTree, ids_n: Array) -> Array:
        rows = math.ceil(len(ids_n) / batch_size)
        padded = jnp.concatenate([ids_n, jnp.full(rows * batch_size - len(ids_n), -1, ids_n.dtype)])

        def predict(ids_b: Array) -> Array:
            found: Array = model.apply({"params": params}, graph.make_batch(data, sizes, ids_b))
            return found

        return jax.lax.map(predict, padded.reshape(rows, batch_size)).reshape(-1)[: len(ids_n)]

    return evaluate


def rmse(errors: Array) -> Array:
    """The root of the mean square."""
    return jnp.sqrt(jnp.mean(errors**2))
