"""The GRU, with the reset gate after the recurrent product (cuDNN, PyTorch) or before it (Cho et al. 2014)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Initializer, Key
from jaxrnn.cells.base import (
    Cell,
    GeneralCell,
    ProductCell,
    affine,
    affine_init,
    hidden_state,
    init_gates,
    recurrent_matrix,
    spread,
    zero_start,
)
from jaxrnn.cells.rnn import RNNCarry


class GRUParams(NamedTuple):
    """``w_x [D, 3H]``, ``w_h [H, 3H]``, ``b [3H]`` in the order r, u, n, and ``b_n [H]``.

    ``3H (D + H + 1) + H`` numbers; ``b_n`` is the candidate's second bias, inside the reset gate.
    """

    w_x: Array
    w_h: Array
    b: Array
    b_n: Array


def _init_gru(key: Key, input_size: int, hidden_size: int, initializer: Initializer) -> GRUParams:
    k_x, k_h, k_b, k_bx, k_bh = jax.random.split(key, 5)
    # The two biases of the candidate stay separate, so each is one draw, with roles `bx` and `bh`.
    gates = init_gates(k_b, initializer, "ru", "b", (), hidden_size)
    candidate = init_gates(k_bx, initializer, "n", "bx", (), hidden_size)
    return GRUParams(
        w_x=init_gates(k_x, initializer, "run", "x", (input_size,), hidden_size),
        w_h=init_gates(k_h, initializer, "run", "h", (hidden_size,), hidden_size),
        b=jnp.concatenate([gates, candidate]),
        b_n=init_gates(k_bh, initializer, "n", "bh", (), hidden_size),
    )


def _gru_pointwise(params: GRUParams, carry: RNNCarry, z: Array, u: Array) -> tuple[RNNCarry, Array, dict[str, Array]]:
    """``h = (1-u)*n + u*h'`` with ``n = tanh(W_nx x + b + r*(W_nh h' + b_n))``, as in cuDNN and PyTorch."""
    u_r, u_u, u_n = jnp.split(u, 3, axis=-1)
    reset = jax.nn.sigmoid(z[..., : u_r.shape[-1]] + u_r)
    # Concatenated, they reach memory. Otherwise XLA's CPU compiler fuses the step into one loop, not vectorised.
    gated = jnp.concatenate([u_r, u_u, reset * (u_n + spread(params.b_n, u_n))], axis=-1)
    _, a_u, a_n = jnp.split(z + gated, 3, axis=-1)
    update, candidate = jax.nn.sigmoid(a_u), jnp.tanh(a_n)
    h = (1 - update) * candidate + update * carry.h
    return RNNCarry(h), h, {"r": reset, "u": update, "n": candidate}


GRU = ProductCell(
    params_type=GRUParams,
    start=zero_start(RNNCarry),
    init=_init_gru,
    project=affine,
    weight=recurrent_matrix,
    source=hidden_state,
    pointwise=_gru_pointwise,
    elementwise=("b_n",),
)


class GRUChoParams(NamedTuple):
    """``w_x [D, 3H]``, ``w_h [H, 3H]``, ``b [3H]`` in the order r, u, n: ``3H (D + H + 1)`` numbers."""

    w_x: Array
    w_h: Array
    b: Array


def _gru_cho_advance(params: GRUChoParams, carry: RNNCarry, z: Array) -> tuple[RNNCarry, Array, dict[str, Array]]:
    """``h = (1-u)*n + u*h'`` with ``n = tanh(W_nx x + b + W_nh (r*h'))``, as printed in Cho et al. 2014."""
    hidden_size = carry.h.shape[-1]
    w_gates, w_candidate = jnp.split(params.w_h, [2 * hidden_size], axis=-1)
    z_gates, z_candidate = jnp.split(z, [2 * hidden_size], axis=-1)
    reset, update = jnp.split(jax.nn.sigmoid(z_gates + carry.h @ w_gates), 2, axis=-1)
    candidate = jnp.tanh(z_candidate + (reset * carry.h) @ w_candidate)
    h = (1 - update) * candidate + update * carry.h
    return RNNCarry(h), h, {"r": reset, "u": update, "n": candidate}


GRU_CHO = GeneralCell(
    params_type=GRUChoParams,
    start=zero_start(RNNCarry),
    init=affine_init(GRUChoParams, "run"),
    project=affine,
    weight=recurrent_matrix,
    advance=_gru_cho_advance,
)

CELLS: dict[str, Cell] = {"gru": GRU, "gru_cho": GRU_CHO}
