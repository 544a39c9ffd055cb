"""Graphs built from edge lists on the host, and sums over the edges into each node.

An edge from sender ``j`` to receiver ``i`` of weight ``S_ij`` is an entry of the graph's shift matrix ``S [N, N]``:

- the edges are sorted by receiver; `GraphsTuple.edges` holds their weights ``[E]``, None where all are 1;
- `GraphsTuple.nodes` is left to the caller: layers take features as an argument, since features change and graphs do
  not.
"""

import jraph
import numpy as np
from jax.typing import ArrayLike
from jraph import GraphsTuple as GraphsTuple
from jraph import segment_max as segment_max
from jraph import segment_sum as segment_sum


def build(
    senders: ArrayLike,
    receivers: ArrayLike,
    num_nodes: int,
    *,
    weights: ArrayLike | None = None,
    self_loops: bool = True,
) -> GraphsTuple:
    """The graph of an edge list, ``S = A + I``, as NumPy arrays.

    Args:
        senders: integers ``[edges]``.
        receivers: integers ``[edges]``.
        num_nodes: N.
        weights: ``[edges]``; those of an edge that is given twice are summed. Without weights, all are 1, and an edge
            that is given twice counts once in ``A``.
        self_loops: add the identity. A node with a loop of weight 1 then has one of weight 2, as in Kipf's code.

    Raises:
        ValueError: if an edge has a node that does not exist, or if the numbers of senders, receivers and weights
            differ.
    """
    given, shape = [np.asarray(end) for end in (receivers, senders)], (num_nodes, num_nodes)
    if given[0].shape != given[1].shape:  # NumPy would repeat a single one.
        raise ValueError(f"there are receivers of shape {given[0].shape} for senders of shape {given[1].shape}")
    ends = [end.astype(np.int64) for end in given]
    for end, number in zip(given, ends, strict=True):
        if not (is_node := (number == end) & (number >= 0) & (number < num_nodes)).all():
            raise ValueError(f"an edge ends at {end[~is_node][0]}; nodes are the integers from 0 to {num_nodes - 1}")
    codes = np.ravel_multi_index(ends, shape)
    if weights is None:
        codes = np.sort(codes, axis=None)  # Much faster than `np.unique` where there are millions.
        codes = codes[np.diff(codes, prepend=-1) > 0]
        weights = np.ones(codes.size)
    weights = np.asarray(weights, float)
    if weights.shape != codes.shape:
        raise ValueError(f"there are weights of shape {weights.shape} for edges of shape {codes.shape}")
    if self_loops:
        codes = np.concatenate([codes, np.arange(num_nodes) * (num_nodes + 1)])
        weights = np.concatenate([weights, np.ones(num_nodes)])
    codes, places = np.unique(codes, return_inverse=True)
    rows, columns = np.unravel_index(codes, shape)
    return GraphsTuple(
        nodes=None,
        edges=np.bincount(places, weights, codes.size),
        receivers=rows.astype(np.int32),
        senders=columns.astype(np.int32),
        globals=None,
        n_node=np.array([num_nodes], np.int32),
        n_edge=np.array([codes.size], np.int32),
    )


def normalize(graph: GraphsTuple) -> GraphsTuple:
    """The graph with GCN's weights, ``D^-1/2 S D^-1/2`` with ``D_ii = sum_j S_ij`` (Kipf and Welling 2017).

    A node that no edge leads to, or only edges of weight 0, has ``D_ii^-1/2 = 0``.

    Raises:
        ValueError: the weights into a node do not have a positive sum; the first such node is named.
    """
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    weights = np.ones(receivers.size) if graph.edges is None else np.asarray(graph.edges, float)
    degrees, sizes = (np.bincount(receivers, w, np.asarray(graph.n_node).sum()) for w in (weights, np.abs(weights)))
    # Weights that cancel each other leave a rounding error.
    is_bad = ~(degrees > 1e-9 * sizes) & (sizes != 0)
    if is_bad.any():
        node = is_bad.argmax()
        raise ValueError(f"the weights into node {node} sum to {degrees[node]:.6g}, which has no inverse square root")
    scales = np.where(sizes > 0, degrees, np.inf) ** -0.5
    return graph._replace(edges=weights * scales[receivers] * scales[senders])


def pad(graph: GraphsTuple, num_nodes: int, num_edges: int) -> tuple[GraphsTuple, np.ndarray]:
    """The graph, or batch of graphs, at a given size, and the mask ``[num_nodes]`` of its real nodes.

    The padding is one more graph at the end, as in jraph; its edges, of weight 0, lie between nodes of its own.

    Raises:
        RuntimeError: if there are more edges than `num_edges`, or no fewer nodes than `num_nodes`.
    """
    padded = jraph.pad_with_graphs(graph, num_nodes, num_edges, len(graph.n_node) + 1)
    return padded, np.arange(num_nodes) < np.asarray(graph.n_node).sum()
