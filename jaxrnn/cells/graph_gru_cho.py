"""The GRU with its reset gate before the product, on a graph: the cell of T-GCN and of DCRNN."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Initializer, Key
from jaxrnn.cells.base import GeneralCell, recurrent_matrix, zero_start
from jaxrnn.cells.gru import GRU_CHO
from jaxrnn.cells.rnn import RNNCarry


class GraphGRUChoParams(NamedTuple):
    """``w_x [M, D, 3H]``, ``w_h [M, H, 3H]``, ``b [3H]`` in the order r, u, n, and the M shifts.

    ``3H (M (D + H) + 1)`` numbers. Each shift is a matrix ``[N, N]``, or None for the identity. As `init` gives them,
    there are none: ``params._replace(shifts=(S, ...))`` sets them.
    """

    w_x: Array
    w_h: Array
    b: Array
    shifts: Any = None


def _shifted(shifts: Sequence[Array | None], x: Array) -> Array:
    """``[S_1 x, ..., S_M x]`` ``[N, *batch, M D]``, side by side, of ``x [N, *batch, D]``."""
    found = [x if shift is None else jnp.tensordot(shift, x, (1, 0)) for shift in shifts]
    return found[0] if len(found) == 1 else jnp.concatenate(found, axis=-1)


def _project(params: GraphGRUChoParams, x: Array) -> Array:
    if params.shifts is None:
        raise ValueError("the parameters have no graph yet: params._replace(shifts=(S, ...)) gives them one")
    # Its product with w_x is made in the step: it would be many times as wide, and wait in memory.
    return _shifted(params.shifts, x)


def _advance(params: GraphGRUChoParams, carry: RNNCarry, z: Array) -> tuple[RNNCarry, Array, dict[str, Array]]:
    """``h = (1-u)*n + u*h'`` with ``n = tanh(sum_m S_m x W_m + b + S_m (r*h') V_m)``, as T-GCN and DCRNN print it."""
    h, (w_r, w_u, w_n) = carry.h, jnp.split(params.w_h.reshape(-1, params.w_h.shape[-1]), 3, axis=-1)
    # Gate by gate: XLA's CPU compiler makes a loop without vectors of what reads parts of a wider array.
    w_x = jnp.split(params.w_x.reshape(-1, params.w_x.shape[-1]), 3, axis=-1)
    a_r, a_u, a_n = (z @ w + b for w, b in zip(w_x, jnp.split(params.b, 3), strict=True))
    from_carry = _shifted(params.shifts, h)
    reset, update = jax.nn.sigmoid(a_r + from_carry @ w_r), jax.nn.sigmoid(a_u + from_carry @ w_u)
    candidate = jnp.tanh(a_n + _shifted(params.shifts, reset * h) @ w_n)
    h = (1 - update) * candidate + update * h
    return RNNCarry(h), h, {"r": reset, "u": update, "n": candidate}


def graph_gru_cho(num_shifts: int) -> GeneralCell:
    """The cell with a stack of so many shifts: ``sum_m S_m x W_m`` in place of each product ``x W``.

    T-GCN has one shift, DCRNN the identity and the powers of both random walks. A cell starts as `num_shifts` of the
    GRU, each matrix divided by the root of their number.
    """

    def init(key: Key, input_size: int, hidden_size: int, initializer: Initializer) -> GraphGRUChoParams:
        keys = jax.random.split(key, num_shifts)
        w_x, w_h, b = zip(*(GRU_CHO.init(key, input_size, hidden_size, initializer) for key in keys), strict=True)
        return GraphGRUChoParams(jnp.stack(w_x) / num_shifts**0.5, jnp.stack(w_h) / num_shifts**0.5, b[0])

    return GeneralCell(
        params_type=GraphGRUChoParams,
        init=init,
        start=zero_start(RNNCarry),
        project=_project,
        is_rowwise=False,
        weight=recurrent_matrix,
        advance=_advance,
    )
