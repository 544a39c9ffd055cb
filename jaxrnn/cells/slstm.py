"""The sLSTM: an LSTM with an exponential input gate, a normaliser and a stabiliser (Beck et al. 2024)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array
from jaxrnn.cells.base import Cell, ProductCell, affine, affine_init, hidden_state, recurrent_matrix, zero_start
from jaxrnn.cells.lstm import LSTMParams


class SLSTMCarry(NamedTuple):
    """Hidden state ``h``, cell state ``c``, normaliser ``n`` and stabiliser ``m``, all ``[*batch, H]``.

    ``c`` and ``n`` are those of equations 8 and 9 of Beck et al., divided by ``exp(m)``.
    """

    h: Array
    c: Array
    n: Array
    m: Array


def _pointwise(params: LSTMParams, carry: SLSTMCarry, z: Array, u: Array) -> tuple[SLSTMCarry, Array, dict[str, Array]]:
    """``c = f*c' + i*g``, ``n = f*n' + i``, ``h = o * c/n``, as in section 2.2 with one head.

    ``i`` is exponential, ``f`` and ``o`` are logistic and ``g`` is a tanh; Beck et al. also allow an exponential ``f``.
    Both gates are divided by ``exp(m)``, with ``m = max(log f + m', log i)`` (equations 15 to 17). Before the first
    step, there is no ``m'``, and ``n'`` is zero.
    """
    log_i, a_f, g, o = jnp.split(z + u, 4, axis=-1)
    log_f = jnp.where(carry.n == 0, -jnp.inf, jax.nn.log_sigmoid(a_f) + carry.m)
    m = jnp.maximum(log_f, log_i)
    i, f, g, o = jnp.exp(log_i - m), jnp.exp(log_f - m), jnp.tanh(g), jax.nn.sigmoid(o)
    c = f * carry.c + i * g
    n = f * carry.n + i
    h = o * c / n
    return SLSTMCarry(h, c, n, m), h, {"i": i, "f": f, "g": g, "o": o}


CELLS: dict[str, Cell] = {
    "slstm": ProductCell(
        params_type=LSTMParams,
        start=zero_start(SLSTMCarry),
        init=affine_init(LSTMParams, "ifgo"),
        project=affine,
        weight=recurrent_matrix,
        source=hidden_state,
        pointwise=_pointwise,
        is_additive=True,
    )
}
