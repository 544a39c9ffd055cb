"""Graphs as `jraph.GraphsTuple`, sparse features of their nodes, and layers on both."""

from jaxrnn.graph.edges import GraphsTuple, build, normalize, pad
from jaxrnn.graph.features import Features, SparseRows, drop_features, dropout, project, sparse_rows
from jaxrnn.graph.layers import edge_softmax, gat, gatv2, gcn, graph_filter, propagate

__all__ = [
    "Features",
    "GraphsTuple",
    "SparseRows",
    "build",
    "drop_features",
    "dropout",
    "edge_softmax",
    "gat",
    "gatv2",
    "gcn",
    "graph_filter",
    "normalize",
    "pad",
    "project",
    "propagate",
    "sparse_rows",
]
