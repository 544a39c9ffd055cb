"""Molecules built move by move: atoms, bonds, free valences, moves and masks, as pure functions of one molecule.

A move adds an atom with a bond, adds a bond between two atoms that have none, or stops. Moves are numbered: the stop is
0, then come new atoms ``[n, K, 3]`` by neighbour, element and order of the bond, then bonds ``[n, n, 3]`` by both
atoms, the first before the second, and order. Moves that the valences forbid are masked. So is the stop of a molecule
with fewer than `fewest_atoms`, as long as it has another move.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.arrays import Array, Key
from jaxrnn.data.molecule_scores import ELEMENTS, ORDERS, VALENCES


class Building(NamedTuple):
    """A molecule with room for n atoms.

    Attributes:
        atoms: int8 ``[n]``, elements by their indices in `ELEMENTS`; -1 where there is no atom yet.
        bonds: int8 ``[n, n]``, symmetric: the orders of bonds, 0 where there is none.
        born: int16 ``[n]``, how many moves had been made once the atom was added.
        made: int16 ``[n, n]``, the same for the bonds.
        moves: int16, how many moves have been made.
    """

    atoms: Array
    bonds: Array
    born: Array
    made: Array
    moves: Array


class Masks(NamedTuple):
    """Which moves are allowed: bool ``[]``, ``[n, K, 3]`` and ``[n, n, 3]``; there is always one."""

    stop: Array
    grow: Array
    close: Array


def start(atoms: np.ndarray, bonds: np.ndarray, max_atoms: int) -> Building:
    """A molecule with elements ``[a]`` and orders of bonds ``[a, a]``, room for `max_atoms`, and no move made."""
    room = max_atoms - len(atoms)
    return Building(
        jnp.asarray(np.pad(atoms, (0, room), constant_values=-1), jnp.int8),
        jnp.asarray(np.pad(bonds, (0, room)), jnp.int8),
        jnp.zeros(max_atoms, jnp.int16),
        jnp.zeros((max_atoms, max_atoms), jnp.int16),
        jnp.zeros((), jnp.int16),
    )


def methane(max_atoms: int) -> Building:
    """A carbon atom, from which building begins."""
    return start(np.zeros(1, np.int8), np.zeros((1, 1), np.int8), max_atoms)


def most_moves(max_atoms: int) -> int:
    """The most moves of a molecule, its stop included."""
    return max_atoms + max_atoms // 4


def fewest_atoms(max_atoms: int) -> int:
    """The fewest atoms with which building may stop; GCPN instead has a fewest number of moves."""
    return max_atoms // 3


def free_valences(molecule: Building) -> Array:
    """The hydrogens of each atom that bonds could replace, int32 ``[n]``; 0 where there is no atom."""
    free = jnp.asarray(VALENCES, jnp.int32)[molecule.atoms] - molecule.bonds.sum(1, dtype=jnp.int32)
    return jnp.where(molecule.atoms >= 0, jnp.maximum(free, 0), 0)


def masks(molecule: Building) -> Masks:
    """The moves that the valences, the room and the number of moves allow."""
    size = len(molecule.atoms)
    orders = jnp.arange(1, ORDERS + 1)
    can_take = free_valences(molecule)[:, None] >= orders
    can_move = molecule.moves < most_moves(size) - 1
    is_possible = jnp.asarray(VALENCES)[:, None] >= orders
    grow = can_take[:, None] & is_possible & (can_move & (molecule.atoms[-1] < 0))
    is_new = (molecule.bonds == 0) & (jnp.arange(size)[:, None] < jnp.arange(size)) & can_move
    close = can_take[:, None] & can_take[None] & is_new[..., None]
    is_large = (molecule.atoms >= 0).sum() >= fewest_atoms(size)
    return Masks(is_large | ~(grow.any() | close.any()), grow, close)


def apply(molecule: Building, move: Array) -> Building:
    """The molecule after the move with this number, which `masks` must allow; a stop changes nothing."""
    size, kinds = len(molecule.atoms), len(ELEMENTS)
    grows = size * kinds * ORDERS
    count = (molecule.atoms >= 0).sum()
    is_grow, is_stop = move <= grows, move == 0
    place = jnp.where(is_grow, move - 1, move - 1 - grows)
    order, pair = place % ORDERS + 1, place // ORDERS
    first = jnp.where(is_grow, pair // kinds, pair // size)
    second = jnp.where(is_grow, count, pair % size)
    at = jnp.arange(size)
    is_new = (at == count) & is_grow & ~is_stop
    is_bond = ((at[:, None] == first) & (at == second)) | ((at[:, None] == second) & (at == first))
    is_bond &= ~is_stop
    moves = molecule.moves + (~is_stop).astype(jnp.int16)
    return Building(
        jnp.where(is_new, pair % kinds, molecule.atoms).astype(jnp.int8),
        jnp.where(is_bond, order, molecule.bonds).astype(jnp.int8),
        jnp.where(is_new, moves, molecule.born),
        jnp.where(is_bond, moves, molecule.made),
        moves,
    )


def before(molecule: Building, moves: Array) -> Building:
    """The molecule as it was after this number of moves, a scalar."""
    atoms = jnp.where(molecule.born <= moves, molecule.atoms, jnp.int8(-1))
    bonds = jnp.where(molecule.made <= moves, molecule.bonds, jnp.int8(0))
    return molecule._replace(atoms=atoms, bonds=bonds, moves=moves.astype(jnp.int16))


# --- Chances ----------------------------------------------------------------------------------------------------------

KIND_LOGITS = (-3.0, 0.0, -2.0)
"""Logits of a stop, a new atom and a bond before anything is learned; most molecules then have some twenty atoms."""
_NEVER = -1e9


def log_probs(kinds: Array, grow: Array, close: Array, allowed: Masks) -> Array:
    """The logarithms of the probabilities of all moves by their numbers, ``[M]``; about -1e9 where they are masked.

    First a kind is drawn by the logits ``[3]``, then a move of that kind by its own logits, shaped like the masks.
    """
    parts = [jnp.where(mask, x, _NEVER).ravel() for mask, x in zip(allowed[1:], (grow, close), strict=True)]
    is_there = jnp.stack([mask.any() for mask in allowed])
    of_kind = jax.nn.log_softmax(jnp.where(is_there, kinds, _NEVER))
    own = [jax.nn.log_softmax(part) for part in parts]
    return jnp.maximum(jnp.concatenate([of_kind[:1], of_kind[1] + own[0], of_kind[2] + own[1]]), _NEVER)


def untaught(molecule: Building) -> Array:
    """The `log_probs` of a policy that has learned nothing."""
    allowed = masks(molecule)
    grow, close = (jnp.zeros(mask.shape) for mask in allowed[1:])
    return log_probs(jnp.asarray(KIND_LOGITS), grow, close, allowed)


def draw(key: Key, log_probs_m: Array) -> Array:
    """Draws an int32 move by its chance, with two sums, since a random number for each move would cost more."""
    rows = math.isqrt(len(log_probs_m)) + 1
    chances = jnp.pad(jnp.exp(log_probs_m), (0, rows * rows - len(log_probs_m))).reshape(rows, rows)
    which, within = jax.random.uniform(key, (2,))
    row = _place(which, chances.sum(1))
    return (row * rows + _place(within, chances[row])).astype(jnp.int32)


def _place(u: Array, weights: Array) -> Array:
    """The index at which a share u of all weights is reached; never one without a weight."""
    sums = jnp.cumsum(weights)
    return (sums <= jnp.minimum(u, 1 - 1e-6) * sums[-1]).sum()
