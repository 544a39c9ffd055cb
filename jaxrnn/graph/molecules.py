"""Batches of molecules as one flat graph of a fixed size, put together on the device, and sums over its bonds.

The atoms of a batch lie in one block per degree, so that a weight per degree takes one product per block, and an atom
of degree d has a row of d neighbours. A block has more places than a batch fills; those after its atoms are padding.
So all batches have one shape, and one program serves them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.arrays import Array
from jaxrnn.data.molecules import MAX_DEGREE, Molecules, Pairs
from jaxrnn.graph.edges import segment_sum


class Packed(NamedTuple):
    """M molecules for the device, as arrays of NumPy or JAX; each distinct row of features is stored once.

    Attributes:
        sizes_md: int32 ``[M, 6]``, atoms of each degree.
        starts_m: int32 ``[M + 1]``, the first atom of each molecule.
        degrees_a: int32 ``[A]``.
        rows_a: int32 ``[A]``, the atom's row of `features_rd`.
        neighbours_ad: int32 ``[A, 5]``, as in `Molecules`.
        features_rd: float ``[r, D]``.
        pair_starts_m: int32 ``[M + 1]``, the first pair of each molecule; what follows is as in `Pairs`.
        pair_firsts_q: int32 ``[Q]``.
        pair_seconds_q: int32 ``[Q]``.
        pair_reverses_q: int32 ``[Q]``.
        pair_rows_q: int32 ``[Q]``, the pair's row of `pair_features_rd`.
        pair_features_rd: float ``[r, 14]``.
    """

    sizes_md: Any
    starts_m: Any
    degrees_a: Any
    rows_a: Any
    neighbours_ad: Any
    features_rd: Any
    pair_starts_m: Any
    pair_firsts_q: Any
    pair_seconds_q: Any
    pair_reverses_q: Any
    pair_rows_q: Any
    pair_features_rd: Any


class Sizes(NamedTuple):
    """The places of a batch: how many molecules, atoms of each degree, and pairs."""

    molecules: int
    atoms: tuple[int, ...]
    pairs: int


class PairBatch(NamedTuple):
    """The pairs of a batch.

    Attributes:
        firsts: int32 ``[P]``, the place of an atom; N in padding.
        seconds: int32 ``[P]``, the same for the other atom.
        reverses: int32 ``[P]``, the place of the pair in the other order; P in padding.
        features: float ``[P, D]``.
    """

    firsts: Array
    seconds: Array
    reverses: Array
    features: Array

    @property
    def mask(self) -> Array:
        """Which pairs are not padding, bool ``[P]``."""
        return self.reverses < len(self.reverses)


class MoleculeBatch(NamedTuple):
    """B molecules as one graph of N atoms.

    Attributes:
        features: float ``[N, D]``.
        molecules: int32 ``[N]``, the molecule of an atom; B in padding.
        neighbours: for each degree d from 0 to 5, the places of neighbours, int32 ``[N_d, d]``; N in padding.
        is_whole: bool ``[B]``, False for a place without a molecule and for a molecule that found no room.
        pairs: those that Weave reads; without places for other models.
    """

    features: Array
    molecules: Array
    neighbours: tuple[Array, ...]
    is_whole: Array
    pairs: PairBatch

    @property
    def mask(self) -> Array:
        """Which atoms are not padding, bool ``[N]``."""
        return self.molecules < len(self.is_whole)


def pack(molecules: Molecules, features_ad: np.ndarray, pairs: Pairs | None = None) -> Packed:
    """The molecules with features ``[A, D]`` of their atoms, and the pairs, as NumPy arrays."""
    count, degrees = len(molecules.smiles), molecules.atoms[:, 1].astype(np.int32)
    owner = np.repeat(np.arange(count), molecules.sizes)
    sizes = np.bincount(owner * (MAX_DEGREE + 1) + degrees, minlength=count * (MAX_DEGREE + 1))
    rows, row_of = np.unique(features_ad, axis=0, return_inverse=True)
    none = np.zeros(0, np.int32)
    pairs = pairs or Pairs(np.zeros(count + 1, np.int32), none, none, none, np.zeros((0, 0), np.float32), none)
    pair_rows, pair_row_of = np.unique(pairs.features, axis=0, return_inverse=True)
    return Packed(
        sizes.reshape(count, -1).astype(np.int32),
        molecules.starts,
        degrees,
        row_of.astype(np.int32),
        molecules.neighbours.astype(np.int32),
        rows,
        pairs.starts,
        pairs.first.astype(np.int32),
        pairs.second.astype(np.int32),
        pairs.reverse.astype(np.int32),
        pair_row_of.astype(np.int32).reshape(-1),
        pair_rows,
    )


def plan_sizes(packed: Packed, batch_size: int, *, is_safe: bool = False) -> Sizes:
    """Places for batches of B different molecules.

    If `is_safe`, they are enough for any batch. Otherwise they lie four standard deviations and the largest molecule
    above the mean, which is enough for all but one in some hundred thousand batches.
    """

    def places(counts: np.ndarray) -> int:
        most = int(np.sort(counts)[-batch_size:].sum())
        usual = batch_size * counts.mean() + 4 * batch_size**0.5 * counts.std() + counts.max(initial=0)
        return -(-min(most, most if is_safe else int(usual)) // 8) * 8

    by_degree = tuple(places(counts) for counts in np.asarray(packed.sizes_md).T)
    return Sizes(batch_size, by_degree, places(np.diff(packed.pair_starts_m)))


def make_batch(packed: Packed, sizes: Sizes, ids_b: Array) -> MoleculeBatch:
    """The molecules with these numbers, int ``[B]``, as a batch; -1 is a place without a molecule.

    A molecule that does not fit into the remaining places is left out, and so are those after it.
    """
    packed = jax.tree.map(jnp.asarray, packed)
    is_there = ids_b >= 0
    ids = jnp.maximum(ids_b, 0)
    counts = jnp.where(is_there[:, None], packed.sizes_md[ids], 0)
    pair_counts = jnp.where(is_there, packed.pair_starts_m[ids + 1] - packed.pair_starts_m[ids], 0)
    places, num_atoms = np.array(sizes.atoms), sum(sizes.atoms)
    is_whole = is_there & (jnp.cumsum(counts, 0) <= places).all(1) & (jnp.cumsum(pair_counts) <= sizes.pairs)
    counts, pair_counts = jnp.where(is_whole[:, None], counts, 0), jnp.where(is_whole, pair_counts, 0)
    ends = jnp.cumsum(counts, 0)
    # Where the atoms of a degree are in the batch, minus the number of atoms before them in their molecule.
    before = jnp.cumsum(packed.sizes_md[ids], 1) - packed.sizes_md[ids]
    shifts = ends - counts + (np.cumsum(places) - places) - before

    def place_of(owner: Array, atom: Array, local: Array) -> Array:
        return shifts[owner, packed.degrees_a[atom]] + local

    molecules, rows, neighbours = [], [], []
    for degree, size in enumerate(sizes.atoms):
        owner, within, is_real = _owners(ends[:, degree], counts[:, degree], size)
        start = packed.starts_m[ids[owner]]
        atom = jnp.where(is_real, start + before[owner, degree] + within, 0)
        local = packed.neighbours_ad[atom, :degree]
        place = place_of(owner[:, None], start[:, None] + local, local)
        molecules.append(jnp.where(is_real, owner, len(ids)))
        rows.append(packed.rows_a[atom])
        neighbours.append(jnp.where(is_real[:, None], place, num_atoms))
    features = packed.features_rd[jnp.concatenate(rows)]
    pairs = _make_pairs(packed, sizes.pairs, ids, pair_counts, place_of, num_atoms)
    return MoleculeBatch(features, jnp.concatenate(molecules), tuple(neighbours), is_whole, pairs)


def _make_pairs(
    packed: Packed, size: int, ids: Array, counts_b: Array, place_of: Callable[..., Array], num_atoms: int
) -> PairBatch:
    """The pairs of these molecules, ``counts_b`` of each; `place_of` says where their atoms are."""
    if not size:
        none = jnp.zeros(0, jnp.int32)
        return PairBatch(none, none, none, packed.pair_features_rd[:0])
    owner, within, is_real = _owners(jnp.cumsum(counts_b), counts_b, size)
    pair = jnp.where(is_real, packed.pair_starts_m[ids[owner]] + within, 0)
    start = packed.starts_m[ids[owner]]
    firsts, seconds = (
        jnp.where(is_real, place_of(owner, start + local[pair], local[pair]), num_atoms)
        for local in (packed.pair_firsts_q, packed.pair_seconds_q)
    )
    reverses = jnp.where(is_real, jnp.arange(size) - within + packed.pair_reverses_q[pair], size)
    return PairBatch(firsts, seconds, reverses, packed.pair_features_rd[packed.pair_rows_q[pair]])


def _owners(ends_b: Array, counts_b: Array, size: int) -> tuple[Array, Array, Array]:
    """For each of `size` places, its owner, its index among the owner's places, and whether it has an owner."""
    places = jnp.arange(size)
    owner = jnp.minimum(jnp.searchsorted(ends_b, places, side="right"), len(ends_b) - 1)
    return owner, places - (ends_b - counts_b)[owner], places < ends_b[-1]


