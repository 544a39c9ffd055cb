"""Flax modules: cells over time, cells behind Flax's protocol, and graph layers."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.recurrent import flip_sequences

from jaxrnn.arrays import Array, Initializer, PyTree
from jaxrnn.cells import Cell, in_dtype, torch_uniform, with_dropout
from jaxrnn.cells.base import spread
from jaxrnn.graph import Features, GraphsTuple, Shift, drop_features, dropout, gat, gcn, project
from jaxrnn.recurrence import Phase, last_carry, unroll


def cell_params(module: nn.Module, cell: Cell, input_size: int, hidden_size: int, initializer: Initializer) -> Any:
    """The cell's parameters as Flax parameters of `module`, one per field of the cell's NamedTuple."""

    def init(key: Array, field: str) -> Array:
        # Flax hands each name its own key, so one field is taken from a whole initialisation; jit removes the rest.
        return getattr(cell.init(key, input_size, hidden_size, initializer), field)

    drawn = jax.eval_shape(lambda key: cell.init(key, input_size, hidden_size, initializer), jax.random.key(0))
    fields = {field: module.param(field, init, field) for field, leaf in drawn._asdict().items() if leaf is not None}
    return cell.params_type(**fields)


class Recurrent(nn.Module):
    """A cell over a time-major sequence: `jaxrnn.recurrence.unroll` with parameters of its own.

    Attributes:
        recurrent_dropout: rate on the recurrent product's input, with one mask for all steps; for a `ProductCell`.
        compute_dtype: dtype of the products; parameters, carries and sums stay float32.
    """

    cell: Cell
    hidden_size: int
    initializer: Initializer = torch_uniform
    reverse: bool = False
    recurrent_dropout: float = 0.0
    compute_dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        xs: Array,
        *,
        embedding: Array | None = None,
        carry: PyTree | None = None,
        mask: Array | None = None,
        reset: Array | None = None,
        phases: Sequence[Phase] = (),
        deterministic: bool = True,
    ) -> tuple[PyTree, Array | None]:
        """The last carry and ``ys [T, *batch, H]``; arguments as in `jaxrnn.recurrence.unroll`.

        With `phases`, `jaxrnn.recurrence.last_carry` gives the carry, and there are no ``ys``. Unless `deterministic`,
        `apply` needs ``rngs={"dropout": key}``.

        Raises:
            ValueError: as in `unroll`, and for phases together with a carry, a mask, a reset or `reverse`.
        """
        if phases and (self.reverse or any(given is not None for given in (carry, mask, reset))):
            raise ValueError("phases need whole sequences, read forwards, without a carry, a mask or a reset")
        inputs = xs if embedding is None else embedding
        params = cell_params(self, self.cell, inputs.shape[-1], self.hidden_size, self.initializer)
        cell = in_precision(self.cell, self.compute_dtype, is_table=embedding is not None)
        if self.recurrent_dropout > 0 and not deterministic:
            cell = with_dropout(cell)
            shape = (*(xs.shape[1:-1] if embedding is None else xs.shape[1:]), self.hidden_size)
            ones = jnp.ones(shape, jax.tree.leaves(params)[0].dtype)
            keep = dropout(self.make_rng("dropout"), self.recurrent_dropout, ones)
            params = cell.params_type(*params, keep)
        if phases:
            return last_carry(cell, params, xs, embedding=inputs, phases=phases), None
        return unroll(cell, params, xs, embedding=embedding, carry=carry, mask=mask, reset=reset, reverse=self.reverse)


def in_precision(cell: Cell, compute_dtype: str, *, is_table: bool) -> Cell:
    """The cell with products of this precision, by `jaxrnn.cells.in_dtype`."""
    return cell if compute_dtype == "float32" else in_dtype(cell, compute_dtype, is_table=is_table)


def layer(model: Any, name: str, xs: Array, *, is_first: bool, reverse: bool = False, **arguments: Any) -> Any:
    """A recurrent layer of a model, as the model's fields describe it; called in the model's `compact` method.

    A layer norm (`layer_norm`) and dropout (`dropout`) precede each layer but the first.
    """
    if not is_first and model.layer_norm:
        xs = nn.LayerNorm(name=f"{name}_norm")(xs)
    if not is_first and model.dropout > 0:
        xs = nn.Dropout(model.dropout, deterministic=arguments["deterministic"])(xs)
    fields = model.cell, model.hidden_size, model.initializer, reverse, model.recurrent_dropout, model.compute_dtype
    return Recurrent(*fields, name=name)(xs, **arguments)


class FlaxCell(nn.RNNCellBase):
    """A cell behind Flax's protocol, ``cell(carry, x) -> (carry, y)``; parameters are those of `Recurrent`.

    ``nn.RNN(FlaxCell(CELLS["lstm"], 256))`` works wherever ``nn.RNN(nn.LSTMCell(256))`` does; `RNN` is faster.

    A carry is the cell's NamedTuple, where Flax has a tuple ``(c, h)`` or an array: read its fields, ``carry.h`` and
    ``carry.c``, and choose between two with ``jax.tree.map(lambda a, b: jnp.where(reset, a, b), start, carry)``.
    """

    cell: Cell
    hidden_size: int
    initializer: Initializer = torch_uniform

    def __call__(self, carry: PyTree, x: Array) -> tuple[PyTree, Array]:
        """One step from ``carry`` (fields ``[*batch, H]``) and ``x [*batch, D]`` to the next carry and ``y``."""
        params = self._params(x.shape[-1])
        carry, y, _ = self.cell.step(params, carry, self.cell.project(params, x))
        return carry, y

    def unroll(self, xs: Array, **arguments: Any) -> tuple[PyTree, Array]:
        """`jaxrnn.recurrence.unroll` of ``xs [T, *batch, D]``."""
        return unroll(self.cell, self._params(xs.shape[-1]), xs, **arguments)

    @nn.compact
    def _params(self, input_size: int) -> Any:
        return cell_params(self, self.cell, input_size, self.hidden_size, self.initializer)

    @nn.nowrap
    def initialize_carry(self, rng: Array, input_shape: tuple[int, ...]) -> PyTree:
        """The carry before inputs ``[*batch, D]``; `rng` is part of Flax's protocol and unused."""
        del rng
        return self.cell.initial_carry(self.hidden_size, input_shape[:-1], jnp.float32)

    @property
    def num_feature_axes(self) -> int:
        """One: inputs are vectors."""
        return 1


