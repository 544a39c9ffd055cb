"""The policy of You et al. 2018 (GCPN) for building molecules: graph convolutions by bond order, chances of moves."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxrnn.arrays import Array, Key
from jaxrnn.data.molecule_scores import ELEMENTS, ORDERS
from jaxrnn.graph import building
from jaxrnn.graph.building import Building

LONGEST = 7
"""The longest distance in bonds between atoms that a new bond joins to a ring; longer ones, and none, count as this."""
# The initial logits of the policy: roughly the logarithms of the shares of elements, bond orders and ring sizes among
# drugs. GCPN starts with moves that it has learned from ZINC.
_ELEMENTS = np.array([0, -1.8, -2, -3.5, -6, -3.5, -4, -5, -6])
_ORDERS = np.array([0, -1.2, -4])
_RINGS = np.array([0, 0, -4, -4, -1, 0, -4, -4])


class MoleculePolicy(nn.Module):
    """Layers ``h <- mean_e relu((A_e + I) h W_e)`` over the bond orders e, the last without ReLU.

    They read elements, free valences and degrees. From each atom and the mean of all, a layer computes the logits of
    new atoms and bonds. A bond's logit is the sum of those of its atoms and of one for the size of the ring that it
    closes. Initially, the chances are those of drugs, whatever the molecule is.
    """

    hidden_size: int = 32
    num_layers: int = 3

    @nn.compact
    def __call__(self, molecules: Building) -> tuple[Array, Array]:
        """`building.log_probs` ``[B, M]`` and the expected rewards ``[B]`` of a batch with fields ``[B, ...]``."""
        size, zeros = self.hidden_size, nn.initializers.zeros
        there = (molecules.atoms >= 0).astype(jnp.float32)[..., None]
        bonds = jnp.stack([molecules.bonds == order for order in range(1, ORDERS + 1)], 1).astype(jnp.float32)
        free = jax.vmap(building.free_valences)(molecules).astype(jnp.float32)
        numbers = jnp.stack([free / 4, bonds.sum((1, 3)) / 4, free > 0], -1)
        h = nn.Dense(size, name="atoms")(jnp.concatenate([jax.nn.one_hot(molecules.atoms, len(ELEMENTS)), numbers], -1))
        for layer in range(self.num_layers):
            shape = (ORDERS, size, size)
            weight = self.param(f"layer_{layer}", nn.initializers.lecun_normal(batch_axis=0), shape)
            read = jnp.einsum("beij,bjh->beih", bonds, h) + h[:, None]
            # A product for each order, because one with a batch of matrices takes a CPU four times as long.
            made = [read[:, e] @ weight[e] for e in range(ORDERS)]
            made = made if layer == self.num_layers - 1 else [jax.nn.relu(one) for one in made]
            h = sum(made) / ORDERS * there
        count = there.sum(1)
        whole = jnp.concatenate([h.sum(1) / count, h.sum(1) / 16, count / 16, molecules.moves[:, None] / 16], -1)
        own = jax.nn.relu(nn.Dense(size, name="own")(h) + nn.Dense(size, use_bias=False, name="all")(whole)[:, None])
        usual = _begin_at(np.add.outer(_ELEMENTS, _ORDERS).ravel())
        grow = nn.Dense(len(ELEMENTS) * ORDERS, kernel_init=zeros, bias_init=usual, name="grow")(own)
        close = nn.Dense(ORDERS, use_bias=False, kernel_init=zeros, name="close")(own)
        usual = _begin_at(np.add.outer(_RINGS, _ORDERS))
        rings = self.param("rings", usual, (LONGEST + 1, ORDERS))[distances(bonds.sum(1))]
        known = jax.nn.relu(nn.Dense(size, name="known")(whole))
        kinds = nn.Dense(3, kernel_init=zeros, name="kinds")(known) + jnp.asarray(building.KIND_LOGITS)
        value = nn.Dense(1, kernel_init=zeros, name="value")(jax.nn.relu(nn.Dense(size, name="judged")(whole)))[:, 0]
        grow = grow.reshape(*grow.shape[:2], len(ELEMENTS), ORDERS)
        allowed = jax.vmap(building.masks)(molecules)
        chances = jax.vmap(building.log_probs)(kinds, grow, close[:, :, None] + close[:, None] + rings, allowed)
        return chances, value


def _begin_at(values: np.ndarray) -> Callable[..., Array]:
    return lambda key, shape, dtype=jnp.float32: jnp.asarray(values, dtype).reshape(shape)


def distances(bonded: Array) -> Array:
    """Bonds on the shortest path between two atoms, int32 ``[B, n, n]``; `LONGEST` for longer paths and for none."""
    reached = near = jnp.eye(bonded.shape[-1]) + bonded
    found = 2 - jnp.eye(bonded.shape[-1], dtype=jnp.int32) - (near > 0)
    for _ in range(2, LONGEST):
        reached = reached @ near  # Counts walks of this many steps, which may also stay in place.
        found += reached == 0
    return found


class Episodes(NamedTuple):
    """B molecules from their first move to the stop, T moves at most.

    Attributes:
        molecules: the molecules at the end, fields ``[B, ...]``.
        moves: int32 ``[B, T]``, by their numbers; the last one of a molecule is the stop.
        chances: float32 ``[B, T]``, the logarithms of the moves' probabilities.
        values: float32 ``[B, T]``, the expected rewards before each move.
        lengths: int32 ``[B]``, the number of moves of each, the stop included.
    """

    molecules: Building
    moves: Array
    chances: Array
    values: Array
    lengths: Array


def build(
    policy: Callable[[Building], tuple[Array, Array]], begin: Building, keys_b: Key, *, is_greedy: bool = False
) -> Episodes:
    """Builds molecules until all have stopped; each depends only on its own key and start.

    Args:
        policy: ``policy(molecules) -> (log_probs [B, M], values [B])``.
        begin: the molecules to start from, fields ``[B, ...]``.
        keys_b: keys ``[B]``.
        is_greedy: always take the most likely move.
    """
    size, most = begin.atoms.shape[0], building.most_moves(begin.atoms.shape[1])
    zeros = jnp.zeros((size, most))
    state = Episodes(begin, zeros.astype(jnp.int32), zeros, zeros, jnp.zeros(size, jnp.int32))

    def goes_on(carry: tuple[Array, Array, Episodes]) -> Array:
        return ~carry[1].all()

    def move(carry: tuple[Array, Array, Episodes]) -> Any:
        t, has_ended, so_far = carry
        chances, values = policy(so_far.molecules)
        drawn = jax.vmap(building.draw)(jax.vmap(jax.random.fold_in, (0, None))(keys_b, t), chances)
        chosen = jnp.where(has_ended, 0, chances.argmax(-1) if is_greedy else drawn).astype(jnp.int32)
        taken = jnp.take_along_axis(chances, chosen[:, None], 1)[:, 0]
        ended = Episodes(
            jax.vmap(building.apply)(so_far.molecules, chosen),
            so_far.moves.at[:, t].set(chosen),
            so_far.chances.at[:, t].set(taken),
            so_far.values.at[:, t].set(values),
            so_far.lengths + ~has_ended,
        )
        return t + 1, has_ended | (chosen == 0), ended

    _, _, found = jax.lax.while_loop(goes_on, move, (jnp.zeros((), jnp.int32), jnp.zeros(size, bool), state))
    return found
