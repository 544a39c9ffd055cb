"""Cells on graphs: cells whose matrices are graph filters.

A graph filter is ``sum_k S^k x W_k`` with a shift ``S`` and taps ``W_k``, ``k < K`` (Ruiz et al. 2020). The nodes lead
the batch: inputs are ``[T, N, *batch, D]`` and carries ``[N, *batch, H]``. A shift is

- a matrix ``[N, N]`` for all, or ``[*batch, N, N]``, a graph for each member of the batch; or
- a `GraphsTuple` of edges with weights ``[E]`` or ``[E, *batch]``, for large graphs.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Initializer, Key
from jaxrnn.cells.base import (
    Cell,
    GeneralCell,
    MatrixProduct,
    Product,
    ProductCell,
    affine,
    spread,
    with_field,
)
from jaxrnn.cells.gru import GRU_CHO, GRUChoParams, gru_cho_advance
from jaxrnn.cells.rnn import RNNCarry
from jaxrnn.graph import GraphsTuple, propagate

Shift = Any
"""A matrix or a `GraphsTuple`, as above."""


def shift_by(shift: Shift, x: Array) -> Array:
    """``S x``: every node's sum over its incoming edges, for ``x [N, *batch, H]``."""
    if isinstance(shift, GraphsTuple):
        return propagate(shift, x)
    return jnp.tensordot(shift, x, (1, 0)) if shift.ndim == 2 else jnp.einsum("...ij,j...h->i...h", shift, x)


def graph_filter(weight: tuple[Array, Shift], x: Array, first_power: int = 0) -> Array:
    """``sum_k S^(k + first_power) x W_k``: ``[N, *batch, U]``.

    Args:
        weight: the taps ``W [K, H, U]`` and the shift; or taps ``[M, K, H, U]`` and a stack of M matrices ``[M, N, N]``
            or a tuple of M shifts, whose filters are added.
        x: ``[N, *batch, H]``.
        first_power: of the shift.
    """
    taps, shift = weight
    if shift is None:
        raise ValueError("the parameters have no graph yet: params._replace(shift=S) gives them one")
    if taps.ndim == 4:
        return functools.reduce(jnp.add, [graph_filter(pair, x, first_power) for pair in zip(taps, shift, strict=True)])

    def shifted(x: Array, times: int = 1) -> Array:
        return functools.reduce(lambda x, _: shift_by(shift, x), range(times), x)

    num_taps, rows, columns = taps.shape
    # The narrower side is shifted.
    if rows < columns:
        powers = [shifted(x, first_power)]
        for _ in range(num_taps - 1):
            powers.append(shifted(powers[-1]))
        return jnp.concatenate(powers, axis=-1) @ taps.reshape(num_taps * rows, columns)
    y = x @ taps[-1]
    for k in range(num_taps - 2, -1, -1):
        y = x @ taps[k] + shifted(y)
    return shifted(y, first_power)


class GraphFilter(Product):
    """`graph_filter` of taps and shift."""

    def apply(self, weight: tuple[Array, Shift], s: Array) -> Array:
        """As in `Product`."""
        return graph_filter(weight, s)


@functools.cache
def graph_cell(cell: ProductCell, num_taps: int) -> ProductCell:
    """The cell with graph filters of K taps in place of its matrices.

    Its parameters are the cell's, each matrix ``[K, ., .]``, and a last one, ``shift``: None as `init` gives it, it is
    set by ``params._replace(shift=S)``. It has a gradient, which a training that keeps its graph does not ask for. A
    cell starts as K of the given ones, each matrix divided by ``sqrt(K)``.

    Raises:
        ValueError: the cell is no `ProductCell` whose inputs are projected by ``w_x`` and ``b`` alone, or K < 1.
    """
    if not isinstance(cell, ProductCell) or cell.project is not affine or cell.product != MatrixProduct():
        raise ValueError("a graph cell is made of a ProductCell of matrices, inputs projected by w_x and b")
    params_type = with_field(cell.params_type, "Graph", "shift")
    return dataclasses.replace(
        cell,
        params_type=params_type,
        init=_init_taps(cell, params_type, num_taps),
        project=_project,
        is_rowwise=False,
        weight=lambda params: (cell.weight(params), params.shift),
        product=GraphFilter(),
    )


@functools.cache
def graph_gru_cho(num_taps: int, num_shifts: int | None = None, first_power: int = 0) -> GeneralCell:
    """The GRU of Cho et al. (2014) with graph filters in place of its matrices, as `graph_cell` has them.

    With one tap on the first power of ``S = D^-1/2 (A + I) D^-1/2`` it is T-GCN (Zhao et al. 2020). With `num_shifts`,
    matrices are ``[M, K, ., .]`` and ``shift`` has M shifts: of both random walks it is DCRNN (Li et al. 2018).
    """
    params_type = with_field(GRUChoParams, "Graph", "shift")

    def project(params: Any, x: Array) -> Array:
        z = graph_filter((params.w_x, params.shift), x, first_power)
        return z + spread(params.b, z)

    def advance(params: Any, carry: RNNCarry, z: Array) -> tuple[RNNCarry, Array, dict[str, Array]]:
        return gru_cho_advance(params, carry, z, lambda s, taps: graph_filter((taps, params.shift), s, first_power))

    return dataclasses.replace(
        GRU_CHO,
        params_type=params_type,
        init=_init_taps(GRU_CHO, params_type, num_taps, num_shifts),
        project=project,
        is_rowwise=False,
        weight=None,
        advance=advance,
    )


def _init_taps(cell: Cell, params_type: type[Any], num_taps: int, num_shifts: int | None = None) -> Any:
    if num_taps < 1:
        raise ValueError(f"a filter has at least one tap, not {num_taps}")
    shape = (num_taps,) if num_shifts is None else (num_shifts, num_taps)

    def init(key: Key, input_size: int, hidden_size: int, initializer: Initializer) -> Any:
        keys = jax.random.split(key, shape)
        taps = jax.vmap(lambda key: cell.init(key, input_size, hidden_size, initializer))(keys.reshape(-1))

        def stacked(leaf: Array) -> Array:
            return leaf.reshape(*shape, *leaf.shape[1:]) / keys.size**0.5 if leaf.ndim == 3 else leaf[0]

        return params_type(*map(stacked, taps))

    return init


def _project(params: Any, x: Array) -> Array:
    z = graph_filter((params.w_x, params.shift), x)
    return z + spread(params.b, z)
