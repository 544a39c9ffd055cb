"""Gated graph recurrent networks (Ruiz, Gama and Ribeiro 2020): a graph RNN with gates over time, nodes or edges.

With graph filters ``A(S)`` and ``B(S)`` of K taps, ``h = tanh(q_x * (A(S) x + b) + q_h * (B(S) h' + b_h))``. Each
gate reads the state ``g = tanh(A_g(S) x + B_g(S) g' + b_g)`` of a graph RNN of its own, which never sees ``h``:

- time: ``q = sigma(c^T mean_n(g_n) + d)``, one number for all nodes; the mean allows any number and order of nodes;
- time_vec: ``q = sigma(c^T vec(g) + d)``, as printed, for N nodes in a fixed order;
- node: ``q = sigma(C(S) g + d)``, a number for each node;
- edge: instead of a number, ``S * alpha`` replaces ``S`` in ``A`` or ``B``, where ``alpha_ij`` is the softmax over the
  edges into node i of ``LeakyReLU_0.2(a_1^T g_i + a_2^T g_j)``.
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Initializer, Key
from jaxrnn.cells.base import GeneralCell
from jaxrnn.cells.graph import Shift, graph_filter
from jaxrnn.graph import GraphsTuple, edge_softmax

Kind = Literal["time", "time_vec", "node", "edge"]
KINDS: tuple[str, ...] = get_args(Kind)


class GatedParams(NamedTuple):
    """``K H (3 D + 3 H) + 4 H`` numbers and those of the gates; the shift is set as in a graph cell.

    ``w_x [K, D, 3H]`` and ``b [3H]`` are for h, the gate of the inputs and the gate of the state, in this order;
    ``w_h [3, K, H, H]`` likewise; ``b_h [H]``. The gates have ``d [2]`` and ``c [2, R, H]``, where R is 1 for time, N
    for time_vec, K for node and 2 for edge.
    """

    w_x: Array
    w_h: Array
    b: Array
    b_h: Array
    c: Array
    d: Array
    shift: Shift = None


class GatedCarry(NamedTuple):
    """Hidden state ``h [N, *batch, H]``, and the states that the two gates read, ``g [N, *batch, 2H]``."""

    h: Array
    g: Array


def _start(params: GatedParams, batch_shape: Sequence[int], dtype: Any) -> GatedCarry:
    hidden_size = params.w_h.shape[-1]
    return GatedCarry(*(jnp.zeros((*batch_shape, width), dtype) for width in (hidden_size, 2 * hidden_size)))


def _numbers(kind: Kind, params: GatedParams, states: Sequence[Array]) -> list[Array]:
    """Both gates as numbers: ``[*batch]``, or ``[N, *batch]`` for nodes."""
    if kind == "node":
        taps = params.c[..., None]
        sums = [graph_filter((taps[i], params.shift), g)[..., 0] for i, g in enumerate(states)]
    elif kind == "time":
        sums = [g.mean(axis=0) @ params.c[i, 0] for i, g in enumerate(states)]
    else:
        sums = [jnp.einsum("n...h,nh->...", g, params.c[i]) for i, g in enumerate(states)]
    return [jax.nn.sigmoid(a + params.d[i]) for i, a in enumerate(sums)]


def attend(shift: Shift, g: Array, c: Array) -> tuple[Shift, Array]:
    """``S * alpha`` and alpha, ``[*batch, N, N]`` or ``[E, *batch]``, from ``g [N, *batch, H]`` and ``c [2, H]``."""
    by_receiver, by_sender = (g @ c[i] for i in range(2))
    if isinstance(shift, GraphsTuple):
        logits = jax.nn.leaky_relu(by_receiver[shift.receivers] + by_sender[shift.senders], 0.2)
        alpha = edge_softmax(shift, logits, len(g))
        return shift._replace(edges=alpha * jnp.expand_dims(shift.edges, range(shift.edges.ndim, alpha.ndim))), alpha
    by_receiver, by_sender = (jnp.moveaxis(a, 0, -1) for a in (by_receiver, by_sender))
    logits = jax.nn.leaky_relu(by_receiver[..., :, None] + by_sender[..., None, :], 0.2)
    # A node without edges has nothing to attend to; the second `where` keeps its gradient zero.
    is_edge = shift != 0
    alpha = jnp.where(is_edge, jax.nn.softmax(jnp.where(is_edge, logits, -1e30), axis=-1), 0)
    return shift * alpha, alpha


@functools.cache
def gated_cell(kind: Kind, num_taps: int, num_nodes: int = 0) -> GeneralCell:
    """The gated graph RNN with gates of one kind and filters of K taps; time_vec needs the number of nodes."""

    def init(key: Key, input_size: int, hidden_size: int, initializer: Initializer) -> GatedParams:
        keys, scale = jax.random.split(key, (3, num_taps, 2)), num_taps**-0.5
        matrix = jax.vmap(initializer, in_axes=(0, None, None, None))
        shapes = (input_size, hidden_size), (hidden_size, hidden_size)
        w_x, w_h = (
            jnp.stack([scale * matrix(keys[i, :, j], f"h_{role}", shapes[j], hidden_size) for i in range(3)])
            for j, role in enumerate("xh")
        )
        k_b, k_c = jax.random.split(jax.random.fold_in(key, 3))
        biases = [initializer(k, "h_b", (hidden_size,), hidden_size) for k in jax.random.split(k_b, 5)]
        rows = {"time": 1, "time_vec": num_nodes, "node": num_taps, "edge": 2}[kind]
        c = initializer(k_c, "q_h", (rows * hidden_size, 2), hidden_size)
        return GatedParams(
            w_x=jnp.concatenate([*w_x], axis=-1),
            w_h=w_h,
            b=jnp.concatenate(biases[:3]),
            b_h=biases[3],
            c=c.T.reshape(2, rows, hidden_size),
            d=biases[4][:2],
        )

    def project(params: GatedParams, x: Array) -> Array:
        """All terms in x alone: ``[A(S) x, A_g(S) x] + b``; with edge gates, x itself replaces ``A(S) x + b``."""
        hidden_size, only_gates = params.w_h.shape[-1], kind == "edge"
        columns = slice(hidden_size if only_gates else 0, None)
        z = graph_filter((params.w_x[..., columns], params.shift), x) + params.b[columns]
        return jnp.concatenate([x, z], axis=-1) if only_gates else z

    def advance(params: GatedParams, carry: GatedCarry, z: Array) -> tuple[GatedCarry, Array, dict[str, Array]]:
        hidden_size = carry.h.shape[-1]
        z_h, z_gates = jnp.split(z, [z.shape[-1] - 2 * hidden_size], axis=-1)
        of_gates = zip(jnp.split(z_gates, 2, axis=-1), jnp.split(carry.g, 2, axis=-1), params.w_h[1:], strict=True)
        states = [jnp.tanh(z + graph_filter((w, params.shift), g)) for z, g, w in of_gates]
        if kind == "edge":
            attended = [attend(params.shift, g, params.c[i]) for i, g in enumerate(states)]
            (shift_x, gate_x), (shift_h, gate_h) = attended
            a = graph_filter((params.w_x[..., :hidden_size], shift_x), z_h) + params.b[:hidden_size]
            h = jnp.tanh(a + graph_filter((params.w_h[0], shift_h), carry.h) + params.b_h)
        else:
            gate_x, gate_h = _numbers(kind, params, states)
            u = graph_filter((params.w_h[0], params.shift), carry.h) + params.b_h
            h = jnp.tanh(gate_x[..., None] * z_h + gate_h[..., None] * u)
        return GatedCarry(h, jnp.concatenate(states, axis=-1)), h, {"x": gate_x, "h": gate_h}

    return GeneralCell(
        params_type=GatedParams,
        init=init,
        start=_start,
        project=project,
        is_rowwise=False,
        # Storing the attention of all steps would take N^2 numbers per sample and step.
        advance=jax.checkpoint(advance) if kind == "edge" else advance,
    )
