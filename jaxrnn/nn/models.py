"""Models as Flax modules with pure `init` and `apply`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrnn.arrays import Array, Initializer, PyTree
from jaxrnn.cells import Cell
from jaxrnn.graph import Features, GraphsTuple
from jaxrnn.nn.modules import GAT, GCN, Recurrent
from jaxrnn.recurrence import Phase


class SequenceClassifier(nn.Module):
    """The report's classifier: embedding, one recurrent layer, a linear head on the last hidden state.

    A bidirectional one reads ``[h_forward(T); h_backward(1)]``.

    Attributes:
        cell: an entry of `jaxrnn.cells.CELLS`.
        vocabulary_size: V.
        num_classes: C.
        embedding_size: D; entries start as N(0, 1).
        hidden_size: H.
        initializer: of the recurrent layer and the head, as in `jaxrnn.cells`.
        bidirectional: a second layer of the same cell that walks backwards.
        phases: how sequences that begin alike share their beginnings, see `last_carry` in `jaxrnn.recurrence`; without
            a mask.
    """

    cell: Cell
    vocabulary_size: int
    num_classes: int
    embedding_size: int
    hidden_size: int
    initializer: Initializer
    bidirectional: bool = False
    phases: tuple[Phase, ...] = ()

    @nn.compact
    def __call__(self, tokens_tb: Array, mask_tb: Array | None = None) -> Array:
        """Logits ``[B, C]`` of integer tokens ``[T, B]``; masked positions are not looked at."""
        shape = (self.vocabulary_size, self.embedding_size)
        embedding = self.param("embedding", nn.initializers.normal(1.0), shape)
        forward = self._layer("forward")
        if self.phases and mask_tb is None:
            carry = forward.last_carry(tokens_tb, embedding=embedding, phases=self.phases)
        else:
            carry, _ = forward(tokens_tb, embedding=embedding, mask=mask_tb)
        hidden = carry.h
        if self.bidirectional:
            carry, _ = self._layer("backward", reverse=True)(tokens_tb, embedding=embedding, mask=mask_tb)
            hidden = jnp.concatenate([hidden, carry.h], axis=-1)
        return _head(self.num_classes, hidden.shape[-1], self.initializer)(hidden)

    def _layer(self, name: str, reverse: bool = False) -> Recurrent:
        return Recurrent(self.cell, self.hidden_size, self.initializer, reverse=reverse, name=name)


class CharLM(nn.Module):
    """The report's generative model (Question 2.1): embedding, recurrent layers, a linear head at every step.

    Attributes:
        cell: an entry of `jaxrnn.cells.CELLS`.
        vocabulary_size: V.
        embedding_size: D; entries start as N(0, 1).
        hidden_size: H, of every layer.
        num_layers: the first reads the embedding, each other the one below it.
        initializer: of the layers and the head, as in `jaxrnn.cells`.
        dropout: rate between the layers.
    """

    cell: Cell
    vocabulary_size: int
    embedding_size: int
    hidden_size: int
    num_layers: int
    initializer: Initializer
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, tokens_tb: Array, carries: tuple[PyTree, ...] | None = None, *, deterministic: bool = True
    ) -> tuple[tuple[PyTree, ...], Array]:
        """The last carries, one a layer, and logits ``[T, B, V]`` of the character after each of ``tokens_tb``.

        Args:
            tokens_tb: integers ``[T, B]``.
            carries: one a layer, fields ``[B, H]``; zeros by default.
            deterministic: without dropout; else `apply` needs ``rngs={"dropout": key}``.
        """
        embedding = self.param("embedding", nn.initializers.normal(1.0), (self.vocabulary_size, self.embedding_size))
        xs, last = tokens_tb, []
        for i in range(self.num_layers):
            if i > 0 and self.dropout > 0:
                xs = nn.Dropout(self.dropout, deterministic=deterministic)(xs)
            layer = Recurrent(self.cell, self.hidden_size, self.initializer, name=_layer(i))
            carry, xs = layer(xs, embedding=None if i else embedding, carry=carries[i] if carries else None)
            last.append(carry)
        return tuple(last), _head(self.vocabulary_size, self.hidden_size, self.initializer)(xs)

    @nn.nowrap
    def initial_carries(self, batch_size: int) -> tuple[PyTree, ...]:
        """Zeros, one carry a layer, fields ``[batch_size, H]``."""
        return (self.cell.initial_carry(self.hidden_size, (batch_size,)),) * self.num_layers

    @nn.nowrap
    def stepper(self, params: PyTree) -> Callable[[tuple[PyTree, ...], Array], tuple[tuple[PyTree, ...], Array]]:
        """``step(carries, token_b) -> (carries, logits_bv)``: one character of `__call__`, for a scan that generates.

        The embedding is projected here, once, into a table ``[V, .]``.
        """
        cells: list[Any] = [self.cell.params_type(**params[_layer(i)]) for i in range(self.num_layers)]
        table = self.cell.project(cells[0], jnp.asarray(params["embedding"]))

        def step(carries: tuple[PyTree, ...], token_b: Array) -> tuple[tuple[PyTree, ...], Array]:
            z, y, new = table[token_b], jnp.zeros(()), []
            for i, (cell_params, carry) in enumerate(zip(cells, carries, strict=True)):
                carry, y, _ = self.cell.step(cell_params, carry, self.cell.project(cell_params, y) if i else z)
                new.append(carry)
            return tuple(new), y @ params["head"]["kernel"] + params["head"]["bias"]

        return step


class GCNClassifier(nn.Module):
    """The two-layer GCN of Kipf and Welling 2017, for nodes of a graph with normalised weights.

    Attributes:
        num_classes: C.
        hidden_size: H.
        dropout: rate on the input of both layers.
    """

    num_classes: int
    hidden_size: int = 16
    dropout: float = 0.5

    @nn.compact
    def __call__(self, graph: GraphsTuple, x: Features, *, deterministic: bool = True) -> tuple[Array, Array]:
        """Logits ``[N, C]`` and the hidden layer ``[N, H]``; with dropout, `apply` needs ``rngs={"dropout": key}``."""
        first = GCN(self.hidden_size, self.dropout, name=_layer(0))
        second = GCN(self.num_classes, self.dropout, name=_layer(1))
        hidden = jax.nn.relu(first(graph, x, deterministic=deterministic))
        return second(graph, hidden, deterministic=deterministic), hidden


class GATClassifier(nn.Module):
    """The two-layer GAT of Velickovic et al. 2018: heads with ELU, concatenated, then heads that are averaged.

    Attributes:
        num_classes: C.
        num_heads: of the first layer.
        head_size: of the first layer's heads.
        num_output_heads: of the second layer, 1 for Cora and Citeseer, 8 for Pubmed.
        v2: GATv2's order of operations.
        dropout: as in `jaxrnn.nn.modules.GAT`.
    """

    num_classes: int
    num_heads: int = 8
    head_size: int = 8
    num_output_heads: int = 1
    v2: bool = False
    dropout: float = 0.6

    @nn.compact
    def __call__(self, graph: GraphsTuple, x: Features, *, deterministic: bool = True) -> tuple[Array, Array]:
        """Logits ``[N, C]`` and the hidden layer ``[N, K F]``; keys as in `GCNClassifier`."""
        first = GAT(self.num_heads, self.head_size, False, self.v2, self.dropout, name=_layer(0))
        second = GAT(self.num_output_heads, self.num_classes, True, self.v2, self.dropout, name=_layer(1))
        hidden = jax.nn.elu(first(graph, x, deterministic=deterministic))
        return second(graph, hidden, deterministic=deterministic), hidden


def _layer(i: int) -> str:
    return f"layer_{i}"


def _head(num_outputs: int, hidden_size: int, initializer: Initializer) -> nn.Dense:
    return nn.Dense(
        num_outputs,
        kernel_init=lambda key, shape, dtype: initializer(key, "head", shape, hidden_size),
        bias_init=lambda key, shape, dtype: initializer(key, "head_bias", shape, hidden_size),
        name="head",
    )
