"""Sequence tasks: ``python -m experiments.formal --config=configs/formal.py --config.task=NAME --workdir=DIR``."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from configs.formal import Config
from experiments._cli import main
from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.cells import CELLS, INITIALIZERS, ProductCell
from jaxrnn.data.formal import TASKS, padded_length
from jaxrnn.nn import losses
from jaxrnn.nn.sequence import SequenceClassifier
from jaxrnn.recurrence import plan_phases
from jaxrnn.study.arms import Arm, ArmScheme, Setting
from jaxrnn.study.quantities import Mean, TimeToEvent, result, steps_until_stop
from jaxrnn.study.study import ArmTable, Study
from jaxrnn.training.definition import ConfigError, Loss, Training
from jaxrnn.training.placement import halves
from jaxrnn.training.seeds import Stream, stream_key
from jaxrnn.training.stop import stop_when_loss_below

_TEST_BATCH = 1000
_PLANNED_BATCHES = 100
"""One batch in some hundred then does not fit the phases, and is slower."""

CHOICES: dict[str, Iterable[str]] = {"task": TASKS, "cell": CELLS, "initializer": INITIALIZERS}


def check(config: Config) -> None:
    """Refuses sizes that do not exist."""
    check_layers(config)
    smallest = TASKS[config.task].min_length
    for field, lengths in {"digits": [config.digits], "test_lengths": config.test_lengths}.items():
        if min(lengths, default=smallest) < smallest:
            raise ConfigError(field, getattr(config, field), f"{config.task} should have at least {smallest}")


def check_layers(config: Any) -> None:
    """Refuses what stands between layers where there is one, and dropout in a recurrence that has no product."""
    for field in ("dropout", "layer_norm"):
        if config.num_layers == 1 and getattr(config, field):
            raise ConfigError(field, getattr(config, field), "stands between layers: num_layers should be 2 or more")
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


def build(config: Config, model: Any = None) -> Training:
    """The training of a config, by default of its own model; another one is called as `SequenceClassifier` is."""
    task, own = TASKS[config.task], build_model(config)
    model = model or own
    has_dropout = config.dropout > 0 or config.recurrent_dropout > 0

    def init(key: Key) -> PyTree:
        return model.init(key, jnp.zeros((task.input_length(config.digits), 1), jnp.int32))["params"]

    def loss_on_own_core(rows: int) -> Loss:
        """Sequences share their padding, which takes fewer rows."""
        keys = jax.random.split(jax.random.key(0), _PLANNED_BATCHES)
        phases = plan_phases(jax.jit(jax.vmap(lambda key: task.sample(key, rows, config.digits)[0]))(keys))
        return _loss_of(own.clone(phases=phases if len(phases) > 1 else ()))

    def accuracy(params: PyTree, tokens_tn: Array, labels_n: Array, mask_t: Array | None = None) -> Array:
        """In pieces: all at once would need a gigabyte."""

        def logits(tokens_t: Array) -> Array:
            mask = None if mask_t is None else mask_t[:, None]
            found: Array = model.apply({"params": params}, tokens_t[:, None], mask)[0]
            return found

        size = min(_TEST_BATCH, config.test_samples)
        return losses.accuracy(jax.lax.map(logits, tokens_tn.T, batch_size=size), labels_n)

    def test(params: PyTree, memory: PyTree, seed: Array, data: PyTree) -> dict[str, Array]:
        del memory, data
        key = stream_key(seed, Stream.EVAL)
        found = {"test_accuracy": accuracy(params, *task.sample(key, config.test_samples, config.digits))}
        if config.test_lengths:
            found["accuracy_by_length"] = accuracy_by_length(params, seed)
        return found

    def accuracy_by_length(params: PyTree, seed: Array) -> Array:
        """New samples of each length; those of about one length are padded in front, and share a program."""
        groups: dict[int, list[int]] = {}
        for i, length in enumerate(config.test_lengths):
            groups.setdefault(padded_length(task.input_length(length)), []).append(i)
        accuracies = jnp.zeros(len(config.test_lengths))
        for padded, members in groups.items():
            drawn = []
            for i in members:
                key = stream_key(seed, Stream.EVAL, 1 + i)
                tokens_tn, labels_n = task.sample(key, config.test_samples, config.test_lengths[i])
                front = padded - len(tokens_tn)
                drawn.append((jnp.pad(tokens_tn, ((front, 0), (0, 0))), labels_n, jnp.arange(padded) >= front))
            stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)
            found = jax.lax.map(lambda one: accuracy(params, *one), stacked)
            accuracies = accuracies.at[np.array(members)].set(found)
        return accuracies

    return Training(
        init=init,
        sample=lambda key, step, data: task.sample(key, config.batch_size, config.digits),
        loss=_loss_of(model),
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
        batch_axes=(1, 0),
        # The masks of dropout are then those of any placement.
        core_parts=1 if has_dropout else halves(config.batch_size),
        loss_on_own_core=loss_on_own_core if model is own and not has_dropout else None,
    )


def _loss_of(model: nn.Module) -> Loss:
    def loss(params: PyTree, memory: PyTree, batch: tuple[Array, Array], key: Key, data: PyTree) -> tuple[Array, Any]:
        del data
        tokens_tb, labels_b = batch
        logits_bc: Any = model.apply({"params": params}, tokens_tb, deterministic=False, rngs={"dropout": key})
        metrics = {"accuracy": losses.accuracy(logits_bc, labels_b)}
        return losses.cross_entropy(logits_bc, labels_b), (metrics, memory)

    return loss


# --- What is declared -------------------------------------------------------------------------------------------------

CELL_NAMES = {
    "rnn": "Vanilla RNN",
    "linear_rnn": "Linear RNN",
    "lstm": "LSTM",
    "peephole": "Peephole LSTM",
    "gers_peephole": "Peephole LSTM (Gers)",
    "gru": "GRU",
    "gru_cho": "GRU (Cho)",
    "mgu": "MGU",
    "min_gru": "minGRU",
    "min_lstm": "minLSTM",
}
"""Others go by their names in `CELLS`."""
STEPS = TimeToEvent("steps until convergence", steps_until_stop)
TEST_ACCURACY = Mean("mean test accuracy", result("test_accuracy"), within=(0, 1))
TINY = {"digits": 2, "hidden_size": 4, "batch_size": 8, "test_samples": 16, "max_steps": 12, "eval_every": 4}
TINY |= {"chunk_steps": 4, "num_seeds": 2}


def name_arm(setting: Setting) -> str:
    """An arm by its cell and problem."""
    cell = CELL_NAMES.get(setting["cell"], setting["cell"])
    if setting["task"] == "palindrome":
        return f"{cell} T={setting['digits']}"
    return f"{cell}, {setting['task']} n={setting['digits']}"


def normalize(setting: dict[str, Any]) -> dict[str, Any]:
    """Makes the embedding's default width explicit."""
    width = setting["embedding_size"] or 2 * TASKS[setting["task"]].input_length(setting["digits"])
    return {**setting, "embedding_size": width}


