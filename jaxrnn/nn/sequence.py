"""A classifier of sequences of symbols."""

import jax.numpy as jnp
from flax import linen as nn

from jaxrnn.arrays import Array, Initializer
from jaxrnn.cells import Cell
from jaxrnn.nn.modules import Recurrent, head
from jaxrnn.recurrence import Phase


class SequenceClassifier(nn.Module):
    """The classifier of Soons (2020): embedding, one recurrent layer, a linear head on the last hidden state.

    The embedding starts as N(0, 1). If `bidirectional`, a second layer of the same cell walks backwards, and the head
    reads ``[h_forward(T); h_backward(1)]``. `phases` say how sequences that begin alike share the computation of their
    start, see `jaxrnn.recurrence.last_carry`; they are passed over where there is a mask.
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
        """Logits ``[B, C]`` of integer tokens ``[T, B]``; masked positions have no effect."""
        shape = (self.vocabulary_size, self.embedding_size)
        embedding = self.param("embedding", nn.initializers.normal(1.0), shape)
        forward = Recurrent(self.cell, self.hidden_size, self.initializer, name="forward")
        phases = self.phases if mask_tb is None else ()
        carry, _ = forward(tokens_tb, embedding=embedding, mask=mask_tb, phases=phases)
        hidden = carry.h
        if self.bidirectional:
            backward = Recurrent(self.cell, self.hidden_size, self.initializer, reverse=True, name="backward")
            carry, _ = backward(tokens_tb, embedding=embedding, mask=mask_tb)
            hidden = jnp.concatenate([hidden, carry.h], axis=-1)
        return head(self.num_classes, hidden.shape[-1], self.initializer)(hidden)
