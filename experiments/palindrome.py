"""The palindrome study: ``python -m experiments.palindrome --config=configs/palindrome.py --workdir=DIR``."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from configs.palindrome import Config
from experiments import launch
from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.cells import CELLS, INITIALIZERS
from jaxrnn.data.formal import TASKS
from jaxrnn.nn import losses
from jaxrnn.nn.sequence import SequenceClassifier
from jaxrnn.recurrence import Phase, plan_phases
from jaxrnn.study import stats
from jaxrnn.training.loop import Study
from jaxrnn.training.seeds import Stream, stream_key
from jaxrnn.training.trainer import Trainer, TrainState, adam, converged, make_trainer

_TEST_BATCH = 1000
_PLANNED_BATCHES = 100
"""One batch in some hundred then does not fit the plan, which costs it time and nothing else."""


def check(config: Config) -> None:
    """Refuses names and sizes that do not exist."""
    launch.check_runs(config)
    launch.choice("task", config.task, list(TASKS))
    launch.choice("cell", config.cell, list(CELLS))
    launch.choice("initializer", config.initializer, list(INITIALIZERS))
    try:
        TASKS[config.task](config.digits)
    except ValueError as error:
        raise launch.bad_value("digits", config.digits, str(error)) from error


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


def build_trainer(config: Config, model: nn.Module, parts: int = 1) -> Trainer:
    """The study's trainer for a model of tokens ``[T, B]`` to logits ``[B, C]``; `parts` of a batch are its own B."""
    task = TASKS[config.task](config.digits)

    def init_params(key: Key) -> PyTree:
        return model.init(key, jnp.zeros((task.input_length, config.batch_size // parts), jnp.int32))["params"]

    def loss(params: PyTree, memory: PyTree, batch: tuple[Array, Array], key: Key) -> tuple[Array, Any]:
        del key  # No dropout here.
        tokens_tb, labels_b = batch
        logits_bc: Any = model.apply({"params": params}, tokens_tb)
        metrics = {"accuracy": losses.accuracy(logits_bc, labels_b)}
        return losses.cross_entropy(logits_bc, labels_b), (metrics, memory)

    return make_trainer(
        init_params,
        lambda key, _: task.sample(key, config.batch_size),
        loss,
        adam(config.clip_norm),
        converged(config.tolerance, config.patience),
        max_steps=config.max_steps,
        eval_every=config.eval_every,
        chunk_steps=config.chunk_steps,
        parts=parts,
        batch_axes=(1, 0),
    )


class Plan(NamedTuple):
    """How a lane trains fastest.

    Attributes:
        parts: into how many a batch is divided.
        phases: how the sequences of a part share their padding; empty if they do not.
    """

    parts: int
    phases: tuple[Phase, ...]


def plan_batch(config: Config, seeds_per_program: int) -> Plan:
    """Halves that share their padding, where each lane has a CPU core of its own, and products of some size.

    Elsewhere that would gain nothing. (A run that is resumed on fewer cores keeps its lanes together until some have
    ended, and is slower for it.)
    """
    pays = launch.halves_may_pay(config, seeds_per_program)
    parts = launch.batch_parts(config, halves_pay=pays)
    if not pays:
        return Plan(parts, ())
    task, size = TASKS[config.task](config.digits), config.batch_size // parts
    keys = jax.random.split(jax.random.key(0), _PLANNED_BATCHES)
    phases = plan_phases(jax.jit(jax.vmap(lambda key: task.sample(key, size)[0]))(keys))
    return Plan(parts, phases if len(phases) > 1 else ())


def build_study(config: Config) -> Study:
    """The study of a config."""
    task = TASKS[config.task](config.digits)
    model = build_model(config)
    lanes = config.num_seeds * len(config.learning_rate)
    seeds_per_program = launch.lanes_in_a_program(config.seeds_per_program, lanes, config.data_devices)
    plan = plan_batch(config, seeds_per_program)

    def evaluate(state: TrainState) -> dict[str, Array]:
        tokens_tn, labels_n = task.sample(stream_key(state.seed, Stream.EVAL), config.test_samples)
        # In pieces: all at once would need a gigabyte.
        logits_nc = jax.lax.map(
            lambda tokens_t: model.apply({"params": state.params}, tokens_t[:, None])[0],
            tokens_tn.T,
            batch_size=min(_TEST_BATCH, config.test_samples),
        )
        return {"test_accuracy": losses.accuracy(logits_nc, labels_n)}

    return Study(
        trainer=build_trainer(config, model.clone(phases=plan.phases), plan.parts),
        evaluate=evaluate,
        summarize=lambda runs: summarize(runs, config.max_steps),
        max_steps=config.max_steps,
        seeds_per_program=seeds_per_program,
        data_devices=config.data_devices,
    )


def summarize(runs: list[dict[str, Any]], max_steps: int) -> dict[str, Any]:
    """What seeds say together; intervals are at 95 %."""
    sample = stats.steps_sample([row["steps"] for row in runs], max_steps)
    accuracies = [row["test_accuracy"] for row in runs if row["test_accuracy"] is not None]
    return {
        "converged": sum(row["converged"] for row in runs),
        "restricted_mean_steps": stats.restricted_mean(sample).record(),
        "test_accuracy": stats.mean(accuracies, within=(0, 1)).record(),
    }


EXPERIMENT = launch.Experiment("palindrome", Config, check, launch.trains(build_study))


def main(argv: list[str]) -> None:
    """Trains, and prints a line for each run."""
    del argv
    for row in launch.launch(EXPERIMENT):
        steps = "failed (NaN) at" if "failed_at" in row else "converged at" if row["converged"] else "not converged at"
        accuracy = "-" if row["test_accuracy"] is None else f"{row['test_accuracy']:.4f}"
        print(f"{row['run']}: {steps} step {row['last_step']}, test accuracy {accuracy}")


if __name__ == "__main__":
    launch.define_flags("palindrome.py", Config)
    launch.define_training_flags()
    launch.run_main(main)
