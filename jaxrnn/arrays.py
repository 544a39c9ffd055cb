"""Type aliases, what precision sums and indices need, and the axis letters that array names carry as a suffix.

=======  ==========================  =======  ===========================
letter   axis                        letter   axis
=======  ==========================  =======  ===========================
``S``    runs (side by side)         ``V``    vocabulary
``B``    batch                       ``C``    classes
``T``    time                        ``N``    nodes
``D``    input features              ``E``    edges
``H``    hidden units                ``K``    attention heads, filter taps
=======  ==========================  =======  ===========================

``logits_btv`` is an array ``[B, T, V]``. Sequences are time-major: ``[T, B, ...]``.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
Key = jax.Array
"""A typed PRNG key of shape ``[]``, from `jax.random.key`."""

PyTree = Any
"""Nested tuples, dicts and NamedTuples of arrays."""

Initializer = Callable[[Key, str, tuple[int, ...], int], Array]
"""``initializer(key, name, shape, hidden_size)``: one matrix or vector of parameters, float32."""


def at_least_float32(x: Array) -> Array:
    """Numbers in float32 where they have less: sums of many stop growing in bfloat16, and overflow in float16."""
    return x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize < 4 else x


def wide(indices: Array) -> Array:
    """Integers that can count the rows of any table, which bytes cannot."""
    return indices.astype(jnp.int32) if indices.dtype.itemsize < 4 else indices
