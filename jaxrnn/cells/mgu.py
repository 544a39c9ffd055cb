"""The minimal gated unit."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array
from jaxrnn.cells.base import Cell, GeneralCell, affine, affine_init, recurrent_matrix, zero_start
from jaxrnn.cells.rnn import RNNCarry


class MGUParams(NamedTuple):
    """``w_x [D, 2H]``, ``w_h [H, 2H]``, ``b [2H]`` in the order f, n: ``2H (D + H + 1)`` numbers."""

    w_x: Array
    w_h: Array
    b: Array


def _advance(params: MGUParams, carry: RNNCarry, z: Array) -> tuple[RNNCarry, Array, dict[str, Array]]:
    """``h = (1-f)*h' + f*n`` with ``n = tanh(W_nx x + b + W_nh (f*h'))`` (Zhou et al. 2016, equation 6)."""
    w_forget, w_candidate = jnp.split(params.w_h, 2, axis=-1)
    z_forget, z_candidate = jnp.split(z, 2, axis=-1)
    forget = jax.nn.sigmoid(z_forget + carry.h @ w_forget)
    candidate = jnp.tanh(z_candidate + (forget * carry.h) @ w_candidate)
    h = (1 - forget) * carry.h + forget * candidate
    return RNNCarry(h), h, {"f": forget, "n": candidate}


CELLS: dict[str, Cell] = {
    "mgu": GeneralCell(
        params_type=MGUParams,
        init=affine_init(MGUParams, "fn"),
        start=zero_start(RNNCarry),
        project=affine,
        weight=recurrent_matrix,
        advance=_advance,
    )
}
