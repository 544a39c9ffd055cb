"""Cycle navigation: where on a circle of five places does a walk end?"""

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Key
from jaxrnn.data.formal.task import Length, SequenceTask, inside

NUM_PLACES = 5
_STAY = 2


def draw(key: Key, batch_size: int, length: Length, longest: int) -> tuple[Array, Array]:
    """Draws moves, tokens 1 (a place back), 2 (stay) and 3 (a place on); the label is the last place, starting at 0."""
    tokens_tb = jax.random.randint(key, (longest, batch_size), 1, 4, jnp.int32)
    moves = jnp.where(inside(length, longest), tokens_tb - _STAY, 0)
    return tokens_tb, moves.sum(axis=0, dtype=jnp.int32) % NUM_PLACES


TASK = SequenceTask(1, lambda longest: (4, NUM_PLACES), lambda length: length, draw, lambda length: 1 / NUM_PLACES)
"""Walks of `length` moves (Deletang et al. 2023)."""
