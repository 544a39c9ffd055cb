"""Random combinations: n-1 of n tokens in random order, predict the one that is missing."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxrnn.data.formal.task import SequenceTask


def task(digits: int) -> SequenceTask:
    """The task of permutations of `digits` tokens.

    Raises:
        ValueError: `digits` is less than 2.
    """
    if digits < 2:
        raise ValueError(f"digits should be >= 2, not {digits}")
    return SequenceTask(
        vocabulary_size=digits,
        num_classes=digits,
        input_length=digits - 1,
        sample=partial(sample, digits=digits),
    )


def sample(key: jax.Array, batch_size: int, digits: int) -> tuple[jax.Array, jax.Array]:
    """Draws uniformly random permutations of `0..digits-1` and sets their last element apart as the label."""
    ordered = jnp.broadcast_to(jnp.arange(digits, dtype=jnp.int32)[:, None], (digits, batch_size))
    permuted = jax.random.permutation(key, ordered, axis=0, independent=True)
    return permuted[:-1], permuted[-1]
