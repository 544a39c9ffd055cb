"""Even pairs: is the number of places at which a bit differs from the one before even?"""

import jax.numpy as jnp

from jaxrnn.arrays import Array, Key
from jaxrnn.data.formal.task import BIT_ZERO, Length, SequenceTask, bits, inside


def draw(key: Key, batch_size: int, length: Length, longest: int) -> tuple[Array, Array]:
    """Draws fair bits; the label is 1 for an even number of changes, that is, if the last bit equals the first."""
    drawn = bits(key, batch_size, longest)
    changes = jnp.where(inside(length, longest)[1:], drawn[1:] != drawn[:-1], 0).sum(axis=0, dtype=jnp.int32)
    return BIT_ZERO + drawn, 1 - changes % 2


TASK = SequenceTask(1, lambda longest: (3, 2), lambda length: length, draw)
"""Words of `length` bits (Deletang et al. 2023); a single bit has no pair, and label 1."""
