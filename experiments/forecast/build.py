"""The training of a forecaster, and how its forecasts are measured."""

import logging
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs.forecast import Config
from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.data import signals, windows
from jaxrnn.data.files import DataError
from jaxrnn.data.signals import Protocol, Signals
from jaxrnn.data.windows import Parts, Scale, Windows
from jaxrnn.nn import losses
from jaxrnn.nn.forecasters import Forecaster, shifts_of
from jaxrnn.training.definition import ConfigError, Training
from jaxrnn.training.stop import stop_past_lowest

_LOG = logging.getLogger("jaxrnn.forecast")
_OF_PROTOCOL = ("input_length", "split", "scaling", "season")
"""The fields that take the protocol's value where they are 0 or empty."""
_CACHED = 2**16
"""The most numbers in a hidden state of all nodes, so that a core's cache holds several such states."""


class Problem(NamedTuple):
    """A data set as a config divides it.

    Attributes:
        values: float32 `[time, N]`, without gaps, in the data's units.
        seen: bool `[time, N]`, false where a value is missing.
        blocks: int `[W, horizon]`, the block of rows in which the target of a test window and horizon lies.
    """

    signals: Signals
    protocol: Protocol
    horizon: int
    parts: Parts
    values: np.ndarray
    seen: np.ndarray
    scale: Scale
    blocks: np.ndarray

    @property
    def scaled(self) -> np.ndarray:
        """The values as models take them."""
        return (self.values - self.scale.offset) / self.scale.factor


def protocol_of(config: Any) -> Protocol:
    """The data set's protocol, with the values that the config sets itself."""
    protocol = signals.load(config.dataset).protocol
    return protocol._replace(**{name: found for name in _OF_PROTOCOL if (found := getattr(config, name))})


def pose(config: Any) -> Problem:
    """The problem of a config: a `Config`, or what `jaxrnn.load` returns.

    Raises:
        DataError: as in `jaxrnn.data.signals.load`.
        ConfigError: a part of the split has no window.
    """
    data, protocol = signals.load(config.dataset), protocol_of(config)
    try:
        parts = windows.divide(
            len(data.values), protocol.input_length, config.horizon, protocol.split, reaches_back=protocol.reaches_back
        )
    except DataError as error:
        field = "horizon" if config.horizon + protocol.input_length >= len(data.values) else "split"
        raise ConfigError(field, getattr(config, field), str(error)) from error
    training = data.values[: parts.train_rows]
    rows = parts.test.starts[:, None] + protocol.input_length + np.arange(config.horizon)
    first, last = rows[parts.test.counts].min(), rows[parts.test.counts].max()
    return Problem(
        data,
        protocol,
        config.horizon,
        parts,
        windows.filled(data.values, parts.train_rows),
        ~np.isnan(data.values),
        windows.fit_scale(protocol.scaling, training),
        (np.clip(rows, first, last) - first) // protocol.block,
    )


def describe_data(config: Config) -> dict[str, Any]:
    """What ``config.json`` keeps of the data; a warning names nodes that do not change in training."""
    problem = pose(config)
    values = problem.signals.values
    flat = np.flatnonzero(windows.flat_nodes(values[: problem.parts.train_rows]))
    names = [problem.signals.names[i] for i in flat]
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        _LOG.warning("%s: all values of the training part are alike or missing; kept", ", ".join(names[:5]) + more)
    return {
        "sha256": problem.signals.sha256,
        "rows": len(values),
        "nodes": values.shape[1],
        "edges": int(np.count_nonzero(problem.signals.adjacency)),
        "missing": int(np.isnan(values).sum()),
        "flat": names,
        "windows": {name: len(getattr(problem.parts, name).starts) for name in ("train", "validation", "test")},
    }


def check(config: Config) -> None:
    """Refuses a split that the data do not have."""
    if len(config.split) == 1 or sum(config.split) > 1 + 1e-9:
        raise ConfigError("split", config.split, "should be two shares, of the training and the test part, or ()")
    pose(config)


# --- Measures ---------------------------------------------------------------------------------------------------------


def totals(errors: Any, counts: Any) -> tuple[Any, Any, Any]:
    """Sums over nodes of squares, magnitudes and ones, `[W, horizon]`, of errors `[W, horizon, N]` that count."""
    errors = errors * counts
    return (errors * errors).sum(-1), abs(errors).sum(-1), counts.sum(-1)


def summary(squares: Any, magnitudes: Any, counts: Any, blocks: np.ndarray) -> dict[str, Any]:
    """Errors over all horizons together and for each, and sums by block, from `totals` and the windows' blocks."""
    is_in = (blocks[..., None] == np.arange(blocks.max() + 1)).astype(np.float32)
    by_block = {
        name: jnp.einsum("wh,whb->bh", values, is_in)
        for name, values in (("squares", squares), ("magnitudes", magnitudes), ("counts", counts))
    }
    return {
        **{f"test_{name}": value for name, value in together(squares, magnitudes, counts).items()},
        "test_rmse_by_horizon": jnp.sqrt(squares.sum(0) / jnp.maximum(counts.sum(0), 1)),
        "test_mae_by_horizon": magnitudes.sum(0) / jnp.maximum(counts.sum(0), 1),
        **{f"test_{name}_by_block": value for name, value in by_block.items()},
    }


def together(squares: Any, magnitudes: Any, counts: Any) -> dict[str, Any]:
    """RMSE and MAE over all horizons together."""
    number = jnp.maximum(counts.sum(), 1)
    return {"rmse": jnp.sqrt(squares.sum() / number), "mae": magnitudes.sum() / number}


