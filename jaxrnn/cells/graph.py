"""Cells on graphs: any product cell whose matrices are graph filters.

A graph filter is ``sum_k S^k x W_k`` with a shift ``S [N, N]`` and taps ``W_k``, ``k < K`` (Ruiz et al. 2020). The
nodes lead the batch: inputs are ``[T, N, *batch, D]`` and carries ``[N, *batch, H]``.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Initializer, Key
from jaxrnn.cells.base import MatrixProduct, Product, ProductCell, affine, spread, with_field


def graph_filter(weight: tuple[Array, Array], x: Array) -> Array:
    """``sum_k S^k x W_k``: ``[N, *batch, U]``.

    Args:
        weight: the taps ``W [K, H, U]`` and the shift ``S [N, N]``.
        x: ``[N, *batch, H]``.
    """
    taps, shift = weight
    if shift is None:
        raise ValueError("the parameters have no graph yet: params._replace(shift=S) gives them one")
    num_taps, rows, columns = taps.shape

    def shifted(x: Array) -> Array:
        return jnp.tensordot(shift, x, (1, 0))

    # The narrower side is shifted.
    if rows < columns:
        powers = [x]
        for _ in range(num_taps - 1):
            powers.append(shifted(powers[-1]))
        return jnp.concatenate(powers, axis=-1) @ taps.reshape(num_taps * rows, columns)
    y = x @ taps[-1]
    for tap in taps[-2::-1]:
        y = x @ tap + shifted(y)
    return y


class GraphFilter(Product):
    """`graph_filter` of taps and shift."""

    def apply(self, weight: tuple[Array, Array], s: Array) -> Array:
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
    if num_taps < 1:
        raise ValueError(f"a filter has at least one tap, not {num_taps}")
    params_type = with_field(cell.params_type, "Graph", "shift")

    def init(key: Key, input_size: int, hidden_size: int, initializer: Initializer) -> Any:
        keys = jax.random.split(key, num_taps)
        taps = [cell.init(key, input_size, hidden_size, initializer) for key in keys]
        stacked = [jnp.stack(one) / num_taps**0.5 if one[0].ndim == 2 else one[0] for one in zip(*taps, strict=True)]
        return params_type(*stacked)

    def project(params: Any, x: Array) -> Array:
        z = graph_filter((params.w_x, params.shift), x)
        return z + spread(params.b, z)

    return dataclasses.replace(
        cell,
        params_type=params_type,
        init=init,
        project=project,
        is_rowwise=False,
        weight=lambda params: (cell.weight(params), params.shift),
        product=GraphFilter(),
    )
