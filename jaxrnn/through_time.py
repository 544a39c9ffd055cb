"""Gradients through time: for each carry, and for the recurrent matrix step by step (Soons 2020, Question 1.1).

A step maps the carry ``s_{t-1}`` to ``s_t``; the carry is all that one step hands to the next, such as ``h`` and ``c``.
The loss depends on the last hidden state alone. Everything here is plain autodiff of `Cell.step`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpy.typing import ArrayLike

from jaxrnn.arrays import Array, PyTree
from jaxrnn.cells import Cell, ProductCell
from jaxrnn.cells.base import MatrixProduct

Loss = Callable[[Array], Array]
"""From the last hidden state ``h [*batch, H]`` to a scalar."""


def gates(cell: Cell, params: PyTree, xs: Array) -> dict[str, Array]:
    """The activations of the cell's gates over inputs ``xs [T, *batch, D]``, by name, each ``[T, *batch, H]``."""

    def step(carry: PyTree, z: Array) -> tuple[PyTree, dict[str, Array]]:
        carry, _, activations = cell.step(params, carry, z)
        return carry, activations

    zs = cell.project(params, xs)
    return jax.lax.scan(step, _start(cell, params, zs), zs)[1]


def carry_gradients(cell: Cell, params: PyTree, xs: Array, loss: Loss) -> PyTree:
    """``dL/ds_t``, the gradient with respect to the carry that each step hands on, over inputs ``xs [T, *batch, D]``.

    The result is a carry with fields ``[T, *batch, ...]``. In the last carry, only the field ``h`` has a gradient. Each
    field's gradient holds the other fields fixed, so that of ``c_t`` leaves out the path through ``h_t``.
    """
    zs = cell.project(params, xs)
    start = _start(cell, params, zs)

    def step(carry: PyTree, x: tuple[Array, PyTree]) -> tuple[PyTree, None]:
        z, change = x
        carry, _, _ = cell.step(params, carry, z)
        return jax.tree.map(jnp.add, carry, change), None

    def changed(changes: PyTree) -> Array:
        last, _ = jax.lax.scan(step, start, (zs, changes))
        return loss(last.h)

    return jax.grad(changed)(jax.tree.map(lambda field: jnp.zeros((len(xs), *field.shape), field.dtype), start))


class Terms(NamedTuple):
    """The gradient of the recurrent matrix as a sum over steps.

    Attributes:
        total: the sum, ``[H, U]``.
        shares: what each term adds along the sum, ``<term_i, total> / |total|^2``, ``[T]``. They add up to 1, or are
            all 0 if the sum is 0.
    """

    total: Array
    shares: Array


def weight_of(cell: Cell) -> Callable[[PyTree], Array] | None:
    """``weight(params) -> W [H, U]``, the cell's recurrent matrix; None if it has none."""
    if isinstance(cell, ProductCell) and not isinstance(cell.product, MatrixProduct):
        return None
    return getattr(cell, "weight", None)


def weight_gradient_terms(cell: Cell, params: PyTree, xs: Array, loss: Loss) -> Terms:
    """The sum of Question 1.1b, from the Jacobians of the steps, for one sequence ``xs [T, D]``.

    ``dL/dW = sum_i dL/ds_T (prod_{j=i+1..T} ds_j/ds_{j-1}) ds_i/dW``, where the last factor holds the carry before
    the step fixed. The Jacobians are stored in full, ``[T, n, n]`` for a carry of n numbers, so this is for plots, not
    for training.
    """
    weight = weight_of(cell)
    if weight is None:
        raise ValueError("the cell has no recurrent matrix")
    zs = cell.project(params, xs)
    start, unravel = ravel_pytree(_start(cell, params, zs))

    def step(params: PyTree, s: Array, z: Array) -> Array:
        carry, _, _ = cell.step(params, unravel(s), z)
        return ravel_pytree(carry)[0]

    last, before = jax.lax.scan(lambda s, z: (step(params, s, z), s), start, zs)
    jacobians = jax.lax.map(lambda at: jax.jacrev(step, argnums=1)(params, *at), (before, zs))
    d_last = jax.grad(lambda s: loss(unravel(s).h))(last)
    # d_after[i] is dL/ds_T times the Jacobians of the steps after i.
    _, d_after = jax.lax.scan(lambda d, jacobian: (d @ jacobian, d), d_last, jacobians, reverse=True)

    def term(at: tuple[Array, Array, Array]) -> Array:
        d, s, z = at
        (d_params,) = jax.vjp(lambda params: step(params, s, z), params)[1](d)
        return weight(d_params)

    terms = jax.lax.map(term, (d_after, before, zs))
    total = terms.sum(0)
    size = euclidean_norm(total, (0, 1))
    scale = jnp.where(size > 0, size, 1)
    return Terms(total, jnp.tensordot(terms / scale, total / scale, 2))


def euclidean_norm(x: Array, axes: Sequence[int]) -> Array:
    """The Euclidean norm over some axes of real or complex numbers, without overflow or underflow of the squares."""
    x = jnp.abs(x)
    largest = x.max(axes, keepdims=True, initial=0)
    scale = jnp.where(largest > 0, largest, 1)
    return jnp.squeeze(scale, axes) * jnp.sqrt(((x / scale) ** 2).sum(axes))


def decay_rate(norms: ArrayLike) -> float | None:
    """The factor by which norms ``[T]`` change from one distance to the next: ``exp`` of the slope of their logarithm.

    The slope is fitted by least squares to the nonzero norms. Returns None if there are fewer than two.
    """
    norms = np.asarray(norms, np.float64)
    (distances,) = np.nonzero(norms)
    if len(distances) < 2:
        return None
    return float(np.exp(np.polyfit(distances, np.log(norms[distances]), 1)[0]))


def _start(cell: Cell, params: PyTree, zs: Array) -> Any:
    """The carry before the first of the projected inputs ``[T, *batch, Z]``."""
    return cell.reach(cell.start(params, zs.shape[1:-1], zs.dtype), len(zs))