def _accuracy_by_length(arm: Arm) -> dict[str, str]:
    """By test length, the mean over seeds with its interval."""

    def of_length(i: int) -> Mean:
        return Mean("", lambda run: run.result["accuracy_by_length"][i] if run.result else None, within=(0, 1))

    means = {f"length {length}": of_length(i) for i, length in enumerate(arm.setting["test_lengths"])}
    return {head: mean.cell(arm, mean.estimate(arm)) for head, mean in means.items()}


BY_LENGTH = ArmTable(
    "Test accuracy at other lengths than the one that was trained on; brackets are 95 % intervals over seeds",
    [_accuracy_by_length],
    lambda arm: bool(arm.setting["test_lengths"]),
)
ARMS = ArmScheme(Config, ("task", "cell", "digits"), name_arm, ("task", "digits"), normalize=normalize)
STUDY = Study(
    name="formal",
    title="Sequence tasks",
    config=Config,
    build=build,
    choices=CHOICES,
    model=lambda config, data: build_model(config),
    check=check,
    arms=ARMS,
    quantities=[STEPS, TEST_ACCURACY],
    note=(
        "T is the size of a palindrome in decimal digits, which the network reads in binary; n is the size of another "
        "task (`digits`). A run has converged when its loss was at most `tolerance` at `patience` evaluations in a "
        "row. Its steps until convergence are those until the last of these evaluations, so they are a multiple of "
        "`eval_every`. A restricted mean counts a run that has not converged with the last step that it may take, "
        "`max_steps`."
    ),
    sections={"Accuracy by length": [BY_LENGTH]},
    tiny={**TINY, "test_lengths": (1, 3)},
)

if __name__ == "__main__":
    main(STUDY)
