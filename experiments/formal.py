"""Sequence tasks: ``python -m experiments.formal --config=configs/formal.py --config.task=NAME --workdir=DIR``."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from configs.formal import Config
from experiments._cli import main
from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.cells import CELLS, INITIALIZERS
from jaxrnn.data.formal import TASKS
from jaxrnn.nn import losses
from jaxrnn.nn.sequence import SequenceClassifier
from jaxrnn.recurrence import plan_phases
from jaxrnn.study.arms import ArmScheme, Setting
from jaxrnn.study.quantities import Mean, TimeToEvent, result, steps_until_stop
from jaxrnn.study.study import Study
from jaxrnn.training.definition import ConfigError, Loss, Training, check_one_of
from jaxrnn.training.seeds import Stream, stream_key
from jaxrnn.training.stop import stop_when_loss_below

_TEST_BATCH = 1000
_PLANNED_BATCHES = 100
"""One batch in some hundred then does not fit the phases, and is slower."""


def check(config: Config) -> None:
    """Refuses names and sizes that do not exist."""
    for field, names in {"task": [*TASKS], "cell": [*CELLS], "initializer": [*INITIALIZERS]}.items():
        check_one_of(field, getattr(config, field), names)
    try:
        TASKS[config.task](config.digits)
    except ValueError as error:
        raise ConfigError("digits", config.digits, str(error)) from error


def build_model(config: Any) -> SequenceClassifier:
    """The classifier of a config: a `Config`, or what `jaxrnn.load` returns."""
    task = TASKS[config.task](config.digits)
    return SequenceClassifier(
        cell=CELLS[config.cell],
        vocabulary_size=task.vocabulary_size,
        num_classes=task.num_classes,
        embedding_size=config.embedding_size or 2 * task.input_length,
        hidden_size=config.hidden_size,
        initializer=INITIALIZERS[config.initializer],
        bidirectional=config.bidirectional,
    )


def build(config: Config, model: nn.Module | None = None) -> Training:
    """The training of a config, by default of its own model; another one gives logits ``[B, C]`` for ``[T, B]`` too."""
    task, own = TASKS[config.task](config.digits), build_model(config)
    model = model or own

    def init(key: Key) -> PyTree:
        return model.init(key, jnp.zeros((task.input_length, 1), jnp.int32))["params"]

    def loss_on_own_core(rows: int) -> Loss:
        """Sequences share their padding, which takes fewer rows."""
        keys = jax.random.split(jax.random.key(0), _PLANNED_BATCHES)
        phases = plan_phases(jax.jit(jax.vmap(lambda key: task.sample(key, rows)[0]))(keys))
        return _loss_of(own.clone(phases=phases if len(phases) > 1 else ()))

    def test(params: PyTree, memory: PyTree, seed: Array, data: PyTree) -> dict[str, Array]:
        del memory, data
        tokens_tn, labels_n = task.sample(stream_key(seed, Stream.EVAL), config.test_samples)
        # In pieces: all at once would need a gigabyte.
        logits_nc = jax.lax.map(
            lambda tokens_t: model.apply({"params": params}, tokens_t[:, None])[0],
            tokens_tn.T,
            batch_size=min(_TEST_BATCH, config.test_samples),
        )
        return {"test_accuracy": losses.accuracy(logits_nc, labels_n)}

    return Training(
        init=init,
        sample=lambda key, step, data: task.sample(key, config.batch_size),
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
        halves_pay=True,
        loss_on_own_core=loss_on_own_core if model is own else None,
    )


def _loss_of(model: nn.Module) -> Loss:
    def loss(params: PyTree, memory: PyTree, batch: tuple[Array, Array], key: Key, data: PyTree) -> tuple[Array, Any]:
        del key, data  # There is no dropout.
        tokens_tb, labels_b = batch
        logits_bc: Any = model.apply({"params": params}, tokens_tb)
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
    width = setting["embedding_size"] or 2 * TASKS[setting["task"]](setting["digits"]).input_length
    return {**setting, "embedding_size": width}


ARMS = ArmScheme(Config, ("task", "cell", "digits"), name_arm, ("task", "digits"), normalize=normalize)
STUDY = Study(
    name="formal",
    title="Sequence tasks",
    config=Config,
    build=build,
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
    tiny=TINY,
)

if __name__ == "__main__":
    main(STUDY)
