"""Graphs of edge lists, built on the host, and sums over the edges into each node.

An edge from sender ``j`` to receiver ``i`` of weight ``S_ij`` is an entry of the graph's shift matrix ``S [N, N]``:

- `GraphsTuple.edges` holds the weights ``[E]``, sorted by receiver; weight 0 marks an edge that is only padding;
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
        self_loops: add the identity. A node that had a loop of weight 1 already has one of weight 2, as in Kipf's code.

    Raises:
        ValueError: for an edge to a node that does not exist, and for another number of weights than of edges.
    """
    ends, shape = (np.asarray(receivers, np.int64), np.asarray(senders, np.int64)), (num_nodes, num_nodes)
    codes = np.ravel_multi_index(ends, shape)
    if weights is None:
        codes = np.unique(codes)
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
