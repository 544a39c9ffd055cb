"""Random combinations: n-1 of n tokens in random order, predict the one that is missing."""

import jax
import jax.numpy as jnp

from jaxrnn.data.formal.task import SequenceTask


def sample(key: jax.Array, batch_size: int, length: int) -> tuple[jax.Array, jax.Array]:
    """Draws uniformly random permutations of `0..length-1` and sets their last element apart as the label."""
    ordered = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32)[:, None], (length, batch_size))
    permuted = jax.random.permutation(key, ordered, axis=0, independent=True)
    return permuted[:-1], permuted[-1]


TASK = SequenceTask(2, lambda longest: (longest, longest), lambda length: length - 1, sample)
"""Permutations of `length` tokens."""