# --- Sums -------------------------------------------------------------------------------------------------------------


def by_degree(batch: MoleculeBatch, x: Array) -> list[Array]:
    """``x [N, H]`` in blocks, one for each degree."""
    return jnp.split(x, np.cumsum([len(one) for one in batch.neighbours])[:-1])


@jax.custom_vjp
def _sum_rows(x: Array, places: tuple[Array, ...]) -> Array:
    padded = _padded(x)
    return jnp.concatenate([padded[at].sum(1) for at in places])


def _padded(x: Array) -> Array:
    """``x`` with a row of zeros at the end, to which the places in padding point."""
    return jnp.concatenate([x, jnp.zeros_like(x[:1])])


# A bond goes both ways, so the gradient is the same sum. Autodiff would scatter, which a CPU does row by row.
_sum_rows.defvjp(lambda x, places: (_sum_rows(x, places), places), lambda places, d_y: (_sum_rows(d_y, places), None))


def sum_neighbours(batch: MoleculeBatch, x: Array) -> Array:
    """``y_i = sum_j x_j`` over the neighbours of each atom, ``[N, H]``; zero in padding."""
    return _sum_rows(x, batch.neighbours)


def sum_atoms(batch: MoleculeBatch, x: Array) -> Array:
    """The sum over the atoms of each molecule, ``[N, H]`` to ``[B, H]``; padding is left out."""
    size = len(batch.is_whole)
    return segment_sum(x, batch.molecules, size + 1)[:size]


