"""A language model of characters."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxrnn.arrays import Array, Initializer, PyTree, wide
from jaxrnn.cells import Cell
from jaxrnn.nn.modules import head, in_precision, layer
from jaxrnn.recurrence.steps import where


class CharLM(nn.Module):
    """The generative model of Soons (2020), Question 2.1: embedding, recurrent layers, a linear head at every step.

    The embedding starts as N(0, 1). The first layer reads it, each other layer the one below; the four fields from
    `dropout` on are explained in `jaxrnn.nn.modules.layer`.

    Attributes:
        separator: a token before which all carries are reset, so that the documents that it separates are read alone.
    """

    cell: Cell
    vocabulary_size: int
    embedding_size: int
    hidden_size: int
    num_layers: int
    initializer: Initializer
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    layer_norm: bool = False
    compute_dtype: str = "float32"
    separator: int | None = None

    @nn.compact
    def __call__(
        self, tokens_tb: Array, carries: tuple[PyTree, ...] | None = None, *, deterministic: bool = True
    ) -> tuple[tuple[PyTree, ...], Array]:
        """The last carries, one per layer, and logits ``[T, B, V]`` of the character after each of ``tokens_tb``.

        The first carries, fields ``[B, H]``, are the cell's start by default. Unless `deterministic`, `apply` needs
        ``rngs={"dropout": key}``.
        """
        embedding = self.param("embedding", nn.initializers.normal(1.0), (self.vocabulary_size, self.embedding_size))
        xs, last = tokens_tb, []
        given: dict[str, Any] = {"reset": None if self.separator is None else tokens_tb == self.separator}
        for i in range(self.num_layers):
            given |= {"embedding": None if i else embedding, "carry": carries[i] if carries else None}
            carry, xs = layer(self, f"layer_{i}", xs, is_first=i == 0, deterministic=deterministic, **given)
            last.append(carry)
        return tuple(last), head(self.vocabulary_size, self.hidden_size, self.initializer)(xs)

    @nn.nowrap
    def initial_carries(self, batch_size: int) -> tuple[PyTree, ...]:
        """The carries with which texts start, one per layer."""
        return (self.cell.initial_carry(self.hidden_size, (batch_size,)),) * self.num_layers

    @nn.nowrap
    def stepper(self, params: PyTree) -> Callable[[tuple[PyTree, ...], Array], tuple[tuple[PyTree, ...], Array]]:
        """``step(carries, token_b) -> (carries, logits_bv)``: one character of `__call__`, for a scan that generates.

        The embedding is projected here, once, into a table ``[V, .]``.
        """
        cells = [in_precision(self.cell, self.compute_dtype, is_table=i == 0) for i in range(self.num_layers)]
        layers: list[Any] = [cell.params_type(**params[f"layer_{i}"]) for i, cell in enumerate(cells)]
        table = cells[0].project(layers[0], jnp.asarray(params["embedding"]))

        def step(carries: tuple[PyTree, ...], token_b: Array) -> tuple[tuple[PyTree, ...], Array]:
            z, y, new = table[wide(token_b)], jnp.zeros(()), []
            if self.separator is not None:
                carries = where(token_b != self.separator, carries, self.initial_carries(len(token_b)))
            for i, (cell, cell_params, carry) in enumerate(zip(cells, layers, carries, strict=True)):
                if i and self.layer_norm:
                    y = nn.LayerNorm().apply({"params": params[f"layer_{i}_norm"]}, y)
                carry, y, _ = cell.step(cell_params, carry, cell.project(cell_params, y) if i else z)
                new.append(carry)
            return tuple(new), y @ params["head"]["kernel"] + params["head"]["bias"]

        return step
