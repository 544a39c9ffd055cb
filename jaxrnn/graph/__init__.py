"""Graphs as `jraph.GraphsTuple`, sparse features of their nodes, and layers on both."""

from jaxrnn.graph.edges import GraphsTuple as GraphsTuple
from jaxrnn.graph.edges import build as build
from jaxrnn.graph.edges import normalize as normalize
from jaxrnn.graph.edges import pad as pad
from jaxrnn.graph.features import Features as Features
from jaxrnn.graph.features import SparseRows as SparseRows
from jaxrnn.graph.features import drop_features as drop_features
from jaxrnn.graph.features import dropout as dropout
from jaxrnn.graph.features import project as project
from jaxrnn.graph.features import rows_of as rows_of
from jaxrnn.graph.features import sparse_rows as sparse_rows
from jaxrnn.graph.layers import Shift as Shift
from jaxrnn.graph.layers import by_rows as by_rows
from jaxrnn.graph.layers import edge_softmax as edge_softmax
from jaxrnn.graph.layers import gat as gat
from jaxrnn.graph.layers import gcn as gcn
from jaxrnn.graph.layers import graph_filter as graph_filter
from jaxrnn.graph.layers import propagate as propagate
