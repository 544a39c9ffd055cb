"""Type aliases, the precision that sums and indices need, and the axis letters used as suffixes of array names.

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
    """Casts lower precision to float32, because long sums stop growing in bfloat16 and overflow in float16."""
    return x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize < 4 else x


def wide(indices: Array) -> Array:
    """Casts small integers to int32, which can index the rows of any table; bytes cannot."""
    return indices.astype(jnp.int32) if indices.dtype.itemsize < 4 else indices
