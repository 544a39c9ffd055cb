"""The stack RNN: a network that pushes to a stack and pops from it by degrees (Joulin and Mikolov 2015)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Initializer, Key
from jaxrnn.cells.base import Cell, GeneralCell, affine, init_gates

WIDTH = 8
"""Numbers per element of the stack."""
DEPTH = 512
"""Elements of the stack; what is pushed below the last one is lost."""
EMPTY = -1.0
"""The value where nothing was pushed."""


class StackParams(NamedTuple):
    """``w_x [D, H]``, ``w_h [H, H]``, ``b [H]``; ``w_s [8, H]`` reads the top, ``w_v [H, 8]`` and ``w_a [H, 3]`` write.

    ``H (D + H + 20)`` numbers; the actions are push, pop and none, in this order.
    """

    w_x: Array
    w_h: Array
    b: Array
    w_s: Array
    w_v: Array
    w_a: Array


class StackCarry(NamedTuple):
    """Hidden state ``h [*batch, H]`` and the stack ``s [*batch, 512, 8]``, its top first."""

    h: Array
    s: Array


def _init(key: Key, input_size: int, hidden_size: int, initializer: Initializer) -> StackParams:
    k_x, k_h, k_b, k_s, k_v, k_a = jax.random.split(key, 6)
    return StackParams(
        w_x=init_gates(k_x, initializer, "h", "x", (input_size,), hidden_size),
        w_h=init_gates(k_h, initializer, "h", "h", (hidden_size,), hidden_size),
        b=init_gates(k_b, initializer, "h", "b", (), hidden_size),
        w_s=initializer(k_s, "h_s", (WIDTH, hidden_size), hidden_size),
        w_v=initializer(k_v, "v_y", (hidden_size, WIDTH), hidden_size),
        w_a=initializer(k_a, "a_y", (hidden_size, 3), hidden_size),
    )


def _start(params: StackParams, batch_shape: Sequence[int], dtype: Any) -> StackCarry:
    hidden = jnp.zeros((*batch_shape, params.w_h.shape[-1]), dtype)
    return StackCarry(hidden, jnp.full((*batch_shape, DEPTH, WIDTH), EMPTY, dtype))


def _reach(start: StackCarry, num_steps: int) -> StackCarry:
    return start._replace(s=start.s[..., : max(num_steps, 1), :])


def _act(s: Array, value: Array, push: Array, pop: Array, keep: Array) -> Array:
    """The stack after the three actions, weighted by their degrees ``[*batch, 1]``; the value is ``[*batch, 8]``."""
    pushed = jnp.concatenate([value[..., None, :], s[..., :-1, :]], axis=-2)
    popped = jnp.concatenate([s[..., 1:, :], jnp.full_like(s[..., :1, :], EMPTY)], axis=-2)
    return push[..., None] * pushed + pop[..., None] * popped + keep[..., None] * s


def _advance(params: StackParams, carry: StackCarry, z: Array) -> tuple[StackCarry, Array, dict[str, Array]]:
    """``h = sigma(U x + R h' + P s'[0])``, ``a = softmax(A h)``, ``v = sigma(D h)``, and the stack moves (section 3.2).

    ``s[0] = a_push v + a_pop s'[1] + a_none s'[0]``, ``s[i] = a_push s'[i-1] + a_pop s'[i+1] + a_none s'[i]``. In
    Joulin and Mikolov an element is one number; here it has eight, as in Deletang et al. 2023.
    """
    h = jax.nn.sigmoid(z + carry.h @ params.w_h + carry.s[..., 0, :] @ params.w_s)
    push, pop, none = jnp.split(jax.nn.softmax(h @ params.w_a), 3, axis=-1)
    # Otherwise its gradient would keep the stack three times, once for each action.
    act = jax.checkpoint(_act, prevent_cse=False)
    s = act(carry.s, jax.nn.sigmoid(h @ params.w_v), push, pop, none)
    return StackCarry(h, s), h, {"push": push, "pop": pop}


CELLS: dict[str, Cell] = {
    "stack_rnn": GeneralCell(
        params_type=StackParams, init=_init, start=_start, reach=_reach, project=affine, advance=_advance
    )
}
