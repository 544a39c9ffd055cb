"""Models of signals on a graph, from ``[T, N, B, D]`` to a prediction at each step: with memory, a graph, or both."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrnn.arrays import Array, Key
from jaxrnn.cells import CELLS, Cell, gated_cell, graph_cell
from jaxrnn.cells.gated import KINDS
from jaxrnn.cells.graph import Shift, graph_filter
from jaxrnn.nn.modules import Recurrent, cell_params
from jaxrnn.recurrence import unroll

MODELS = ("rnn", "gnn", "grnn", *KINDS)
SIZED = ("rnn", "time_vec")
"""Models whose parameters depend on the number of nodes, and on their order."""
_GNN_HIDDEN, _GNN_TAPS = 8, 10
"""Sizes of the GNN of Ruiz et al. (2020), whatever those of the recurrent models are."""


def uniform_fan_in(key: Key, name: str, shape: tuple[int, ...], hidden_size: int) -> Array:
    """``U(-1/sqrt(D), 1/sqrt(D))`` for a matrix of D rows, as in Ruiz et al. (2020); vectors are zero."""
    del name, hidden_size
    bound = shape[0] ** -0.5
    return jnp.zeros(shape) if len(shape) == 1 else jax.random.uniform(key, shape, minval=-bound, maxval=bound)


class GraphForecaster(nn.Module):
    """A model by its name, one of `MODELS`.

    - ``rnn``: a vanilla RNN over all nodes at once, with one state per node and dense matrices ``[N, N]``;
    - ``gnn``: two layers of graph filters, on each input alone;
    - ``grnn``: a graph RNN with filters of K taps, and a filter of its state as output;
    - ``time``, ``time_vec``, ``node``, ``edge``: ``grnn`` with gates, as in `jaxrnn.cells.gated`.
    """

    model: str
    num_nodes: int
    hidden_size: int = 20
    num_taps: int = 5

    @property
    def cell(self) -> Cell:
        """The cell of the models that have a graph and a memory."""
        if self.model == "grnn":
            return graph_cell(CELLS["rnn"], self.num_taps)
        return gated_cell(self.model, self.num_taps, self.num_nodes)

    @nn.compact
    def __call__(self, shift: Shift, xs: Array) -> Array:
        """A number for each step and node, ``[T, N, B]``, from inputs ``[T, N, B, D]``."""
        if self.model == "rnn":
            across = jnp.moveaxis(xs, 1, 2)
            _, ys = Recurrent(CELLS["rnn"], self.num_nodes, uniform_fan_in)(across.reshape(*across.shape[:2], -1))
            return jnp.moveaxis(nn.Dense(self.num_nodes)(ys), 1, 2)
        if self.model == "gnn":
            hidden = jax.nn.relu(self._filter("hidden", shift, xs, _GNN_TAPS, _GNN_HIDDEN))
            return self._filter("output", shift, hidden, _GNN_TAPS, 1)[..., 0]
        params = cell_params(self, self.cell, xs.shape[-1], self.hidden_size, uniform_fan_in)
        _, ys = unroll(self.cell, params._replace(shift=shift), xs)
        return self._filter("output", shift, ys, self.num_taps, 1)[..., 0]

    def _filter(self, name: str, shift: Shift, xs: Array, num_taps: int, width: int) -> Array:
        shape = (num_taps * xs.shape[-1], width)
        taps = self.param(f"{name}_taps", lambda key: uniform_fan_in(key, name, shape, width))
        bias: Any = self.param(f"{name}_bias", nn.initializers.zeros, (width,))
        weight = taps.reshape(num_taps, -1, width), shift
        return jax.vmap(lambda x: graph_filter(weight, x))(xs) + bias
