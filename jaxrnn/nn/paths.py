"""Graph networks on path graphs of tokens, and what makes them recurrent networks."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrnn.arrays import Array, Initializer
from jaxrnn.cells import Cell
from jaxrnn.nn.modules import head


def path(num_nodes: int) -> Array:
    """The shift ``[T, T]`` of a directed path: node t receives from node t - 1."""
    return jnp.eye(num_nodes, k=-1)


def tied_layers(cell: Cell, params: object, xs: Array, depth: int) -> Array:
    """A graph network of `depth` layers with the same weights on a directed path: states ``[T, *batch, H]``.

    In each layer, node t makes its new state from its input and from the state of node t - 1 in the layer before:
    ``Z <- tanh(S Z W_h + X W_x + b)`` for a vanilla RNN. After as many layers as there are nodes, these are the RNN's
    states; after fewer, the last node has the state of an RNN that reads the last `depth` inputs.

    Args:
        cell: the cell that each node applies.
        params: the parameters of the cell.
        xs: inputs ``[T, *batch, D]``.
        depth: how many layers.
    """
    z = cell.project_all(params, xs)
    start = cell.start(params, xs.shape[:-1], z.dtype)

    def layer(carry: object, _: None) -> tuple[object, None]:
        before = jax.tree.map(lambda c, first: jnp.concatenate([first[:1], c[:-1]]), carry, start)
        return cell.step(params, before, z)[0], None

    carry, _ = jax.lax.scan(layer, start, length=depth)
    states: Array = carry.h
    return states


class PathClassifier(nn.Module):
    """Layers of graph filters ``I`` and ``S`` with ReLU on an undirected path, and a head on the maximum over nodes."""

    vocabulary_size: int
    num_classes: int
    hidden_size: int
    depth: int
    initializer: Initializer

    @nn.compact
    def __call__(self, tokens_tb: Array) -> Array:
        """Logits ``[B, C]`` of integer tokens ``[T, B]``."""
        embedding = self.param("embedding", nn.initializers.normal(1.0), (self.vocabulary_size, self.hidden_size))
        z = embedding[tokens_tb]
        for i in range(self.depth):
            shape = (2 * self.hidden_size, self.hidden_size)
            taps = self.param(f"taps_{i}", nn.initializers.he_normal(), shape).reshape(2, self.hidden_size, -1)
            bias = self.param(f"bias_{i}", nn.initializers.zeros, (self.hidden_size,))
            # The sum over both neighbours, without a matrix.
            neighbours = jnp.zeros_like(z).at[1:].add(z[:-1]).at[:-1].add(z[1:])
            z = jax.nn.relu(z @ taps[0] + neighbours @ taps[1] + bias)
        return head(self.num_classes, self.hidden_size, self.initializer)(z.max(axis=0))
