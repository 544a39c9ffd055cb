"""Modular arithmetic: the value modulo 5 of numbers with +, - and * between them, without brackets."""

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Key
from jaxrnn.data.formal.task import Length, SequenceTask, inside

MODULUS = 5
_ZERO, _PLUS, _MINUS, _TIMES = 1, 6, 7, 8


def draw(key: Key, batch_size: int, length: Length, longest: int) -> tuple[Array, Array]:
    """Draws numbers 0 to 4 (tokens 1 to 5) and operations + - * (tokens 6, 7, 8) in turn; * takes precedence."""
    number_key, operation_key = jax.random.split(key)
    count = (longest + 1) // 2
    numbers = jax.random.randint(number_key, (count, batch_size), 0, MODULUS, jnp.int32)
    # The one before each number; the first number has none, which counts as a plus.
    operations = jax.random.randint(operation_key, (count, batch_size), _PLUS, _TIMES + 1, jnp.int32).at[0].set(_PLUS)
    tokens_tb = jnp.stack([operations, _ZERO + numbers], axis=1).reshape(2 * count, batch_size)[1:]
    is_read = jnp.broadcast_to(inside((length + 1) // 2, count), numbers.shape)

    def read(carry: tuple[Array, Array], x: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], None]:
        """The sum of the terms that have ended, and the current term, which products may still change."""
        ended, term = carry
        number, operation, is_read = x
        is_product = operation == _TIMES
        next_ended = jnp.where(is_product, ended, (ended + term) % MODULUS)
        next_term = jnp.where(is_product, term * number, jnp.where(operation == _MINUS, -number, number)) % MODULUS
        return (jnp.where(is_read, next_ended, ended), jnp.where(is_read, next_term, term)), None

    zeros = jnp.zeros(batch_size, jnp.int32)
    (ended, term), _ = jax.lax.scan(read, (zeros, zeros), (numbers, operations, is_read))
    return tokens_tb, (ended + term) % MODULUS


TASK = SequenceTask(
    1, lambda longest: (9, MODULUS), lambda length: length - (length + 1) % 2, draw, lambda length: 1 / MODULUS
)
"""Expressions of `length` symbols, or of one less if it is even (Deletang et al. 2023)."""
