"""The vanilla RNN, with tanh, with ReLU, and linear."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array
from jaxrnn.cells.base import Cell, ProductCell, affine, affine_init, hidden_state, recurrent_matrix, zero_start


class RNNCarry(NamedTuple):
    """Hidden state ``h [*batch, H]``."""

    h: Array


class RNNParams(NamedTuple):
    """``w_x [D, H]``, ``w_h [H, H]``, ``b [H]``: ``H (D + H + 1)`` numbers."""

    w_x: Array
    w_h: Array
    b: Array


def _pointwise(activation: Callable[[Array], Array]) -> Callable[..., Any]:
    def pointwise(params: RNNParams, carry: RNNCarry, z: Array, u: Array) -> tuple[RNNCarry, Array, dict[str, Array]]:
        """``h = activation(W_hx x + W_hh h' + b_h)`` (Soons 2020, Question 1.1)."""
        h = activation(z + u)
        return RNNCarry(h), h, {}

    return pointwise


def _rnn(activation: Callable[[Array], Array]) -> ProductCell:
    return ProductCell(
        params_type=RNNParams,
        start=zero_start(RNNCarry),
        init=affine_init(RNNParams, "h"),
        project=affine,
        weight=recurrent_matrix,
        source=hidden_state,
        pointwise=_pointwise(activation),
        is_additive=True,
    )


RNN = _rnn(jnp.tanh)
RELU_RNN = _rnn(jax.nn.relu)
LINEAR_RNN = _rnn(lambda a: a)

CELLS: dict[str, Cell] = {"rnn": RNN, "relu_rnn": RELU_RNN, "linear_rnn": LINEAR_RNN}
