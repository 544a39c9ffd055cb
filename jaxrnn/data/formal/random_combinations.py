"""Random combinations: n-1 of n tokens in random order, predict the one that is missing."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxrnn.data.formal.task import SequenceTask, check_digits


def task(digits: int) -> SequenceTask:
    """The task of permutations of `digits` tokens.

    Raises:
        ValueError: `digits` is not an integer >= 2.
    """
    check_digits(digits, minimum=2)
    return SequenceTask(
        vocabulary_size=digits,
        num_classes=digits,
        input_length=digits - 1,
        sample=partial(sample, digits=digits),
    )


def sample(key: jax.Array, batch_size: int, digits: int) -> tuple[jax.Array, jax.Array]:
    """Draws uniformly random permutations of `0..digits-1` and sets their last element apart as the label.

    Args:
        key: a PRNG key; consumed.
        batch_size: B, static.
        digits: number of tokens, at least 2, static.

    Returns:
        tokens_tb: int32 `[digits - 1, B]`.
        labels_b: int32 `[B]`.
    """
    ordered = jnp.broadcast_to(jnp.arange(digits, dtype=jnp.int32)[:, None], (digits, batch_size))
    permuted = jax.random.permutation(key, ordered, axis=0, independent=True)
    return permuted[:-1], permuted[-1]
