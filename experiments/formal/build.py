"""The training of a recurrent model on a task, at one length or at random lengths."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from configs.formal import Config
from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.cells import CELLS, INITIALIZERS, ProductCell
from jaxrnn.data.formal import TASKS
from jaxrnn.data.formal.adding import TOLERANCE
from jaxrnn.data.formal.task import Length, SequenceTask
from jaxrnn.nn import losses
from jaxrnn.nn.sequence import SequenceClassifier
from jaxrnn.recurrence import plan_phases
from jaxrnn.training.definition import ConfigError, Loss, Training
from jaxrnn.training.placement import halves
from jaxrnn.training.seeds import Stream, stream_key
from jaxrnn.training.stop import stop_when_loss_below

_TEST_BATCH, _LONG_TEST_BATCH = 1000, 64
_PLANNED_BATCHES = 100
"""Batches from which phases are planned; about one batch in a hundred then does not fit them, and is slower."""

CHOICES: dict[str, Iterable[str]] = {"task": TASKS, "cell": CELLS, "initializer": INITIALIZERS}


def check(config: Config) -> None:
    """Refuses lengths that the task does not have or that contradict each other, and layers as `check_layers` does."""
    check_layers(config)
    smallest = TASKS[config.task].min_length
    if config.digits < smallest:
        raise ConfigError("digits", config.digits, f"{config.task} should have at least {smallest}")
    if config.shortest > config.digits:
        raise ConfigError("shortest", config.shortest, f"should be at most the longest, digits={config.digits}")
    if len({*config.test_lengths}) < len(config.test_lengths):
        reason = "has a length twice; the values of a flag given several times are joined"
        raise ConfigError("test_lengths", config.test_lengths, reason)


def check_layers(config: Any) -> None:
    """Refuses options between layers if there is one layer, and recurrent dropout in a cell without a product."""
    for field in ("dropout", "layer_norm"):
        if config.num_layers == 1 and getattr(config, field):
            raise ConfigError(field, getattr(config, field), "acts between layers, so num_layers should be 2 or more")
    if config.recurrent_dropout and not isinstance(CELLS[config.cell], ProductCell):
        names = ", ".join(name for name, cell in CELLS.items() if isinstance(cell, ProductCell))
        raise ConfigError("recurrent_dropout", config.recurrent_dropout, f"should be 0, or the cell one of {names}")


def build_model(config: Any) -> SequenceClassifier:
    """The classifier of a config: a `Config`, or what `jaxrnn.load` returns."""
    task = TASKS[config.task]
    vocabulary_size, num_classes = task.symbols(max([config.digits, *config.test_lengths]))
    return SequenceClassifier(
        cell=CELLS[config.cell],
        vocabulary_size=vocabulary_size,
        num_classes=num_classes,
        embedding_size=config.embedding_size or 2 * task.input_length(config.digits),
        hidden_size=config.hidden_size,
        initializer=INITIALIZERS[config.initializer],
        bidirectional=config.bidirectional,
        num_layers=config.num_layers,
        dropout=config.dropout,
        recurrent_dropout=config.recurrent_dropout,
        layer_norm=config.layer_norm,
        compute_dtype=config.compute_dtype,
    )


def tested_lengths(config: Any) -> list[int]:
    """The lengths at which a trained model is tested, without those too short for its task."""
    return [length for length in config.test_lengths if length >= TASKS[config.task].min_length]


def build(config: Config, model: Any = None) -> Training:
    """The training of a config, by default with its own model; any other is called like a `SequenceClassifier`."""
    task, own = TASKS[config.task], build_model(config)
    model = model or own
    has_dropout = config.dropout > 0 or config.recurrent_dropout > 0
    has_real_labels = jax.eval_shape(lambda: task.sample(jax.random.key(0), 1, config.digits)[1]).dtype != jnp.int32
    has_one_answer = config.shortest == 0 and task.output_length is None and not has_real_labels

    def init(key: Key) -> PyTree:
        return model.init(key, task.sample(jax.random.key(0), 1, config.digits)[0])["params"]

    def sample(key: Key, step: Array, data: PyTree) -> tuple[Array, ...]:
        del step, data
        if has_one_answer:
            return task.sample(key, config.batch_size, config.digits)
        if config.shortest == 0:
            return _with_answers(task, key, config.batch_size, config.digits, config.digits)
        length_key, key = jax.random.split(key)
        shortest = max(config.shortest, task.min_length)
        lengths = jax.random.randint(length_key, (config.batch_size,), shortest, config.digits + 1, jnp.int32)
        return _with_answers(task, key, config.batch_size, lengths, config.digits)

    def loss_on_own_core(rows: int) -> Loss:
        """The loss in phases, in which sequences share their padding, so that it takes fewer rows."""
        keys = jax.random.split(jax.random.key(0), _PLANNED_BATCHES)
        phases = plan_phases(jax.jit(jax.vmap(lambda key: task.sample(key, rows, config.digits)[0]))(keys))
        return _loss_of(own.clone(phases=phases if len(phases) > 1 else ()))

    def accuracy(params: PyTree, tokens_tn: Array, labels_n: Array) -> Array:
        """Runs in batches, because all samples at once would need a gigabyte."""

        def logits(tokens_t: Array) -> Array:
            found: Array = model.apply({"params": params}, tokens_t[:, None])[0]
            return found

        size = min(_TEST_BATCH, config.test_samples)
        return losses.accuracy(jax.lax.map(logits, tokens_tn.T, batch_size=size), labels_n)

    def share_right(params: PyTree, key: Key, length: Length, longest: int) -> Array:
        """The share of right answers to new samples of a length."""

        def of_row(row: tuple[Array, Array, Array]) -> Array:
            one = jax.tree.map(lambda x: x[:, None], row)
            return _judge(_everywhere(model, config.bidirectional, params, one), one)[1]

        batch = _with_answers(task, key, config.test_samples, length, longest)
        rows = jax.tree.map(lambda one: jnp.moveaxis(one, 1, 0), batch)
        return jax.lax.map(of_row, rows, batch_size=min(_LONG_TEST_BATCH, config.test_samples)).mean()

    def test(params: PyTree, memory: PyTree, seed: Array, data: PyTree) -> dict[str, Array]:
        del memory, data
        found: dict[str, Array] = {}
        key = stream_key(seed, Stream.EVAL)
        if has_one_answer:
            found["test_accuracy"] = accuracy(params, *task.sample(key, config.test_samples, config.digits))
        elif config.shortest == 0:
            found["test_accuracy"] = share_right(params, key, config.digits, config.digits)
        lengths = np.array(tested_lengths(config), np.int32)
        if len(lengths):
            # One program for all lengths: a length is data, and the longest one sets the shapes.
            longest = int(lengths.max())
            keys = jax.vmap(lambda i: stream_key(seed, Stream.EVAL, 1 + i))(np.arange(len(lengths)))
            by_length = jax.lax.map(lambda one: share_right(params, one[0], one[1], longest), (keys, lengths))
            found |= {"lengths": jnp.asarray(lengths), "accuracy_by_length": by_length}
            is_beyond = lengths > config.digits
            if is_beyond.any():
                found["score"] = by_length[is_beyond].mean()
            if config.shortest and not is_beyond.all():
                found["test_accuracy"] = by_length[~is_beyond].mean()
        return found

    return Training(
        init=init,
        sample=sample,
        loss=_loss_of(model) if has_one_answer else _loss_of_answers(model, config.bidirectional),
        optimizer=lambda hyper: optax.chain(
            optax.clip_by_global_norm(config.clip_norm), optax.adam(hyper["learning_rate"])
        ),
        test=test,
        hyper={"learning_rate": config.learning_rate},
        max_steps=config.max_steps,
        eval_every=config.eval_every,
        chunk_steps=config.chunk_steps,
        stop=stop_when_loss_below(config.tolerance, config.patience),
        batch_size=config.batch_size,
        batch_axes=(1, 0) if has_one_answer else 1,
        # Dropout prevents a division, so that its masks are the same for any placement.
        core_parts=halves(config.batch_size) if has_one_answer and not has_dropout else 1,
        loss_on_own_core=loss_on_own_core if model is own and has_one_answer and not has_dropout else None,
    )


def _loss_of(model: nn.Module) -> Loss:
    def loss(params: PyTree, memory: PyTree, batch: tuple[Array, Array], key: Key, data: PyTree) -> tuple[Array, Any]:
        del data
        tokens_tb, labels_b = batch
        logits_bc: Any = model.apply({"params": params}, tokens_tb, deterministic=False, rngs={"dropout": key})
        metrics = {"accuracy": losses.accuracy(logits_bc, labels_b)}
        return losses.cross_entropy(logits_bc, labels_b), (metrics, memory)

    return loss


# --- Answers at marked positions --------------------------------------------------------------------------------------


def _with_answers(
    task: SequenceTask, key: Key, batch_size: int, length: Length, longest: int
) -> tuple[Array, Array, Array]:
    """Inputs, and labels and weights of all positions ``[T, B]``; the weights of a sequence's answers add up to 1."""
    inputs, labels = task.sample(key, batch_size, length, longest)
    labels_tb, is_answer_tb = task.at_positions(labels, length, longest)
    return inputs, labels_tb, is_answer_tb / is_answer_tb.sum(axis=0)


