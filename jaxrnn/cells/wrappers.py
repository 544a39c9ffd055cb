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
    """The cell with the products of its inputs, and its recurrent product, in a lower precision such as bfloat16.

    Parameters, carries, sums and what is element-wise stay float32. So does a step that is no `MatrixProduct` and, if
    the inputs are a table's (`is_table`), their product, which costs next to nothing.

    Raises:
        ValueError: the inputs are not projected by ``w_x`` and ``b`` alone, as those of a graph cell, or the dtype is
            not one of floating point numbers.
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
        raise ValueError(f"products are of floating point numbers, not of {dtype}")
    if cell.project is not affine:
        raise ValueError("a cell in another precision is made of one whose inputs are projected by w_x and b")
    project = functools.partial(affine, multiply=multiply)
    changes: dict[str, Any] = {} if is_table else {"project": project, "projects_in_steps": False}
    if isinstance(cell, ProductCell) and cell.product == MatrixProduct():
        changes["product"] = product
    return dataclasses.replace(cell, **changes)


@dataclasses.dataclass(frozen=True)
class _Dropped(Product):
    """The product of another kind, of ``keep * s``; the weights are its own and ``keep [*batch, H]``."""

    product: Product

    def prepare(self, weight: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
        return self.product.prepare(weight[0]), weight[1]

    def apply(self, weight: tuple[PyTree, Array], s: Array) -> Array:
        return self.product.apply(weight[0], weight[1] * s)

    def pull_source(self, weight: tuple[PyTree, Array], s: Array) -> Callable[[Array], Array]:
        pull = self.product.pull_source(weight[0], s)
        return lambda d_u: weight[1] * pull(d_u)

    def pull_weight(self, weight: tuple[PyTree, Array], s: Array, d_u: Array) -> tuple[PyTree, Array]:
        # What is kept is drawn, and has no gradient.
        return self.product.pull_weight(weight[0], weight[1] * s, d_u), jnp.zeros_like(weight[1])


@functools.cache
def with_dropout(cell: ProductCell) -> ProductCell:
    """The cell whose product sees ``keep * source``, with one ``keep [*batch, H]`` for all steps.

    It is the dropout of Gal and Ghahramani (2016). ``keep`` is a further parameter, the last one, which gets no
    gradient: ``params_type(*params, keep)``.

    Raises:
        ValueError: the cell is no `ProductCell`.
    """
    if not isinstance(cell, ProductCell):
        raise ValueError("dropout within the recurrence needs a ProductCell")
    return dataclasses.replace(
        cell,
        params_type=with_field(cell.params_type, "Dropped", "keep"),
        weight=lambda params: (cell.weight(params), params.keep),
        product=_Dropped(cell.product),
    )
