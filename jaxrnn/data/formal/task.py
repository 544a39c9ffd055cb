"""What every sequence-classification task offers the trainer."""

from collections.abc import Callable
from typing import NamedTuple

import jax

# Tokens of the binary tasks: bit b is `BIT_ZERO + b`.
PAD, BIT_ZERO = 0, 1


class SequenceTask(NamedTuple):
    """A sequence-classification task: its sizes, and a pure sampler of fresh batches of any length.

    Attributes:
        min_length: the smallest length; its unit is the task's own, such as the digits of a palindrome.
        symbols: ``symbols(longest) -> (V, C)``: up to this length, tokens lie in `0..V-1` and labels in `0..C-1`.
        input_length: ``input_length(length) -> T``, the same for every sample (shorter ones are padded on the left).
        sample: ``sample(key, batch_size, length) -> (tokens_tb, labels_b)``, int32 `[T, B]` (time-major) and int32
            `[B]`. A function of the key alone that works under `jax.jit` (with the other two static) and `jax.vmap`.
    """

    min_length: int
    symbols: Callable[[int], tuple[int, int]]
    input_length: Callable[[int], int]
    sample: Callable[[jax.Array, int, int], tuple[jax.Array, jax.Array]]


def padded_length(length: int) -> int:
    """A length that sequences of several lengths are padded to: the next of 8, 12, 16, 24, 32, 48, ..."""
    power = max(8, 1 << (length - 1).bit_length())
    return power * 3 // 4 if power > 8 and length <= power * 3 // 4 else power
