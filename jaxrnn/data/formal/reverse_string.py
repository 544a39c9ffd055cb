"""Reverse string: read a word, then output it in reverse."""

import jax.numpy as jnp

from jaxrnn.arrays import Array, Key
from jaxrnn.data.formal.task import BIT_ZERO, PAD, Length, SequenceTask, bits, inside


def draw(key: Key, batch_size: int, length: Length, longest: int) -> tuple[Array, Array]:
    """Draws fair bits and as many pads; the labels are the bits in reverse."""
    drawn = bits(key, batch_size, longest)
    tokens = jnp.where(inside(length, longest), BIT_ZERO + drawn, PAD)
    from_end = jnp.broadcast_to(jnp.maximum(length - 1 - jnp.arange(longest)[:, None], 0), drawn.shape)
    return jnp.concatenate([tokens, jnp.full_like(tokens, PAD)]), jnp.take_along_axis(drawn, from_end, axis=0)


TASK = SequenceTask(1, lambda longest: (3, 2), lambda length: 2 * length, draw, output_length=lambda length: length)
"""Words of `length` bits (Deletang et al. 2023, where it needs a stack)."""
