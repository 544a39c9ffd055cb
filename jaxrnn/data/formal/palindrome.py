"""Binary palindromes: predict the last symbol, which is the first one that is not padding (Soons 2020)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.arrays import Array, Key
from jaxrnn.data.formal.task import BIT_ZERO, PAD, Length, SequenceTask, inside

# Decimal digits are uniform on 0..8, as in the code of Soons (2020); each takes at most 4 bits.
_NUM_DIGIT_VALUES = 9


def draw(key: Key, batch_size: int, length: Length, longest: int) -> tuple[Array, Array]:
    """Draws palindromes without their last symbol, and that symbol as the label.

    The left half is `ceil(length / 2)` digits, uniform on 0..8, in binary without leading zeros and concatenated; with
    probability 1/2 its bits are reversed. The half and its mirror image are padded on the left to
    `L = 8 * ceil(length / 2) + 2` symbols, of which the last one, as a bit, is the label. Tokens are pad 0, bit zero 1,
    bit one 2.
    """
    values_key, reversed_key = jax.random.split(key)
    values = jax.random.randint(values_key, ((longest + 1) // 2, batch_size), 0, _NUM_DIGIT_VALUES, jnp.int32)
    is_reversed = jax.random.bernoulli(reversed_key, shape=(batch_size,))

    # Digit d fills the bits ends[d] - widths[d] .. ends[d] - 1 of the half.
    widths = 1 + (values[..., None] >= jnp.array([2, 4, 8], jnp.int32)).sum(axis=-1, dtype=jnp.int32)
    widths = jnp.where(inside((length + 1) // 2, len(widths)), widths, 0)
    ends = jnp.cumsum(widths, axis=0, dtype=jnp.int32)
    num_bits = ends[-1]

    # Which bit of the half stands at each position: a palindrome reads the same from its end, where there is no
    # padding. Before its start the index lies outside of the half, on one side or the other.
    from_end = _padded_length(length) - 1 - jnp.arange(_padded_length(longest), dtype=jnp.int32)[:, None]
    index = jnp.minimum(from_end, 2 * num_bits - 1 - from_end)
    index = jnp.where(is_reversed, num_bits - 1 - index, index)

    # Every position is compared with every digit, of which at most one covers it. This is quadratic, but up to 20
    # digits the fused reduction is faster than a bisection with gathers.
    place = ends[:, None] - 1 - index
    is_covered = (place >= 0) & (place < widths[:, None])
    bit = (values[:, None] >> jnp.clip(place, 0, 3)) & 1
    symbols_tb = jnp.sum(jnp.where(is_covered, BIT_ZERO + bit, PAD), axis=0, dtype=jnp.int32)
    last = jnp.where(from_end == 0, symbols_tb, 0).sum(axis=0, dtype=jnp.int32)
    return symbols_tb[:-1], last - BIT_ZERO


def enumerate_all(digits: int) -> tuple[np.ndarray, np.ndarray]:
    """Every draw of a palindrome of this length, all equally probable: tokens ``[T, n]``, int8, and labels ``[n]``.

    There are ``n = 2 * 9^ceil(digits / 2)``.
    """
    num_half = (digits + 1) // 2
    halves = [
        "".join(map("{:b}".format, values)) for values in itertools.product(range(_NUM_DIGIT_VALUES), repeat=num_half)
    ]
    longest = _padded_length(digits)
    rows = [(bits + bits[::-1]).rjust(longest) for half in halves for bits in (half, half[::-1])]
    text = np.frombuffer("".join(rows).encode(), np.uint8).reshape(len(rows), longest).T
    tokens = np.where(text == ord(" "), PAD, BIT_ZERO + (text == ord("1"))).astype(np.int8)
    return tokens[:-1], tokens[-1].astype(np.int64) - BIT_ZERO


def _padded_length(digits: Length) -> Length:
    return 8 * ((digits + 1) // 2) + 2


TASK = SequenceTask(1, lambda longest: (3, 2), lambda length: _padded_length(length) - 1, draw, lambda length: 2 / 3)
"""Lengths are decimal digits (T of Soons 2020: 10 or 20).

At every length, class 1 (the last bit is one) has probability 2/3: 8/9 with the half as drawn, 4/9 reversed.
"""
