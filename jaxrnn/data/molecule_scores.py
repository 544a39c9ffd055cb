"""SMILES and rewards of molecules that were built, by RDKit."""

import functools
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from jaxrnn.data.molecules import import_rdkit, parse

ELEMENTS = ("C", "N", "O", "S", "P", "F", "Cl", "Br", "I")
VALENCES = (4, 3, 2, 2, 3, 1, 1, 1, 1)
"""The most bonds that moves give an atom, each counted by its order; sulphur and phosphorus could have more."""
ORDERS = 3
REWARDS = ("qed", "plogp")
"""Drug-likeness (Bickerton et al. 2012), and octanol-water log P with penalties for hard synthesis and large rings."""
# Mean and deviation over ZINC of logP, of the negative synthetic accessibility, and of the negative excess of the
# largest ring over six, as GCPN's environment has them.
_ZINC = (
    (2.4570953396190123, 1.434324401111988),
    (-3.0525811293166134, 0.8335207024513095),
    (-0.0485696876403053, 0.2860212110245455),
)


def smiles_of(atoms: np.ndarray, bonds: np.ndarray) -> str:
    """RDKit's canonical SMILES from elements ``[n]``, negative where there is no atom, and bond orders ``[n, n]``.

    Raises:
        ValueError: RDKit refuses the molecule.
    """
    chem = import_rdkit().Chem
    mol = chem.RWMol()
    for element in atoms[atoms >= 0].tolist():
        mol.AddAtom(chem.Atom(ELEMENTS[element]))
    kinds = chem.BondType.SINGLE, chem.BondType.DOUBLE, chem.BondType.TRIPLE
    for first, second in zip(*(places.tolist() for places in np.nonzero(np.triu(bonds))), strict=True):
        mol.AddBond(first, second, kinds[int(bonds[first, second]) - 1])
    chem.SanitizeMol(mol)
    found: str = chem.MolToSmiles(mol)
    return found


@functools.lru_cache(maxsize=2**16)
def score(smiles: str, reward: str) -> float:
    """One of `REWARDS` of a molecule; raises a ValueError if RDKit refuses it."""
    mol = parse(smiles)
    if reward == "qed":
        from rdkit.Chem import QED

        return float(QED.qed(mol))
    from rdkit.Chem import Crippen

    # GCPN took the largest ring of the cycle basis that networkx finds; the largest of RDKit's rings is as large.
    largest = max(map(len, mol.GetRingInfo().AtomRings()), default=0)
    parts = Crippen.MolLogP(mol), -_sascorer().calculateScore(mol), -max(0, largest - 6)
    return sum((part - mean) / deviation for part, (mean, deviation) in zip(parts, _ZINC, strict=True))


@functools.cache
def _sascorer() -> Any:
    """RDKit's contributed `sascorer`, which is not a module of its package."""
    from rdkit import RDConfig

    sys.path.append(str(Path(RDConfig.RDContribDir, "SA_Score")))
    return importlib.import_module("sascorer")


def read_start(smiles: str, max_atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Elements ``[a]`` and bond orders ``[a, a]`` of a molecule to start from, as `smiles_of` takes them.

    Raises:
        ValueError: it is not a molecule, is too large, or has something that no move makes; the message says which.
    """
    chem, mol = import_rdkit().Chem, parse(smiles)
    if mol.GetNumAtoms() > max_atoms:
        raise ValueError(f"has {mol.GetNumAtoms()} atoms, but there is room for {max_atoms}")
    chem.Kekulize(mol, clearAromaticFlags=True)
    for atom in mol.GetAtoms():
        name = atom.GetSymbol()
        if name not in ELEMENTS:
            raise ValueError(f"has the element {name}; moves add only {', '.join(ELEMENTS)}")
        if atom.GetFormalCharge() or atom.GetNumRadicalElectrons():
            raise ValueError(f"has a charge or a radical at {name}, which no move makes")
    if "." in smiles:
        raise ValueError("is more than one molecule")
    orders = np.rint(chem.GetAdjacencyMatrix(mol, useBO=True)).astype(np.int8)
    if orders.max(initial=0) > ORDERS:
        raise ValueError(f"has a bond of order {orders.max()}; moves make orders up to {ORDERS}")
    return np.array([ELEMENTS.index(atom.GetSymbol()) for atom in mol.GetAtoms()], np.int8), orders
