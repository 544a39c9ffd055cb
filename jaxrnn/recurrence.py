"""A cell over time, under `jax.lax.scan`, with a gradient that keeps weight sums out of the loop.

The transpose of a scan adds the whole weight cotangent at every step. Here the reverse scan stores only the cotangents
of the step's product, ``du [T, *batch, U]``, and the weight gradient is one large product over time and batch.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, PyTree
from jaxrnn.cells import Cell, ProductCell


class _Inputs(NamedTuple):
    """Projected inputs ``z [T, *batch, Z]``, or a table ``[V, Z]`` of them with ``indices [T, *batch]``."""

    values: Array
    indices: Array | None


@jax.custom_vjp
def lookup(table_vz: Array, indices: Array) -> Array:
    """Rows of ``table_vz [V, Z]`` at integer ``indices [...]``, exactly: ``[..., Z]``.

    Indices beyond the table behave as in JAX: a negative index counts from the end, any other reads the nearest row and
    gives it no gradient. The table's gradient is a one-hot product at highest precision, since a scatter-add is slow on
    some devices.
    """
    return table_vz[indices]


def _lookup_forward(table_vz: Array, indices: Array) -> tuple[Array, tuple[Array, Array]]:
    return table_vz[indices], (table_vz, indices)


def _lookup_backward(residuals: tuple[Array, Array], cotangent: Array) -> tuple[Array, None]:
    table_vz, indices = residuals
    size = table_vz.shape[0]
    from_start = jnp.where(indices < 0, indices + size, indices)
    one_hot = jax.nn.one_hot(from_start, size, dtype=cotangent.dtype)
    axes = tuple(range(indices.ndim))
    return jnp.tensordot(one_hot, cotangent, (axes, axes), precision="highest"), None


lookup.defvjp(_lookup_forward, _lookup_backward)


def unroll(
    cell: Cell,
    params: PyTree,
    xs: Array,
    *,
    embedding: Array | None = None,
    carry: PyTree | None = None,
    mask: Array | None = None,
    reverse: bool = False,
) -> tuple[PyTree, Array]:
    """Runs a cell over a time-major sequence.

    Args:
        cell: the cell.
        params: its parameters.
        xs: inputs ``[T, *batch, D]``, or integers ``[T, *batch]`` with an `embedding`.
        embedding: ``[V, D]``; row ``xs[t]`` is the input at ``t``. It is projected once, as a table.
        carry: initial carry, fields ``[*batch, H]``; zeros by default.
        mask: booleans ``[T, *batch]``. A step that is False leaves the carry as it is, its ``y`` is zero, its input has
            no effect, and all its gradients are exactly zero.
        reverse: walk positions from the last to the first; ``ys[t]`` still belongs to position ``t``.

    Returns:
        The last carry (of the first position if `reverse`) and ``ys [T, *batch, H]``.

    Gradients are reverse mode, to any order. Where the cell takes the custom gradient, forward mode (`jax.jvp`,
    `jax.jacfwd`) raises JAX's TypeError about custom_vjp functions.

    Raises:
        ValueError: for integers without an embedding, an embedding without integers, inputs without a time axis, or a
            mask of another shape.
    """
    if embedding is None and jnp.issubdtype(xs.dtype, jnp.integer):
        raise ValueError(f"integer inputs of shape {xs.shape} need an embedding")
    if embedding is not None and not jnp.issubdtype(xs.dtype, jnp.integer):
        raise ValueError(f"with an embedding the inputs are integers, not {xs.dtype}")
    if xs.ndim < (1 if embedding is not None else 2):
        raise ValueError(f"inputs are [T, *batch, D], or integers [T, *batch], not of shape {xs.shape}")
    batch_shape = xs.shape[1:] if embedding is not None else xs.shape[1:-1]
    if mask is not None:
        if mask.shape != (xs.shape[0], *batch_shape):
            raise ValueError(f"mask has shape {mask.shape}, the inputs ask for {(xs.shape[0], *batch_shape)}")
        mask = mask.astype(bool)
        xs = jnp.where(mask if embedding is not None else mask[..., None], xs, 0)

    # NumPy arrays project to a NumPy array: from here on, it is JAX's and has JAX's precision.
    values = jnp.asarray(cell.project(params, xs if embedding is None else embedding))
    inputs = _Inputs(values, None if embedding is None else xs)
    if carry is None:
        hidden_size = cell.weight(params).shape[0]
        carry = cell.initial_carry(hidden_size, batch_shape, inputs.values.dtype)
    # The custom gradient starts from the first product, and a sequence without steps has none.
    if isinstance(cell, ProductCell) and cell.stacked_gradient and len(xs) > 0:
        elementwise = {name: getattr(params, name) for name in cell.elementwise}
        return _stacked(cell, reverse, _Problem(elementwise, cell.weight(params), carry, inputs, mask))

    def step(carry: PyTree, x: tuple[Array, Array | None]) -> tuple[PyTree, Array]:
        z, m = x
        new_carry, y, _ = cell.step(params, carry, z)
        return _select(m, new_carry, carry, y)

    zs = inputs.values if inputs.indices is None else lookup(inputs.values, inputs.indices)
    return jax.lax.scan(step, carry, (zs, mask), reverse=reverse)


class Phase(NamedTuple):
    """A span of time steps that is computed for the first rows of a sorted batch only.

    The other rows begin as the last of these rows does, and take over its carry.

    Attributes:
        rows: how many rows are computed.
        end: the position after the span; the next phase begins there, or the sequence ends.
    """

    rows: int
    end: int


def last_carry(cell: Cell, params: PyTree, tokens_tb: Array, *, embedding: Array, phases: Sequence[Phase]) -> PyTree:
    """The last carry of `unroll`, for a batch in which many sequences begin alike, as they do with padding in front.

    The sequences are sorted by the length of their first run of one token. Where all rows from some row on begin alike,
    their common start is computed once, in that row. A batch that does not fit the phases is computed whole, at the
    cost of a second forward pass if a gradient is taken. Under `jax.vmap`, both ways are computed.

    Args:
        cell: the cell.
        params: its parameters.
        tokens_tb: integers ``[T, B]``.
        embedding: ``[V, D]``.
        phases: such as those of `plan_phases`.

    Returns:
        The carry, fields ``[B, H]``, in the order of ``tokens_tb``.

    Raises:
        ValueError: if the last phase is not of all rows and up to the last position.
    """
    length, batch_size = tokens_tb.shape
    if tuple(phases[-1]) != (batch_size, length):
        raise ValueError(f"tokens of shape {tokens_tb.shape} do not fit a last phase {phases[-1]}")

    def whole(params: PyTree, embedding: Array, tokens_tb: Array) -> PyTree:
        return unroll(cell, params, tokens_tb, embedding=embedding)[0]

    def in_phases(params: PyTree, embedding: Array, tokens_tb: Array) -> PyTree:
        carry, begin = None, 0
        for rows, end in phases:
            if carry is not None:
                carry = jax.tree.map(lambda c, rows=rows: jnp.pad(c, ((0, rows - len(c)), (0, 0)), "edge"), carry)
            carry, _ = unroll(cell, params, tokens_tb[begin:end, :rows], embedding=embedding, carry=carry)
            begin = end
        return carry

    order = _by_first_run(tokens_tb)
    tokens_tb = jnp.asarray(tokens_tb)[:, order]
    fits = [_common_start(tokens_tb, phase.rows - 1) >= phase.end for phase in phases[:-1]]
    # Each branch returns the residuals of both; a checkpoint has nearly none.
    carry = jax.lax.cond(jnp.array(fits).all(), in_phases, jax.checkpoint(whole), params, embedding, tokens_tb)
    return jax.tree.map(lambda c: c[jnp.argsort(order)], carry)


def plan_phases(batches_ntb: Array) -> tuple[Phase, ...]:
    """Phases of a sixteenth, a quarter and all of the rows, such that each of the batches ``[n, T, B]`` fits them.

    More phases would save a little work, and lose as much in smaller products.
    """
    _, length, batch_size = batches_ntb.shape
    candidates = [rows for rows in (batch_size // 16, batch_size // 4) if rows > 0]

    def common_starts(tokens_tb: Array) -> list[Array]:
        tokens_tb = tokens_tb[:, _by_first_run(tokens_tb)]
        return [_common_start(tokens_tb, rows - 1) for rows in candidates]

    phases = [Phase(0, 0)]
    for rows, ends in zip(candidates, jax.jit(jax.vmap(common_starts))(batches_ntb), strict=True):
        if phases[-1].end < ends.min() < length:
            phases.append(Phase(rows, int(ends.min())))
    return (*phases[1:], Phase(batch_size, length))


def _by_first_run(tokens_tb: Array) -> Array:
    """The order ``[B]`` of the sequences by the length of their first run of one token."""
    return jnp.argsort(_first(tokens_tb != tokens_tb[0]))


def _common_start(tokens_tb: Array, row: int) -> Array:
    """The number of positions at which all sequences from a row on are equal to each other, and at all before."""
    return _first((tokens_tb[:, row:] != tokens_tb[:, row : row + 1]).any(1))


def _first(condition_t: Array) -> Array:
    """The first position where a condition ``[T, ...]`` holds, T where it never does."""
    return jnp.where(condition_t.any(0), condition_t.argmax(0), len(condition_t))


def _select(mask: Array | None, new_carry: PyTree, carry: PyTree, y: Array) -> tuple[PyTree, Array]:
    """The carry and output of a step: the old carry and zero where the step is masked."""
    if mask is None:
        return new_carry, y
    m = mask[..., None]
    return jax.tree.map(lambda new, old: jnp.where(m, new, old), new_carry, carry), jnp.where(m, y, 0)


def _pointwise(
    cell: ProductCell, elementwise: dict[str, Array], carry: PyTree, z: Array, u: Array, mask: Array | None
) -> tuple[PyTree, Array]:
    """The step after its product; it sees the parameters that the cell declared, and no others."""
    blank: list[Any] = [None] * len(cell.params_type._fields)
    params = cell.params_type(*blank)._replace(**elementwise)
    new_carry, y, _ = cell.pointwise(params, carry, z, u)
    return _select(mask, new_carry, carry, y)


def _project_step(inputs: _Inputs, x: Array) -> Array:
    """The projected input of one step, from the scanned slice `x`."""
    return x if inputs.indices is None else inputs.values[x]


def _scan_inputs(inputs: _Inputs) -> Array:
    return inputs.values if inputs.indices is None else inputs.indices


class _Problem(NamedTuple):
    """The arguments of the custom gradient; `elementwise` are the parameters that `pointwise` reads, by name."""

    elementwise: dict[str, Array]
    weight: Array
    carry: PyTree
    inputs: _Inputs
    mask: Array | None


def _scan(cell: ProductCell, reverse: bool, problem: _Problem, *, keep: bool) -> tuple[PyTree, tuple[Array, Any]]:
    """The last carry, the ys and, with `keep`, every step's product and the carry before it."""
    elementwise, weight, start, inputs, mask = problem

    def step(carry: PyTree, x: tuple[Array, Array | None]) -> tuple[PyTree, tuple[Array, Any]]:
        x_t, m = x
        u = cell.source(carry) @ weight
        new_carry, y = _pointwise(cell, elementwise, carry, _project_step(inputs, x_t), u, m)
        return new_carry, (y, (carry, u) if keep else None)

    return jax.lax.scan(step, start, (_scan_inputs(inputs), mask), reverse=reverse)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _stacked(cell: ProductCell, reverse: bool, problem: _Problem) -> tuple[PyTree, Array]:
    last, (ys, _) = _scan(cell, reverse, problem, keep=False)
    return last, ys


