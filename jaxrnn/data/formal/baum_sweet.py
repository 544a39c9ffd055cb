"""Baum-Sweet: does the binary form of a number have no maximal run of zeros of odd length?

The label is the number's term of the Baum-Sweet sequence (OEIS A086747).
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.data.formal.task import BIT_ZERO, PAD, SequenceTask

_MIN_BITS = 4

# The automaton that reads the bits: the current run of zeros is even (or empty), odd, or an odd run has ended.
_EVEN, _ODD, _VIOLATED = range(3)
# [bit, state] -> state
_NEXT_STATE = ((_ODD, _EVEN, _VIOLATED), (_EVEN, _VIOLATED, _VIOLATED))


def sample(key: jax.Array, batch_size: int, length: int) -> tuple[jax.Array, jax.Array]:
    """Draws binary numbers that start with a one, uniform given their label and length, padded on the left.

    The label is a fair coin, the length uniform on `4..4 * length` bits. Each further bit is drawn given the label, the
    automaton's state and the number of bits to come, with probabilities exact up to the rounding of float32.

    Returns:
        As `SequenceTask.sample`, T being `4 * length`: tokens are pad 0, bit zero 1 and bit one 2; the label is 1 if no
        maximal run of zeros has odd length.
    """
    max_bits = 4 * length
    label_key, length_key, bit_key = jax.random.split(key, 3)
    labels = jax.random.bernoulli(label_key, shape=(batch_size,)).astype(jnp.int32)
    lengths = jax.random.randint(length_key, (batch_size,), _MIN_BITS, max_bits + 1, jnp.int32)
    uniforms = jax.random.uniform(bit_key, (max_bits, batch_size), jnp.float32)
    next_state = jnp.asarray(_NEXT_STATE, jnp.int32)

    def read_bit(state: jax.Array, inputs: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        remaining, one_probability, uniform = inputs
        bit = ((remaining == lengths) | (uniform < one_probability[labels, state])).astype(jnp.int32)
        is_padding = remaining > lengths
        return jnp.where(is_padding, state, next_state[bit, state]), jnp.where(is_padding, PAD, BIT_ZERO + bit)

    remaining = jnp.arange(max_bits, 0, -1, dtype=jnp.int32)
    one_probabilities = jnp.asarray(_one_probabilities(max_bits))[remaining]
    start = jnp.full((batch_size,), _EVEN, jnp.int32)
    _, tokens_tb = jax.lax.scan(read_bit, start, (remaining, one_probabilities, uniforms))
    return tokens_tb, labels


@lru_cache
def _one_probabilities(max_bits: int) -> np.ndarray:
    """P(next bit is one | label, state, bits that remain, this one included), float32 `[1 + max_bits, label, state]`.

    Zero where no continuation has the label: such states are never reached.
    """
    # How many continuations of `remaining` bits lead from a state to a label, `[label, state]`, as Python integers:
    # they outgrow every fixed width, and their quotients are rounded only once. At the end, an odd run violates too.
    counts = np.array([[0, 1, 1], [1, 0, 0]], object)
    probabilities = np.zeros((1 + max_bits, 2, 3), np.float32)
    for remaining in range(1, 1 + max_bits):
        zero, one = (counts[:, list(states)] for states in _NEXT_STATE)
        counts = zero + one
        probabilities[remaining] = one / np.maximum(counts, 1)
    probabilities.flags.writeable = False  # cached
    return probabilities


TASK = SequenceTask(1, lambda longest: (3, 2), lambda length: 4 * length, sample)
"""Numbers of 4 to `4 * length` bits, with balanced labels."""
