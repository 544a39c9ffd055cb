"""Baum-Sweet: does the binary form of a number have no maximal run of zeros of odd length?

The label is the number's term of the Baum-Sweet sequence (OEIS A086747).
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.arrays import Array, Key
from jaxrnn.data.formal.task import BIT_ZERO, PAD, Length, SequenceTask

_MIN_BITS = 4

# The automaton that reads the bits: the current run of zeros is even (or empty), odd, or an odd run has ended.
_EVEN, _ODD, _VIOLATED = range(3)
# [bit, state] -> state
_NEXT_STATE = ((_ODD, _EVEN, _VIOLATED), (_EVEN, _VIOLATED, _VIOLATED))


def draw(key: Key, batch_size: int, length: Length, longest: int) -> tuple[Array, Array]:
    """Draws binary numbers that start with a one, uniform given their label and length, padded on the left.

    The label is a fair coin: 1 if no maximal run of zeros has odd length. The number of bits is uniform on
    `4..4 * length`. Each further bit is drawn given the label, the automaton's state and the number of bits to come,
    with probabilities exact up to the rounding of float32. Tokens are pad 0, bit zero 1 and bit one 2.
    """
    label_key, length_key, bit_key = jax.random.split(key, 3)
    labels = jax.random.bernoulli(label_key, shape=(batch_size,)).astype(jnp.int32)
    num_bits = jax.random.randint(length_key, (batch_size,), _MIN_BITS, 4 * length + 1, jnp.int32)
    uniforms = jax.random.uniform(bit_key, (4 * longest, batch_size), jnp.float32)
    next_state, one_probabilities = jnp.asarray(_NEXT_STATE, jnp.int32), jnp.asarray(_one_probabilities(4 * longest))

    def read_bit(state: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        place, uniform = inputs
        remaining = jnp.maximum(4 * length - place, 0)
        bit = ((remaining == num_bits) | (uniform < one_probabilities[remaining, labels, state])).astype(jnp.int32)
        is_padding = remaining > num_bits
        return jnp.where(is_padding, state, next_state[bit, state]), jnp.where(is_padding, PAD, BIT_ZERO + bit)

    start = jnp.full((batch_size,), _EVEN, jnp.int32)
    _, tokens_tb = jax.lax.scan(read_bit, start, (jnp.arange(4 * longest, dtype=jnp.int32), uniforms))
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


TASK = SequenceTask(1, lambda longest: (3, 2), lambda length: 4 * length, draw)
"""Numbers of 4 to `4 * length` bits, with balanced labels."""
