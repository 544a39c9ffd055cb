"""Proximal policy optimisation (Schulman et al. 2017) for episodes whose only reward comes at their end."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Array


class Taken(NamedTuple):
    """The moves that were made and what came of them: float32 ``[M]`` each.

    Attributes:
        chances: the logarithms of the probabilities that the moves had when they were made.
        advantages: see `advantages`.
        returns: what the values should have been.
    """

    chances: Array
    advantages: Array
    returns: Array


def advantages(rewards_b: Array, values_bt: Array, lengths_b: Array, trace: float) -> Array:
    """Generalised advantages (Schulman et al. 2016) without discounting, ``[B, T]``; zero after an episode's end.

    ``A_t = d_t + trace A_{t+1}`` with ``d_t = r_t + V_{t+1} - V_t``, where r is the reward at the last move, else 0.
    """
    steps = jnp.arange(values_bt.shape[1])
    is_in = steps < lengths_b[:, None]
    is_last = steps == lengths_b[:, None] - 1
    values = jnp.where(is_in, values_bt, 0)
    following = jnp.concatenate([values[:, 1:], jnp.zeros_like(values[:, :1])], 1)
    deltas = jnp.where(is_in, jnp.where(is_last, rewards_b[:, None], 0) + following - values, 0)

    def back(later: Array, delta: Array) -> tuple[Array, Array]:
        found = delta + trace * later
        return found, found

    _, found = jax.lax.scan(back, jnp.zeros_like(rewards_b), deltas.T, reverse=True)
    return jnp.where(is_in, found.T, 0)


def ppo_loss(
    chances_mk: Array, moves_m: Array, values_m: Array, taken: Taken, *, clip: float, entropy: float
) -> tuple[Array, dict[str, Array]]:
    """``-mean min(r A, clip(r, 1 - c, 1 + c) A) + mean (V - R)^2 / 2 - e mean H`` of M moves, and its parts.

    Args:
        chances_mk: the logarithms of the probabilities of all moves now, ``[M, K]``.
        moves_m: those that were made, int ``[M]``.
        values_m: the rewards that are expected now.
        taken: the `Taken` of these moves.
        clip: c.
        entropy: e.
    """
    now = jnp.take_along_axis(chances_mk, moves_m[:, None], 1)[:, 0]
    ratio = jnp.exp(now - taken.chances)
    clipped = jnp.clip(ratio, 1 - clip, 1 + clip)
    gain = jnp.minimum(ratio * taken.advantages, clipped * taken.advantages).mean()
    misjudged = 0.5 * jnp.mean((values_m - taken.returns) ** 2)
    spread = -jnp.sum(jnp.exp(chances_mk) * chances_mk, -1).mean()
    return misjudged - gain - entropy * spread, {"entropy": spread}