def _stacked_forward(cell: ProductCell, reverse: bool, problem: _Problem) -> tuple[tuple[PyTree, Array], Any]:
    """Keeps carries and products, ``[T, *batch, 6 H]`` for an LSTM; the gates are recomputed."""
    last, (ys, (carries, us)) = _scan(cell, reverse, problem, keep=True)
    return (last, ys), (problem, carries, us)


def _stacked_backward(cell: ProductCell, reverse: bool, residuals: Any, cotangents: tuple[PyTree, Array]) -> Any:
    problem, carries, us = residuals
    inputs = problem.inputs
    (d_elementwise, d_carry), (d_us, d_zs) = _walk_back_in_place(cell, reverse, problem, carries, us, cotangents)
    axes = tuple(range(d_us.ndim - 1))
    d_weight = jnp.tensordot(cell.source(carries), d_us, (axes, axes))
    d_zs = d_us if d_zs is None else d_zs
    d_values = d_zs if inputs.indices is None else _lookup_backward((inputs.values, inputs.indices), d_zs)[0]
    return (_Problem(d_elementwise, d_weight, d_carry, _Inputs(d_values, None), None),)


def _walk_back(
    scan: Callable[..., Any],
    cell: ProductCell,
    reverse: bool,
    problem: _Problem,
    carries: PyTree,
    us: Array,
    cotangents: tuple[PyTree, Array],
) -> tuple[tuple[PyTree, PyTree], tuple[Array, Array | None]]:
    """The cotangents of the elementwise parameters, of the initial carry, and, stacked, of every step's product and z.

    Where a cell only adds z and u, their cotangents are equal, and the one of z is None.
    """
    elementwise, weight, _, inputs, mask = problem
    d_last, d_ys = cotangents
    # Without the barrier XLA moves the transpose into the loop.
    weight_t = jax.lax.optimization_barrier(weight.T)

    def step(state: tuple[PyTree, PyTree], x: Any) -> tuple[tuple[PyTree, PyTree], tuple[Array, Array | None]]:
        d_elementwise, d_carry = state
        u, (x_t, m, carry, d_y) = x

        def pointwise(e: dict[str, Array], c: PyTree, z: Array, u: Array) -> tuple[PyTree, Array]:
            return _pointwise(cell, e, c, z, u, m)

        _, pull_back = jax.vjp(pointwise, elementwise, carry, _project_step(inputs, x_t), u)
        more, d_carry, d_z, d_u = pull_back((d_carry, d_y))
        _, pull_source = jax.vjp(cell.source, carry)
        (d_source,) = pull_source(d_u @ weight_t)
        state = jax.tree.map(jnp.add, (d_elementwise, d_carry), (more, d_source))
        return state, (d_u, None if d_z is d_u else d_z)

    start = (jax.tree.map(jnp.zeros_like, elementwise), d_last)
    return scan(step, start, (us, (_scan_inputs(inputs), mask, carries, d_ys)), reverse=not reverse)


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
_stacked.defvjp(_stacked_forward, _stacked_backward)
