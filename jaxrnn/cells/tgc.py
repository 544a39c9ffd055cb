"""The LSTM whose hidden units are the nodes of a graph: TGC-LSTM (Cui et al. 2019)."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Initializer, Key
from jaxrnn.cells.base import GeneralCell, init_gates, spread
from jaxrnn.cells.lstm import LSTMCarry


class TGCLSTMParams(NamedTuple):
    """``taps [K, N, N]``, ``w_x [K N D, 4N]``, ``w_h [N, 4N]``, ``b [4N]``, gates i, f, g, o, and ``w_n [N, N]``.

    ``N^2 (4 K D + K + 5) + 4N`` numbers. ``shift [K, N, N]`` marks by 0 and 1 which nodes reach which others within
    1, ..., K edges. `init` leaves it None; ``params._replace(shift=R)`` sets it.
    """

    taps: Array
    w_x: Array
    w_h: Array
    b: Array
    w_n: Array
    shift: Any = None


def _init(num_taps: int, key: Key, input_size: int, hidden_size: int, initializer: Initializer) -> TGCLSTMParams:
    k_taps, k_x, k_h, k_b, k_n = jax.random.split(key, 5)

    def square(key: Key) -> Array:
        return init_gates(key, initializer, "n", "n", (hidden_size,), hidden_size)

    return TGCLSTMParams(
        jax.vmap(square)(jax.random.split(k_taps, num_taps)),
        init_gates(k_x, initializer, "ifgo", "x", (num_taps * hidden_size * input_size,), hidden_size),
        init_gates(k_h, initializer, "ifgo", "h", (hidden_size,), hidden_size),
        init_gates(k_b, initializer, "ifgo", "b", (), hidden_size),
        square(k_n),
    )


def _start(params: TGCLSTMParams, batch_shape: Sequence[int], dtype: Any) -> LSTMCarry:
    del params
    return LSTMCarry(*(jnp.zeros((*batch_shape, 1), dtype) for _ in LSTMCarry._fields))


def _gates_last(rows: Array) -> Array:
    """From ``[*batch, 4N]``, where all nodes share a row, to ``[N, *batch, 4]``."""
    return jnp.moveaxis(rows.reshape(*rows.shape[:-1], 4, -1), -1, 0)


def _project(params: TGCLSTMParams, x: Array) -> Array:
    # For all hops and nodes: [*batch, K, N, D].
    near = jnp.moveaxis(jnp.tensordot(params.taps * params.shift, x, (2, 0)), (0, 1), (-3, -2))
    z = near.reshape(*near.shape[:-3], -1) @ params.w_x
    return _gates_last(z + spread(params.b, z))


def _advance(params: TGCLSTMParams, carry: LSTMCarry, z: Array) -> tuple[LSTMCarry, Array, dict[str, Array]]:
    """``c = g*i + f * (W_n o R_K) c'``, ``h = tanh(c)*o``; the gates see all ``(W_k o R_k) x`` and ``h'``."""
    a = z + _gates_last(jnp.moveaxis(carry.h[..., 0], 0, -1) @ params.w_h)
    i, f, g, o = jnp.split(a, 4, axis=-1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    c = g * i + f * jnp.tensordot(params.w_n * params.shift[-1], carry.c, (1, 0))
    h = jnp.tanh(c) * o
    return LSTMCarry(h, c), h, {"i": i, "f": f, "g": g, "o": o}


@functools.cache
def tgc_lstm(num_taps: int) -> GeneralCell:
    """The LSTM of inputs ``[T, N, *batch, D]``, with one unit per node: carries ``[N, *batch, 1]``.

    Its weights belong to edges and pairs of nodes, so it fits one graph only; `init` takes N as the hidden size.
    """
    return GeneralCell(
        params_type=TGCLSTMParams,
        init=functools.partial(_init, num_taps),
        start=_start,
        project=_project,
        is_rowwise=False,
        advance=_advance,
    )
