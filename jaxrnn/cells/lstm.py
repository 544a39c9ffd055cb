"""The LSTM, and the two LSTMs with peepholes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Initializer, Key
from jaxrnn.cells.base import Cell, ProductCell, affine, affine_init, hidden_state, recurrent_matrix, spread, zero_start


class LSTMCarry(NamedTuple):
    """Hidden state ``h`` and cell state ``c``, both ``[*batch, H]``."""

    h: Array
    c: Array


class LSTMParams(NamedTuple):
    """``w_x [D, 4H]``, ``w_h [H, 4H]``, ``b [4H]``, gates in the order i, f, g, o: ``4H (D + H + 1)`` numbers."""

    w_x: Array
    w_h: Array
    b: Array


def _lstm_pointwise(
    params: LSTMParams, carry: LSTMCarry, z: Array, u: Array
) -> tuple[LSTMCarry, Array, dict[str, Array]]:
    """``c = g*i + c'*f``, ``h = tanh(c)*o``, with ``g`` a tanh and ``i, f, o`` logistic (Soons 2020, Question 1.2)."""
    i, f, g, o = jnp.split(z + u, 4, axis=-1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    c = g * i + carry.c * f
    h = jnp.tanh(c) * o
    return LSTMCarry(h, c), h, {"i": i, "f": f, "g": g, "o": o}


LSTM = ProductCell(
    params_type=LSTMParams,
    start=zero_start(LSTMCarry),
    init=affine_init(LSTMParams, "ifgo"),
    project=affine,
    weight=recurrent_matrix,
    source=hidden_state,
    pointwise=_lstm_pointwise,
    is_additive=True,
)


class PeepholeParams(NamedTuple):
    """``w_x [D, 4H]``, ``w_c [H, 3H]``, ``b [4H]``, gates in the order f, i, o, c; ``w_c`` has the first three.

    ``4H (D + 1) + 3H^2`` numbers.
    """

    w_x: Array
    w_c: Array
    b: Array


def _peephole_pointwise(
    params: PeepholeParams, carry: LSTMCarry, z: Array, u: Array
) -> tuple[LSTMCarry, Array, dict[str, Array]]:
    """The LSTM of Soons (2020), Question 1.4: its gates see ``c'`` through full matrices, and ``h`` does not recur.

    ``f, i, o = sigma(W_.x x + W_.h c' + b_.)``, ``c = sigma(W_cx x + b_c)*i + c'*f``, ``h = tanh(c)*o``.
    """
    gated, candidate = jnp.split(z, [u.shape[-1]], axis=-1)
    f, i, o = jnp.split(jax.nn.sigmoid(gated + u), 3, axis=-1)
    g = jax.nn.sigmoid(candidate)
    c = g * i + carry.c * f
    h = jnp.tanh(c) * o
    return LSTMCarry(h, c), h, {"f": f, "i": i, "o": o, "g": g}


PEEPHOLE = ProductCell(
    params_type=PeepholeParams,
    start=zero_start(LSTMCarry, lambda params: params.w_c),
    init=affine_init(PeepholeParams, "fioc", recurrent_gates="fio", role="c"),
    project=affine,
    weight=lambda params: params.w_c,
    source=lambda carry: carry.c,
    pointwise=_peephole_pointwise,
)


class GersParams(NamedTuple):
    """``w_x [D, 4H]``, ``w_h [H, 4H]``, ``b [4H]`` in the order i, f, g, o, and the peepholes ``p_i, p_f, p_o [H]``.

    ``4H (D + H + 1) + 3H`` numbers.
    """

    w_x: Array
    w_h: Array
    b: Array
    p_i: Array
    p_f: Array
    p_o: Array


def _init_gers(key: Key, input_size: int, hidden_size: int, initializer: Initializer) -> GersParams:
    k_lstm, k_i, k_f, k_o = jax.random.split(key, 4)
    lstm = LSTM.init(k_lstm, input_size, hidden_size, initializer)
    return GersParams(
        w_x=lstm.w_x,
        w_h=lstm.w_h,
        b=lstm.b,
        p_i=initializer(k_i, "i_p", (hidden_size,), hidden_size),
        p_f=initializer(k_f, "f_p", (hidden_size,), hidden_size),
        p_o=initializer(k_o, "o_p", (hidden_size,), hidden_size),
    )


def _gers_pointwise(
    params: GersParams, carry: LSTMCarry, z: Array, u: Array
) -> tuple[LSTMCarry, Array, dict[str, Array]]:
    """The LSTM whose ``i, f`` also see ``p*c'`` and whose ``o`` sees ``p*c`` (Gers and Schmidhuber 2000).

    It is what ONNX and TensorFlow mean by "peephole".
    """
    i, f, g, o = jnp.split(z + u, 4, axis=-1)
    i = jax.nn.sigmoid(i + spread(params.p_i, carry.c) * carry.c)
    f = jax.nn.sigmoid(f + spread(params.p_f, carry.c) * carry.c)
    g = jnp.tanh(g)
    c = g * i + carry.c * f
    o = jax.nn.sigmoid(o + spread(params.p_o, c) * c)
    h = jnp.tanh(c) * o
    return LSTMCarry(h, c), h, {"i": i, "f": f, "g": g, "o": o}


GERS_PEEPHOLE = ProductCell(
    params_type=GersParams,
    start=zero_start(LSTMCarry),
    init=_init_gers,
    project=affine,
    weight=recurrent_matrix,
    source=hidden_state,
    pointwise=_gers_pointwise,
    is_additive=True,
    elementwise=("p_i", "p_f", "p_o"),
)

CELLS: dict[str, Cell] = {"lstm": LSTM, "peephole": PEEPHOLE, "gers_peephole": GERS_PEEPHOLE}
"""``peephole`` is that of Soons (2020), ``gers_peephole`` that of Gers and Schmidhuber (2000)."""
