"""What every task on sequences offers the trainer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Key

# Tokens of the binary tasks: bit b is `BIT_ZERO + b`.
PAD, BIT_ZERO = 0, 1

Length = Any
"""An int; or lengths that are data, int32, a scalar or ``[B]``."""


class SequenceTask(NamedTuple):
    """A task on sequences: its sizes, and a pure sampler of fresh batches of any length.

    A model reads a sequence, and answers at its last position or at its last K positions. A task that asks for a word
    ends its sequences with as many pads.

    Attributes:
        min_length: the smallest length; its unit is the task's own, such as the digits of a palindrome.
        symbols: ``symbols(longest) -> (V, C)``: up to this length, tokens lie in `0..V-1` and labels in `0..C-1`. For
            real inputs, V is their width D; for real labels, C is 1.
        input_length: ``input_length(length) -> T``, of an int or an array, the same for every sample.
        draw: ``draw(key, batch_size, length, longest)``, as `sample`; `longest` is an int that no length exceeds and
            that fixes the shapes.
        chance: ``chance(length)``: the share of right answers of the best guess that has not read the sequence; it is
            higher for some short sequences.
        output_length: ``output_length(length) -> K``, how many answers there are; None if there is one.
    """

    min_length: int
    symbols: Callable[[int], tuple[int, int]]
    input_length: Callable[[Length], Length]
    draw: Callable[[Key, int, Length, int], tuple[Array, Array]]
    chance: Callable[[int], float] = lambda length: 0.5
    output_length: Callable[[Length], Length] | None = None

    def sample(self, key: Key, batch_size: int, length: Length, longest: int | None = None) -> tuple[Array, Array]:
        """Draws a batch; it is a function of the key alone, and works under `jax.jit` and `jax.vmap`.

        Args:
            key: a key.
            batch_size: B.
            length: of all samples, or of each sample ``[B]``.
            longest: fixes the shapes; it may be omitted if `length` is an int.

        Returns:
            Time-major inputs, tokens int32 ``[T, B]`` or reals float32 ``[T, B, D]``, and labels ``[B]``, or ``[K, B]``
            of the last K positions, int32 or float32. T and K are those of `longest`. A shorter sample stands at the
            beginning, and so do its labels; what follows them has no meaning.
        """
        return self.draw(key, batch_size, length, length if longest is None else longest)

    def at_positions(self, labels: Array, length: Length, longest: int) -> tuple[Array, Array]:
        """Labels ``[T, B]`` for all positions of a sample, and a mask of the positions with answers."""
        labels_kb = labels if self.output_length else labels[None]
        count = self.output_length(length) if self.output_length else 1
        positions = jnp.arange(self.input_length(longest))[:, None]
        place = jnp.broadcast_to(positions - (self.input_length(length) - count), (len(positions), labels_kb.shape[1]))
        kept = jnp.clip(place, 0, len(labels_kb) - 1)
        return jnp.take_along_axis(labels_kb, kept, axis=0), (place >= 0) & (place < count)


def bits(key: Key, batch_size: int, longest: int) -> Array:
    """Fair bits ``[T, B]``, int32."""
    return jax.random.bernoulli(key, shape=(longest, batch_size)).astype(jnp.int32)


def inside(length: Length, longest: int) -> Array:
    """Whether positions ``[T, B]``, or ``[T, 1]``, are before a sample's end."""
    return jnp.arange(longest, dtype=jnp.int32)[:, None] < length
