"""The recurrent cells as plain loops in NumPy, float64, written from their equations.

The equations are those of Soons (2020), Questions 1.1 to 1.4, and of the papers that `jaxrnn.cells` names.

The tests run over all of `CELLS`: a new cell needs an entry in `CELL_ORACLES`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrnn.cells import CELLS


class CellOracle(NamedTuple):
    """``step(params, carry, x) -> (carry fields, gates)`` and ``num_params(D, H)``."""

    step: Callable[[Any, Any, np.ndarray], tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]
    num_params: Callable[[int, int], int]


def sigma(a):
    return 1 / (1 + np.exp(-a))


def by_gate(gates, matrix):
    """The parts of a matrix or a bias by gate; a matrix as in the equations, ``[out, in]``."""
    return dict(zip(gates, np.split(matrix.T, len(gates)), strict=True))


def linear_rnn(p, carry, x):
    return {"h": p.w_x.T @ x + p.w_h.T @ carry.h + p.b}, {}


def rnn(p, carry, x):
    return {"h": np.tanh(p.w_x.T @ x + p.w_h.T @ carry.h + p.b)}, {}


def lstm(p, carry, x):
    Wx, Wh, b = (by_gate("ifgo", columns) for columns in (p.w_x, p.w_h, p.b))
    g = np.tanh(Wx["g"] @ x + Wh["g"] @ carry.h + b["g"])
    i, f, o = (sigma(Wx[gate] @ x + Wh[gate] @ carry.h + b[gate]) for gate in "ifo")
    c = g * i + carry.c * f
    return {"h": np.tanh(c) * o, "c": c}, {"i": i, "f": f, "g": g, "o": o}


def peephole(p, carry, x):
    Wx, b = (by_gate("fioc", columns) for columns in (p.w_x, p.b))
    Wh = by_gate("fio", p.w_c)
    f, i, o = (sigma(Wx[gate] @ x + Wh[gate] @ carry.c + b[gate]) for gate in "fio")
    candidate = sigma(Wx["c"] @ x + b["c"])
    c = candidate * i + carry.c * f
    return {"h": np.tanh(c) * o, "c": c}, {"f": f, "i": i, "o": o, "g": candidate}


def gers_peephole(p, carry, x):
    Wx, Wh, b = (by_gate("ifgo", columns) for columns in (p.w_x, p.w_h, p.b))
    i = sigma(Wx["i"] @ x + Wh["i"] @ carry.h + p.p_i * carry.c + b["i"])
    f = sigma(Wx["f"] @ x + Wh["f"] @ carry.h + p.p_f * carry.c + b["f"])
    g = np.tanh(Wx["g"] @ x + Wh["g"] @ carry.h + b["g"])
    c = g * i + carry.c * f
    o = sigma(Wx["o"] @ x + Wh["o"] @ carry.h + p.p_o * c + b["o"])
    return {"h": np.tanh(c) * o, "c": c}, {"i": i, "f": f, "g": g, "o": o}


def gru(p, carry, x):
    Wx, Wh, b = (by_gate("run", columns) for columns in (p.w_x, p.w_h, p.b))
    r, u = (sigma(Wx[gate] @ x + Wh[gate] @ carry.h + b[gate]) for gate in "ru")
    n = np.tanh(Wx["n"] @ x + b["n"] + r * (Wh["n"] @ carry.h + p.b_n))
    return {"h": (1 - u) * n + u * carry.h}, {"r": r, "u": u, "n": n}


def gru_cho(p, carry, x):
    Wx, Wh, b = (by_gate("run", columns) for columns in (p.w_x, p.w_h, p.b))
    r, u = (sigma(Wx[gate] @ x + Wh[gate] @ carry.h + b[gate]) for gate in "ru")
    n = np.tanh(Wx["n"] @ x + b["n"] + Wh["n"] @ (r * carry.h))
    return {"h": (1 - u) * n + u * carry.h}, {"r": r, "u": u, "n": n}


CELL_ORACLES = {
    "rnn": CellOracle(rnn, lambda D, H: H * (D + H + 1)),
    "linear_rnn": CellOracle(linear_rnn, lambda D, H: H * (D + H + 1)),
    "lstm": CellOracle(lstm, lambda D, H: 4 * H * (D + H + 1)),
    "peephole": CellOracle(peephole, lambda D, H: 4 * H * (D + 1) + 3 * H**2),
    "gers_peephole": CellOracle(gers_peephole, lambda D, H: 4 * H * (D + H + 1) + 3 * H),
    "gru": CellOracle(gru, lambda D, H: 3 * H * (D + H + 1) + H),
    "gru_cho": CellOracle(gru_cho, lambda D, H: 3 * H * (D + H + 1)),
}
"""One entry a cell."""


def unroll(name, params, xs, carry, mask=None, reverse=False):
    """One sequence after another, each without the positions that its mask leaves out.

    Args:
        name: the cell's.
        params: its parameters.
        xs: inputs ``[T, *batch, D]``.
        carry: the initial carry, fields ``[*batch, H]``.
        mask: booleans ``[T, *batch]``.
        reverse: from the last position to the first.

    Returns:
        The last carry, and ``ys [T, *batch, H]`` with zeros where the mask is False.
    """
    xs, params, carry = np.float64(xs), jax.tree.map(np.float64, params), jax.tree.map(np.float64, carry)
    mask = np.ones(xs.shape[:-1], bool) if mask is None else np.asarray(mask)
    last = jax.tree.map(np.copy, carry)
    ys = np.zeros((*xs.shape[:-1], carry.h.shape[-1]))
    for row in np.ndindex(xs.shape[1:-1]):
        state = jax.tree.map(lambda field, row=row: field[row], carry)
        positions = np.flatnonzero(mask[:, *row])
        for t in positions[::-1] if reverse else positions:
            fields, _ = CELL_ORACLES[name].step(params, state, xs[t, *row])
            state = type(carry)(**fields)
            ys[t, *row] = state.h
        for field in state._fields:
            getattr(last, field)[row] = getattr(state, field)
    return last, ys


def draw(rng, *shape):
    """Float64 numbers of a size at which no gate saturates."""
    return rng.uniform(-1, 1, shape)


def draw_params(rng, name, input_size, hidden_size):
    """Random parameters, float64, none of them zero, so that a term that is left out shows."""
    cell = CELLS[name]
    shapes = jax.eval_shape(
        lambda key: cell.init(key, input_size, hidden_size, lambda key, name, shape, H: np.zeros(shape)),
        jax.random.key(0),
    )
    return jax.tree.map(lambda leaf: draw(rng, *leaf.shape), shapes)


def draw_carry(rng, name, *shape):
    """A random carry with fields of `shape`."""
    carry_type = CELLS[name].carry_type
    return carry_type(*(draw(rng, *shape) for _ in carry_type._fields))


def assert_close(actual, expected, tolerance):
    """Trees are equal to within `tolerance` of the largest number of each array."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)

    def check(path, a, b):
        scale = np.abs(b).max(initial=1e-300)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(check, actual, expected)
