"""The LRU, a complex diagonal recurrence that can take many steps at once (Orvieto et al. 2023)."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Initializer, Key, at_least_float32
from jaxrnn.cells.base import Cell, LinearCell, affine, init_gates

_EDGE = 1e-6
"""How close to 0 and 1 a draw may come if its logarithm is taken."""


class LRUParams(NamedTuple):
    """``w_x [D, 3H]``: B (real, imaginary), then D; ``w_c [H, 2H]``: C likewise; ``nu``, ``theta``, ``gamma [H]``.

    ``H (3D + 2H + 3)`` numbers, all real.
    """

    w_x: Array
    w_c: Array
    nu: Array
    theta: Array
    gamma: Array


class LRUCarry(NamedTuple):
    """The output ``h [*batch, H]``, which is read from the state, and the complex state ``c [*batch, H]``.

    In coefficients, ``h`` is None.
    """

    h: Array | None
    c: Array


def _init(key: Key, input_size: int, hidden_size: int, initializer: Initializer) -> LRUParams:
    """The eigenvalues start uniform on the unit disk, as in appendix A of Orvieto et al., for every initializer."""
    k_x, k_c, k_radius, k_phase = jax.random.split(key, 4)
    square = jax.random.uniform(k_radius, (hidden_size,), minval=_EDGE, maxval=1 - _EDGE)
    phase = 2 * math.pi * jax.random.uniform(k_phase, (hidden_size,), minval=_EDGE)
    return LRUParams(
        w_x=init_gates(k_x, initializer, "rid", "x", (input_size,), hidden_size),
        w_c=init_gates(k_c, initializer, "ri", "c", (hidden_size,), hidden_size),
        nu=jnp.log(-jnp.log(square) / 2),
        theta=jnp.log(phase),
        gamma=jnp.log1p(-square) / 2,
    )


def _start(params: LRUParams, batch_shape: Sequence[int], dtype: Any) -> LRUCarry:
    shape = (*batch_shape, params.nu.shape[-1])
    return LRUCarry(jnp.zeros(shape, dtype), jnp.zeros(shape, jnp.promote_types(dtype, jnp.complex64)))


def _coefficients(params: LRUParams, z: Array) -> tuple[LRUCarry, LRUCarry]:
    """``c = lambda * c' + exp(gamma) * B x`` with ``lambda = exp(-exp(nu) + i exp(theta))`` (sections 3.3 and 3.4)."""
    real, imaginary, _ = jnp.split(at_least_float32(z), 3, axis=-1)
    nu, theta, gamma = map(at_least_float32, (params.nu, params.theta, params.gamma))
    b = jnp.exp(gamma) * jax.lax.complex(real, imaginary)
    a = jnp.exp(jax.lax.complex(-jnp.exp(nu), jnp.exp(theta)))
    return LRUCarry(None, jnp.broadcast_to(a.astype(b.dtype), b.shape)), LRUCarry(None, b)


def _readout(params: LRUParams, carry: LRUCarry, z: Array) -> Array:
    """``h = Re(C c) + D x``."""
    real, imaginary = jnp.split(params.w_c, 2, axis=-1)
    return carry.c.real @ real - carry.c.imag @ imaginary + jnp.split(z, 3, axis=-1)[2]


CELLS: dict[str, Cell] = {
    "lru": LinearCell(
        params_type=LRUParams,
        init=_init,
        start=_start,
        project=affine,
        coefficients=_coefficients,
        readout=_readout,
    )
}
