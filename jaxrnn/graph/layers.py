"""Graph layers as pure functions: GCN, GAT and graph filters, all made of `propagate`, a product with ``S``."""

import math
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import scipy  # Its modules load when they are first used.

from jaxrnn.arrays import Array, at_least_float32, wide
from jaxrnn.graph.edges import GraphsTuple, segment_max, segment_sum
from jaxrnn.graph.features import Features, SparseRows, project, sparse_rows

Shift: TypeAlias = GraphsTuple | SparseRows
"""The matrix ``S [N, N]`` of a graph, by its edges or by its rows."""


def propagate(graph: Shift, x: Array, weights: Array | None = None) -> Array:
    """``S x``: every node's sum over its incoming edges, ``y_i = sum_j S_ij x_j``.

    Args:
        graph: N nodes, E edges sorted by receiver; or ``S`` itself, for which `x` is ``[N, H]`` and no
            `weights` are given.
        x: ``[N, ...]``.
        weights: ``[E]``, or ``[E, K]`` for ``x [N, K, ...]``; by default those of the graph, in the dtype of `x`, or
            ones if it has none.

    Raises:
        ValueError: if `x` does not have a row for each node of the graph, where that is known when compiling.
    """
    if isinstance(graph, SparseRows):
        return project(graph, x)
    _check_rows(graph, x.shape[0])
    x = jnp.asarray(x, None if jnp.issubdtype(x.dtype, jnp.inexact) else float)
    if weights is None:
        weights = jnp.ones(len(graph.senders), x.dtype) if graph.edges is None else jnp.asarray(graph.edges, x.dtype)
    dtype = jnp.result_type(weights, x)
    # For the sums over the edges of a node, here and in the gradient.
    x, weights = (at_least_float32(array.astype(dtype)) for array in (x, weights))
    x_e = _spread(weights, x) * x[wide(graph.senders)]
    return segment_sum(x_e, wide(graph.receivers), x.shape[0], indices_are_sorted=True).astype(dtype)


def by_rows(graph: GraphsTuple) -> SparseRows:
    """``S`` by its rows, built on the host; products with it need no memory for each edge.

    With 3.5 million edges, they take a fifth of the time on a CPU for 200 columns, and a twelfth for 8 columns.
    """
    ends, num_nodes = (np.asarray(graph.receivers), np.asarray(graph.senders)), np.asarray(graph.n_node).sum()
    weights = np.ones(len(ends[0])) if graph.edges is None else np.asarray(graph.edges)
    return sparse_rows(scipy.sparse.csr_array((weights, ends), (num_nodes, num_nodes)))


def gcn(graph: Shift, x: Features, w: Array) -> Array:
    """``S X W`` ``[N, H]``; with `normalize`, the layer of Kipf and Welling 2017 (Soons 2020, Question 3.1)."""
    return propagate(graph, project(x, w))


def graph_filter(graph: Shift, x: Features, taps_kdh: Array) -> Array:
    """The filter ``sum_k S^k X W_k`` ``[N, H]`` with K taps, ``k = 0 .. K-1`` (Ruiz, Gama and Ribeiro 2020)."""
    y = project(x, taps_kdh[-1])
    for k in range(len(taps_kdh) - 2, -1, -1):
        y = propagate(graph, y) + project(x, taps_kdh[k])
    return y


def edge_softmax(graph: GraphsTuple, logits: Array, num_nodes: int) -> Array:
    """The softmax of ``logits [E, ...]`` over the edges into each node, ``[E, ...]``.

    The weights of the edges have no effect; an edge of weight 0 is still an edge.

    Raises:
        ValueError: if the graph has another number of nodes, where that is known when compiling.
    """
    _check_rows(graph, num_nodes)
    dtype, receivers = logits.dtype, wide(graph.receivers)
    logits = at_least_float32(logits)
    largest = segment_max(jax.lax.stop_gradient(logits), receivers, num_nodes, indices_are_sorted=True)
    # If a caller has masked all edges of a node by logits of -inf, the maximum is -inf.
    exps = jnp.exp(logits - jnp.where(largest > -jnp.inf, largest, 0)[receivers])
    sums = segment_sum(exps, receivers, num_nodes, indices_are_sorted=True)
    return (exps / jnp.where(sums > 0, sums, 1)[receivers]).astype(dtype)


def gat(
    graph: GraphsTuple,
    h_nkf: Array,
    a_sender_kf: Array,
    a_receiver_kf: Array,
    *,
    drop_attention: Callable[[Array], Array] = lambda x: x,
    drop_features: Callable[[Array], Array] = lambda x: x,
) -> Array:
    """Graph attention over the edges into each node (Velickovic et al. 2018; Soons 2020, Question 3.1).

    ``alpha_ij = softmax_j LeakyReLU_0.2(a^T [W h_i || W h_j])`` and ``y_i = sum_j alpha_ij W h_j``, for each head. A
    node attends to itself if it has a self-loop. The weights of the edges have no effect.

    Args:
        graph: N nodes, E edges.
        h_nkf: `project`ed features, ``W h``.
        a_sender_kf: the half of ``a`` that reads ``W h_j``.
        a_receiver_kf: the half that reads ``W h_i``.
        drop_attention: dropout of ``alpha [E, K]``.
        drop_features: dropout of the summands ``W h_j``.

    Returns:
        ``[N, K, F]``; a reshape concatenates the heads, a mean averages them.
    """
    by_sender, by_receiver = (jnp.einsum("nkf,kf->nk", h_nkf, a) for a in (a_sender_kf, a_receiver_kf))
    logits_ek = jax.nn.leaky_relu(by_sender[wide(graph.senders)] + by_receiver[wide(graph.receivers)], 0.2)
    alpha_ek = drop_attention(edge_softmax(graph, logits_ek, h_nkf.shape[0]))
    return propagate(graph, drop_features(h_nkf), alpha_ek)


def _check_rows(graph: GraphsTuple, rows: int) -> None:
    """Without this check, indices beyond the last row would read the last row, and sums there would be lost."""
    if isinstance(graph.n_node, jax.core.Tracer):
        return
    num_nodes = np.asarray(graph.n_node).sum()  # On the host, because JAX's own sum could be traced.
    if num_nodes != rows:
        raise ValueError(f"there are {rows} rows for a graph of {num_nodes} nodes")


def _spread(weights: Array, x: Array) -> Array:
    """`weights` repeated for each feature of `x`, by an exact product with ones.

    Its gradient, a sum over few features for each edge, is then a product too. As a sum, XLA's CPU compiler would give
    it to a library that takes three times as long for a single head, which is a seventh of a GAT's epoch.
    """
    ones = jnp.ones((1, math.prod(x.shape[weights.ndim :])), weights.dtype)
    spread = jnp.matmul(weights[..., None], ones, precision="highest")
    return spread.reshape(*weights.shape, *x.shape[weights.ndim :])
