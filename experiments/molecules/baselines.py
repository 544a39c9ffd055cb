"""Predictions that need no training by gradients: the mean, and ridge and random forest on Morgan counts."""

import functools
from typing import Any

import numpy as np

from jaxrnn.data import molecules
from jaxrnn.data.files import DataError
from jaxrnn.data.molecule_sets import Parts

RADIUS, BITS = 2, 2048
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
TREES = 200


def predict(name: str, smiles: tuple[str, ...], targets: np.ndarray, parts: Parts, seed: int) -> np.ndarray:
    """Predictions ``[M]`` for all molecules by a baseline that has seen the training part.

    Args:
        name: `mean`, `ridge` (its penalty is the best of `PENALTIES` in validation) or `forest`.
        smiles: SMILES of the molecules.
        targets: float ``[M]``.
        parts: parts of the run.
        seed: seed of the forest.

    Raises:
        DataError: scikit-learn is not installed, for the forest.
    """
    known = targets[parts.train]
    if name == "mean":
        return np.full(len(targets), known.mean())
    counts = morgan_counts(smiles)
    if name == "forest":
        return _forest(counts[parts.train], known, seed).predict(counts)
    found = [ridge(counts[parts.train], known, penalty, counts) for penalty in PENALTIES]
    return min(found, key=lambda one: np.sum((one - targets)[parts.validation] ** 2))


@functools.lru_cache(maxsize=1)
def morgan_counts(smiles: tuple[str, ...]) -> np.ndarray:
    """How often each circular substructure occurs, hashed to 2048 places: ``[M, 2048]``, float32."""
    molecules.import_rdkit()
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    rows = [generator.GetCountFingerprintAsNumPy(molecules.parse(one)) for one in smiles]
    return np.array(rows, np.float32)


def ridge(x: np.ndarray, y: np.ndarray, penalty: float, others: np.ndarray) -> np.ndarray:
    """What ridge regression of ``y [n]`` on ``x [n, D]``, with an intercept, predicts for ``others [m, D]``."""
    middle, centered = x.mean(0, np.float64), x - x.mean(0, np.float64)
    if len(x) < x.shape[1]:  # The smaller of the two equivalent systems.
        weights = centered.T @ np.linalg.solve(centered @ centered.T + penalty * np.eye(len(x)), y - y.mean())
    else:
        normal = centered.T @ centered + penalty * np.eye(x.shape[1])
        weights = np.linalg.solve(normal, centered.T @ (y - y.mean()))
    return (others - middle) @ weights + y.mean()


def _forest(x: np.ndarray, y: np.ndarray, seed: int) -> Any:
    try:
        from sklearn.ensemble import RandomForestRegressor
    except ImportError as error:
        reason = "scikit-learn is not installed, which a random forest needs; pip install -e '.[molecules]' installs it"
        raise DataError(reason) from error
    # A third of the features at a split, as is usual in regression.
    return RandomForestRegressor(TREES, max_features=1 / 3, random_state=seed).fit(x, y)
