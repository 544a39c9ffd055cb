"""Generation from a model's step, as one scan that keeps the carry from token to token."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array, Key, PyTree, at_least_float32

Choice = Callable[[Key, Array], Array]
"""``choose(key, logits [V]) -> token``, int32; a pytree, so that it can be an argument of a compiled function."""


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Greedy:
    """The most likely token; the first of equal ones."""

    def __call__(self, key: Key, logits_v: Array) -> Array:
        """A `Choice`; the key is not used."""
        del key
        return logits_v.argmax().astype(jnp.int32)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["tau"], meta_fields=["top_k", "top_p"])
@dataclasses.dataclass(frozen=True)
class Sampler:
    """Draws from ``softmax(tau * logits)``, as in Soons (2020): a larger tau is less random.

    Attributes:
        tau: positive; the inverse of what others call the temperature.
        top_k: draw from the `top_k` most likely tokens only (all, if there are fewer).
        top_p: draw from the fewest most likely tokens whose probabilities sum to at least `top_p` in (0, 1], after
            `tau` and `top_k` (Holtzman et al. 2020).
    """

    tau: float | Array = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __call__(self, key: Key, logits_v: Array) -> Array:
        """A `Choice`."""
        logits_v = at_least_float32(logits_v)  # Gumbel noise of low precision has ties.
        # Without subtracting the maximum, a large tau would overflow.
        scaled = self.tau * (logits_v - logits_v.max())
        if self.top_k is None and self.top_p is None:
            return jax.random.categorical(key, scaled).astype(jnp.int32)
        k = scaled.size if self.top_k is None else min(self.top_k, scaled.size)
        values, tokens = jax.lax.top_k(scaled, k)
        if self.top_p is not None:
            probability = jax.nn.softmax(values)
            before = jnp.cumsum(probability) - probability
            values = jnp.where(before.at[0].set(0) < self.top_p, values, -jnp.inf)
        return tokens[jax.random.categorical(key, values)].astype(jnp.int32)


def generate(
    step: Callable[[PyTree, Array], tuple[PyTree, Array]],
    carries: PyTree,
    prompts_pb: Array,
    lengths_b: Array,
    keys_b: Key,
    choose: Choice,
    length: int,
) -> tuple[Array, Array]:
    """Continues prompts of different lengths, each to `length` tokens in all.

    A sequence depends only on its own prompt and key, not on the rest of the batch.

    Args:
        step: ``step(carries, token_b) -> (carries, logits_bv)``.
        carries: before the first token, fields ``[B, H]``.
        prompts_pb: integers ``[P, B]``, ``P <= length``; tokens after a prompt's end have no effect.
        lengths_b: of the prompts, at least 1 and at most P.
        keys_b: keys ``[B]``.
        choose: chooses the next token; it gets a new key at each position.
        length: L.

    Returns:
        The tokens ``[L, B]``, prompts included, and the logits ``[L - 1, B, V]`` of tokens 1 to L - 1.
    """
    fill = jnp.zeros((length - prompts_pb.shape[0], prompts_pb.shape[1]), jnp.int32)
    given_lb = jnp.concatenate([jnp.asarray(prompts_pb, jnp.int32), fill])
    positions = jnp.arange(1, length)
    # All keys at once, because deriving them in the scan takes a tenth of its time where B is 1.
    keys_lb = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (None, 0))(keys_b, positions)

    def body(state: tuple[PyTree, Array], x: tuple[Array, Array, Key]) -> tuple[Any, tuple[Array, Array]]:
        carries, token_b = state
        position, given_b, key_b = x
        carries, logits_bv = step(carries, token_b)
        chosen_b = jax.vmap(choose)(key_b, logits_bv)
        token_b = jnp.where(position < lengths_b, given_b, chosen_b)
        return (carries, token_b), (token_b, logits_bv)

    _, (tokens, logits) = jax.lax.scan(body, (carries, given_lb[0]), (positions, given_lb[1:], keys_lb))
    return jnp.concatenate([given_lb[:1], tokens]), logits
