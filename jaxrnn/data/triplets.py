"""Draws a user, an item that the user has, and one that the user lacks, for pairwise ranking (Rendle 2009)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.arrays import Array, Key
from jaxrnn.data.ratings import Pairs


class Owned(NamedTuple):
    """The items of each user, one user after another.

    Attributes:
        starts: where each user's items begin, and the end of all, int32 ``[users + 1]``.
        items: sorted for each user, int32 ``[n]``.
        gaps: for each of these items, how many items below it its user lacks, int32 ``[n]``.
        users: those that have an item and lack one, int32.
    """

    starts: Array | np.ndarray
    items: Array | np.ndarray
    gaps: Array | np.ndarray
    users: Array | np.ndarray


class Triplets(NamedTuple):
    """Users, an item that each of them has, and one that each of them lacks; int32 ``[B]``."""

    users: Array
    items: Array
    others: Array


def owned(pairs: Pairs, num_users: int, num_items: int) -> Owned:
    """The items of each user in pairs without duplicates."""
    order = np.lexsort((pairs.items, pairs.users))
    items, counts = pairs.items[order], np.bincount(pairs.users, minlength=num_users)
    starts = np.concatenate([[0], np.cumsum(counts)])
    gaps = items - (np.arange(len(items)) - starts[pairs.users[order]])
    users = np.flatnonzero((counts > 0) & (counts < num_items))
    return Owned(*(array.astype(np.int32) for array in (starts, items, gaps, users)))


def draw_triplets(key: Key, data: Owned, num: int, num_items: int) -> Triplets:
    """Draws `num` triplets: a user, one of its items and one of the others, each uniformly.

    The other item has a uniform rank among those that the user lacks, and is found by bisection, so that no draw is
    rejected.
    """
    keys = jax.random.split(key, 3)
    users = jnp.asarray(data.users)[jax.random.randint(keys[0], (num,), 0, len(data.users))]
    starts, gaps = jnp.asarray(data.starts), jnp.asarray(data.gaps)
    low, high = starts[users], starts[users + 1]
    first, counts = low, high - low
    items = jnp.asarray(data.items)[first + jax.random.randint(keys[1], (num,), 0, counts)]
    rank = jax.random.randint(keys[2], (num,), 0, num_items - counts)

    def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) // 2
        is_below = (low < high) & (gaps[middle] <= rank)
        return jnp.where(is_below, middle + 1, low), jnp.where(is_below, high, middle)

    # A loop: XLA would fuse unrolled steps, each with those before it, and compile them for many minutes.
    low, _ = jax.lax.fori_loop(0, len(data.items).bit_length(), halve, (low, high))
    return Triplets(users, items, rank + low - first)
