"""The GRU on a graph, with its reset gate before the product, as in T-GCN and DCRNN, or with Res-RGNN's residual."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Initializer, Key
from jaxrnn.cells.base import GeneralCell, init_gates, recurrent_matrix, zero_start
from jaxrnn.cells.graph import init_taps, shift_by, shifted
from jaxrnn.cells.gru import GRU_CHO
from jaxrnn.cells.rnn import RNNCarry


class GraphGRUChoParams(NamedTuple):
    """``w_x [M, D, 3H]``, ``w_h [M, H, 3H]``, ``b [3H]`` in the order r, u, n, and the shift.

    ``3H (M (D + H) + 1)`` numbers. ``shift`` is a shift as in `jaxrnn.cells.graph`, whose powers 0 to M - 1 are taken,
    or a tuple of M shifts, where None is the identity. `init` leaves it None; ``params._replace(shift=S)`` sets it.
    """

    w_x: Array
    w_h: Array
    b: Array
    shift: Any = None


def _shifted(shift: Any, x: Array, num_taps: int) -> list[Array]:
    """``[S_1 x, ..., S_M x]``, each ``[N, *batch, D]``, of ``x [N, *batch, D]``."""
    if type(shift) is tuple:
        return [x if one is None else shift_by(one, x) for one in shift]
    return shifted(shift, x, num_taps)


def _project(params: GraphGRUChoParams, x: Array) -> Array:
    # The step takes the product with w_x. Here it would be many times as wide, and stay in memory.
    seen = jnp.concatenate(_shifted(params.shift, x, len(params.w_x)), axis=-1)
    return seen.astype(jnp.result_type(seen, params.w_x))


def _by_gate(w: Array) -> list[Array]:
    # Split by gate, because XLA's CPU compiler does not vectorise a loop that reads parts of a wider array.
    return jnp.split(w, 3, axis=-1)


def _product(xs: list[Array], w: Array) -> Array:
    """``sum_m x_m W_m``."""
    return functools.reduce(jnp.add, [x @ w_m for x, w_m in zip(xs, w, strict=True)])


def _gates(params: GraphGRUChoParams, h: Array, z: Array) -> tuple[Array, Array, Array, list[Array], list[Array]]:
    """The gates r, u, n, and what ``w_h`` was multiplied with."""
    w_r, w_u, w_n = _by_gate(params.w_h)
    w_x = params.w_x.reshape(-1, params.w_x.shape[-1])
    a_r, a_u, a_n = (z @ w + b for w, b in zip(_by_gate(w_x), _by_gate(params.b), strict=True))
    seen = _shifted(params.shift, h, len(params.w_h))
    reset, update = jax.nn.sigmoid(a_r + _product(seen, w_r)), jax.nn.sigmoid(a_u + _product(seen, w_u))
    seen_reset = _shifted(params.shift, reset * h, len(params.w_h))
    return reset, update, jnp.tanh(a_n + _product(seen_reset, w_n)), seen, seen_reset


@jax.custom_vjp
def _next(params: GraphGRUChoParams, h: Array, z: Array) -> Array:
    """The next ``h``; its custom gradient takes two thirds of the time of autodiff."""
    return _next_forward(params, h, z)[0]


def _next_forward(params: GraphGRUChoParams, h: Array, z: Array) -> tuple[Array, Any]:
    _, update, candidate, *_ = gates = _gates(params, h, z)
    return (1 - update) * candidate + update * h, (params, h, z, gates)


def _sum(cotangent: Array, other: Array) -> Array:
    """The sum of two cotangents; those of integers, such as the ends of edges, are void."""
    return cotangent if cotangent.dtype == jax.dtypes.float0 else cotangent + other


def _next_backward(saved: Any, d_next: Array) -> tuple[GraphGRUChoParams, Array, Array]:
    params, h, z, (reset, update, candidate, seen, seen_reset) = saved
    w_r, w_u, w_n = _by_gate(params.w_h)
    shift_all = functools.partial(_shifted, num_taps=len(params.w_h))
    d_n = d_next * (1 - update) * (1 - candidate**2)
    d_u = d_next * (h - candidate) * update * (1 - update)
    _, pull_reset = jax.vjp(shift_all, params.shift, reset * h)
    d_shift, d_reset_h = pull_reset([d_n @ n.T for n in w_n])
    d_r = d_reset_h * h * reset * (1 - reset)
    _, pull = jax.vjp(shift_all, params.shift, h)
    more, d_h = pull([d_r @ r.T + d_u @ u.T for r, u in zip(w_r, w_u, strict=True)])

    def weights(*pairs: tuple[Array, Array]) -> Array:
        """The cotangents of the gates' matrices, side by side, from their inputs and the cotangents of the products."""
        rows = [(s.reshape(-1, s.shape[-1]), d.reshape(-1, d.shape[-1])) for s, d in pairs]
        sums = jnp.promote_types(d_next.dtype, jnp.float32)
        return jnp.concatenate([jnp.matmul(s.T, d, preferred_element_type=sums) for s, d in rows], axis=-1)

    ones = jnp.ones((*z.shape[:-1], 1), z.dtype)
    w_x = params.w_x.reshape(-1, params.w_x.shape[-1])
    d_params = GraphGRUChoParams(
        w_x=weights((z, d_r), (z, d_u), (z, d_n)).reshape(params.w_x.shape),
        w_h=jnp.stack([weights((s, d_r), (s, d_u), (s_n, d_n)) for s, s_n in zip(seen, seen_reset, strict=True)]),
        b=weights((ones, d_r), (ones, d_u), (ones, d_n))[0],
        shift=jax.tree.map(_sum, d_shift, more),
    )
    d_z = functools.reduce(jnp.add, [d @ w.T for d, w in zip((d_r, d_u, d_n), _by_gate(w_x), strict=True)])
    cotangents = d_params, d_next * update + d_reset_h * reset + d_h, d_z
    return jax.tree.map(
        lambda d, x: d if d.dtype == jax.dtypes.float0 else d.astype(x.dtype), cotangents, (params, h, z)
    )


