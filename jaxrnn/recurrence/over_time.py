"""A cell over time."""

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, PyTree, at_least_float32, wide
from jaxrnn.cells import Cell, LinearCell, ProductCell
from jaxrnn.recurrence.linear import unroll_linear
from jaxrnn.recurrence.product import Problem, unroll_product
from jaxrnn.recurrence.steps import Inputs, Step, Steps, lookup, masked, projected, scanned, where


def unroll(
    cell: Cell,
    params: PyTree,
    xs: Array,
    *,
    embedding: Array | None = None,
    carry: PyTree | None = None,
    mask: Array | None = None,
    reset: Array | None = None,
    reverse: bool = False,
) -> tuple[PyTree, Array]:
    """Runs a cell over a time-major sequence.

    Args:
        cell: the cell.
        params: its parameters.
        xs: inputs ``[T, *batch, D]``, or integers ``[T, *batch]`` with an `embedding`.
        embedding: ``[V, D]``; row ``xs[t]`` is the input at ``t``. It is projected once, as a table.
        carry: initial carry; the cell's start by default.
        mask: booleans ``[T, *batch]``. A step that is False leaves the carry as it is, and its ``y`` is zero.
            Neither its input, NaN included, nor the gradient of its input has any effect.
        reset: booleans ``[T, *batch]``. True marks the beginning of a sequence: before that step, masked or not, the
            carry becomes the cell's start. With `reverse`, it does so before step ``t - 1``.
        reverse: walk positions from the last to the first; ``ys[t]`` still belongs to position ``t``.

    Returns:
        The last carry (of the first position if `reverse`) and ``ys [T, *batch, H]``.

    Reverse-mode gradients work to any order. If the cell uses a custom gradient, forward mode (`jax.jvp`, `jax.jacfwd`)
    raises JAX's TypeError about custom_vjp functions.

    Raises:
        ValueError: for integers without an embedding, an embedding without integers, inputs without a time axis, or a
            mask, reset or carry of another shape.
    """
    if embedding is None and jnp.issubdtype(xs.dtype, jnp.integer):
        raise ValueError(f"integer inputs of shape {xs.shape} need an embedding")
    if embedding is not None and not jnp.issubdtype(xs.dtype, jnp.integer):
        raise ValueError(f"with an embedding the inputs are integers, not {xs.dtype}")
    if xs.ndim < (1 if embedding is not None else 2):
        raise ValueError(f"inputs are [T, *batch, D], or integers [T, *batch], not of shape {xs.shape}")
    xs = xs if embedding is None else wide(xs)
    steps_shape = xs.shape if embedding is not None else xs.shape[:-1]
    for name, flags in (("mask", mask), ("reset", reset)):
        if flags is not None and flags.shape != steps_shape:
            raise ValueError(f"{name} has shape {flags.shape}, but the inputs need {steps_shape}")
    if mask is not None:
        mask = mask.astype(bool)
        if embedding is None:
            xs = jnp.where(mask[..., None], xs, 0)
        else:
            embedding, xs = jnp.where(_is_read(xs, mask, len(embedding))[:, None], embedding, 0), jnp.where(mask, xs, 0)
    if reset is not None and reverse:
        reset = jnp.concatenate([reset[1:], jnp.zeros_like(reset[:1])])

    if embedding is not None and not cell.is_rowwise:
        xs, embedding = where(mask, lookup(jnp.asarray(embedding), xs), jnp.zeros((), embedding.dtype)), None
    # The custom gradient starts from the first product, and a sequence without steps has none.
    is_stacked = isinstance(cell, ProductCell) and cell.stacked_gradient and len(xs) > 0
    in_steps = is_stacked and embedding is None and cell.projects_in_steps
    values = jnp.asarray(xs if embedding is None else embedding)
    dtype = jax.eval_shape(cell.project_all, params, values).dtype
    # NumPy arrays project to a NumPy array, which becomes a JAX array here, with JAX's precision.
    values = values if in_steps else jnp.asarray(cell.project_all(params, values))
    inputs = Inputs(values, None if embedding is None else xs)
    whole = cell.start(params, steps_shape[1:], dtype)
    start = cell.reach(whole, len(xs)) if carry is None else whole
    if carry is not None and _form(carry) != _form(start):
        raise ValueError(f"the carry is {_form(carry)}, but the cell and the inputs need {_form(start)}")
    first = jax.tree.map(_cast_like, start if carry is None else carry, start)
    steps = Steps(inputs, mask, None if reset is None else ~reset.astype(bool))
    if isinstance(cell, LinearCell):
        last, ys = unroll_linear(cell, params, first, start, steps, reverse)
    elif isinstance(cell, ProductCell) and is_stacked:
        elementwise = {name: getattr(params, name) for name in cell.elementwise}
        problem = Problem(elementwise, cell.weight(params), params if in_steps else None, first, start, steps)
        last, ys = unroll_product(cell, reverse, problem)
    else:
        last, ys = _unroll_general(cell, params, first, start, steps, reverse)
    return jax.tree.map(fill, whole, last), ys


def _unroll_general(
    cell: Cell, params: PyTree, first: PyTree, start: PyTree, steps: Steps, reverse: bool
) -> tuple[PyTree, Array]:
    """Unrolls any cell, with plain autodiff of the steps."""
    # Autodiff sums gradients over the steps in the precision that arrays have outside the loop.
    summed, table = jax.tree.map(at_least_float32, params), jax.tree.map(at_least_float32, steps.inputs)

    def step(carry: PyTree, x: Step) -> tuple[PyTree, Array]:
        carry = where(x.goes_on, carry, start)
        own = jax.tree.map(lambda s, p: s.astype(p.dtype), summed, params)
        # On a graph, other nodes may read what a masked node computes from its carry.
        z = projected(table, x).astype(steps.inputs.values.dtype) if cell.is_rowwise else x.input
        new_carry, y, _ = cell.step(own, carry, z)
        return masked(x.mask, new_carry, carry, y)

    return jax.lax.scan(step, first, scanned(steps), reverse=reverse)


def fill(whole: Array, part: Array) -> Array:
    """A field of the carry with all its entries; those beyond the reach of the steps keep their start."""
    return part if part.shape == whole.shape else whole.at[tuple(map(slice, part.shape))].set(part)


def _is_read(tokens: Array, mask: Array, size: int) -> Array:
    """Which rows of an embedding are read by steps that are not masked, bool ``[V]``."""
    rows = jnp.clip(jnp.where(tokens < 0, tokens + size, tokens), 0, size - 1)
    return jnp.zeros(size, bool).at[rows].max(mask)


def _form(carry: PyTree) -> str:
    return str(jax.tree.map(jnp.shape, carry))


def _cast_like(carry: Array, start: Array) -> Array:
    """A field of the carry in the precision that the steps have."""
    return jnp.asarray(carry, jnp.promote_types(jnp.result_type(carry), start.dtype))
