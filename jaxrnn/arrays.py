"""Type aliases and the axis letters that array names carry as a suffix.

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

Array = jax.Array
Key = jax.Array
"""A typed PRNG key of shape ``[]``, from `jax.random.key`."""

PyTree = Any
"""Nested tuples, dicts and NamedTuples of arrays."""

Initializer = Callable[[Key, str, tuple[int, ...], int], Array]
"""``initializer(key, name, shape, hidden_size)``: one matrix or vector of parameters, float32."""
