"""Duplicate string: read a word, then output it twice."""

import jax.numpy as jnp

from jaxrnn.arrays import Array, Key
from jaxrnn.data.formal.task import BIT_ZERO, PAD, Length, SequenceTask, bits, inside


def draw(key: Key, batch_size: int, length: Length, longest: int) -> tuple[Array, Array]:
    """Draws fair bits and twice as many pads; the labels are the bits, twice in a row."""
    drawn = bits(key, batch_size, longest)
    tokens = jnp.where(inside(length, longest), BIT_ZERO + drawn, PAD)
    place = jnp.broadcast_to(jnp.arange(2 * longest)[:, None] % length, (2 * longest, batch_size))
    pads = jnp.full((2 * longest, batch_size), PAD, jnp.int32)
    return jnp.concatenate([tokens, pads]), jnp.take_along_axis(drawn, place, axis=0)


TASK = SequenceTask(1, lambda longest: (3, 2), lambda length: 3 * length, draw, output_length=lambda length: 2 * length)
"""Words of `length` bits (Deletang et al. 2023, where it needs a tape)."""
