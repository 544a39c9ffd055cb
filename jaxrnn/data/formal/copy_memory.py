"""Copy memory: read ten symbols, wait, and output them (Hochreiter and Schmidhuber 1997; Arjovsky et al. 2016)."""

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Key
from jaxrnn.data.formal.task import PAD, Length, SequenceTask

NUM_SYMBOLS, NUM_COPIED = 8, 10
_FIRST, _SIGNAL = 1, 9


def draw(key: Key, batch_size: int, length: Length, longest: int) -> tuple[Array, Array]:
    """Draws ten symbols of eight kinds; pads follow them, the `length`-th of which is replaced by the signal."""
    symbols = jax.random.randint(key, (NUM_COPIED, batch_size), 0, NUM_SYMBOLS, jnp.int32)
    wait = jnp.arange(longest + NUM_COPIED, dtype=jnp.int32)[:, None]
    waiting = jnp.broadcast_to(jnp.where(wait == length - 1, _SIGNAL, PAD), (len(wait), batch_size))
    return jnp.concatenate([_FIRST + symbols, waiting.astype(jnp.int32)]), symbols


TASK = SequenceTask(
    1,
    lambda longest: (10, NUM_SYMBOLS),
    lambda length: length + 2 * NUM_COPIED,
    draw,
    lambda length: 1 / NUM_SYMBOLS,
    lambda length: NUM_COPIED,
)
"""`length` is the time from the last symbol to the signal, after which the answers come."""
