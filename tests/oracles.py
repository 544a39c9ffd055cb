"""The recurrent cells as plain loops in NumPy, float64, written from their equations.

The equations are those of Soons (2020), Questions 1.1 to 1.4, and of the papers that `jaxrnn.cells` names.

The tests run over all of `CELLS`, here with some cells on graphs: a new cell needs an entry in `CELL_ORACLES`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrnn import cells
from jaxrnn.cells import gated_cell, graph_cell, graph_gru_cho, residual_graph_gru
from jaxrnn.cells.gated import KINDS

NUM_TAPS = 3
NUM_NODES = 5
DEPTH = 3
_STACK = cells.CELLS["stack_rnn"]
PLAIN_CELLS = cells.CELLS | {
    # With little room: what is pushed below is lost.
    "stack_rnn": dataclasses.replace(_STACK, start=lambda *given: _STACK.reach(_STACK.start(*given), DEPTH))
}
GRAPH_CELLS = {
    **{
        f"graph_{name}": graph_cell(PLAIN_CELLS[name], NUM_TAPS)
        for name in ("rnn", "lstm", "slstm", "gers_peephole", "gru")
    },
    "graph_gru_cho": graph_gru_cho(NUM_TAPS),
    "residual_graph_gru": residual_graph_gru(NUM_TAPS),
    **{f"gated_{kind}": gated_cell(kind, NUM_TAPS, NUM_NODES) for kind in KINDS},
}
CELLS = PLAIN_CELLS | {name: GRAPH_CELLS[name] for name in ("graph_gru", "graph_gru_cho", "gated_edge")}
"""Cells under the whole contract; the other cells on graphs are made of the same parts."""
_ALL = PLAIN_CELLS | GRAPH_CELLS


class CellOracle(NamedTuple):
    """``step(params, carry, x) -> (carry fields, gates)`` and ``num_params(D, H)``; on a graph, of all nodes."""

    step: Callable[[Any, Any, np.ndarray], tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]
    num_params: Callable[[int, int], int]


def sigma(a):
    return 1 / (1 + np.exp(-a))


class Filter:
    """``sum_k S^k x W_k`` of nodes ``x [N, D]``, written as a product."""

    def __init__(self, taps, shift):
        self.taps, self.shift = taps, shift

    def __matmul__(self, x):
        return sum(np.linalg.matrix_power(self.shift, k) @ x @ tap for k, tap in enumerate(self.taps))


def by_gate(gates, matrix):
    """The parts of a matrix, filter or bias by gate; a matrix as in the equations, ``[out, in]``."""
    if isinstance(matrix, Filter):
        parts = [Filter(taps, matrix.shift) for taps in np.split(matrix.taps, len(gates), axis=-1)]
    else:
        parts = np.split(matrix.T, len(gates))
    return dict(zip(gates, parts, strict=True))


def on_nodes(step):
    """The step of a cell whose matrices are graph filters."""

    def of_nodes(p, carry, x):
        filters = {field: Filter(leaf, p.shift) if np.ndim(leaf) == 3 else leaf for field, leaf in p._asdict().items()}
        return step(p._replace(**filters), carry, x)

    return of_nodes


def linear_rnn(p, carry, x):
    Wx, Wh = (by_gate("h", columns)["h"] for columns in (p.w_x, p.w_h))
    return {"h": Wx @ x + Wh @ carry.h + p.b}, {}


def rnn(p, carry, x):
    fields, _ = linear_rnn(p, carry, x)
    return {"h": np.tanh(fields["h"])}, {}


def relu_rnn(p, carry, x):
    fields, _ = linear_rnn(p, carry, x)
    return {"h": np.maximum(fields["h"], 0)}, {}


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


def residual_gru(p, carry, x):
    fields, _ = gru_cho(p, carry, x)
    g = sigma(x @ p.w_g + carry.h @ p.u_g)
    return {"h": g * fields["h"] + carry.h @ p.w_s}, {"g": g}


def mgu(p, carry, x):
    Wx, Wh, b = (by_gate("fn", columns) for columns in (p.w_x, p.w_h, p.b))
    f = sigma(Wx["f"] @ x + Wh["f"] @ carry.h + b["f"])
    n = np.tanh(Wx["n"] @ x + b["n"] + Wh["n"] @ (f * carry.h))
    return {"h": (1 - f) * carry.h + f * n}, {"f": f, "n": n}


def min_gru(p, carry, x):
    Wx, b = (by_gate("un", columns) for columns in (p.w_x, p.b))
    u = sigma(Wx["u"] @ x + b["u"])
    return {"h": (1 - u) * carry.h + u * (Wx["n"] @ x + b["n"])}, {"u": u}


def min_lstm(p, carry, x):
    Wx, b = (by_gate("fin", columns) for columns in (p.w_x, p.b))
    f, i = (sigma(Wx[gate] @ x + b[gate]) for gate in "fi")
    f, i = f / (f + i), i / (f + i)
    return {"h": f * carry.h + i * (Wx["n"] @ x + b["n"])}, {"f": f, "i": i}


def lru(p, carry, x):
    Wx, C = by_gate("rid", p.w_x), by_gate("ri", p.w_c)
    B, C = Wx["r"] + 1j * Wx["i"], C["r"] + 1j * C["i"]
    c = np.exp(-np.exp(p.nu) + 1j * np.exp(p.theta)) * carry.c + np.exp(p.gamma) * (B @ x)
    return {"h": (C @ c).real + Wx["d"] @ x, "c": c}, {}


def slstm(p, carry, x):
    """Without the stabiliser, by which the carry is divided before and after."""
    Wx, Wh, b = (by_gate("ifgo", columns) for columns in (p.w_x, p.w_h, p.b))
    log_i, f, g, o = (Wx[gate] @ x + Wh[gate] @ carry.h + b[gate] for gate in "ifgo")
    i, f, g, o = np.exp(log_i), sigma(f), np.tanh(g), sigma(o)
    scale = np.where(carry.n == 0, 0, np.exp(carry.m))
    c = f * carry.c * scale + i * g
    n = f * carry.n * scale + i
    largest = np.maximum(i, f * scale)
    fields = {"h": o * c / n, "c": c / largest, "n": n / largest, "m": np.log(largest)}
    return fields, {"i": i / largest, "f": f * scale / largest, "g": g, "o": o}


def stack_rnn(p, carry, x):
    h = sigma(p.w_x.T @ x + p.w_h.T @ carry.h + p.w_s.T @ carry.s[0] + p.b)
    push, pop, none = np.exp(p.w_a.T @ h) / np.exp(p.w_a.T @ h).sum()
    before = [sigma(p.w_v.T @ h), *carry.s, np.full(8, -1)]
    s = [push * before[i] + pop * before[i + 2] + none * before[i + 1] for i in range(len(carry.s))]
    return {"h": h, "s": np.array(s)}, {"push": push[None], "pop": pop[None]}


def gated(kind):
    """The gated graph RNN as a loop over its nodes and edges."""

    def step(p, carry, x):
        (num_nodes, _), H = x.shape, carry.h.shape[-1]
        states = []
        for i in (1, 2):
            w_x, b = p.w_x[..., i * H : (i + 1) * H], p.b[i * H : (i + 1) * H]
            g = carry.g[:, (i - 1) * H : i * H]
            states.append(np.tanh(Filter(w_x, p.shift) @ x + Filter(p.w_h[i], p.shift) @ g + b))
        shifts, numbers, gates = [p.shift] * 2, [np.ones(num_nodes)] * 2, {}
        for i, g in enumerate(states):
            c = p.c[i]
            if kind == "edge":
                alpha = np.zeros(p.shift.shape)
                for node, row in enumerate(p.shift):
                    ends = np.flatnonzero(row)
                    a = np.array([c[0] @ g[node] + c[1] @ g[end] for end in ends])
                    exps = np.exp(np.where(a > 0, a, 0.2 * a))
                    alpha[node, ends] = exps / exps.sum()
                shifts[i], gate = p.shift * alpha, alpha
            elif kind == "node":
                gate = numbers[i] = sigma((Filter(c[..., None], p.shift) @ g)[:, 0] + p.d[i])
            else:
                total = sum(c[n if kind == "time_vec" else 0] @ g[n] for n in range(num_nodes))
                gate = sigma((total if kind == "time_vec" else total / num_nodes) + p.d[i])
                numbers[i] = np.full(num_nodes, gate)
            gates["xh"[i]] = gate
        a = Filter(p.w_x[..., :H], shifts[0]) @ x + p.b[:H]
        u = Filter(p.w_h[0], shifts[1]) @ carry.h + p.b_h
        h = np.tanh(numbers[0][:, None] * a + numbers[1][:, None] * u)
        return {"h": h, "g": np.concatenate(states, axis=-1)}, gates

    return step


CELL_ORACLES = {
    "rnn": CellOracle(rnn, lambda D, H: H * (D + H + 1)),
    "relu_rnn": CellOracle(relu_rnn, lambda D, H: H * (D + H + 1)),
    "linear_rnn": CellOracle(linear_rnn, lambda D, H: H * (D + H + 1)),
    "lstm": CellOracle(lstm, lambda D, H: 4 * H * (D + H + 1)),
    "peephole": CellOracle(peephole, lambda D, H: 4 * H * (D + 1) + 3 * H**2),
    "gers_peephole": CellOracle(gers_peephole, lambda D, H: 4 * H * (D + H + 1) + 3 * H),
    "gru": CellOracle(gru, lambda D, H: 3 * H * (D + H + 1) + H),
    "gru_cho": CellOracle(gru_cho, lambda D, H: 3 * H * (D + H + 1)),
    "mgu": CellOracle(mgu, lambda D, H: 2 * H * (D + H + 1)),
    "min_gru": CellOracle(min_gru, lambda D, H: 2 * H * (D + 1)),
    "min_lstm": CellOracle(min_lstm, lambda D, H: 3 * H * (D + 1)),
    "lru": CellOracle(lru, lambda D, H: H * (3 * D + 2 * H + 3)),
    "slstm": CellOracle(slstm, lambda D, H: 4 * H * (D + H + 1)),
    "stack_rnn": CellOracle(stack_rnn, lambda D, H: H * (D + H + 1) + 8 * H + H * (8 + 3)),
    "graph_rnn": CellOracle(on_nodes(rnn), lambda D, H: H * (NUM_TAPS * (D + H) + 1)),
    "graph_lstm": CellOracle(on_nodes(lstm), lambda D, H: 4 * H * (NUM_TAPS * (D + H) + 1)),
    "graph_slstm": CellOracle(on_nodes(slstm), lambda D, H: 4 * H * (NUM_TAPS * (D + H) + 1)),
    "graph_gers_peephole": CellOracle(on_nodes(gers_peephole), lambda D, H: 4 * H * (NUM_TAPS * (D + H) + 1) + 3 * H),
    "graph_gru": CellOracle(on_nodes(gru), lambda D, H: 3 * H * (NUM_TAPS * (D + H) + 1) + H),
    "graph_gru_cho": CellOracle(on_nodes(gru_cho), lambda D, H: 3 * H * (NUM_TAPS * (D + H) + 1)),
    "residual_graph_gru": CellOracle(
        on_nodes(residual_gru), lambda D, H: 3 * H * (NUM_TAPS * (D + H) + 1) + H * (D + 2 * H)
    ),
    **{
        f"gated_{kind}": CellOracle(
            gated(kind), lambda D, H, rows=rows: 3 * NUM_TAPS * H * (D + H) + 4 * H + 2 * (rows * H + 1)
        )
        for kind, rows in {"time": 1, "time_vec": NUM_NODES, "node": NUM_TAPS, "edge": 2}.items()
    },
}
"""One entry a cell."""
_MISSING = _ALL.keys() - CELL_ORACLES.keys()
assert not _MISSING, f"in tests/oracles.py, CELL_ORACLES lacks the NumPy step of {', '.join(sorted(_MISSING))}"


def unroll(name, params, xs, carry, mask=None, reset=None, reverse=False):
    """One sequence after another (of all nodes, on a graph), step by step.

    Args:
        name: the cell's.
        params: its parameters.
        xs: inputs ``[T, *batch, D]``.
        carry: the initial carry, fields ``[*batch, H]``.
        mask: booleans ``[T, *batch]``.
        reset: booleans ``[T, *batch]``.
        reverse: from the last position to the first.

    Returns:
        The last carry, and ``ys [T, *batch, H]`` with zeros where the mask is False.
    """
    xs, params, carry = in_float64((xs, params, carry))
    mask = np.ones(xs.shape[:-1], bool) if mask is None else np.asarray(mask)
    reset = np.zeros(xs.shape[:-1], bool) if reset is None else np.asarray(reset)
    start = in_float64(_ALL[name].initial_carry(carry.h.shape[-1], xs.shape[1:-1]))
    last = jax.tree.map(np.copy, carry)
    ys = np.zeros((*xs.shape[:-1], carry.h.shape[-1]))
    nodes = (slice(None),) if name in GRAPH_CELLS else ()
    for row in np.ndindex(xs.shape[1 + len(nodes) : -1]):
        at = (*nodes, *row)

        def choose(condition, fields, others, at=at):
            at_all = condition[at][..., None]
            return type(carry)(*(np.where(at_all, x, y) for x, y in zip(fields, others, strict=True)))

        first, state = (jax.tree.map(lambda field, at=at: np.asarray(field)[at], one) for one in (start, carry))
        for t in range(len(xs))[:: -1 if reverse else 1]:
            begins = t + 1 if reverse else t
            if begins < len(xs):
                state = choose(reset[begins], first, state)
            x = np.where(mask[t][at][..., None], xs[t][at], 0)
            fields, _ = CELL_ORACLES[name].step(params, state, x)
            state = choose(mask[t], type(carry)(**fields), state)
            ys[t][at] = np.where(mask[t][at][..., None], state.h, 0)
        for field in state._fields:
            getattr(last, field)[at] = getattr(state, field)
    return last, ys


def in_precision(dtype, tree):
    """Numbers in the precision of a real dtype, be they real or complex."""
    kinds = {False: dtype, True: np.result_type(dtype, np.complex64)}
    return jax.tree.map(lambda x: np.asarray(x, kinds[np.iscomplexobj(x)]), tree)


def in_float64(tree):
    return in_precision(np.float64, tree)


def draw(rng, *shape):
    """Float64 numbers of a size at which no gate saturates."""
    return rng.uniform(-1, 1, shape)


def draw_params(rng, name, input_size, hidden_size, num_nodes=2):
    """Random parameters, float64, none of them zero, so that a term that is left out shows."""
    cell = _ALL[name]
    shapes = jax.eval_shape(
        lambda key: cell.init(key, input_size, hidden_size, lambda key, name, shape, H: np.zeros(shape)),
        jax.random.key(0),
    )
    params = jax.tree.map(lambda leaf: draw(rng, *leaf.shape), shapes)
    return params._replace(shift=draw(rng, num_nodes, num_nodes)) if name in GRAPH_CELLS else params


def draw_carry(rng, name, *shape):
    """A random carry for a batch and hidden units of `shape`."""
    start = _ALL[name].initial_carry(shape[-1], shape[:-1])
    carry = jax.tree.map(lambda field: draw(rng, *field.shape), start)
    carry = jax.tree.map(lambda x, like: x + 1j * draw(rng, *x.shape) if np.iscomplexobj(like) else x, carry, start)
    return carry._replace(n=1 + np.abs(carry.n)) if "n" in carry._fields else carry  # A normaliser is a positive sum.


def assert_close(actual, expected, tolerance):
    """Trees are equal to within `tolerance` of the largest number of each array."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)

    def check(path, a, b):
        scale = np.abs(b).max(initial=1e-300)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(check, actual, expected)
