"""Graph layers as pure functions on `jraph.GraphsTuple`: GCN, GAT and graph filters.

An edge from sender ``j`` to receiver ``i`` of weight ``S_ij`` is an entry of the graph's shift matrix ``S [N, N]``, and
every layer is made of products with it, `propagate`. A graph is built once, on the host:

- `GraphsTuple.edges` holds the weights ``[E]``, sorted by receiver; weight 0 marks an edge that is only padding;
- `GraphsTuple.nodes` is left to the caller: layers take their features apart, since those change and graphs do not.

Features are an array ``[N, D]`` or `SparseRows`, a matrix of which only the entries that are not zero are stored.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import scipy.sparse
from jax.extend.random import threefry_2x32
from jax.typing import ArrayLike
from jraph import GraphsTuple as GraphsTuple

from jaxrnn.arrays import Array, Key

# --- Graphs, on the host ----------------------------------------------------------------------------------------------


def build(
    senders: ArrayLike,
    receivers: ArrayLike,
    num_nodes: int,
    *,
    undirected: bool = False,
    merge: bool = True,
    self_loops: bool = True,
) -> GraphsTuple:
    """The graph of an edge list, ``S = A + I``, as NumPy arrays.

    Args:
        senders: integers ``[edges]``.
        receivers: integers ``[edges]``.
        num_nodes: N.
        undirected: every edge of the list stands for both directions.
        merge: edges that are given twice count once, so ``A`` is binary; else they stay apart, as parallel edges.
        self_loops: add the identity. A merged graph's node that had a loop already has one of weight 2, as in Kipf's.

    Raises:
        ValueError: for an edge to a node that does not exist.
    """
    ends = np.stack([np.asarray(receivers, np.int64), np.asarray(senders, np.int64)])
    outside = np.flatnonzero(((ends < 0) | (ends >= num_nodes)).any(axis=0))
    if outside.size:
        i, j = ends[:, outside[0]]
        raise ValueError(f"edge {outside[0]} goes from node {j} to node {i}, but nodes are 0 to {num_nodes - 1}")
    if undirected:
        ends = np.concatenate([ends, ends[::-1, ends[0] != ends[1]]], axis=1)
    codes = ends[0] * num_nodes + ends[1]
    if merge:
        codes = np.unique(codes)
    if self_loops:
        codes = np.concatenate([codes, np.arange(num_nodes) * (num_nodes + 1)])
    codes, counts = np.unique(codes, return_counts=True) if merge else (np.sort(codes), np.ones(codes.size))
    return GraphsTuple(
        nodes=None,
        edges=counts.astype(float),
        receivers=(codes // num_nodes).astype(np.int32),
        senders=(codes % num_nodes).astype(np.int32),
        globals=None,
        n_node=np.array([num_nodes], np.int32),
        n_edge=np.array([codes.size], np.int32),
    )


def normalize(graph: GraphsTuple) -> GraphsTuple:
    """The graph with GCN's weights, ``D^-1/2 S D^-1/2`` with ``D_ii = sum_j S_ij`` (Kipf and Welling 2017).

    A node that no edge leads to has ``D_ii^-1/2 = 0``.
    """
    degrees = np.bincount(graph.receivers, weights=graph.edges, minlength=graph.n_node.sum())
    scales = np.where(degrees > 0, degrees, np.inf) ** -0.5
    return graph._replace(edges=graph.edges * scales[graph.receivers] * scales[graph.senders])


def pad(graph: GraphsTuple, num_nodes: int, num_edges: int) -> tuple[GraphsTuple, np.ndarray]:
    """The graph at a given size, and the mask ``[num_nodes]`` of its real nodes.

    The padding is a second graph behind it, as in jraph: edges of weight 0 between nodes that are padding too.

    Raises:
        RuntimeError: if the graph has more edges than `num_edges`, or no fewer nodes than `num_nodes`.
    """
    return jraph.pad_with_graphs(graph, num_nodes, num_edges), np.arange(num_nodes) < graph.n_node.sum()


# --- Features ---------------------------------------------------------------------------------------------------------


@functools.partial(jax.tree_util.register_dataclass, data_fields=["values", "columns", "rows"], meta_fields=["shape"])
@dataclasses.dataclass(frozen=True)
class SparseRows:
    """A matrix ``[N, D]`` in which each row is stored as pieces of at most L entries.

    Few rows are as long as the longest, and whole rows of its length would mostly be padding. Entries one by one would
    make the product a scatter of all of them: a GAT's epoch on a CPU then takes about a fifth longer.

    Attributes:
        values: ``[L, pieces]``, or ``[L, pieces, K]`` where each of K heads has values of its own; 0 where a piece is
            shorter than L.
        columns: integers ``[L, pieces]``.
        rows: the row of each piece, integers ``[pieces]``, sorted.
        shape: ``(N, D)``.
    """

    values: Array | np.ndarray
    columns: Array | np.ndarray
    rows: Array | np.ndarray
    shape: tuple[int, int]


Features = Array | SparseRows
"""``[N, D]``; where each of K heads has features of its own, an array is ``[N, K, D]``."""


def sparse_rows(matrix: Any) -> SparseRows:
    """`SparseRows` of anything that `scipy.sparse.csr_array` takes, float32, as NumPy arrays."""
    matrix = scipy.sparse.csr_array(matrix)
    matrix.sum_duplicates()
    lengths = np.diff(matrix.indptr)

    def cost(width: int) -> int:
        # A piece costs its slots, padded ones too, and to be added to its row about one more.
        return int((width + 1) * (-(-lengths // width)).sum())

    width = min(range(1, max(lengths.max(initial=0), 1) + 1), key=cost)
    pieces = -(-lengths // width)
    rows = np.repeat(np.arange(len(lengths)), pieces)
    nth = np.arange(rows.size) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    slots = matrix.indptr[rows] + width * nth + np.arange(width)[:, None]
    real = slots < matrix.indptr[rows + 1]
    values, columns = np.zeros(slots.shape, np.float32), np.zeros(slots.shape, np.int32)
    values[real], columns[real] = matrix.data[slots[real]], matrix.indices[slots[real]]
    return SparseRows(values, columns, rows.astype(np.int32), matrix.shape)


def project(x: Features, w: Array) -> Array:
    """The product of features and weights.

    Args:
        x: the features.
        w: ``[D, H]``, or ``[D, K, H]`` for K heads.

    Returns:
        ``[N, H]`` or ``[N, K, H]``.
    """
    if isinstance(x, SparseRows):
        w = jnp.asarray(w)
        return _sparse_product(x.shape[0], jnp.asarray(x.values, w.dtype), w, x.columns, x.rows)
    return jnp.einsum("nkd,dkh->nkh", x, w) if x.ndim == 3 else jnp.tensordot(x, w, 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sparse_product(num_rows: int, values: Array, w: Array, columns: Array, rows: Array) -> Array:
    """Slot after slot of all pieces: what a step of the loop reads and writes stays in the cache."""

    def add(total: Array, slot: tuple[Array, Array]) -> tuple[Array, None]:
        v, column = slot
        return total + _like(v, w) * w[column], None

    start = jnp.zeros((len(rows), *w.shape[1:]), w.dtype)
    total, _ = jax.lax.scan(add, start, (values, columns))
    return jraph.segment_sum(total, rows, num_rows, indices_are_sorted=True)


def _sparse_forward(num_rows: int, values: Array, w: Array, columns: Array, rows: Array) -> tuple[Array, Any]:
    return _sparse_product(num_rows, values, w, columns, rows), (values, w, columns, rows)


def _sparse_backward(num_rows: int, residuals: Any, d_y: Array) -> tuple[Array, Array, None, None]:
    """Autodiff would carry a cotangent of ``w`` per slot and add it to a sum; here the slots are added to one sum."""
    del num_rows
    values, w, columns, rows = residuals
    d_pieces = d_y[rows]

    def add(d_w: Array, slot: tuple[Array, Array]) -> tuple[Array, Array]:
        v, column = slot
        # Nearly always nobody asks for the values' cotangent, and the compiler drops it.
        d_v = (d_pieces * w[column]).sum(range(v.ndim, d_pieces.ndim))
        return d_w.at[column].add(_like(v, w) * d_pieces), d_v

    d_w, d_values = jax.lax.scan(add, jnp.zeros_like(w), (values, columns))
    return d_values, d_w, None, None


_sparse_product.defvjp(_sparse_forward, _sparse_backward)


def dropout(key: Key, rate: float, x: Array) -> Array:
    """`x` with each entry zeroed with probability `rate`, and the others divided by the probability to be kept.

    The rate is rounded to a multiple of ``2^-16`` below 1: an entry takes half a word of Threefry's, of which
    `jax.random.bernoulli` computes four times as many.

    Raises:
        ValueError: for a rate outside of ``[0, 1)``.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"a dropout rate is at least 0 and less than 1, not {rate}")
    dropped = min(round(rate * 2**16), 2**16 - 1)
    words = threefry_2x32(jax.random.key_data(key), jnp.arange(-(-x.size // 2), dtype=jnp.uint32))
    # Else XLA draws them again for every use, forward and backward: a GAT's gradient takes a third longer.
    words = jax.lax.optimization_barrier(words)
    bits = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[: x.size].reshape(x.shape)
    return jnp.where(bits >= dropped, x * (2**16 / (2**16 - dropped)), 0)


def drop_features(key: Key, rate: float, x: Features, num_heads: int | None = None) -> Features:
    """`dropout` of features, with a copy for each head that is dropped on its own if `num_heads` is given.

    Of `SparseRows`, only the entries are drawn.
    """
    values = jnp.asarray(x.values if isinstance(x, SparseRows) else x)
    if num_heads is not None:
        axis = 2 if isinstance(x, SparseRows) else 1
        values = jnp.repeat(jnp.expand_dims(values, axis), num_heads, axis)
    values = dropout(key, rate, values)
    return dataclasses.replace(x, values=values) if isinstance(x, SparseRows) else values


# --- Layers -----------------------------------------------------------------------------------------------------------


def propagate(graph: GraphsTuple, x: Array, weights: Array | None = None) -> Array:
    """``S x``: every node's sum over its incoming edges, ``y_i = sum_j S_ij x_j``.

    Args:
        graph: N nodes, E edges sorted by receiver.
        x: ``[N, ...]``.
        weights: ``[E]``, or ``[E, K]`` for ``x [N, K, ...]``; by default those of the graph.
    """
    weights = jnp.asarray(graph.edges if weights is None else weights, x.dtype)
    return _sum_by_receiver(graph, _like(weights, x) * x[graph.senders], x.shape[0])


def gcn(graph: GraphsTuple, x: Features, w: Array) -> Array:
    """``S X W`` ``[N, H]``, with `normalize`d weights the layer of Kipf and Welling 2017 (report, Question 3.1)."""
    return propagate(graph, project(x, w))


def graph_filter(graph: GraphsTuple, x: Features, taps_kdh: Array) -> Array:
    """The filter ``sum_k S^k X W_k`` ``[N, H]`` with K taps, ``k = 0 .. K-1`` (Ruiz, Gama and Ribeiro 2020)."""
    y = project(x, taps_kdh[-1])
    for k in range(len(taps_kdh) - 2, -1, -1):
        y = propagate(graph, y) + project(x, taps_kdh[k])
    return y


def edge_softmax(graph: GraphsTuple, logits: Array, num_nodes: int) -> Array:
    """The softmax of ``logits [E, ...]`` over the edges into each node, ``[E, ...]``.

    Edges of weight 0 get exactly zero, also where a node has no others; so do their gradients.
    """
    logits = jnp.where(_like(graph.edges != 0, logits), logits, -jnp.inf)
    largest = jraph.segment_max(jax.lax.stop_gradient(logits), graph.receivers, num_nodes, indices_are_sorted=True)
    # The largest of no logits is -inf.
    exps = jnp.exp(logits - jnp.where(largest > -jnp.inf, largest, 0)[graph.receivers])
    sums = _sum_by_receiver(graph, exps, num_nodes)
    return exps / jnp.where(sums > 0, sums, 1)[graph.receivers]


Drop = Callable[[Array], Array]
"""Dropout with its key and rate already given."""


def _keep(x: Array) -> Array:
    return x


def gat(
    graph: GraphsTuple,
    h_nkf: Array,
    a_sender_kf: Array,
    a_receiver_kf: Array,
    *,
    drop_attention: Drop = _keep,
    drop_features: Drop = _keep,
) -> Array:
    """Graph attention over the edges into each node (Velickovic et al. 2018; report, Question 3.1).

    ``alpha_ij = softmax_j LeakyReLU_0.2(a^T [W h_i || W h_j])`` and ``y_i = sum_j alpha_ij W h_j``, for each head. A
    node attends to itself if it has a self-loop. The weights of the edges do not enter.

    Args:
        graph: N nodes, E edges.
        h_nkf: `project`ed features, ``W h``.
        a_sender_kf: the half of ``a`` that reads ``W h_j``.
        a_receiver_kf: the half that reads ``W h_i``.
        drop_attention: applied to ``alpha [E, K]``.
        drop_features: applied to the ``W h_j`` that are summed.

    Returns:
        ``[N, K, F]``: the heads are concatenated by a reshape, averaged by a mean.
    """
    by_sender, by_receiver = (jnp.einsum("nkf,kf->nk", h_nkf, a) for a in (a_sender_kf, a_receiver_kf))
    logits_ek = _leaky(by_sender[graph.senders] + by_receiver[graph.receivers])
    return _attend(graph, h_nkf, logits_ek, drop_attention, drop_features)


def gatv2(
    graph: GraphsTuple,
    h_sender_nkf: Array,
    h_receiver_nkf: Array,
    a_kf: Array,
    *,
    drop_attention: Drop = _keep,
    drop_features: Drop = _keep,
) -> Array:
    """`gat` in the order of Brody, Alon and Yahav 2022: the logits are ``a^T LeakyReLU_0.2(W_r h_i + W_s h_j)``.

    What is summed are the ``W_s h_j``.
    """
    logits_ek = (_leaky(h_sender_nkf[graph.senders] + h_receiver_nkf[graph.receivers]) * a_kf).sum(-1)
    return _attend(graph, h_sender_nkf, logits_ek, drop_attention, drop_features)


def _attend(graph: GraphsTuple, h_nkf: Array, logits_ek: Array, drop_attention: Drop, drop_features: Drop) -> Array:
    alpha_ek = drop_attention(edge_softmax(graph, logits_ek, h_nkf.shape[0]))
    return propagate(graph, drop_features(h_nkf), alpha_ek)


def _leaky(x: Array) -> Array:
    return jax.nn.leaky_relu(x, 0.2)


def _sum_by_receiver(graph: GraphsTuple, x: Array, num_nodes: int) -> Array:
    return jraph.segment_sum(x, graph.receivers, num_nodes, indices_are_sorted=True)


def _like(x: Array, y: Array) -> Array:
    """`x` with as many axes as `y`: it belongs to the leading ones."""
    return jnp.reshape(x, x.shape + (1,) * (y.ndim - x.ndim))
