"""Molecules with the positions of their heavy atoms in space, as dense arrays of pairs."""

import functools
import hashlib
from typing import NamedTuple

import numpy as np

from jaxrnn.data import molecules
from jaxrnn.data.files import DataError
from jaxrnn.data.molecule_sets import QM9, read_arrays, read_file
from jaxrnn.data.molecules import Molecules, Refused

NAME = "qm9"


class DenseGraphs(NamedTuple):
    """M molecules with N places for atoms each; the places after a molecule's last atom are empty.

    Attributes:
        atom_rows: int32 ``[M, N]``, rows of `atom_features`; the last one, of zeros, where there is no atom.
        atom_features: float32 ``[r, 75]``, see `jaxrnn.data.molecules.weave_features`.
        pair_rows: int32 ``[M, P]``, rows of `pair_features`, for the pairs ``i < j`` in the order of
            `numpy.triu_indices`; the last one, of zeros, where an atom is missing.
        pair_features: float32 ``[r, 14]``.
        paths: int16 ``[M, P]``, bonds on the shortest path; -1 where there is none, or no such pair.
    """

    atom_rows: np.ndarray
    atom_features: np.ndarray
    pair_rows: np.ndarray
    pair_features: np.ndarray
    paths: np.ndarray

    @property
    def is_atom(self) -> np.ndarray:
        """Which places have an atom, bool ``[M, N]``."""
        return self.atom_rows < len(self.atom_features) - 1

    @property
    def is_pair(self) -> np.ndarray:
        """Which pairs have both atoms, bool ``[M, P]``."""
        return self.pair_rows < len(self.pair_features) - 1


class Geometries(NamedTuple):
    """Molecules with the positions of their heavy atoms.

    Attributes:
        positions: float32 ``[M, N, 3]``, in Angstrom, in the order of `Molecules`; 0 where there is no atom.
        refused: the molecules that are left out.
        sha256: of the file.
    """

    molecules: Molecules
    graphs: DenseGraphs
    positions: np.ndarray
    refused: list[Refused]
    sha256: str


@functools.lru_cache(maxsize=1)
def load(name: str, max_atoms: int = 0) -> Geometries:
    """The geometries of `qm9`, or of an NPZ file with the same arrays.

    These are `smiles` ``[M]``, `atomic_numbers` ``[M, n]`` with 0 as padding, and `positions` ``[M, n, 3]`` in
    Angstrom; heavy atoms are in the order of the SMILES.

    Raises:
        DataError: the file cannot be obtained or used, or no molecule can be used.
    """
    path, raw = read_file(QM9 if name == NAME else name)
    smiles, numbers, places = read_arrays(path, raw, ("smiles", "atomic_numbers", "positions")).values()
    texts = [str(text) for text in smiles.reshape(-1).tolist()]
    fits = numbers.ndim == 2 and len(numbers) == len(texts) and places.shape == (*numbers.shape, 3)
    if not fits or {numbers.dtype.kind, places.dtype.kind} - {*"iuf"} or not np.isfinite(places).all():
        shapes = f"{[*numbers.shape]} and {[*places.shape]}"
        raise DataError(
            f"{path}: atomic_numbers [M, n] and positions [M, n, 3] should be finite numbers for {len(texts)} smiles;"
            f" they are {shapes}"
        )
    lines = list(range(1, len(texts) + 1))
    found, refused = molecules.read(texts, lines, max_atoms)
    heavy = [places[line - 1][numbers[line - 1] > 1] for line in found.lines.tolist()]
    is_right = [len(one) == size for one, size in zip(heavy, found.sizes.tolist(), strict=True)]
    for place in np.flatnonzero(~np.array(is_right)).tolist():
        refused.append(Refused(int(found.lines[place]), str(found.smiles[place]), "has other atoms than its SMILES"))
    found = molecules.choose(found, np.flatnonzero(is_right))
    positions = np.zeros((len(found.smiles), int(found.sizes.max(initial=0)), 3), np.float32)
    kept = [one for one, right in zip(heavy, is_right, strict=True) if right]
    orders = np.split(found.order, found.starts[1:-1])
    positions[_places(found)] = np.concatenate([one[order] for one, order in zip(kept, orders, strict=True)])
    return Geometries(found, dense_graphs(found), positions, sorted(refused), hashlib.sha256(raw).hexdigest())


def _places(found: Molecules) -> tuple[np.ndarray, np.ndarray]:
    """The molecule of each atom, and its place there."""
    return np.repeat(np.arange(len(found.smiles)), found.sizes), found.positions()


def dense_graphs(found: Molecules) -> DenseGraphs:
    """The molecules with features of all atoms and pairs."""
    count, most = len(found.smiles), int(found.sizes.max())
    rows, row_of = np.unique(molecules.weave_features(found), axis=0, return_inverse=True)
    atom_rows = np.full((count, most), len(rows), np.int32)
    atom_rows[_places(found)] = row_of.reshape(-1)
    all_pairs = molecules.pairs(found)
    pair_rows, pair_row_of = np.unique(all_pairs.features, axis=0, return_inverse=True)
    first, second = np.triu_indices(most, 1)
    number = np.zeros((most, most), np.int32)
    number[first, second] = np.arange(len(first))
    is_upper = all_pairs.first < all_pairs.second
    owner = np.repeat(np.arange(count), np.diff(all_pairs.starts))[is_upper]
    at = owner, number[all_pairs.first[is_upper], all_pairs.second[is_upper]]
    dense_rows = np.full((count, len(first)), len(pair_rows), np.int32)
    dense_rows[at] = pair_row_of.reshape(-1)[is_upper]
    paths = np.full(dense_rows.shape, -1, np.int16)
    paths[at] = all_pairs.distance[is_upper]
    features = [np.concatenate([one, np.zeros_like(one[:1])]) for one in (rows, pair_rows)]
    return DenseGraphs(atom_rows, features[0], dense_rows, features[1], paths)
