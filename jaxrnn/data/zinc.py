"""ZINC's 250 000 molecules, if the user has the file: what is already known, and the best of what can be bought."""

import functools
import hashlib
import io
import os
import tarfile
from pathlib import Path
from typing import NamedTuple

from jaxrnn.data.files import DataError, cache_dir, read_if_there
from jaxrnn.data.molecules import import_rdkit

PLACE = "molecules/zinc250k.tar.gz"
"""In the user's folder or the cache: a tar of one text file, with a SMILES in each line."""


class Zinc(NamedTuple):
    """The molecules as in the file, RDKit's canonical SMILES of all without stereochemistry, and the file's digest."""

    smiles: list[str]
    known: frozenset[str]
    sha256: str


@functools.cache
def load() -> Zinc | None:
    """The molecules, or None if there is no file. The first call takes a minute or two; canonical SMILES are cached.

    Raises:
        DataError: the file is damaged, or RDKit is not installed.
    """
    data_dir = os.environ.get("JAXRNN_DATA_DIR")
    folders = [*([Path(data_dir)] if data_dir else []), cache_dir()]
    for folder in folders:
        if (raw := read_if_there(folder / PLACE)) is not None:
            return _read(folder / PLACE, raw)
    return None


def _read(path: Path, raw: bytes) -> Zinc:
    try:
        with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
            (member,) = [one for one in tar.getmembers() if one.isfile()]
            file = tar.extractfile(member)
            lines = file.read().decode("ascii").split("\n") if file else []
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise DataError(f"{path} is not a tar of one text file of SMILES") from error
    smiles = [line.split()[0] for line in lines if line.strip()]
    if not smiles:
        raise DataError(f"{path}: its file has no SMILES")
    digest = hashlib.sha256(raw).hexdigest()
    cached = cache_dir() / "molecules" / f"zinc_{import_rdkit().__version__}_{digest}.txt"
    if (found := read_if_there(cached)) is None:
        found = "\n".join(_canonical(path, smiles)).encode()
        cached.parent.mkdir(parents=True, exist_ok=True)
        partial = cached.with_suffix(f".{os.getpid()}")  # Other processes may write it too.
        partial.write_bytes(found)
        partial.replace(cached)
    return Zinc(smiles, frozenset(found.decode().split()), digest)


def _canonical(path: Path, smiles: list[str]) -> list[str]:
    rdkit, found = import_rdkit(), []
    with rdkit.rdBase.BlockLogs():
        for one in smiles:
            if (mol := rdkit.Chem.MolFromSmiles(one)) is None:
                raise DataError(f"{path}: {one[:60]!r} is not a molecule; leave its line out, as for a header")
            found.append(rdkit.Chem.MolToSmiles(mol, isomericSmiles=False))
    return found
