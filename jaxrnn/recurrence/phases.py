"""Sequences that begin alike, as with padding in front; their common start is computed once."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, PyTree
from jaxrnn.cells import Cell
from jaxrnn.recurrence.over_time import fill, unroll


class Phase(NamedTuple):
    """A span of time steps that is computed for the first rows of a sorted batch only.

    The other rows begin like the last of these rows and take over its carry.

    Attributes:
        rows: how many rows are computed.
        end: the position after the span; the next phase begins there, or the sequence ends.
    """

    rows: int
    end: int


def last_carry(cell: Cell, params: PyTree, tokens_tb: Array, *, embedding: Array, phases: Sequence[Phase]) -> PyTree:
    """The last carry of `unroll`, for a batch in which many sequences begin alike, as with padding in front.

    The sequences are sorted by how often they repeat their first token at the start. Where all rows from some row on
    begin alike, their common start is computed once, in that row. A batch that does not fit the phases is computed
    whole, at the cost of a second forward pass if a gradient is taken. Under `jax.vmap`, both ways are computed.

    Args:
        cell: the cell.
        params: its parameters.
        tokens_tb: integers ``[T, B]``.
        embedding: ``[V, D]``.
        phases: such as those of `plan_phases`.

    Returns:
        The carry, fields ``[B, H]``, in the order of ``tokens_tb``.

    Raises:
        ValueError: if the last phase does not have all rows and end at the last position, or if phases do not grow.
    """
    length, batch_size = tokens_tb.shape
    if any(not (a.rows < b.rows and a.end < b.end) for a, b in itertools.pairwise(phases)):
        raise ValueError(f"each phase must have more rows and end later than the one before it, unlike {phases}")
    if tuple(phases[-1]) != (batch_size, length):
        raise ValueError(f"tokens of shape {tokens_tb.shape} do not fit a last phase {phases[-1]}")

    def whole(params: PyTree, embedding: Array, tokens_tb: Array) -> PyTree:
        return unroll(cell, params, tokens_tb, embedding=embedding)[0]

    def in_phases(params: PyTree, embedding: Array, tokens_tb: Array) -> PyTree:
        carry: Any = None
        begin = 0
        # The phases together are one sequence, so they share its reach.
        within = dataclasses.replace(cell, start=lambda *given: cell.reach(cell.start(*given), length))
        for rows, end in phases:
            if carry is not None:
                new = jnp.minimum(jnp.arange(rows), len(carry.h) - 1)
                carry = jax.tree.map(lambda c, new=new: c[new], carry)
            carry, _ = unroll(within, params, tokens_tb[begin:end, :rows], embedding=embedding, carry=carry)
            begin = end
        return jax.tree.map(fill, cell.start(params, (batch_size,), carry.h.dtype), carry)

    order = _by_first_run(tokens_tb)
    tokens_tb = jnp.asarray(tokens_tb)[:, order]
    fits = [_common_start(tokens_tb, phase.rows - 1) >= phase.end for phase in phases[:-1]]
    # Each branch of `cond` returns the residuals of both branches; a checkpointed one has nearly none.
    carry = jax.lax.cond(jnp.array(fits).all(), in_phases, jax.checkpoint(whole), params, embedding, tokens_tb)
    return jax.tree.map(lambda c: c[jnp.argsort(order)], carry)


def plan_phases(batches_ntb: Array) -> tuple[Phase, ...]:
    """Phases of a sixteenth, a quarter and all of the rows, such that each of the batches ``[n, T, B]`` fits them.

    More phases would save a little work but lose as much in smaller products.
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
    """The order ``[B]`` of the sequences by how often they repeat their first token at the start."""
    return jnp.argsort(_first(tokens_tb != tokens_tb[0]))


def _common_start(tokens_tb: Array, row: int) -> Array:
    """The number of positions, from the first on, at which all sequences from a row on are equal."""
    return _first((tokens_tb[:, row:] != tokens_tb[:, row : row + 1]).any(1))


def _first(condition_t: Array) -> Array:
    """The first position where a condition ``[T, ...]`` holds, T where it never does."""
    return jnp.where(condition_t.any(0), condition_t.argmax(0), len(condition_t))
