"""Graph layers as pure functions on `jraph.GraphsTuple`: GCN, GAT and graph filters.

An edge from sender ``j`` to receiver ``i`` of weight ``S_ij`` is an entry of the graph's shift matrix ``S [N, N]``, and
every layer is made of products with it, `propagate`. A graph is built once, on the host:

- `GraphsTuple.edges` holds the weights ``[E]``, sorted by receiver; weight 0 marks an edge that is only padding;
- `GraphsTuple.nodes` is left to the caller: layers take their features apart, since those change and graphs do not.

Features are an array ``[N, D]`` or `SparseRows`, a matrix of which only the entries that are not zero are stored.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

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


class Pieces(NamedTuple):
    """Where the entries of a sparse matrix stand, each row cut into pieces of at most L entries.

    Few rows are as long as the longest, and whole rows of its length would mostly be padding. Entries one by one would
    make a product a scatter of all of them, which a CPU does in one thread.

    Attributes:
        columns: integers ``[L, pieces]``; 0 where a piece is shorter than L.
        rows: the row of each piece, integers ``[pieces]``, sorted.
    """

    columns: Array | np.ndarray
    rows: Array | np.ndarray


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["values", "pieces", "slots", "transposed"], meta_fields=["shape"]
)
@dataclasses.dataclass(frozen=True)
class SparseRows:
    """A matrix ``[N, D]`` of which only the entries that are not zero are stored.

    Attributes:
        values: ``[L, pieces]``, or ``[L, pieces, K]`` where each of K heads has values of its own; 0 where a piece is
            shorter than L.
        pieces: where they stand.
        slots: the same entries by column, for the product's gradient: their places in `values`, flattened to
            ``[L * pieces]``, which is also what stands for none; integers ``[L', pieces']``.
        transposed: where they stand in the transposed matrix.
        shape: ``(N, D)``.
    """

    values: Array | np.ndarray
    pieces: Pieces
    slots: Array | np.ndarray
    transposed: Pieces
    shape: tuple[int, int]


Features = Array | SparseRows
"""``[N, D]``; where each of K heads has features of its own, an array is ``[N, K, D]``."""


def sparse_rows(matrix: Any) -> SparseRows:
    """`SparseRows` of anything that `scipy.sparse.csr_array` takes, float32, as NumPy arrays."""
    matrix = scipy.sparse.csr_array(matrix, copy=True)
    matrix.sum_duplicates()
    # Behind the entries of the matrix stands the one that fills pieces which are shorter.
    data, columns = np.append(matrix.data, 0).astype(np.float32), np.append(matrix.indices, 0).astype(np.int32)
    entries, rows = _cut(np.diff(matrix.indptr))
    slots = np.empty(data.size, np.int32)
    slots[entries] = np.arange(entries.size).reshape(entries.shape)
    slots[-1] = entries.size

    by_column = np.append(np.argsort(columns[:-1], kind="stable"), matrix.nnz)
    row_of = np.append(np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)), 0).astype(np.int32)
    nth, column_of_piece = _cut(np.bincount(columns[:-1], minlength=matrix.shape[1]))
    transposed = by_column[nth]
    return SparseRows(
        values=data[entries],
        pieces=Pieces(columns[entries], rows),
        slots=slots[transposed],
        transposed=Pieces(row_of[transposed], column_of_piece),
        shape=matrix.shape,
    )


def _cut(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cuts rows of some `lengths` that stand one after the other into pieces.

    Returns:
        Places of the entries ``[L, pieces]``, the sum of the lengths where a piece is shorter than L, and the row of
        each piece ``[pieces]``.
    """

    def cost(width: int) -> int:
        # A piece costs its slots, padded ones too, and to be added to its row about one more.
        return int((width + 1) * (-(-lengths // width)).sum())

    width = min(range(1, max(lengths.max(initial=0), 1) + 1), key=cost)
    pieces = -(-lengths // width)
    rows = np.repeat(np.arange(len(lengths)), pieces)
    nth = np.arange(rows.size) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    ends = np.cumsum(lengths)
    places = (ends - lengths)[rows] + width * nth + np.arange(width)[:, None]
    return np.where(places < ends[rows], places, lengths.sum()), rows.astype(np.int32)


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
        return _sparse_product(dataclasses.replace(x, values=jnp.asarray(x.values, w.dtype)), w)
    return jnp.einsum("nkd,dkh->nkh", x, w) if x.ndim == 3 else jnp.tensordot(x, w, 1)


@jax.custom_vjp
def _sparse_product(x: SparseRows, w: Array) -> Array:
    return _sum_of_pieces(jnp.asarray(x.values), x.pieces, w, x.shape[0])


def _sum_of_pieces(values: Array, pieces: Pieces, w: Array, num_rows: int) -> Array:
    """Slot after slot of all pieces: what a step of the loop reads and writes stays in the cache."""
    columns = jnp.asarray(pieces.columns)

    def product(slot: Array | int) -> Array:
        return _like(values[slot], w) * w[columns[slot]]

    total = jax.lax.fori_loop(1, len(columns), lambda slot, total: total + product(slot), product(0))
    return jraph.segment_sum(total, pieces.rows, num_rows, indices_are_sorted=True)


def _sparse_forward(x: SparseRows, w: Array) -> tuple[Array, tuple[SparseRows, Array]]:
    return _sparse_product(x, w), (x, w)


def _sparse_backward(residuals: tuple[SparseRows, Array], d_y: Array) -> tuple[SparseRows, Array]:
    """The gradient of ``w`` is the transposed matrix' product; autodiff would scatter entry by entry."""
    x, w = residuals
    flat = jnp.reshape(x.values, (-1, *x.values.shape[2:]))
    values = flat.at[x.slots].get(mode="fill", fill_value=0)
    d_w = _sum_of_pieces(values, x.transposed, d_y, x.shape[1])

    def by_slot(column: Array) -> Array:
        return (d_y[x.pieces.rows] * w[column]).sum(range(x.values.ndim - 1, d_y.ndim))

    # Nearly always nobody asks for this one, and the compiler drops it.
    d_values = jax.lax.map(by_slot, x.pieces.columns)
    blank = jax.tree.map(lambda a: np.zeros(np.shape(a), jax.dtypes.float0), x)
    return dataclasses.replace(blank, values=d_values), d_w


_sparse_product.defvjp(_sparse_forward, _sparse_backward)


def dropout(key: Key, rate: float, x: Array) -> Array:
    """`x` with each entry zeroed with probability `rate`, and the others divided by the probability to be kept.

    The rate is rounded to a multiple of ``2^-10`` below 1: an entry takes a third of a word of Threefry's, of which
    `jax.random.bernoulli` computes six times as many.

    Raises:
        ValueError: for a rate outside of ``[0, 1)``.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"a dropout rate is at least 0 and less than 1, not {rate}")
    dropped = min(round(rate * 2**10), 2**10 - 1)
    num_words, data = -(-x.size // 3), jax.random.key_data(key)
    if data.shape == (2,):
        words = threefry_2x32(data, jnp.arange(num_words, dtype=jnp.uint32))
    else:  # Not a key of Threefry's.
        words = jax.random.bits(key, (num_words,), jnp.uint32)
    keep = jnp.stack([words >> shift & (2**10 - 1) >= dropped for shift in (0, 10, 20)])
    # Else XLA draws them again for every use, forward and backward: a GAT's gradient takes a third longer.
    keep = jax.lax.optimization_barrier(keep).reshape(-1)[: x.size].reshape(x.shape)
    return jnp.where(keep, x * (2**10 / (2**10 - dropped)), 0)


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

    Raises:
        ValueError: if `x` has another number of rows than the graph has nodes, where that is known when compiling.
    """
    _check_rows(graph, x.shape[0])
    x = jnp.asarray(x, None if jnp.issubdtype(x.dtype, jnp.inexact) else float)
    weights = jnp.asarray(graph.edges if weights is None else weights, x.dtype)
    return _sum_by_receiver(graph, _spread(weights, x) * x[graph.senders], x.shape[0])


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

    Raises:
        ValueError: if the graph has another number of nodes, where that is known when compiling.
    """
    _check_rows(graph, num_nodes)
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


def _check_rows(graph: GraphsTuple, rows: int) -> None:
    """Else, look-ups beyond the last row would read it, and sums there would be dropped."""
    if not isinstance(graph.n_node, jax.core.Tracer) and np.sum(graph.n_node) != rows:
        raise ValueError(f"there are {rows} rows for a graph of {np.sum(graph.n_node)} nodes")


def _sum_by_receiver(graph: GraphsTuple, x: Array, num_nodes: int) -> Array:
    return jraph.segment_sum(x, graph.receivers, num_nodes, indices_are_sorted=True)


def _spread(weights: Array, x: Array) -> Array:
    """`weights` for each of the features of `x`, as a product with ones, exactly.

    Its gradient, a sum over few features for each edge, is a product too. XLA's CPU compiler gives the sum to a library
    that takes three times as long for a single head: a seventh of a GAT's epoch.
    """
    ones = jnp.ones((1, math.prod(x.shape[weights.ndim :])), weights.dtype)
    spread = jnp.matmul(weights[..., None], ones, precision="highest")
    return spread.reshape(*weights.shape, *x.shape[weights.ndim :])


def _like(x: Array, y: Array) -> Array:
    """`x` with as many axes as `y`: it belongs to the leading ones."""
    return jnp.reshape(x, x.shape + (1,) * (y.ndim - x.ndim))
