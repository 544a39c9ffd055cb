"""What the contracts of `unroll` are tried on: cells, parameters, inputs and masks."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracles
from jax.flatten_util import ravel_pytree
from oracles import CELLS

from jaxrnn.cells import ProductCell

PRODUCT_CELLS = {name: cell for name, cell in CELLS.items() if isinstance(cell, ProductCell)}
STACKED = {name: dataclasses.replace(cell, stacked_gradient=True) for name, cell in PRODUCT_CELLS.items()}
AUTODIFF = CELLS | {name: dataclasses.replace(cell, stacked_gradient=False) for name, cell in PRODUCT_CELLS.items()}


class Problem(NamedTuple):
    """What `unroll` is given, in both forms: ``xs`` alone, or ``indices`` and ``embedding``."""

    params: Any
    carry: Any
    xs: Any
    embedding: Any
    indices: Any


def draw_problem(
    name, num_steps, batch_shape, hidden_size=3, input_size=4, vocabulary_size=6, seed=0, dtype=np.float64
):
    rng = np.random.default_rng(seed)
    problem = Problem(
        params=oracles.draw_params(rng, name, input_size, hidden_size, *batch_shape[:1]),
        carry=oracles.draw_carry(rng, name, *batch_shape, hidden_size),
        xs=oracles.draw(rng, num_steps, *batch_shape, input_size),
        embedding=oracles.draw(rng, vocabulary_size, input_size),
        indices=None,
    )
    indices = rng.integers(vocabulary_size, size=(num_steps, *batch_shape), dtype=np.int32)
    return oracles.in_precision(dtype, problem)._replace(indices=indices)


def stack(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def as_reals(tree):
    """The tree with pairs of real arrays for those that are complex."""
    return jax.tree.map(lambda x: (x.real, x.imag) if jnp.iscomplexobj(x) else x, tree)


def coordinates(tree):
    """The real numbers of a tree, and what makes a tree of them."""
    numbers, unravel = ravel_pytree(as_reals(tree))

    def back(numbers):
        return jax.tree.map(lambda x, y: jax.lax.complex(*y) if jnp.iscomplexobj(x) else y, tree, unravel(numbers))

    return numbers, back


def weighted_sum(tree):
    """A scalar to which every number contributes otherwise."""
    leaves = jax.tree.leaves(as_reals(tree))
    return sum((leaf * jnp.cos(jnp.arange(leaf.size) + k).reshape(leaf.shape)).sum() for k, leaf in enumerate(leaves))


SIZES = {"num_steps": 12, "batch_shape": (3, 2), "hidden_size": 8}
"""Larger than what finite differences see, and shared, so that each program is compiled for several tests."""
MASKS = {
    "left": np.arange(12)[:, None, None] >= [[0, 3], [11, 12], [5, 0]],
    "right": np.arange(12)[:, None, None] < [[12, 3], [1, 0], [7, 12]],
    "anywhere": np.random.default_rng(1).random((12, 3, 2)) < [[0.5, 0.2], [0.8, 0], [1, 0.5]],
}
