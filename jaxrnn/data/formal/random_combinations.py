"""Random combinations: n-1 of n tokens in random order; predict the missing one."""

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Key
from jaxrnn.data.formal.task import Length, SequenceTask


def draw(key: Key, batch_size: int, length: Length, longest: int) -> tuple[Array, Array]:
    """Draws uniformly random permutations of `0..length-1` and sets their last element apart as the label."""
    ordered = jnp.broadcast_to(jnp.arange(longest, dtype=jnp.int32)[:, None], (longest, batch_size))
    permuted = jax.random.permutation(key, ordered, axis=0, independent=True)
    if length is not longest:  # Those below a row's own length are in uniformly random order, too.
        is_behind = permuted >= length
        permuted = jnp.take_along_axis(permuted, jnp.argsort(is_behind, axis=0), axis=0)
    last = jnp.where(jnp.arange(longest)[:, None] == length - 1, permuted, 0)
    return permuted[:-1], last.sum(axis=0, dtype=jnp.int32)


TASK = SequenceTask(2, lambda longest: (longest, longest), lambda length: length - 1, draw, lambda length: 1 / length)
"""Permutations of `length` tokens."""
