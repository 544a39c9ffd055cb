"""Molecules from SMILES, by RDKit (the extra `molecules`): features of their atoms and bonds, cached by a digest."""

import hashlib
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrnn.data.files import DataError, cache_dir, read_if_there

_SYMBOLS = (
    "C N O S F Si P Cl Br Mg Na Ca Fe As Al I B V K Tl Yb Sb Sn Ag Pd Co Se Ti Zn H Li Ge Cu Au Ni Cd In Mn Zr Cr Pt "
    "Hg Pb"
)
ELEMENTS = _SYMBOLS.split()
"""As in Duvenaud et al. 2015, in the order of their code; its 44th feature, for all others, is never set here."""
HYBRIDIZATIONS = ("SP", "SP2", "SP3", "SP3D", "SP3D2")
BONDS = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
MAX_DEGREE = 5
"""The most neighbours of an atom in the features and weights of Duvenaud et al. 2015."""
_MOST_RINGS = 64
_FORMAT = 1

_ELEMENT, _DEGREE, _HYDROGENS, _VALENCE, _AROMATIC, _CHARGE, _RADICALS, _HYBRIDIZATION = range(8)


class Refused(NamedTuple):
    """A molecule that is left out: its line in the file, its SMILES, and why."""

    line: int
    smiles: str
    reason: str


class Molecules(NamedTuple):
    """M molecules with A atoms in total; the atoms of a molecule are sorted by degree.

    Attributes:
        smiles: str ``[M]``, as in the file.
        lines: int32 ``[M]``, the lines in the file, from 1.
        starts: int32 ``[M + 1]``, the first atom of each molecule.
        atoms: int8 ``[A, 8]``: element, degree, hydrogens, implicit valence, aromatic, charge, radical electrons and
            hybridization; element and hybridization as places in the lists above, other hybridizations as the last.
        order: int16 ``[A]``, the atom's place in the SMILES.
        neighbours: int16 ``[A, 5]``, places of atoms within the sorted molecule; -1 where there is none.
        bonds: uint8 ``[A, 5]``, the features of the bonds to the neighbours as bits: single, double, triple, aromatic,
            conjugated, in a ring.
        rings: uint64 ``[A]``, a bit for each ring that the atom is in.
    """

    smiles: np.ndarray
    lines: np.ndarray
    starts: np.ndarray
    atoms: np.ndarray
    order: np.ndarray
    neighbours: np.ndarray
    bonds: np.ndarray
    rings: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """The number of atoms of each molecule, ``[M]``."""
        return np.diff(self.starts)

    def positions(self) -> np.ndarray:
        """The places of the atoms of all molecules, counted within each, ``[A]``."""
        return np.arange(len(self.atoms)) - np.repeat(self.starts[:-1], self.sizes)


def import_rdkit() -> Any:
    """The package `rdkit`, with its modules `Chem` and `rdBase` loaded.

    Raises:
        DataError: it is not installed.
    """
    try:
        import rdkit.Chem
        import rdkit.rdBase
    except ImportError as error:
        raise DataError("RDKit is not installed; pip install -e '.[molecules]' installs it") from error
    return rdkit


# --- Reading ----------------------------------------------------------------------------------------------------------


def read(smiles: Sequence[str], lines: Sequence[int], max_atoms: int = 0) -> tuple[Molecules, list[Refused]]:
    """The molecules that RDKit can read, and those refused: not a SMILES, no atom, or beyond what the features cover.

    Graphs are cached in `cache_dir`, by a digest of all SMILES and of RDKit's version.

    Args:
        smiles: of each molecule.
        lines: of each molecule, in the file that it comes from.
        max_atoms: larger molecules are refused; 0 for no limit.

    Raises:
        DataError: RDKit is not installed, or none of the molecules can be used.
    """
    version = import_rdkit().__version__
    digest = hashlib.sha256(repr((_FORMAT, version, list(smiles))).encode()).hexdigest()
    path = cache_dir() / "molecules" / f"{digest}.npz"
    if (raw := read_if_there(path)) is None:
        found, refused = _read_all(smiles)
        arrays: dict[str, Any] = {name: np.asarray(array) for name, array in found._asdict().items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, refused=np.array(refused, object).astype(str).reshape(-1, 2), **arrays)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{np.random.default_rng().integers(2**32)}")  # Other processes may write it too.
        partial.write_bytes(buffer.getvalue())
        partial.replace(path)
        raw = buffer.getvalue()
    with np.load(io.BytesIO(raw)) as file:
        found = Molecules(**{name: file[name] for name in Molecules._fields})
        refused = file["refused"].tolist()
    left_out = [Refused(lines[int(i)], smiles[int(i)], reason) for i, reason in refused]
    places = found.lines  # In the list; below, those in the file.
    if max_atoms and (found.sizes > max_atoms).any():
        large = np.flatnonzero(found.sizes > max_atoms)
        reason = f"more atoms than max_atoms={max_atoms}: "
        left_out += [Refused(lines[places[i]], found.smiles[i], f"{reason}{found.sizes[i]}") for i in large]
        found = choose(found, np.flatnonzero(found.sizes <= max_atoms))
    found = found._replace(lines=np.array(lines, np.int32)[found.lines])
    left_out.sort()
    if not len(found.smiles):
        raise DataError(f"no molecule can be used; line {left_out[0].line}: {left_out[0].reason}")
    return found, left_out


