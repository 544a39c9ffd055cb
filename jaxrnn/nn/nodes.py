"""Classifiers of the nodes of a graph."""

import jax
from flax import linen as nn

from jaxrnn.arrays import Array
from jaxrnn.graph import Features, GraphsTuple, Shift
from jaxrnn.nn.modules import GAT, GCN


class GCNClassifier(nn.Module):
    """The two-layer GCN of Kipf and Welling 2017, for nodes of a graph with normalised weights."""

    num_classes: int
    hidden_size: int = 16
    dropout: float = 0.5

    @nn.compact
    def __call__(self, graph: Shift, x: Features, *, deterministic: bool = True) -> tuple[Array, Array]:
        """Logits ``[N, C]`` and the hidden layer ``[N, H]``; with dropout, `apply` needs ``rngs={"dropout": key}``."""
        first = GCN(self.hidden_size, self.dropout, name="layer_0")
        second = GCN(self.num_classes, self.dropout, name="layer_1")
        hidden = jax.nn.relu(first(graph, x, deterministic=deterministic))
        return second(graph, hidden, deterministic=deterministic), hidden


class GATClassifier(nn.Module):
    """The two-layer GAT of Velickovic et al. 2018: heads with ELU, concatenated, then averaged output heads."""

    num_classes: int
    num_heads: int = 8
    head_size: int = 8
    num_output_heads: int = 1
    dropout: float = 0.6

    @nn.compact
    def __call__(self, graph: GraphsTuple, x: Features, *, deterministic: bool = True) -> tuple[Array, Array]:
        """Logits ``[N, C]`` and the hidden layer ``[N, K F]``; keys as in `GCNClassifier`."""
        first = GAT(self.num_heads, self.head_size, False, self.dropout, name="layer_0")
        second = GAT(self.num_output_heads, self.num_classes, True, self.dropout, name="layer_1")
        hidden = jax.nn.elu(first(graph, x, deterministic=deterministic))
        return second(graph, hidden, deterministic=deterministic), hidden
