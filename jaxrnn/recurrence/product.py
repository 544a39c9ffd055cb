"""A product cell over time, with a gradient that keeps weight sums out of the loop.

The transpose of a scan adds the whole weight cotangent at every step. Here the reverse scan stores only the cotangents
of the step's product, ``du [T, *batch, U]``, and the weight gradient is one large product over time and batch. Dense
inputs are projected step by step; all at once, their projections would be written to fresh memory and read again.
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
    """The arguments of the custom gradient.

    Attributes:
        elementwise: the parameters that `pointwise` reads, by name.
        weight: the weight of the product.
        projection: the parameters with which a step projects its input; None where the inputs are projected already.
        first: the carry before the first step.
        start: the carry with which a sequence begins.
        steps: as in `Steps`.
    """

    elementwise: dict[str, Array]
    weight: PyTree
    projection: PyTree
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
    """The last carry, the ys and, with `keep`, what the gradient needs from every step.

    This is the carry before the step, its product u and, if its input is projected here, its z. If only the sum of u
    and z counts, it replaces u, and there is no z.
    """
    elementwise, weight, projection, first, start, steps = problem
    weight = cell.product.prepare(weight)

    def step(carry: PyTree, x: Step) -> tuple[PyTree, tuple[Array, Any]]:
        carry = where(x.goes_on, carry, start)
        u, z = cell.product.apply(weight, cell.source(carry)), projected(steps.inputs, x)
        if projection is not None:
            z = cell.project(projection, z)
            u, z = (u + z, jnp.zeros_like(z)) if cell.is_additive else (u, z)
        new_carry, y = _pointwise(cell, elementwise, carry, z, u, x.mask)
        kept_z = None if projection is None or cell.is_additive else z
        return new_carry, (y, (carry, u, kept_z) if keep else None)

    return jax.lax.scan(step, first, scanned(steps), reverse=reverse)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def unroll_product(cell: ProductCell, reverse: bool, problem: Problem) -> tuple[PyTree, Array]:
    """The last carry and the ys ``[T, *batch, H]``, of one step or more."""
    last, (ys, _) = _scan(cell, reverse, problem, keep=False)
    return last, ys


def _stacked_forward(cell: ProductCell, reverse: bool, problem: Problem) -> tuple[tuple[PyTree, Array], Any]:
    """Keeps carries and products, ``[T, *batch, 6 H]`` for an LSTM; the gates are recomputed."""
    last, (ys, kept) = _scan(cell, reverse, problem, keep=True)
    return (last, ys), (problem, *kept)


def _stacked_backward(cell: ProductCell, reverse: bool, residuals: Any, cotangents: tuple[PyTree, Array]) -> Any:
    problem, carries, us, zs = residuals
    inputs = problem.steps.inputs
    (d_elementwise, d_first), (d_us, d_zs) = _walk_back_in_place(cell, reverse, problem, carries, us, zs, cotangents)
    d_elementwise = jax.tree.map(_as, d_elementwise, problem.elementwise)
    d_weight = cell.product.pull_weight(problem.weight, jax.vmap(cell.source)(carries), d_us)
    d_weight = jax.tree.map(_as, d_weight, problem.weight)
    d_values, d_projection = d_us if d_zs is None else d_zs, None
    if problem.projection is not None:
        d_projection, d_values = _pull_projection(cell, problem.projection, inputs.values, d_values)
    elif inputs.indices is not None:
        d_values, _ = lookup_backward((inputs.values, inputs.indices), d_values)
    # The start of a sequence does not depend on the parameters' values.
    d_steps = Steps(Inputs(d_values, None), None, None)
    return (Problem(d_elementwise, d_weight, d_projection, d_first, None, d_steps),)


def _as(d: Array, x: Array) -> Array:
    """A cotangent in the precision of what it belongs to; that of an integer, such as the end of an edge, is void."""
    return d if d.dtype == jax.dtypes.float0 else d.astype(x.dtype)


def _pull_projection(cell: ProductCell, params: PyTree, xs: Array, d_zs: Array) -> tuple[PyTree, Array]:
    """The cotangents of the parameters and of the inputs of all steps."""
    project: Callable[[PyTree, Array], Array]
    if not cell.is_rowwise:
        project, rows = cell.project_all, xs
    else:
        # Reshaped to matrices, because XLA copies arrays with more axes.
        project, rows = cell.project, xs.reshape(-1, xs.shape[-1])
    zs, pull = jax.vjp(project, params, rows)
    # Where z and u share a cotangent, it is in the precision of the carry, which may be higher.
    d_params, d_rows = pull(d_zs.reshape(zs.shape).astype(zs.dtype))
    return d_params, d_rows.reshape(xs.shape)


def _walk_back(
    scan: Callable[..., Any],
    cell: ProductCell,
    reverse: bool,
    problem: Problem,
    carries: PyTree,
    us: Array,
    zs: Array | None,
    cotangents: tuple[PyTree, Array],
) -> tuple[tuple[PyTree, PyTree], tuple[Array, Array | None]]:
    """The cotangents of the elementwise parameters, of the first carry, and, stacked, of every step's product and z.

    Where a cell only adds z and u, their cotangents are equal, and the one of z is None.
    """
    elementwise, weight, projection, first, _, steps = problem
    d_last, d_ys = cotangents
    if zs is not None:
        steps = steps._replace(inputs=Inputs(zs, None))
    pull_product = cell.product.pull_source(cell.product.prepare(weight), cell.source(first))

    def step(state: tuple[PyTree, PyTree], x: Any) -> tuple[tuple[PyTree, PyTree], tuple[Array, Array | None]]:
        d_elementwise, d_carry = state
        u, (x_t, carry, d_y) = x

        def pointwise(e: dict[str, Array], c: PyTree, z: Array, u: Array) -> tuple[PyTree, Array]:
            return _pointwise(cell, e, c, z, u, x_t.mask)

        z = jnp.zeros_like(u) if projection is not None and cell.is_additive else projected(steps.inputs, x_t)
        _, pull_back = jax.vjp(pointwise, elementwise, carry, z, u)
        more, d_carry, d_z, d_u = pull_back((d_carry, d_y))
        _, pull_source = jax.vjp(cell.source, carry)
        (d_source,) = pull_source(pull_product(d_u))
        d_elementwise, d_carry = jax.tree.map(jnp.add, (d_elementwise, d_carry), (more, d_source))
        d_carry = where(x_t.goes_on, d_carry, jax.tree.map(jnp.zeros_like, d_carry))
        return (d_elementwise, d_carry), (d_u, None if d_z is d_u else d_z)

    # Sums over many steps are float32 at least.
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32)), elementwise)
    return scan(step, (zeros, d_last), (us, (scanned(steps), carries, d_ys)), reverse=not reverse)


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
        # If the next step did this read, XLA might see a use of the stack beside its update and copy the whole stack.
        # The last step reads one row too many, which is not used.
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
    """Scans, but not in place: the transpose of a scan in place would copy the whole stack at every step."""
    return jax.vjp(functools.partial(_walk_back, jax.lax.scan, cell, reverse), *args)


def _walk_back_backward(cell: ProductCell, reverse: bool, pull_back: Any, cotangents: Any) -> Any:
    return pull_back(cotangents)


_walk_back_in_place.defvjp(_walk_back_forward, _walk_back_backward)
unroll_product.defvjp(_stacked_forward, _stacked_backward)