def choose(molecules: Molecules, places: np.ndarray) -> Molecules:
    """The molecules at these places, ``[m]`` integers."""
    sizes = molecules.sizes[places]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    atoms = np.arange(starts[-1]) + np.repeat(molecules.starts[places] - starts[:-1], sizes)
    chosen = {name: getattr(molecules, name)[atoms] for name in ("atoms", "order", "neighbours", "bonds", "rings")}
    return Molecules(molecules.smiles[places], molecules.lines[places], starts, **chosen)


def parse(smiles: str) -> Any:
    """RDKit's molecule of a SMILES.

    Raises:
        ValueError: there is no such molecule; the message says why.
    """
    rdkit = import_rdkit()
    with rdkit.rdBase.BlockLogs():
        found = rdkit.Chem.MolFromSmiles(smiles)
        if found is None:
            found = rdkit.Chem.MolFromSmiles(smiles, sanitize=False)
            if found is None:
                raise ValueError(f"no SMILES: {smiles!r}")
            rdkit.Chem.SanitizeMol(found)  # Says what is wrong.
            raise ValueError(f"no molecule: {smiles!r}")
    if not found.GetNumAtoms():
        raise ValueError("no atom")
    return found


def _read_all(smiles: Sequence[str]) -> tuple[Molecules, list[tuple[int, str]]]:
    """The graphs, with places in the list as lines, and the places of refused molecules with the reasons."""
    graphs, places, refused = [], [], []
    for place, text in enumerate(smiles):
        try:
            graphs.append(_graph(parse(text)))
            places.append(place)
        except ValueError as error:
            refused.append((place, " ".join(str(error).split())))
    columns = list(zip(*graphs, strict=True)) or [[np.zeros((0, 8))], *[[np.zeros(0)]] * 4]
    starts = np.concatenate([[0], np.cumsum([len(one) for one in columns[0]])])
    kinds = (np.int8, np.int16, np.int16, np.uint8, np.uint64)
    arrays = [np.concatenate(column).astype(kind) for column, kind in zip(columns, kinds, strict=True)]
    kept = np.array([smiles[place] for place in places], str)
    return Molecules(kept, np.array(places, np.int32), starts.astype(np.int32), *arrays), refused


def _graph(mol: Any) -> tuple[np.ndarray, ...]:
    """Atoms, order, neighbours, bonds and rings of one molecule, as in `Molecules`; a ValueError if it does not fit."""
    chem = import_rdkit().Chem
    implicit, rows = chem.ValenceType.IMPLICIT, []
    for atom in mol.GetAtoms():
        if atom.GetSymbol() not in ELEMENTS:
            raise ValueError(f"the element {atom.GetSymbol()} is not among those of the features")
        if atom.GetDegree() > MAX_DEGREE:
            raise ValueError(f"an atom with {atom.GetDegree()} neighbours; the features allow {MAX_DEGREE} at most")
        hybridization = str(atom.GetHybridization())
        counts = (atom.GetDegree(), atom.GetTotalNumHs(), atom.GetValence(implicit), atom.GetIsAromatic())
        more = (atom.GetFormalCharge(), atom.GetNumRadicalElectrons())
        place = HYBRIDIZATIONS.index(hybridization if hybridization in HYBRIDIZATIONS else HYBRIDIZATIONS[-1])
        rows.append((ELEMENTS.index(atom.GetSymbol()), *counts, *more, place))
    atoms = np.array(rows, np.int8)
    order = np.argsort(atoms[:, _DEGREE], kind="stable")
    place_of = np.argsort(order)
    neighbours = np.full((len(rows), MAX_DEGREE), -1, np.int16)
    bonds, filled = np.zeros(neighbours.shape, np.uint8), [0] * len(rows)
    for bond in mol.GetBonds():
        features = [str(bond.GetBondType()) == kind for kind in BONDS] + [bond.GetIsConjugated(), bond.IsInRing()]
        bits = sum(bool(feature) << bit for bit, feature in enumerate(features))
        ends = place_of[bond.GetBeginAtomIdx()], place_of[bond.GetEndAtomIdx()]
        for one, other in (ends, ends[::-1]):
            neighbours[one, filled[one]], bonds[one, filled[one]] = other, bits
            filled[one] += 1
    rings = np.zeros(len(rows), np.uint64)
    found = mol.GetRingInfo().AtomRings()
    if len(found) > _MOST_RINGS:
        raise ValueError(f"{len(found)} rings; the features allow {_MOST_RINGS} at most")
    for number, ring in enumerate(found):
        rings[place_of[list(ring)]] |= np.uint64(1 << number)
    return atoms[order], order, neighbours, bonds, rings


# --- Features ---------------------------------------------------------------------------------------------------------