def _everywhere(model: Any, is_two_way: bool, params: PyTree, batch: tuple[Array, ...], **arguments: Any) -> Array:
    """Logits of all positions ``[T, B, C]``.

    Positions after a sequence have no effect on those before, so only models that also walk backwards get a mask,
    which takes time.
    """
    inputs, _, weights_tb = batch
    mask = jnp.cumsum(weights_tb[::-1], axis=0)[::-1] > 0 if is_two_way else None
    logits: Array = model.apply({"params": params}, inputs, mask, everywhere=True, **arguments)
    return logits


def _judge(logits_tbc: Array, batch: tuple[Array, ...]) -> tuple[Array, Array]:
    """The loss, and the share of right answers, as means over the sequences.

    For real labels, the loss is the squared error, and an answer is right within `TOLERANCE`.
    """
    _, labels_tb, weights_tb = batch
    if jnp.issubdtype(labels_tb.dtype, jnp.floating):
        errors = logits_tbc[..., 0] - labels_tb
        values, hits = errors**2, jnp.abs(errors) < TOLERANCE
    else:
        values = optax.softmax_cross_entropy_with_integer_labels(logits_tbc, labels_tb)
        hits = logits_tbc.argmax(axis=-1) == labels_tb
    value, share = ((weights_tb * one).sum(axis=0).mean() for one in (values, hits))
    return value, share


def _loss_of_answers(model: Any, is_two_way: bool) -> Loss:
    def loss(params: PyTree, memory: PyTree, batch: tuple[Array, ...], key: Key, data: PyTree) -> tuple[Array, Any]:
        del data
        logits = _everywhere(model, is_two_way, params, batch, deterministic=False, rngs={"dropout": key})
        value, share = _judge(logits, batch)
        return value, ({"accuracy": share}, memory)

    return loss
