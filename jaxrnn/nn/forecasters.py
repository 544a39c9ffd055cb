"""Forecasters of signals on a graph: a recurrent layer on the graph, and a linear map to all horizons."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxrnn.arrays import Array, Key
from jaxrnn.cells import Cell, graph_cell, graph_gru_cho, residual_graph_gru, tgc_lstm
from jaxrnn.cells.lstm import LSTM
from jaxrnn.nn.modules import cell_params
from jaxrnn.recurrence import unroll

MODELS = ("gru", "tgcn", "dcrnn", "graph_lstm", "res_rgnn", "tgc_lstm")
_OPEN = ("r_b", "u_b", "f_b")
"""Biases of gates that keep the old state. They start at 1, as in the code of T-GCN and of DCRNN."""


def normalized(adjacency: np.ndarray) -> np.ndarray:
    """``D^-1/2 (A + I) D^-1/2`` `[N, N]`, which sums over the edges into each node (Kipf and Welling 2017)."""
    shift = adjacency.T + np.eye(len(adjacency))
    scales = shift.sum(1) ** -0.5
    return np.asarray(scales[:, None] * shift * scales, np.float32)


def walks(adjacency: np.ndarray, num_taps: int) -> list[np.ndarray]:
    """``P^k`` and ``Q^k``, ``0 < k < K``, of the random walks along the edges and against them (Li et al. 2018)."""
    found = []
    for weights in (adjacency.astype(float), adjacency.T.astype(float)):
        degrees = weights.sum(1, keepdims=True)
        walk = np.divide(weights, degrees, out=np.zeros_like(weights), where=degrees > 0)
        found += [np.linalg.matrix_power(walk, k).astype(np.float32) for k in range(1, num_taps)]
    return found


def reached(adjacency: np.ndarray, num_taps: int) -> np.ndarray:
    """Whether a path of at most 1, ..., K edges leads to node i from node j, as 0 and 1, ``[K, N, N]``."""
    near = (adjacency.T > 0) | np.eye(len(adjacency), dtype=bool)
    return np.stack([np.linalg.matrix_power(near.astype(float), k) > 0 for k in range(1, num_taps + 1)]).astype(
        np.float32
    )


def shifts_of(model: str, adjacency: np.ndarray, num_taps: int) -> list[np.ndarray]:
    """The matrices that a model of `MODELS` takes; `num_taps` counts the identity, except for ``tgc_lstm``."""
    if model == "gru":
        return []
    if model == "tgc_lstm":
        return [reached(adjacency, num_taps)]
    return walks(adjacency, num_taps) if model in ("dcrnn", "res_rgnn") else [normalized(adjacency)]


def glorot(key: Key, name: str, shape: tuple[int, ...], hidden_size: int) -> Array:
    """Glorot uniform matrices; biases of gates that keep the old state start at 1, others at 0."""
    del hidden_size
    if len(shape) == 1:
        return jnp.full(shape, float(name in _OPEN))
    return nn.initializers.glorot_uniform()(key, shape)


class Forecaster(nn.Module):
    """Reads some rows of all signals, and predicts the next ones from the last hidden states, each node by itself.

    It predicts the change from the last row that it read.

    Attributes:
        model: ``gru``, each node alone; ``tgcn`` (Zhao et al. 2020); ``dcrnn``, with the diffusion convolution of Li
            et al. 2018, which alone sets it apart from ``tgcn``; ``graph_lstm``, an LSTM of graph filters (Seo et al.
            2018); ``res_rgnn``, the gated residual of ``dcrnn``'s cell (Chen et al. 2019). They share their weights
            among the nodes. ``tgc_lstm`` does not, because its units are the nodes (Cui et al. 2019).
        num_taps: the taps of the filters, of which the identity is the first. ``dcrnn`` and ``res_rgnn`` have as many
            along each walk, ``gru`` and ``tgcn`` ignore it, and ``tgc_lstm`` has a matrix for paths of up to 1, ...,
            `num_taps` edges.
    """

    model: str
    hidden_size: int
    horizon: int
    num_taps: int

    @nn.compact
    def __call__(self, xs: Array, shifts: list[Array]) -> Array:
        """Predictions ``[horizon, N, B]`` of ``xs [T, N, B, F]``, whose first feature is the signal.

        `shifts` are those of `shifts_of`.
        """
        cell, shift = self._cell(shifts)
        units = xs.shape[1] if self.model == "tgc_lstm" else self.hidden_size
        params = cell_params(self, cell, xs.shape[-1], units, glorot)
        carry, _ = unroll(cell, params._replace(shift=shift), xs)
        kernel = self.param("head", nn.initializers.glorot_uniform(), (carry.h.shape[-1], self.horizon))
        bias = self.param("head_bias", nn.initializers.zeros, (self.horizon,))
        changes = jnp.moveaxis(carry.h @ kernel + bias, -1, 0)
        return xs[-1, ..., 0] + changes

    def _cell(self, shifts: list[Array]) -> tuple[Cell, Any]:
        """The cell, and its shift."""
        if self.model == "graph_lstm":
            return graph_cell(LSTM, self.num_taps), shifts[0]
        if self.model == "tgc_lstm":
            return tgc_lstm(self.num_taps), shifts[0]
        all_shifts = tuple(shifts) if self.model == "tgcn" else (None, *shifts)
        make = residual_graph_gru if self.model == "res_rgnn" else graph_gru_cho
        return make(len(all_shifts)), all_shifts
