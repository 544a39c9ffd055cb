"""A product cell over time, with a gradient that keeps weight sums out of the loop.

The transpose of a scan adds the whole weight cotangent at every step. Here the reverse scan stores only the cotangents
of the step's product, ``du [T, *batch, U]``, and the weight gradient is one large product over time and batch.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, PyTree
from jaxrnn.cells import ProductCell
from jaxrnn.recurrence.steps import Inputs, Step, Steps, lookup_backward, masked, projected, scanned, where


class Problem(NamedTuple):
    """The arguments of the custom gradient; `elementwise` are the parameters that `pointwise` reads, by name."""

    elementwise: dict[str, Array]
    weight: PyTree
    first: PyTree
    start: PyTree
    steps: Steps


def _pointwise(
    cell: ProductCell, elementwise: dict[str, Array], carry: PyTree, z: Array, u: Array, mask: Array | None
) -> tuple[PyTree, Array]:
    """The step after its product; it sees the parameters that the cell declared, and no others."""
    blank: list[Any] = [None] * len(cell.params_type._fields)
    params = cell.params_type(*blank)._replace(**elementwise)
    new_carry, y, _ = cell.pointwise(params, carry, z, u)
    return masked(mask, new_carry, carry, y)


def _scan(cell: ProductCell, reverse: bool, problem: Problem, *, keep: bool) -> tuple[PyTree, tuple[Array, Any]]:
    """The last carry, the ys and, with `keep`, every step's product and the carry before it."""
    elementwise, weight, first, start, steps = problem
    weight = cell.product.prepare(weight)

    def step(carry: PyTree, x: Step) -> tuple[PyTree, tuple[Array, Any]]:
        carry = where(x.goes_on, carry, start)
        u = cell.product.apply(weight, cell.source(carry))
        new_carry, y = _pointwise(cell, elementwise, carry, projected(steps.inputs, x), u, x.mask)
        return new_carry, (y, (carry, u) if keep else None)

    return jax.lax.scan(step, first, scanned(steps), reverse=reverse)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def unroll_product(cell: ProductCell, reverse: bool, problem: Problem) -> tuple[PyTree, Array]:
    """The last carry and the ys ``[T, *batch, H]``, of one step or more."""
    last, (ys, _) = _scan(cell, reverse, problem, keep=False)
    return last, ys


def _stacked_forward(cell: ProductCell, reverse: bool, problem: Problem) -> tuple[tuple[PyTree, Array], Any]:
    """Keeps carries and products, ``[T, *batch, 6 H]`` for an LSTM; the gates are recomputed."""
    last, (ys, (carries, us)) = _scan(cell, reverse, problem, keep=True)
    return (last, ys), (problem, carries, us)


def _stacked_backward(cell: ProductCell, reverse: bool, residuals: Any, cotangents: tuple[PyTree, Array]) -> Any:
    problem, carries, us = residuals
    inputs = problem.steps.inputs
    (d_elementwise, d_first), (d_us, d_zs) = _walk_back_in_place(cell, reverse, problem, carries, us, cotangents)
    d_weight = cell.product.pull_weight(problem.weight, jax.vmap(cell.source)(carries), d_us)
    d_zs = d_us if d_zs is None else d_zs
    d_values = d_zs if inputs.indices is None else lookup_backward((inputs.values, inputs.indices), d_zs)[0]
    # The start of a sequence does not depend on the parameters' values.
    return (Problem(d_elementwise, d_weight, d_first, None, Steps(Inputs(d_values, None), None, None)),)


def _walk_back(
    scan: Callable[..., Any],
    cell: ProductCell,
    reverse: bool,
    problem: Problem,
    carries: PyTree,
    us: Array,
    cotangents: tuple[PyTree, Array],
) -> tuple[tuple[PyTree, PyTree], tuple[Array, Array | None]]:
    """The cotangents of the elementwise parameters, of the first carry, and, stacked, of every step's product and z.

    Where a cell only adds z and u, their cotangents are equal, and the one of z is None.
    """
    elementwise, weight, first, _, steps = problem
    d_last, d_ys = cotangents
    pull_product = cell.product.pull_source(cell.product.prepare(weight), cell.source(first))

    def step(state: tuple[PyTree, PyTree], x: Any) -> tuple[tuple[PyTree, PyTree], tuple[Array, Array | None]]:
        d_elementwise, d_carry = state
        u, (x_t, carry, d_y) = x

        def pointwise(e: dict[str, Array], c: PyTree, z: Array, u: Array) -> tuple[PyTree, Array]:
            return _pointwise(cell, e, c, z, u, x_t.mask)

        _, pull_back = jax.vjp(pointwise, elementwise, carry, projected(steps.inputs, x_t), u)
        more, d_carry, d_z, d_u = pull_back((d_carry, d_y))
        _, pull_source = jax.vjp(cell.source, carry)
        (d_source,) = pull_source(pull_product(d_u))
        d_elementwise, d_carry = jax.tree.map(jnp.add, (d_elementwise, d_carry), (more, d_source))
        d_carry = where(x_t.goes_on, d_carry, jax.tree.map(jnp.zeros_like, d_carry))
        return (d_elementwise, d_carry), (d_u, None if d_z is d_u else d_z)

    zeros = (jax.tree.map(jnp.zeros_like, elementwise), d_last)
    return scan(step, zeros, (us, (scanned(steps), carries, d_ys)), reverse=not reverse)


def _scan_in_place(
    step: Callable[..., Any], start: PyTree, xs: tuple[Array, PyTree], reverse: bool
) -> tuple[PyTree, tuple[Array, PyTree]]:
    """`jax.lax.scan` of ``step(state, (x, more)) -> state, (y, others)`` that overwrites each ``x`` with its ``y``.

    A second stack would cost memory, and time to fill it with zeros.
    """

    def in_place(walked: Any, x: Any) -> tuple[Any, PyTree]:
        (state, stack, x_t), (t, more) = walked, x
        state, (y, others) = step(state, (x_t, more))
        stack = jax.lax.dynamic_update_index_in_dim(stack, y, t, axis=0)
        # If the next step read it, XLA might see a use of the stack beside its change, and copy the whole stack. The
        # last step reads one row too many, which is not used.
        x_t = jax.lax.dynamic_index_in_dim(stack, t - 1 if reverse else t + 1, keepdims=False)
        return (state, stack, x_t), others

    stack, more = xs
    first = (start, stack, stack[-1 if reverse else 0])
    (state, stack, _), others = jax.lax.scan(in_place, first, (jnp.arange(len(stack)), more), reverse=reverse)
    return state, (stack, others)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _walk_back_in_place(cell: ProductCell, reverse: bool, *args: Any) -> Any:
    return _walk_back(_scan_in_place, cell, reverse, *args)


def _walk_back_forward(cell: ProductCell, reverse: bool, *args: Any) -> tuple[Any, Any]:
    """By a scan that is not in place: the transpose of one in place would copy the whole stack at every step."""
    return jax.vjp(functools.partial(_walk_back, jax.lax.scan, cell, reverse), *args)


def _walk_back_backward(cell: ProductCell, reverse: bool, pull_back: Any, cotangents: Any) -> Any:
    return pull_back(cotangents)


_walk_back_in_place.defvjp(_walk_back_forward, _walk_back_backward)
unroll_product.defvjp(_stacked_forward, _stacked_backward)
