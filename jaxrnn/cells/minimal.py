"""minGRU and minLSTM: gates that see the input alone, so that many steps can be taken at once (Feng et al. 2024)."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Initializer, Key
from jaxrnn.cells.base import Cell, LinearCell, affine, init_gates
from jaxrnn.cells.rnn import RNNCarry


class MinParams(NamedTuple):
    """``w_x [D, G H]`` and ``b [G H]``: ``G H (D + 1)`` numbers.

    The G gates are u, n (minGRU) or f, i, n (minLSTM), in this order.
    """

    w_x: Array
    b: Array


def _min_gru(z: Array) -> tuple[Array, Array, dict[str, Array]]:
    """``h = (1-u)*h' + u*n`` with ``u = sigma(W_ux x + b_u)`` and ``n = W_nx x + b_n`` (section 3.1)."""
    a_u, candidate = jnp.split(z, 2, axis=-1)
    update = jax.nn.sigmoid(a_u)
    return 1 - update, update * candidate, {"u": update}


def _min_lstm(z: Array) -> tuple[Array, Array, dict[str, Array]]:
    """``h = f*h' + i*n``; f and i are logistic, divided by their sum, and ``n = W_nx x + b_n`` (section 3.2)."""
    a_f, a_i, candidate = jnp.split(z, 3, axis=-1)
    # sigma(a_f) / (sigma(a_f) + sigma(a_i)), without 0 / 0 where both are small.
    forget = jax.nn.sigmoid(jax.nn.softplus(-a_i) - jax.nn.softplus(-a_f))
    return forget, (1 - forget) * candidate, {"f": forget, "i": 1 - forget}


def _cell(gates: str, coefficients: Callable[[Array], tuple[Array, Array, dict[str, Array]]]) -> LinearCell:
    def init(key: Key, input_size: int, hidden_size: int, initializer: Initializer) -> MinParams:
        k_x, k_b = jax.random.split(key)
        return MinParams(
            init_gates(k_x, initializer, gates, "x", (input_size,), hidden_size),
            init_gates(k_b, initializer, gates, "b", (), hidden_size),
        )

    def start(params: MinParams, batch_shape: Sequence[int], dtype: Any) -> RNNCarry:
        return RNNCarry(jnp.zeros((*batch_shape, params.b.shape[-1] // len(gates)), dtype))

    def of_carry(params: MinParams, z: Array) -> tuple[RNNCarry, RNNCarry]:
        del params
        a, b, _ = coefficients(z)
        return RNNCarry(a), RNNCarry(b)

    def gates_of(params: MinParams, z: Array) -> dict[str, Array]:
        del params
        return coefficients(z)[2]

    return LinearCell(
        params_type=MinParams, init=init, start=start, project=affine, coefficients=of_carry, gates=gates_of
    )


CELLS: dict[str, Cell] = {"min_gru": _cell("un", _min_gru), "min_lstm": _cell("fin", _min_lstm)}
