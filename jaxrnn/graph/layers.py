"""Graph layers as pure functions: GCN, GAT and graph filters, all made of `propagate`, a product with ``S``."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.arrays import Array
from jaxrnn.graph.edges import GraphsTuple, segment_max, segment_sum
from jaxrnn.graph.features import Features, project, with_axes_of


def propagate(graph: GraphsTuple, x: Array, weights: Array | None = None) -> Array:
    """``S x``: every node's sum over its incoming edges, ``y_i = sum_j S_ij x_j``.

    Args:
        graph: N nodes, E edges sorted by receiver.
        x: ``[N, ...]``.
        weights: ``[E]``, or ``[E, K]`` for ``x [N, K, ...]``; by default those of the graph.

    Raises:
        ValueError: if `x` has another number of rows than the graph has nodes, where that is known when compiling.
    """
    _check_rows(graph, x.shape[0])
    x = jnp.asarray(x, None if jnp.issubdtype(x.dtype, jnp.inexact) else float)
    weights = jnp.asarray(graph.edges if weights is None else weights, x.dtype)
    return segment_sum(_spread(weights, x) * x[graph.senders], graph.receivers, x.shape[0], indices_are_sorted=True)


def gcn(graph: GraphsTuple, x: Features, w: Array) -> Array:
    """``S X W`` ``[N, H]``; by `normalize`, the layer of Kipf and Welling 2017 (Soons 2020, Question 3.1)."""
    return propagate(graph, project(x, w))


def graph_filter(graph: GraphsTuple, x: Features, taps_kdh: Array) -> Array:
    """The filter ``sum_k S^k X W_k`` ``[N, H]`` with K taps, ``k = 0 .. K-1`` (Ruiz, Gama and Ribeiro 2020)."""
    y = project(x, taps_kdh[-1])
    for k in range(len(taps_kdh) - 2, -1, -1):
        y = propagate(graph, y) + project(x, taps_kdh[k])
    return y


def edge_softmax(graph: GraphsTuple, logits: Array, num_nodes: int) -> Array:
    """The softmax of ``logits [E, ...]`` over the edges into each node, ``[E, ...]``.

    Edges of weight 0 get exactly zero, and so do their gradients, also where a node has no other edges.

    Raises:
        ValueError: if the graph has another number of nodes, where that is known when compiling.
    """
    _check_rows(graph, num_nodes)
    logits = jnp.where(with_axes_of(graph.edges != 0, logits), logits, -jnp.inf)
    largest = segment_max(jax.lax.stop_gradient(logits), graph.receivers, num_nodes, indices_are_sorted=True)
    # Without edges, the maximum is -inf.
    exps = jnp.exp(logits - jnp.where(largest > -jnp.inf, largest, 0)[graph.receivers])
    sums = segment_sum(exps, graph.receivers, num_nodes, indices_are_sorted=True)
    return exps / jnp.where(sums > 0, sums, 1)[graph.receivers]


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
    node attends to itself if it has a self-loop. The weights of the edges do not enter.

    Args:
        graph: N nodes, E edges.
        h_nkf: `project`ed features, ``W h``.
        a_sender_kf: the half of ``a`` that reads ``W h_j``.
        a_receiver_kf: the half that reads ``W h_i``.
        drop_attention: dropout of ``alpha [E, K]``.
        drop_features: dropout of the summands ``W h_j``.

    Returns:
        ``[N, K, F]``: the heads are concatenated by a reshape, averaged by a mean.
    """
    by_sender, by_receiver = (jnp.einsum("nkf,kf->nk", h_nkf, a) for a in (a_sender_kf, a_receiver_kf))
    logits_ek = jax.nn.leaky_relu(by_sender[graph.senders] + by_receiver[graph.receivers], 0.2)
    alpha_ek = drop_attention(edge_softmax(graph, logits_ek, h_nkf.shape[0]))
    return propagate(graph, drop_features(h_nkf), alpha_ek)


def _check_rows(graph: GraphsTuple, rows: int) -> None:
    """Without this check, indices beyond the last row would read the last row, and sums there would be lost."""
    if not isinstance(graph.n_node, jax.core.Tracer) and np.sum(graph.n_node) != rows:
        raise ValueError(f"there are {rows} rows for a graph of {np.sum(graph.n_node)} nodes")


def _spread(weights: Array, x: Array) -> Array:
    """`weights` repeated for each feature of `x`, by an exact product with ones.

    Its gradient, a sum over few features for each edge, is then a product too. As a sum, XLA's CPU compiler gives it to
    a library that takes three times as long for a single head: a seventh of a GAT's epoch.
    """
    ones = jnp.ones((1, math.prod(x.shape[weights.ndim :])), weights.dtype)
    spread = jnp.matmul(weights[..., None], ones, precision="highest")
    return spread.reshape(*weights.shape, *x.shape[weights.ndim :])
