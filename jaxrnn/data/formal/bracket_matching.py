"""Bracket matching: is a word of two kinds of brackets balanced?"""

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Key
from jaxrnn.data.formal.task import Length, SequenceTask

NUM_KINDS = 2
_NUM_BRACKETS = 2 * NUM_KINDS


def draw(key: Key, batch_size: int, length: Length, longest: int) -> tuple[Array, Array]:
    """Draws balanced words, uniform given their length, and in half of them replaces one bracket by another.

    Tokens are ``( 1, [ 2, ) 3, ] 4``. A word with a bracket replaced is not balanced: it has a kind with more
    opening than closing brackets, or fewer. The label is 1 for a balanced word.

    At depth h with r brackets to come, there are ``(h + 1) / (r + 1) * C(r + 1, (r - h) / 2)`` ways to open and close
    (the ballot numbers), so the next one opens with probability ``(h + 2) (r - h) / (2 r (h + 1))``.
    """
    open_key, kind_key, label_key, place_key, other_key = jax.random.split(key, 5)
    count, size = _even(length), _even(longest)
    uniforms = jax.random.uniform(open_key, (size, batch_size), jnp.float32)
    kinds = jax.random.randint(kind_key, (size, batch_size), 0, NUM_KINDS, jnp.int32)
    places = jnp.arange(size, dtype=jnp.int32)
    levels = jnp.arange(1 + size // 2, dtype=jnp.int32)[:, None]

    def bracket(carry: tuple[Array, Array], x: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], Array]:
        depth, stack = carry  # The kind of the open bracket on each level.
        place, uniform, kind = x
        left = jnp.maximum(count - place, 1)
        opens = uniform * (2 * left * (depth + 1)) < (depth + 2) * (left - depth)
        stack = jnp.where(opens & (levels == depth), kind, stack)
        closed = jnp.where(levels == depth - 1, stack, 0).sum(axis=0)
        token = jnp.where(opens, 1 + kind, 1 + NUM_KINDS + closed)
        return (jnp.maximum(depth + jnp.where(opens, 1, -1), 0), stack), token

    start = jnp.zeros(batch_size, jnp.int32), jnp.zeros((len(levels), batch_size), jnp.int32)
    _, tokens_tb = jax.lax.scan(bracket, start, (places, uniforms, kinds))
    labels = jax.random.bernoulli(label_key, shape=(batch_size,)).astype(jnp.int32)
    place = jax.random.randint(place_key, (batch_size,), 0, count, jnp.int32)
    shift = jax.random.randint(other_key, (batch_size,), 1, _NUM_BRACKETS, jnp.int32)
    is_replaced = (labels == 0) & (places[:, None] == place)
    return jnp.where(is_replaced, 1 + (tokens_tb - 1 + shift) % _NUM_BRACKETS, tokens_tb), labels


def _even(length: Length) -> Length:
    return length + length % 2


TASK = SequenceTask(1, lambda longest: (1 + _NUM_BRACKETS, 2), _even, draw)
"""Words of `length` brackets, or of one more where it is odd."""