class RNN(nn.RNN):
    """Flax's `nn.RNN` of a `FlaxCell`, by `jaxrnn.recurrence.unroll`; fields, parameters and results are the same.

    Two things differ: outputs after the end of a sequence are zero, and a sequence without steps leaves the carry as it
    is. This module also works in `nn.Bidirectional`.
    """

    def __call__(  # noqa: D102
        self,
        inputs: Array,
        *,
        initial_carry: PyTree | None = None,
        init_key: Array | None = None,
        seq_lengths: Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
    ) -> Any:
        del init_key  # The cell defines how the carry starts.
        given = {"return_carry": return_carry, "time_major": time_major, "reverse": reverse, "keep_order": keep_order}
        chosen = {name: getattr(self, name) if value is None else value for name, value in given.items()}
        time_axis = 0 if chosen["time_major"] else inputs.ndim - 2
        xs = jnp.moveaxis(inputs, time_axis, 0)
        mask = None
        if seq_lengths is not None:
            positions = jnp.arange(len(xs)).reshape(-1, *[1] * (xs.ndim - 2))
            mask = jnp.broadcast_to(positions < seq_lengths, xs.shape[:-1])
        carry, ys = self.cell.unroll(xs, carry=initial_carry, mask=mask, reverse=chosen["reverse"])
        if chosen["reverse"] and not chosen["keep_order"]:
            ys = flip_sequences(ys, seq_lengths, num_batch_dims=xs.ndim - 2, time_major=True)
        ys = jnp.moveaxis(ys, 0, time_axis)
        return (carry, ys) if chosen["return_carry"] else ys


def head(num_outputs: int, hidden_size: int, initializer: Initializer) -> nn.Dense:
    """The linear layer ``head`` on hidden states of size `hidden_size`, initialised by the model's `initializer`."""
    return nn.Dense(
        num_outputs,
        kernel_init=lambda key, shape, dtype: initializer(key, "head", shape, hidden_size),
        bias_init=lambda key, shape, dtype: initializer(key, "head_bias", shape, hidden_size),
        name="head",
    )


class GCN(nn.Module):
    """A GCN layer, `jaxrnn.graph.gcn`, with Glorot uniform weights ``w [D, H]``, no bias, and dropout of its input."""

    hidden_size: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, graph: Shift, x: Features, *, deterministic: bool = True) -> Array:
        """``S x w`` ``[N, H]``; unless `deterministic`, `apply` needs ``rngs={"dropout": key}``."""
        w = self.param("w", nn.initializers.glorot_uniform(), (x.shape[-1], self.hidden_size))
        if self.dropout > 0 and not deterministic:
            x = drop_features(self.make_rng("dropout"), self.dropout, x)
        return gcn(graph, x, w)


# Glorot's bound for each head by itself: `[D, K, F]` has K matrices, `[K, F]` has K vectors that map F numbers to one.
_glorot_heads = nn.initializers.glorot_uniform(in_axis=0, out_axis=2, batch_axis=(1,))


def _glorot_attention(key: Array, shape: tuple[int, ...]) -> Array:
    return nn.initializers.glorot_uniform(in_axis=1, out_axis=2, batch_axis=(0,))(key, (*shape, 1))[..., 0]


class GAT(nn.Module):
    """A graph attention layer, `jaxrnn.graph.gat`, Glorot uniform for each head, with zero biases.

    Parameters are ``w [D, K, F]``, ``a_sender`` and ``a_receiver [K, F]``, ``b [K, F]``. Dropout applies to the
    input, to the projected features that are summed, and to the attention, with separate masks for each head, as in the
    code of Velickovic et al. 2018. The heads are concatenated unless `average`.
    """

    num_heads: int
    head_size: int
    average: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(self, graph: GraphsTuple, x: Features, *, deterministic: bool = True) -> Array:
        """``[N, K F]``, or ``[N, F]`` averaged; unless `deterministic`, `apply` needs ``rngs={"dropout": key}``."""
        heads = (self.num_heads, self.head_size)
        w = self.param("w", _glorot_heads, (x.shape[-1], *heads))
        drops = {}
        if self.dropout > 0 and not deterministic:
            x = drop_features(self.make_rng("dropout"), self.dropout, x, self.num_heads)
            drops = {
                f"drop_{what}": functools.partial(dropout, self.make_rng("dropout"), self.dropout)
                for what in ("attention", "features")
            }
        h_nkf = project(x, w)
        a_sender, a_receiver = (self.param(f"a_{end}", _glorot_attention, heads) for end in ("sender", "receiver"))
        y_nkf = gat(graph, h_nkf, a_sender, a_receiver, **drops)
        y_nkf += spread(self.param("b", nn.initializers.zeros, heads), y_nkf)
        return y_nkf.mean(1) if self.average else y_nkf.reshape(len(y_nkf), -1)
