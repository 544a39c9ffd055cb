"""The adding problem: the sum of the two numbers that are marked (Hochreiter and Schmidhuber 1997; Le et al. 2015)."""

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Key
from jaxrnn.data.formal.task import Length, SequenceTask

TOLERANCE = 0.04
"""An answer is right where its error is smaller (Hochreiter and Schmidhuber 1997)."""


def draw(key: Key, batch_size: int, length: Length, longest: int) -> tuple[Array, Array]:
    """Draws numbers uniform on 0 to 1, each with a mark, ``[T, B, 2]``; one number in each half has mark 1."""
    value_key, first_key, second_key = jax.random.split(key, 3)
    values = jax.random.uniform(value_key, (longest, batch_size), jnp.float32)
    first = jax.random.randint(first_key, (batch_size,), 0, length // 2, jnp.int32)
    second = jax.random.randint(second_key, (batch_size,), length // 2, length, jnp.int32)
    places = jnp.arange(longest, dtype=jnp.int32)[:, None]
    marks = ((places == first) | (places == second)).astype(jnp.float32)
    return jnp.stack([values, marks], axis=-1), (values * marks).sum(axis=0)


# The sum has a triangular density, and the best guess is 1.
TASK = SequenceTask(2, lambda longest: (2, 1), lambda length: length, draw, lambda length: 1 - (1 - TOLERANCE) ** 2)
"""Sequences of `length` numbers."""