def gcn_propagate(batch: MoleculeBatch, x: Array) -> Array:
    """``D^-1/2 (A + I) D^-1/2 x`` with ``D_ii`` one more than the degree, as `jaxrnn.graph.normalize` weights it."""
    scales = np.concatenate([np.full(len(one), (d + 1) ** -0.5) for d, one in enumerate(batch.neighbours)])
    scaled = x * jnp.asarray(scales, x.dtype)[:, None]
    return (sum_neighbours(batch, scaled) + scaled) * jnp.asarray(scales, x.dtype)[:, None]


def sum_pairs(batch: MoleculeBatch, x: Array) -> Array:
    """The sum over the pairs of each atom, ``[P, H]`` to ``[N, H]``."""
    size = len(batch.molecules)
    return segment_sum(x, batch.pairs.firsts, size + 1)[:size]


def reversed_pairs(batch: MoleculeBatch, x: Array) -> Array:
    """For each pair, the row of the pair in the other order, ``[P, H]``."""
    return _sum_rows(x, (batch.pairs.reverses[:, None],))


def at_firsts(batch: MoleculeBatch, x: Array) -> Array:
    """``x [N, H]`` at the first atom of each pair, ``[P, H]``; zero in padding."""
    return _padded(x)[batch.pairs.firsts]


def at_seconds(batch: MoleculeBatch, x: Array) -> Array:
    """``x [N, H]`` at the second atom of each pair, ``[P, H]``; zero in padding."""
    return _padded(x)[batch.pairs.seconds]