# --- The training -----------------------------------------------------------------------------------------------------


def build_model(config: Any) -> Forecaster:
    """The model of a config: a `Config`, or what `jaxrnn.load` returns."""
    return Forecaster(config.model, config.hidden_size, config.horizon, config.num_taps)


def features(problem: Problem) -> np.ndarray:
    """What models read, `[time, N, F]`: the scaled values, and where any is missing, whether each was seen."""
    columns = [problem.scaled] if problem.seen.all() else [problem.scaled, problem.seen.astype(np.float32)]
    return np.stack(columns, axis=-1)


def arrays(config: Any, problem: Problem) -> dict[str, Any]:
    """What all runs share on the device."""
    return {
        "features": features(problem),
        "targets": problem.scaled,
        "seen": problem.seen,
        "factor": problem.scale.factor,
        "shifts": shifts_of(config.model, problem.signals.adjacency, config.num_taps),
        **{name: getattr(problem.parts, name) for name in ("train", "validation", "test")},
    }


def predict(model: Forecaster, params: PyTree, data: PyTree, starts: Any, input_length: int) -> Array:
    """Scaled predictions ``[horizon, N, B]`` of the windows that begin at ``starts [B]``."""
    xs = data["features"][starts[:, None] + jnp.arange(input_length)]
    return model.apply({"params": params}, jnp.transpose(xs, (1, 2, 0, 3)), data["shifts"])


def core_parts(config: Config, num_nodes: int) -> int:
    """The number of parts of a batch with which the hidden states of a step stay in a core's cache.

    The LSTMs gain nothing: one takes the gradient of its products of all steps at once, the other's states are small.
    Each part has its own mean, so where values are missing, those of a part with fewer values count a little more.
    """
    size, parts = num_nodes * config.hidden_size, 1
    if config.model in ("graph_lstm", "tgc_lstm"):
        return 1
    while config.batch_size % (2 * parts) == 0 and config.batch_size // parts * size > _CACHED:
        parts *= 2
    return parts


def build(config: Config) -> Training:
    """The training of a config: a step is a batch of windows of the training part, drawn with replacement."""
    problem, model = pose(config), build_model(config)
    length, data = problem.protocol.input_length, arrays(config, problem)
    chosen_by = "validation_rmse" if config.loss == "mse" else "validation_mae"

    def errors(params: PyTree, data: PyTree, part: Windows) -> tuple[Array, Array]:
        """Scaled errors ``[horizon, N, B]`` of windows, and whether they count."""
        rows = jnp.minimum(part.starts[:, None] + length + jnp.arange(config.horizon), len(data["targets"]) - 1)
        targets, seen = (jnp.transpose(data[name][rows], (1, 2, 0)) for name in ("targets", "seen"))
        return predict(model, params, data, part.starts, length) - targets, seen & part.counts.T[:, None]

    def sample(key: Key, step: Array, data: PyTree) -> Windows:
        del step
        chosen = jax.random.randint(key, (config.batch_size,), 0, len(data["train"].starts))
        return jax.tree.map(lambda x: x[chosen], data["train"])

    def loss(params: PyTree, memory: PyTree, batch: Windows, key: Key, data: PyTree) -> tuple[Array, Any]:
        del key
        found, counts = errors(params, data, batch)
        return losses.mean(found**2 if config.loss == "mse" else abs(found), counts), ({}, memory)

    def measure(params: PyTree, data: PyTree, name: str) -> tuple[Array, Array, Array]:
        """`totals` of a part, in the data's units; it takes as many windows at once as a step."""
        part = data[name]
        num, size = len(part.starts), min(config.batch_size, len(part.starts))
        batches = -(-num // size)

        def in_batches(x: Array) -> Array:
            return jnp.concatenate([x, jnp.broadcast_to(x[-1:], (batches * size - num, *x.shape[1:]))]).reshape(
                batches, size, *x.shape[1:]
            )

        def one(part: Windows) -> tuple[Array, Array, Array]:
            found, counts = (jnp.moveaxis(x, -1, 0) for x in errors(params, data, part))
            return totals(found * data["factor"], counts)

        sums = jax.lax.map(one, jax.tree.map(in_batches, part))
        return jax.tree.map(lambda x: x.reshape(-1, x.shape[-1])[:num], sums)

    def validate(params: PyTree, memory: PyTree, data: PyTree) -> dict[str, Array]:
        del memory
        return {
            f"{part}_{name}": value
            for part in ("validation", "test")
            for name, value in together(*measure(params, data, part)).items()
        }

    def test(params: PyTree, memory: PyTree, seed: Array, data: PyTree) -> dict[str, Array]:
        del memory, seed
        validation = together(*measure(params, data, "validation"))
        found = summary(*measure(params, data, "test"), problem.blocks)
        return {**found, **{f"validation_{name}": value for name, value in validation.items()}}

    def init(key: Key) -> PyTree:
        xs = jnp.zeros((length, problem.values.shape[1], 1, data["features"].shape[-1]))
        return model.init(key, xs, data["shifts"])["params"]

    def optimizer(hyper: Any) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.adam(hyper["learning_rate"]))

    return Training(
        init=init,
        batch_size=config.batch_size,
        core_parts=core_parts(config, problem.values.shape[1]),
        sample=sample,
        loss=loss,
        optimizer=optimizer,
        test=test,
        hyper={"learning_rate": config.learning_rate},
        max_steps=config.max_steps,
        eval_every=config.eval_every,
        chunk_steps=config.chunk_steps,
        stop=stop_past_lowest(chosen_by, config.patience, config.eval_every),
        validate=validate,
        data=data,
    )
