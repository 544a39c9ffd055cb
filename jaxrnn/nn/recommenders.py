"""Models of users and items: matrix factorisation, LightGCN and GC-MC.

The nodes of their graphs are the users, followed by the items.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxrnn.arrays import Array
from jaxrnn.graph import SparseRows, build, dropout, normalize, project, rows_of

_NUM_BASES = 2


class Factors(nn.Module):
    """Ratings by matrix factorisation: ``mean + b_u + b_i + e_u . e_i``."""

    num_nodes: int
    hidden_size: int

    @nn.compact
    def __call__(self, mean: Array, users: Array, items: Array) -> Array:
        """Ratings ``[B]`` of items by users, both given as nodes."""
        embeddings = self.param("embeddings", nn.initializers.normal(0.1), (self.num_nodes, self.hidden_size))
        biases: Any = self.param("biases", nn.initializers.zeros, (self.num_nodes,))
        return mean + biases[users] + biases[items] + (embeddings[users] * embeddings[items]).sum(-1)


class LightGCN(nn.Module):
    """The mean of ``E, S E, .., S^K E`` (He et al. 2020); without layers, matrix factorisation."""

    num_nodes: int
    hidden_size: int
    num_layers: int = 3

    @nn.compact
    def __call__(self, shift: SparseRows) -> tuple[Array, Array]:
        """E and that mean, ``[N, F]``; a user's score of an item is the product of their rows of the mean."""
        start: Any = self.param("embeddings", nn.initializers.normal(0.1), (self.num_nodes, self.hidden_size))
        total = x = start
        for _ in range(self.num_layers):
            x = project(shift, x)
            total = total + x
        return start, total / (self.num_layers + 1)


class GCMC(nn.Module):
    """Graph convolutional matrix completion (Berg, Kipf and Welling 2017), for nodes without features.

    A node sums messages separately for each of R kinds of edges: ``h = relu([S_1 W_1, .., S_R W_R])``, ``z = h V``. The
    logits of the ratings are ``sum_s a_sr z_u^T Q_s z_i``. Dropout removes all messages of a node, and entries of h.
    """

    num_nodes: int
    num_kinds: int
    num_ratings: int
    message_size: int = 500
    hidden_size: int = 75
    dropout: float = 0.7

    @nn.compact
    def __call__(self, shift: SparseRows, users: Array, items: Array, *, deterministic: bool = True) -> Array:
        """Logits ``[B, R]`` for items by users, both given as nodes; `shift` is that of `relations`."""
        width = -(-self.message_size // self.num_kinds)
        glorot = nn.initializers.glorot_uniform()
        messages: Any = self.param("messages", glorot, (self.num_nodes, self.num_kinds * width))
        is_dropping = self.dropout > 0 and not deterministic
        if is_dropping:
            messages *= dropout(self.make_rng("dropout"), self.dropout, jnp.ones((self.num_nodes, 1)))
        heard = project(shift, messages.reshape(self.num_nodes * self.num_kinds, width))
        hidden = jax.nn.relu(heard.reshape(self.num_nodes, -1))
        if is_dropping:
            hidden = dropout(self.make_rng("dropout"), self.dropout, hidden)
        z = hidden @ self.param("dense", glorot, (hidden.shape[-1], self.hidden_size))
        orthogonal = nn.initializers.orthogonal()
        bases = [self.param(f"basis_{s}", orthogonal, (self.hidden_size, self.hidden_size)) for s in range(_NUM_BASES)]
        mixture: Any = self.param("mixture", glorot, (_NUM_BASES, self.num_ratings))
        products = [((z @ basis)[users] * z[items]).sum(-1) for basis in bases]
        return jnp.stack(products, axis=-1) @ mixture


def bipartite(users: np.ndarray, items: np.ndarray, num_nodes: int, links: np.ndarray, trust: float) -> SparseRows:
    """LightGCN's shift: GCN's weights without self-loops, of the edges between users and items, which are nodes.

    With a `trust` above 0, the ``links [2, n]`` between users, in both directions, are edges of that weight.
    """
    senders, receivers, weights = [users, items], [items, users], np.ones(2 * len(users))
    if trust > 0:
        senders, receivers = [*senders, links[0]], [*receivers, links[1]]
        weights = np.append(weights, np.full(links.shape[1], trust))
    ends = np.concatenate(senders), np.concatenate(receivers)
    return rows_of(normalize(build(*ends, num_nodes, weights=weights, self_loops=False)))


def relations(
    users: np.ndarray, items: np.ndarray, kinds: np.ndarray, num_kinds: int, num_nodes: int, links: np.ndarray
) -> SparseRows:
    """GC-MC's shifts of R kinds of edges as one, in which node ``R i + r`` is node i as edges of kind r see it.

    Each node divides the messages to it by its number of edges. The `links` between users, if any, are the last kind.
    """
    senders = np.concatenate([users, items, links[0]])
    receivers = np.concatenate([items, users, links[1]])
    kinds = np.concatenate([kinds, kinds, np.full(links.shape[1], num_kinds - 1)])
    weights = 1 / np.bincount(receivers, minlength=num_nodes)[receivers]
    ends = senders * num_kinds + kinds, receivers * num_kinds + kinds
    return rows_of(build(*ends, num_nodes * num_kinds, weights=weights, self_loops=False))
