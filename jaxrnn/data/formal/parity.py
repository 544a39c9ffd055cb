"""Parity: is the number of ones odd?"""

import jax.numpy as jnp

from jaxrnn.arrays import Array, Key
from jaxrnn.data.formal.task import BIT_ZERO, Length, SequenceTask, bits, inside


def draw(key: Key, batch_size: int, length: Length, longest: int) -> tuple[Array, Array]:
    """Draws fair bits; the label is their sum modulo 2."""
    drawn = bits(key, batch_size, longest)
    return BIT_ZERO + drawn, jnp.where(inside(length, longest), drawn, 0).sum(axis=0, dtype=jnp.int32) % 2


TASK = SequenceTask(1, lambda longest: (3, 2), lambda length: length, draw)
"""Words of `length` bits; the regular language "parity check" of Deletang et al. (2023)."""
