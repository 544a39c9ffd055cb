"""Cells on graphs: cells whose matrices are graph filters.

A graph filter is ``sum_k S^k x W_k`` with a shift ``S`` and taps ``W_k``, ``k < K`` (Ruiz et al. 2020). The axis
of nodes comes before the batch: inputs are ``[T, N, *batch, D]`` and carries ``[N, *batch, H]``. A shift is

- a matrix ``[N, N]`` for all, or ``[*batch, N, N]`` with a graph for each member of the batch; or
- a `GraphsTuple` of edges with weights ``[E]`` or ``[E, *batch]``, for large graphs.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Initializer, Key
from jaxrnn.cells.base import (
    Cell,
    MatrixProduct,
    Product,
    ProductCell,
    affine,
    multiply,
    spread,
    with_field,
)
from jaxrnn.graph import GraphsTuple, propagate

Shift = Any
"""A matrix or a `GraphsTuple`, as above."""


def shift_by(shift: Shift, x: Array) -> Array:
    """``S x``: every node's sum over its incoming edges, for ``x [N, *batch, H]``."""
    if isinstance(shift, GraphsTuple):
        return propagate(shift, x)
    if shift.ndim > 2:
        return jnp.einsum("...ij,j...h->i...h", shift, x)
    # Reshaped to matrices, because XLA would copy arrays with more axes in the gradient.
    return (shift @ x.reshape(len(x), math.prod(x.shape[1:]))).reshape(x.shape)


def shifted(shift: Shift, x: Array, num_taps: int) -> list[Array]:
    """``[S^0 x, ..., S^(K-1) x]``, each ``[N, *batch, H]``, of ``x [N, *batch, H]``."""
    if shift is None:
        raise ValueError("the parameters have no graph yet: params._replace(shift=S) gives them one")
    powers = [x]
    for _ in range(num_taps - 1):
        powers.append(shift_by(shift, powers[-1]))
    return powers


def graph_filter(weight: tuple[Array, Shift], x: Array) -> Array:
    """``sum_k S^k x W_k``: ``[N, *batch, U]``, of ``x [N, *batch, H]``; the weight is ``W [K, H, U]`` and the shift."""
    taps, shift = weight
    num_taps, rows, columns = taps.shape
    # The narrower side is shifted.
    if rows < columns or shift is None:
        return multiply(jnp.concatenate(shifted(shift, x, num_taps), axis=-1), taps.reshape(num_taps * rows, columns))
    y = multiply(x, taps[-1])
    for k in range(num_taps - 2, -1, -1):
        y = multiply(x, taps[k]) + shift_by(shift, y)
    return y


class GraphFilter(Product):
    """`graph_filter` of taps and shift."""

    def apply(self, weight: tuple[Array, Shift], s: Array) -> Array:
        """As in `Product`."""
        return graph_filter(weight, s)


@functools.cache
def graph_cell(cell: ProductCell, num_taps: int) -> ProductCell:
    """The cell with graph filters of K taps in place of its matrices.

    Its parameters are those of the cell, with matrices ``[K, ., .]``, and a last one, ``shift``. `init` leaves it None;
    ``params._replace(shift=S)`` sets it. The shift has a gradient, which a training with a fixed graph does not take.
    The taps start as K draws of the cell's matrices, each divided by ``sqrt(K)``.

    Raises:
        ValueError: the cell is not a `ProductCell` whose inputs are projected by ``w_x`` and ``b`` alone, or K < 1.
    """
    if not isinstance(cell, ProductCell) or cell.project is not affine or cell.product != MatrixProduct():
        raise ValueError("a graph cell needs a ProductCell of matrices, with inputs projected by w_x and b alone")
    params_type = with_field(cell.params_type, "Graph", "shift")
    return dataclasses.replace(
        cell,
        params_type=params_type,
        init=init_taps(cell, params_type, num_taps),
        project=_project,
        is_rowwise=False,
        weight=lambda params: (cell.weight(params), params.shift),
        product=GraphFilter(),
    )


def init_taps(cell: Cell, params_type: type[Any], num_taps: int) -> Any:
    """The `init` of a cell on a graph: K draws of `cell`, each matrix divided by ``sqrt(K)``; a ValueError if K < 1."""
    if num_taps < 1:
        raise ValueError(f"a filter has at least one tap, not {num_taps}")

    def init(key: Key, input_size: int, hidden_size: int, initializer: Initializer) -> Any:
        keys = jax.random.split(key, num_taps)
        taps = jax.vmap(lambda key: cell.init(key, input_size, hidden_size, initializer))(keys)
        return params_type(*(leaf / num_taps**0.5 if leaf.ndim == 3 else leaf[0] for leaf in taps))

    return init


def _project(params: Any, x: Array) -> Array:
    z = graph_filter((params.w_x, params.shift), x)
    return z + spread(params.b, z)
