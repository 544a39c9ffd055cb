"""What every sequence-classification task offers the trainer."""

from collections.abc import Callable
from typing import NamedTuple

import jax

# Tokens of the binary tasks: bit b is `BIT_ZERO + b`.
PAD, BIT_ZERO = 0, 1


class SequenceTask(NamedTuple):
    """A sequence-classification task: its sizes and a pure sampler of fresh batches.

    Attributes:
        vocabulary_size: V; tokens lie in `0..V-1`.
        num_classes: C; labels lie in `0..C-1`.
        input_length: T, the same for every sample (shorter ones are padded on the left).
        sample: `sample(key, batch_size) -> (tokens_tb, labels_b)`, int32 `[T, B]` (time-major) and int32 `[B]`. A
            function of the key alone that works under `jax.jit` (with `batch_size` static) and `jax.vmap` over keys.
    """

    vocabulary_size: int
    num_classes: int
    input_length: int
    sample: Callable[[jax.Array, int], tuple[jax.Array, jax.Array]]
