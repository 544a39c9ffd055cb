"""Flax adapters, so that the cells plug into `nn.RNN`, `nn.Bidirectional` and other Flax code."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxrnn.arrays import Array, Initializer, PyTree
from jaxrnn.cells import Cell, torch_uniform
from jaxrnn.unroll import unroll


def cell_params(module: nn.Module, cell: Cell, input_size: int, hidden_size: int, initializer: Initializer) -> Any:
    """The cell's parameters as Flax parameters of `module`, one per field of the cell's NamedTuple."""

    def init(key: Array, field: str) -> Array:
        # Flax hands each name its own key, so one field is taken from a whole initialisation; jit removes the rest.
        return getattr(cell.init(key, input_size, hidden_size, initializer), field)

    fields = {field: module.param(field, init, field) for field in cell.params_type._fields}
    return cell.params_type(**fields)


class Recurrent(nn.Module):
    """A cell over a time-major sequence: `jaxrnn.unroll.unroll` with parameters of its own.

    Attributes:
        cell: an entry of `jaxrnn.cells.CELLS`.
        hidden_size: H.
        initializer: as in `jaxrnn.cells`.
        reverse: walk positions backwards.
    """

    cell: Cell
    hidden_size: int
    initializer: Initializer = torch_uniform
    reverse: bool = False

    @nn.compact
    def __call__(
        self, xs: Array, *, embedding: Array | None = None, carry: PyTree | None = None, mask: Array | None = None
    ) -> tuple[PyTree, Array]:
        """The last carry and ``ys [T, *batch, H]``; arguments as in `jaxrnn.unroll.unroll`."""
        input_size = (xs if embedding is None else embedding).shape[-1]
        params = cell_params(self, self.cell, input_size, self.hidden_size, self.initializer)
        return unroll(self.cell, params, xs, embedding=embedding, carry=carry, mask=mask, reverse=self.reverse)


class FlaxCell(nn.RNNCellBase):
    """A cell behind Flax's protocol, ``cell(carry, x) -> (carry, y)``; parameters are those of `Recurrent`.

    ``nn.RNN(FlaxCell(CELLS["lstm"], 256))`` works wherever ``nn.RNN(nn.LSTMCell(256))`` does.
    """

    cell: Cell
    hidden_size: int
    initializer: Initializer = torch_uniform

    @nn.compact
    def __call__(self, carry: PyTree, x: Array) -> tuple[PyTree, Array]:
        """One step from ``carry`` (fields ``[*batch, H]``) and ``x [*batch, D]`` to the next carry and ``y``."""
        params = cell_params(self, self.cell, x.shape[-1], self.hidden_size, self.initializer)
        carry, y, _ = self.cell.step(params, carry, self.cell.project(params, x))
        return carry, y

    @nn.nowrap
    def initialize_carry(self, rng: Array, input_shape: tuple[int, ...]) -> PyTree:
        """The zero carry for inputs ``[*batch, D]``; `rng` is part of Flax's protocol and unused."""
        del rng
        return self.cell.initial_carry(self.hidden_size, input_shape[:-1], jnp.float32)

    @property
    def num_feature_axes(self) -> int:
        """One: inputs are vectors."""
        return 1