_next.defvjp(_next_forward, _next_backward)


def _advance(params: GraphGRUChoParams, carry: RNNCarry, z: Array) -> tuple[RNNCarry, Array, dict[str, Array]]:
    """``h = (1-u)*n + u*h'`` with ``n = tanh(sum_m S_m x W_m + b + S_m (r*h') V_m)``, as T-GCN and DCRNN print it."""
    h = _next(params, carry.h, z)
    reset, update, candidate, *_ = _gates(params, carry.h, z)  # Computed only where they are read.
    return RNNCarry(h), h, {"r": reset, "u": update, "n": candidate}


@functools.cache
def graph_gru_cho(num_taps: int) -> GeneralCell:
    """The GRU of Cho et al. (2014) with ``sum_m S_m x W_m``, of M taps, in place of each product ``x W``.

    T-GCN has one shift, ``(S,)`` (Zhao et al. 2020). DCRNN has the identity and the powers of both random walks (Li et
    al. 2018). The taps start as M draws of the GRU's matrices, each divided by ``sqrt(M)``.

    Raises:
        ValueError: M < 1.
    """
    return GeneralCell(
        params_type=GraphGRUChoParams,
        init=init_taps(GRU_CHO, GraphGRUChoParams, num_taps),
        start=zero_start(RNNCarry),
        project=_project,
        is_rowwise=False,
        weight=recurrent_matrix,
        advance=_advance,
    )


class ResidualGraphGRUParams(NamedTuple):
    """``w_x``, ``w_h`` and ``b`` as in `GraphGRUChoParams`; ``w_g [D, H]``, ``u_g [H, H]``, ``w_s [H, H]``; the shift.

    ``H (3 (M (D + H) + 1) + D + 2H)`` numbers.
    """

    w_x: Array
    w_h: Array
    b: Array
    w_g: Array
    u_g: Array
    w_s: Array
    shift: Any = None

    @property
    def within(self) -> GraphGRUChoParams:
        """The parameters of the GRU."""
        return GraphGRUChoParams(self.w_x, self.w_h, self.b, self.shift)


def _project_residual(params: ResidualGraphGRUParams, x: Array) -> Array:
    seen = _project(params.within, x)
    return jnp.concatenate([seen, x.astype(seen.dtype)], axis=-1)


def _advance_residual(
    params: ResidualGraphGRUParams, carry: RNNCarry, z: Array
) -> tuple[RNNCarry, Array, dict[str, Array]]:
    """``s = g * phi(s', x) + W_s s'`` with ``g = sigmoid(W_g x + U_g s')``; phi is the GRU on the graph."""
    seen, x = jnp.split(z, [z.shape[-1] - len(params.w_g)], axis=-1)
    gate = jax.nn.sigmoid(x @ params.w_g + carry.h @ params.u_g)
    h = gate * _next(params.within, carry.h, seen) + carry.h @ params.w_s
    return RNNCarry(h), h, {"g": gate}


@functools.cache
def residual_graph_gru(num_taps: int) -> GeneralCell:
    """`graph_gru_cho` with a gated residual: Res-RGNN without skipped steps (Chen et al. 2019).

    Raises:
        ValueError: there is no tap.
    """
    gru = init_taps(GRU_CHO, GraphGRUChoParams, num_taps)

    def init(key: Key, input_size: int, hidden_size: int, initializer: Initializer) -> ResidualGraphGRUParams:
        k_gru, k_w, k_u, k_s = jax.random.split(key, 4)
        w_x, w_h, b, _ = gru(k_gru, input_size, hidden_size, initializer)
        w_g = init_gates(k_w, initializer, "g", "x", (input_size,), hidden_size)
        u_g, w_s = (
            init_gates(k, initializer, name, "h", (hidden_size,), hidden_size) for k, name in ((k_u, "g"), (k_s, "s"))
        )
        return ResidualGraphGRUParams(w_x, w_h, b, w_g, u_g, w_s)

    return GeneralCell(
        params_type=ResidualGraphGRUParams,
        init=init,
        start=zero_start(RNNCarry),
        project=_project_residual,
        is_rowwise=False,
        advance=_advance_residual,
    )
