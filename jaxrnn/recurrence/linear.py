"""Linear recurrences, which can take many steps at once."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, PyTree
from jaxrnn.cells import LinearCell
from jaxrnn.recurrence.steps import Steps, lookup, where


def linear_scan(a: Array, b: Array, start: Array, *, reverse: bool = False, method: str = "auto") -> Array:
    """All ``c_t = a_t * c_{t-1} + b_t``, ``[T, ...]``, from the `start` ``[...]`` on; the gradient stores a and c.

    Args:
        a: factors ``[T, ...]``; a factor of 0 forgets all that came before, NaN included.
        b: summands ``[T, ...]``.
        start: the value before the first step.
        reverse: walk from the last position to the first.
        method: "loop" takes one step after another; "whole" is `jax.lax.associative_scan`; "chunks" takes chunks side
            by side and then puts them together; "auto" is the fastest of them on a CPU, as measured by
            ``experiments.benchmark --suite=scan``, and "whole" elsewhere.

    Raises:
        ValueError: there is no such method.
    """
    if method == "auto":
        # On two CPU cores the loop was the fastest at all of 64 to 16384 steps of 1 to 8192 numbers.
        method = "loop" if jax.default_backend() == "cpu" else "whole"
    if method not in _METHODS:
        raise ValueError(f"method {method!r} is none of {', '.join(_METHODS)}")
    dtype, shape = jnp.result_type(a, b, start), jnp.broadcast_shapes(jnp.shape(a), jnp.shape(b))
    a, b, start = (jnp.asarray(x, dtype) for x in (a, b, start))
    return _linear_scan(
        reverse, method, jnp.broadcast_to(a, shape), jnp.broadcast_to(b, shape), jnp.broadcast_to(start, shape[1:])
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _linear_scan(reverse: bool, method: str, a: Array, b: Array, start: Array) -> Array:
    return _METHODS[method](a, b, start, reverse)


def _linear_forward(reverse: bool, method: str, a: Array, b: Array, start: Array) -> tuple[Array, Any]:
    cs = _linear_scan(reverse, method, a, b, start)
    return cs, (a, cs, start)


def _linear_backward(reverse: bool, method: str, residuals: Any, d_cs: Array) -> tuple[Array, Array, Array]:
    """The cotangents of ``c`` follow ``d_t = d_cs_t + a_{t+1} * d_{t+1}``: the same recurrence, walked backwards."""
    a, cs, start = residuals
    if not len(a):
        return a, d_cs, jnp.zeros_like(start)
    beside = functools.partial(_beside, reverse=reverse)
    d_bs = _linear_scan(not reverse, method, beside(a, jnp.zeros_like(a[0]), step=1), d_cs, jnp.zeros_like(start))
    d_as = d_bs * beside(cs, start, step=-1)
    first = -1 if reverse else 0
    return d_as, d_bs, _times(a[first], d_bs[first])


def _beside(x: Array, fill: Array, *, step: int, reverse: bool) -> Array:
    """For each position, the value one step further along the walk (1) or one step back (-1); `fill` beyond the end."""
    if (step == 1) != reverse:
        return jnp.concatenate([x[1:], fill[None]])
    return jnp.concatenate([fill[None], x[:-1]])


_linear_scan.defvjp(_linear_forward, _linear_backward)


def _times(a: Array, c: Array) -> Array:
    return jnp.where(a == 0, 0, a * c)


def _loop(a: Array, b: Array, start: Array, reverse: bool) -> Array:
    def step(c: Array, x: tuple[Array, Array]) -> tuple[Array, Array]:
        a, b = x
        c = _times(a, c) + b
        return c, c

    return jax.lax.scan(step, start, (a, b), reverse=reverse)[1]


def _whole(a: Array, b: Array, start: Array, reverse: bool) -> Array:
    first = -1 if reverse else 0
    b = b.at[first].add(_times(a[first], start)) if len(b) else b
    return jax.lax.associative_scan(_compose, (a, b), reverse=reverse)[1]


def _compose(before: tuple[Array, Array], after: tuple[Array, Array]) -> tuple[Array, Array]:
    """Two maps ``c -> a * c + b``, one after the other."""
    (a, b), (a_after, b_after) = before, after
    return a * a_after, _times(a_after, b) + b_after


def _chunks(a: Array, b: Array, start: Array, reverse: bool) -> Array:
    """Takes about ``sqrt(T)`` chunks from zero, with the products of their factors, then adds what came before each."""
    num_steps = len(b)
    if not num_steps:
        return b
    size = 1 << max(0, (num_steps - 1).bit_length() // 2)
    padding = -num_steps % size
    # Pads the end of the walk with steps that change nothing.
    width = ((padding, 0) if reverse else (0, padding), *[(0, 0)] * (b.ndim - 1))
    a, b = jnp.pad(a, width, constant_values=1), jnp.pad(b, width)
    # Chunks side by side: [size, chunks, ...].
    a, b = (jnp.moveaxis(x.reshape(-1, size, *x.shape[1:]), 1, 0) for x in (a, b))

    def step(state: tuple[Array, Array], x: tuple[Array, Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        state = _compose(state, x)
        return state, state

    zero = jnp.zeros_like(b[0])
    (a_chunk, b_chunk), (a, b) = jax.lax.scan(step, (jnp.ones_like(zero), zero), (a, b), reverse=reverse)
    ends = _loop(a_chunk, b_chunk, start, reverse)
    cs = _times(a, _beside(ends, start, step=-1, reverse=reverse)) + b
    cs = jnp.moveaxis(cs, 0, 1).reshape(-1, *cs.shape[2:])
    return cs[padding:] if reverse else cs[:num_steps]


_METHODS = {"loop": _loop, "whole": _whole, "chunks": _chunks}


def unroll_linear(
    cell: LinearCell, params: PyTree, first: PyTree, start: PyTree, steps: Steps, reverse: bool
) -> tuple[PyTree, Array]:
    """Unrolls a linear cell.

    A masked step is ``a = 1, b = 0``; a reset turns ``b`` into ``a * start + b``, and ``a`` into 0.
    """
    (values, indices), mask, goes_on = steps

    def of_steps(tree: PyTree) -> PyTree:
        return tree if indices is None else jax.tree.map(lambda x: lookup(x, indices), tree)

    def follow(a: PyTree, b: PyTree, first: PyTree, start: PyTree) -> PyTree:
        """All carries after the one before the first step, with these coefficients at the steps that count."""
        a, b = where(mask, (a, b), (jax.tree.map(jnp.ones_like, a), jax.tree.map(jnp.zeros_like, b)))
        from_start = jax.tree.map(lambda a, s, b: a * s + b, a, start, b)
        a, b = where(goes_on, (a, b), (jax.tree.map(jnp.zeros_like, a), from_start))
        return jax.tree.map(functools.partial(linear_scan, reverse=reverse, method=cell.scan), a, b, first)

    if cell.readout is None:
        a, b = of_steps(cell.coefficients(params, values))
        carries = follow(a, b, first, start)
    else:
        values = of_steps(values)
        a, b = cell.coefficients(params, values)
        carries = follow(a, b, cell.recurring(first), cell.recurring(start))
        h = cell.readout(params, carries, values).astype(first.h.dtype)
        # What is read at a step replaces what was read before; a masked step keeps the old value.
        carries = carries._replace(h=h if mask is None else follow(jnp.zeros_like(h), h, first.h, start.h))
    last = jax.tree.map(lambda cs, c: cs[0 if reverse else -1] if len(cs) else c, carries, first)
    return last, where(mask, carries.h, jnp.zeros_like(carries.h))