def fingerprint_features(molecules: Molecules) -> np.ndarray:
    """The features of Duvenaud et al. 2015, float32 ``[A, 62 + 6]``: of the atom, and the sum of those of its bonds."""
    a = molecules.atoms
    parts = [_one_hot(a[:, _ELEMENT], len(ELEMENTS) + 1), _one_hot(a[:, _DEGREE], MAX_DEGREE + 1)]
    parts += [_one_hot(a[:, _HYDROGENS], 5), _one_hot(a[:, _VALENCE], 6), a[:, [_AROMATIC]]]
    return np.concatenate([*parts, bond_features(molecules).sum(1)], 1, dtype=np.float32)


def weave_features(molecules: Molecules) -> np.ndarray:
    """The features of each atom, as in DeepChem's Weave, float32 ``[A, 75]``."""
    a = molecules.atoms
    parts = [_one_hot(a[:, _ELEMENT], len(ELEMENTS) + 1), _one_hot(a[:, _DEGREE], 11), _one_hot(a[:, _VALENCE], 7)]
    parts += [a[:, [_CHARGE, _RADICALS]], _one_hot(a[:, _HYBRIDIZATION], len(HYBRIDIZATIONS)), a[:, [_AROMATIC]]]
    return np.concatenate([*parts, _one_hot(a[:, _HYDROGENS], 5)], 1, dtype=np.float32)


def bond_features(molecules: Molecules) -> np.ndarray:
    """The features of the bond to each neighbour, float32 ``[A, 5, 6]``; zeros where there is none."""
    return np.unpackbits(molecules.bonds[..., None], axis=-1, bitorder="little")[..., :6].astype(np.float32)


PAIR_FEATURES = 14
"""Features of a pair of atoms in Weave: its bond (6), whether a ring has both (1), and graph distance 1 to 7 (7)."""


class Pairs(NamedTuple):
    """Ordered pairs of atoms of each molecule, Q in total, sorted by the first atom; each atom also with itself.

    Attributes:
        starts: int32 ``[M + 1]``, the first pair of each molecule.
        first: int16 ``[Q]``, an atom, counted within its molecule.
        second: int16 ``[Q]``, the other one.
        reverse: int32 ``[Q]``, the place of the reversed pair, counted within the molecule.
        features: float32 ``[Q, 14]``, see `PAIR_FEATURES`.
        distance: int16 ``[Q]``, bonds on the shortest path; -1 where there is none.
    """

    starts: np.ndarray
    first: np.ndarray
    second: np.ndarray
    reverse: np.ndarray
    features: np.ndarray
    distance: np.ndarray


def pairs(molecules: Molecules, max_distance: int = 0) -> Pairs:
    """The pairs up to a graph distance; with 0, all pairs, also those that no path joins."""
    bonds, found = bond_features(molecules), []
    for begin, end in zip(molecules.starts[:-1], molecules.starts[1:], strict=True):
        n, neighbours = end - begin, molecules.neighbours[begin:end]
        one, slot = np.nonzero(neighbours >= 0)
        bonded = np.zeros((n, n, 6), np.float32)
        bonded[one, neighbours[one, slot]] = bonds[begin:end][one, slot]
        distances = graph_distances(neighbours)
        chosen = (distances >= 0) & (distances <= max_distance) if max_distance else np.ones((n, n), bool)
        first, second = np.nonzero(chosen)
        number = np.full((n, n), -1)
        number[first, second] = np.arange(len(first))
        distance = distances[first, second]
        rings = molecules.rings[begin:end]
        features = np.zeros((len(first), PAIR_FEATURES), np.float32)
        features[:, :6] = bonded[first, second]
        features[:, 6] = (rings[first] & rings[second] != 0) & (first != second)
        is_near = (distance >= 1) & (distance <= 7)
        features[is_near, 6 + distance[is_near]] = 1
        found.append((first, second, number[second, first], features, distance))
    starts = np.concatenate([[0], np.cumsum([len(one[0]) for one in found])]).astype(np.int32)
    kinds = (np.int16, np.int16, np.int32, np.float32, np.int16)
    columns = (
        np.concatenate(column).astype(kind) for column, kind in zip(zip(*found, strict=True), kinds, strict=True)
    )
    return Pairs(starts, *columns)


def graph_distances(neighbours: np.ndarray) -> np.ndarray:
    """Bonds on the shortest paths between the atoms of one molecule, ``[n, n]``; -1 where there is none."""
    n = len(neighbours)
    bonded = np.zeros((n, n), bool)
    one, slot = np.nonzero(neighbours >= 0)
    bonded[one, neighbours[one, slot]] = True
    distances, front, steps = np.full((n, n), -1), np.eye(n, dtype=bool), 0
    while front.any():
        distances[front] = steps
        front, steps = (front @ bonded) & (distances < 0), steps + 1
    return distances


def _one_hot(values: np.ndarray, size: int) -> np.ndarray:
    """One-hot rows ``[A, size]``; a value beyond the last counts as the last."""
    return np.eye(size, dtype=np.float32)[np.minimum(values, size - 1)]
