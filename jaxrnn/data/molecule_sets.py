"""Sets of molecules with a measured property, by name or from the user's own file, and how they are split."""

import csv
import functools
import hashlib
import io
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.arrays import Array, Key
from jaxrnn.data import files, molecules
from jaxrnn.data.files import DataError
from jaxrnn.data.molecules import Molecules, Refused

EMBEDDED, QM9 = "nci", "molecules/qm9_20k.npz"
_EMBEDDED_SIZE = 400


class Known(NamedTuple):
    """A known file, its columns, and the unit of the property, with the factor that converts to it."""

    place: str
    smiles: str
    target: str
    unit: str
    factor: float = 1.0


KNOWN = {
    "esol": Known(
        "molecules/delaney-processed.csv", "smiles", "measured log solubility in mols per litre", "log10(mol/l)"
    ),
    "freesolv": Known("molecules/freesolv.csv", "smiles", "expt", "kcal/mol"),
    "lipophilicity": Known("molecules/Lipophilicity.csv", "smiles", "exp", "log D"),
    "cep": Known("molecules/cep-processed.csv", "smiles", "PCE", "%"),
    "qm9_gap": Known(QM9, "smiles", "HOMO_LUMO_gap_au", "eV", 27.211386),
}
"""Delaney 2004, Mobley and Guthrie 2014, ChEMBL by MoleculeNet, Harvard Clean Energy Project, and the gap of QM9."""
NAMES = (EMBEDDED, *KNOWN)


