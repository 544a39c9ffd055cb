"""Cells made from others: in another precision, or with dropout in the recurrence."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, PyTree
from jaxrnn.cells.base import Cell, MatrixProduct, Product, ProductCell, affine, with_field


@functools.cache
def in_dtype(cell: Cell, dtype: Any, *, is_table: bool = False) -> Cell:
    """The cell with its input products and its recurrent product in a lower precision such as bfloat16.

    Parameters, carries, sums and element-wise operations stay float32. So does a recurrent product that is not a
    `MatrixProduct` and, if the inputs are rows of a table (`is_table`), their product, which costs next to nothing.

    Raises:
        ValueError: the inputs are not projected by ``w_x`` and ``b`` alone (in a graph cell they are not), or the dtype
            is not a floating point type.
    """
    product = MatrixProduct(dtype)

    @jax.custom_vjp
    def multiply(x: Array, w: Array) -> Array:
        return product.apply(product.prepare(w), x)

    def forward(x: Array, w: Array) -> tuple[Array, tuple[Array, Array]]:
        return multiply(x, w), (x, w)

    def backward(residuals: tuple[Array, Array], d_y: Array) -> tuple[Array, Array]:
        x, w = residuals
        d_x, d_w = product.pull_source(product.prepare(w), x)(d_y), product.pull_weight(w, x, d_y)
        return d_x.astype(x.dtype), d_w.astype(w.dtype)

    multiply.defvjp(forward, backward)

    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"products need a floating point dtype, not {dtype}")
    if cell.project is not affine:
        raise ValueError("a cell in another precision needs inputs projected by w_x and b alone")
    project = functools.partial(affine, multiply=multiply)
    changes: dict[str, Any] = {} if is_table else {"project": project, "projects_in_steps": False}
    if isinstance(cell, ProductCell) and cell.product == MatrixProduct():
        changes["product"] = product
    return dataclasses.replace(cell, **changes)


@dataclasses.dataclass(frozen=True)
class _Dropped(Product):
    """Another product, applied to ``keep * s``; the weights are those of that product and ``keep [*batch, H]``."""

    product: Product

    def prepare(self, weight: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
        return self.product.prepare(weight[0]), weight[1]

    def apply(self, weight: tuple[PyTree, Array], s: Array) -> Array:
        return self.product.apply(weight[0], weight[1] * s)

    def pull_source(self, weight: tuple[PyTree, Array], s: Array) -> Callable[[Array], Array]:
        pull = self.product.pull_source(weight[0], s)
        return lambda d_u: weight[1] * pull(d_u)

    def pull_weight(self, weight: tuple[PyTree, Array], s: Array, d_u: Array) -> tuple[PyTree, Array]:
        # The mask is drawn at random and gets no gradient.
        return self.product.pull_weight(weight[0], weight[1] * s, d_u), jnp.zeros_like(weight[1])


@functools.cache
def with_dropout(cell: ProductCell) -> ProductCell:
    """The cell whose product sees ``keep * source``, with one ``keep [*batch, H]`` for all steps.

    It is the dropout of Gal and Ghahramani (2016). ``keep`` is an additional last parameter, which gets no gradient:
    ``params_type(*params, keep)``.

    Raises:
        ValueError: the cell is not a `ProductCell`.
    """
    if not isinstance(cell, ProductCell):
        raise ValueError("dropout within the recurrence needs a ProductCell")
    return dataclasses.replace(
        cell,
        params_type=with_field(cell.params_type, "Dropped", "keep"),
        weight=lambda params: (cell.weight(params), params.keep),
        product=_Dropped(cell.product),
    )
