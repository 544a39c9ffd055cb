"""The adding problem (Hochreiter and Schmidhuber 1997): the sum of the two numbers in a sequence that are marked.

Copy this file into `experiments`, and the study is there, with everything that the others have:

    python -m experiments.adding_problem --sweep=cell=gru,lstm --config.num_seeds=6 --workdir=runs/adding
    python -m experiments.adding_problem --resume --workdir=runs/adding --config.num_seeds=10
    python -m experiments.report --runs=runs/adding --archive=none

Whoever always says 1 has a mean squared error of 0.167.
"""

from typing import Annotated

import jax
import jax.numpy as jnp
import optax
from pydantic import Field
from pydantic.dataclasses import dataclass

from configs.base import SCHEMA, Base, Count, make_get_config
from experiments._cli import main
from jaxrnn import CELLS, Training, unroll
from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.cells import torch_uniform
from jaxrnn.study.arms import ArmScheme
from jaxrnn.study.quantities import Mean, result
from jaxrnn.study.study import Study
from jaxrnn.training.seeds import Stream, stream_key


@dataclass(frozen=True, config=SCHEMA)
class Config(Base):
    """What can be set, besides seeds, learning rate and steps."""

    cell: str = "lstm"
    """What reads the sequence."""
    length: Annotated[int, Field(ge=2)] = 50
    """Numbers in a sequence."""
    hidden_size: Count = 32
    """Hidden units."""
    batch_size: Count = 64
    """Sequences of a step."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Of AdamW."""


get_config = make_get_config(Config())


def sample(key: Key, length: int, size: int) -> tuple[Array, Array]:
    """Sequences of pairs ``[T, B, 2]``, a number in [0, 1) and its mark, and the sums ``[B]`` of the marked two."""
    number_key, place_key = jax.random.split(key)
    numbers_tb = jax.random.uniform(number_key, (length, size))
    half = length // 2
    places = jax.random.randint(place_key, (2, size), 0, half) + jnp.array([[0], [half]])
    marks_tb = jax.nn.one_hot(places, length, axis=0).sum(axis=1)
    return jnp.stack([numbers_tb, marks_tb], axis=-1), (numbers_tb * marks_tb).sum(axis=0)


def build(config: Config) -> Training:
    """The training of a config: the last hidden state predicts the sum."""
    cell = CELLS[config.cell]

    def init(key: Key) -> PyTree:
        params = cell.init(key, 2, config.hidden_size, torch_uniform)
        return {"cell": params, "head": jnp.zeros(config.hidden_size), "bias": jnp.ones(())}

    def error(params: PyTree, batch: tuple[Array, Array]) -> Array:
        pairs_tb2, sums_b = batch
        _, ys_tbh = unroll(cell, params["cell"], pairs_tb2)
        return jnp.mean((ys_tbh[-1] @ params["head"] + params["bias"] - sums_b) ** 2)

    return Training(
        init=init,
        sample=lambda key, step, data: sample(key, config.length, config.batch_size),
        loss=lambda params, memory, batch, key, data: (error(params, batch), ({}, memory)),
        optimizer=lambda hyper: optax.adamw(hyper["learning_rate"], weight_decay=hyper["weight_decay"]),
        test=lambda params, memory, seed, data: {
            "test_error": error(params, sample(stream_key(seed, Stream.EVAL), config.length, 1000))
        },
        # These share a program when they are swept; other fields have programs of their own.
        hyper={"learning_rate": config.learning_rate, "weight_decay": config.weight_decay},
        max_steps=config.max_steps,
        eval_every=config.eval_every,
        chunk_steps=config.chunk_steps,
        batch_size=config.batch_size,
        batch_axes=(1, 0),
    )


STUDY = Study(
    name="adding_problem",
    title="The adding problem",
    config=Config,
    build=build,
    choices={"cell": CELLS},
    arms=ArmScheme(Config, ("cell", "length"), lambda it: f"{it['cell']} T={it['length']}", ("length",)),
    quantities=[Mean("mean squared error", result("test_error"), within=(0, 1), is_better="smaller")],
    metrics=("loss",),
    note="The error is that of 1000 new sequences.",
    tiny={"length": 4, "hidden_size": 4, "batch_size": 8, "max_steps": 12, "eval_every": 4, "num_seeds": 2},
)

if __name__ == "__main__":
    main(STUDY)
