"""Cells behind the protocol of Flax NNX; those of Linen are in `jaxrnn.nn.modules`."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from jaxrnn.arrays import Array, Initializer, PyTree
from jaxrnn.cells import Cell, torch_uniform


class NNXCell(nnx.RNNCellBase):
    """A cell as ``cell(carry, x) -> (carry, y)``: ``nnx.RNN(NNXCell(CELLS["lstm"], D, H, rngs=nnx.Rngs(0)))``.

    Each field of the cell's parameters is an `nnx.Param` of the same name. A carry is the cell's NamedTuple: read its
    fields, ``carry.h`` and ``carry.c``, where NNX's own cells have a tuple ``(c, h)`` or an array.

    Args:
        cell: an entry of `jaxrnn.cells.CELLS`.
        input_size: D.
        hidden_size: H.
        initializer: as in `jaxrnn.cells`.
        rngs: parameters are drawn from its stream ``params``.
    """

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        initializer: Initializer = torch_uniform,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.cell, self.hidden_size = cell, hidden_size
        for field, value in cell.init(rngs.params(), input_size, hidden_size, initializer)._asdict().items():
            setattr(self, field, nnx.Param(value))

    def __call__(self, carry: PyTree, inputs: Array) -> tuple[PyTree, Array]:
        """One step from ``carry`` and ``inputs [*batch, D]`` to the next carry and ``y [*batch, H]``."""
        params = self.cell.params_type(**{field: getattr(self, field)[...] for field in self.cell.params_type._fields})
        carry, y, _ = self.cell.step(params, carry, self.cell.project(params, inputs))
        return carry, y

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None) -> PyTree:
        """The carry before inputs ``[*batch, D]``; the last two arguments are part of NNX's protocol and unused."""
        del rngs, carry_init
        return self.cell.initial_carry(self.hidden_size, input_shape[:-1], jnp.float32)

    @property
    def num_feature_axes(self) -> int:
        """One: inputs are vectors."""
        return 1
