"""The random streams of a run, which is a function of its integer seed."""

import enum

import jax

from jaxrnn.arrays import Array, Key

PRNG = "threefry2x32"
"""JAX's name of the implementation, which a run's numbers depend on."""


class Stream(enum.IntEnum):
    """The random streams of a run; none is consumed by another."""

    INIT = 0
    DATA = 1
    DROPOUT = 2
    EVAL = 3
    SAMPLE = 4


def stream_key(seed: Array | int, stream: Stream, step: Array | int = 0) -> Key:
    """The key of a run's stream at a step; a run is a function of its integer seed and nothing else."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed, impl=PRNG), stream), step)
