"""A recurrent model of sequences that answers at their end, or at every position."""

import jax.numpy as jnp
from flax import linen as nn

from jaxrnn.arrays import Array, Initializer
from jaxrnn.cells import Cell
from jaxrnn.nn.modules import head, layer
from jaxrnn.recurrence import Phase


class SequenceClassifier(nn.Module):
    """The classifier of Soons (2020): embedding, recurrent layers (there: one), a linear head on the last hidden state.

    The embedding starts as N(0, 1). If `bidirectional`, each layer has a second one of the same cell that walks
    backwards, and the layer above reads both; the head reads ``[h_forward(T); h_backward(1)]``. `phases` describe how
    sequences that begin alike share the computation of their start (see `jaxrnn.recurrence.last_carry`); they are
    ignored if there is a mask. The other fields are explained in `jaxrnn.nn.modules.layer`.
    """

    cell: Cell
    vocabulary_size: int
    num_classes: int
    embedding_size: int
    hidden_size: int
    initializer: Initializer
    bidirectional: bool = False
    num_layers: int = 1
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    layer_norm: bool = False
    compute_dtype: str = "float32"
    phases: tuple[Phase, ...] = ()

    @nn.compact
    def __call__(
        self, tokens_tb: Array, mask_tb: Array | None = None, *, everywhere: bool = False, deterministic: bool = True
    ) -> Array:
        """Logits ``[B, C]`` of integer tokens ``[T, B]``, or of real inputs ``[T, B, D]``, which have no embedding.

        With `everywhere`, they are for all positions, ``[T, B, C]``. Masked positions have no effect. Unless
        `deterministic`, `apply` needs ``rngs={"dropout": key}``.
        """
        embedding = None
        if jnp.issubdtype(tokens_tb.dtype, jnp.integer):
            shape = (self.vocabulary_size, self.embedding_size)
            embedding = self.param("embedding", nn.initializers.normal(1.0), shape)
        ways = {"forward": False, "backward": True} if self.bidirectional else {"forward": False}
        phases = self.phases if mask_tb is None and self.num_layers == 1 and not everywhere else ()
        xs, hidden = tokens_tb, jnp.zeros(())
        for i in range(self.num_layers):
            arguments = {"mask": mask_tb, "deterministic": deterministic, "embedding": None if i else embedding}
            found = []
            for way, reverse in ways.items():
                name = f"{way}_{i}" if i else way
                shared = {} if reverse else {"phases": phases}
                found.append(layer(self, name, xs, is_first=i == 0, reverse=reverse, **arguments, **shared))
            hidden = jnp.concatenate([ys if everywhere else carry.h for carry, ys in found], axis=-1)
            if i + 1 < self.num_layers:
                xs = jnp.concatenate([ys for _, ys in found], axis=-1)
        return head(self.num_classes, hidden.shape[-1], self.initializer)(hidden)