class ColumnError(Exception):
    """A file has no such column; `field` is the field of the config that names it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field, self.reason = field, reason


class PropertySet(NamedTuple):
    """Molecules with one number each.

    Attributes:
        targets: float64 ``[M]``, in `unit`.
        refused: the molecules that are left out.
        sha256: of the file, or of the list of SMILES.
    """

    molecules: Molecules
    targets: np.ndarray
    unit: str
    refused: list[Refused]
    sha256: str


@functools.lru_cache(maxsize=8)
def load(name: str, smiles: str = "", target: str = "", max_atoms: int = 0) -> PropertySet:
    """A set of `NAMES`, or of a file: CSV with a header, or NPZ with the arrays of `Geometry` and `properties`.

    `nci` has 400 molecules that come with RDKit, and the logarithm of their partition coefficient as RDKit computes it
    (Crippen's model).

    Args:
        name: of the set, or the path of a file.
        smiles: the column with the SMILES.
        target: the column with the measured number.
        max_atoms: larger molecules are refused; 0 for no limit.

    Raises:
        DataError: the set cannot be obtained, a target is not a number, or no molecule can be used.
        ColumnError: the file has no such column.
    """
    if name == EMBEDDED:
        return _embedded(max_atoms)
    known = KNOWN.get(name, Known(name, smiles or "smiles", target, target))
    path, raw = read_file(known.place)
    texts, numbers, lines = _columns(path, raw, known) if path.suffix != ".npz" else _arrays(path, raw, known)
    if not texts:
        raise DataError(f"{path}: has no molecule")
    try:
        found, refused = molecules.read(texts, lines, max_atoms)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    number_of = dict(zip(lines, numbers, strict=True))
    targets = np.array([number_of[line] for line in found.lines.tolist()]) * known.factor
    return PropertySet(found, targets, known.unit, refused, hashlib.sha256(raw).hexdigest())


def read_file(place: str) -> tuple[Path, bytes]:
    """The path and the bytes of a known file by its place, or of another by its path; a DataError if it is missing."""
    if place in files.KNOWN:
        return files.read_known(place)
    if place == QM9:  # Converted from a package: the file has no address.
        data_dir = os.environ.get("JAXRNN_DATA_DIR") or files.cache_dir()
        path = Path(data_dir, place)
        reason = f"there is no {path}; give --data_dir=DIR, or --config.dataset=FILE.npz with the same arrays"
    else:
        path = Path(place)
        reason = f"there is no file {place!r}, and no set of that name; there are {', '.join(NAMES)}"
    if (raw := files.read_if_there(path)) is None:
        raise DataError(reason)
    return path, raw


def _columns(path: Path, raw: bytes, known: Known) -> tuple[list[str], list[float], list[int]]:
    """SMILES, numbers and lines of a CSV file."""
    try:
        reader = csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True)
        header = [name.strip() for name in next(reader, [])]
        places = []
        for field, column in (("smiles", known.smiles), ("target", known.target)):
            if column not in header:
                raise ColumnError(field, f"{path} has no such column; it has {_listed(header)}")
            places.append(header.index(column))
        texts, numbers, lines = [], [], []
        for row in reader:
            if not any(row):
                continue
            if len(row) <= max(places):
                raise DataError(f"{path}, line {reader.line_num}: {len(row)} cells where the header has {len(header)}")
            text, number = (row[place].strip() for place in places)
            texts.append(text)
            numbers.append(_number(number, f"{path}, line {reader.line_num}"))
            lines.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}") from error
    return texts, numbers, lines


def _listed(names: list[str]) -> str:
    return ", ".join(name if name.isprintable() else repr(name) for name in names) or "none"


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise DataError(f"{where}: the target {text!r} is not a number")
    return number


def _arrays(path: Path, raw: bytes, known: Known) -> tuple[list[str], list[float], list[int]]:
    """SMILES and numbers of an NPZ file, and their places from 1 as lines."""
    arrays = read_arrays(path, raw, ("smiles", "properties", "property_names"))
    texts, names = ([str(one) for one in arrays[key].reshape(-1).tolist()] for key in ("smiles", "property_names"))
    if known.target not in names:
        raise ColumnError("target", f"{path} has no such property; it has {_listed(names)}")
    properties = arrays["properties"]
    if properties.shape != (len(texts), len(names)) or properties.dtype.kind not in "iuf":
        raise DataError(f"{path}: properties should be numbers {[len(texts), len(names)]}, not {_form(properties)}")
    numbers = properties[:, names.index(known.target)].astype(np.float64)
    if not (is_number := np.isfinite(numbers)).all():
        raise DataError(f"{path}: the target of molecule {np.argmin(is_number) + 1} is not a number")
    return texts, numbers.tolist(), list(range(1, len(texts) + 1))


def read_arrays(path: Path, raw: bytes, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays with these names in an NPZ file, without pickles.

    Raises:
        DataError: it is not an NPZ file, is damaged, or lacks an array.
    """
    try:
        with np.load(io.BytesIO(raw)) as file:
            missing = [name for name in names if name not in file]
            arrays = {name: file[name] for name in names if name in file}
    except Exception as error:  # Damaged bytes can raise anything.
        raise DataError(f"{path} is not a file of NumPy arrays (.npz), or is damaged") from error
    if missing:
        raise DataError(f"{path} has no array {missing[0]!r}; it should have {', '.join(names)}")
    return arrays


def _form(array: np.ndarray) -> str:
    return f"{array.dtype} {[*array.shape]}"


def _embedded(max_atoms: int) -> PropertySet:
    rdkit = molecules.import_rdkit()
    from rdkit import RDConfig
    from rdkit.Chem import Crippen

    text = Path(RDConfig.RDDataDir, "NCI", "first_5K.smi").read_text()
    rows = [line.split()[0] for line in text.splitlines() if line.strip()][:_EMBEDDED_SIZE]
    found, refused = molecules.read(rows, list(range(1, len(rows) + 1)), max_atoms)
    del rdkit
    targets = np.array([Crippen.MolLogP(molecules.parse(one)) for one in found.smiles.tolist()])
    return PropertySet(found, targets, "log P", refused, hashlib.sha256("\n".join(rows).encode()).hexdigest())


# --- Splits -----------------------------------------------------------------------------------------------------------

SPLITS = ("random", "scaffold", "folds")


class Parts(NamedTuple):
    """The molecules for training, validation and test, by their numbers: int ``[n]`` each, of NumPy or JAX."""

    train: Any
    validation: Any
    test: Any


def draw_parts(split: str, key: Key, seed: Array | int, order: Array | np.ndarray) -> Parts:
    """The parts of a run, a function of its seed that works under `jax.jit`.

    `random` draws 80, 10 and 10 % by the key. `scaffold` cuts the given order in these shares, the same for all seeds.
    `folds` cuts that order into five folds: the one with the number of the seed, modulo five, is for the test, the next
    one for validation, and the other three for training.

    Args:
        split: one of `SPLITS`.
        key: of the run.
        seed: of the run.
        order: int ``[M]``, from `fixed_order`.
    """
    count = len(order)
    if split == "folds":
        fold = count // 5
        rolled = jnp.roll(jnp.asarray(order), -(seed % 5) * fold)
        return Parts(rolled[2 * fold :], rolled[fold : 2 * fold], rolled[:fold])
    numbers = jax.random.permutation(key, count) if split == "random" else jnp.asarray(order)
    tenth = max(1, round(count / 10))
    return Parts(numbers[: count - 2 * tenth], numbers[count - 2 * tenth : count - tenth], numbers[count - tenth :])


def fixed_order(split: str, found: Molecules) -> np.ndarray:
    """The order that a split cuts, int32 ``[M]``: for `scaffold` the molecules of the most frequent scaffolds first.

    Scaffolds are those of Bemis and Murcko; equally frequent ones stay in the order of the file, as in MoleculeNet. The
    order of the folds is random, but always the same.
    """
    count = len(found.smiles)
    if split != "scaffold":
        return np.random.default_rng(0).permutation(count).astype(np.int32)
    from rdkit.Chem.Scaffolds import MurckoScaffold

    groups: dict[str, list[int]] = {}
    for number, text in enumerate(found.smiles.tolist()):
        scaffold = MurckoScaffold.MurckoScaffoldSmiles(mol=molecules.parse(text), includeChirality=False)
        groups.setdefault(scaffold, []).append(number)
    return np.array([n for group in sorted(groups.values(), key=len, reverse=True) for n in group], np.int32)
