"""Predictions for molecules that a user names, by all runs of a directory."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.molecules import distances, properties
from jaxrnn.data import molecules
from jaxrnn.rundir.directory import RunError
from jaxrnn.rundir.restore import Loaded, load_all, load_run

_BATCH = 50


def arm_of(run: str) -> str:
    """The swept values in the name of a run; empty without a sweep."""
    return ",".join(part for part in run.split(",") if not part.startswith("seed="))


def predict(workdir: Path, part: str, smiles: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A row for each molecule (for distances, each pair of its atoms) and arm, and for each refused molecule.

    A row has the arm, the SMILES, and the prediction: the mean over the runs, their standard deviation (None for a
    single run), the number of runs, and the unit. The row of a refused molecule has the SMILES and a `reason`.

    Raises:
        RunError, CheckpointError: as in `jaxrnn.load`, or there is no run that can predict.
        DataError: RDKit is not installed, or none of the molecules can be used.
    """
    found, refused = molecules.read(smiles, list(range(1, len(smiles) + 1)))
    arms: dict[str, list[Loaded]] = {}
    for run in load_all(workdir, part):
        arms.setdefault(arm_of(run), []).append(load_run(workdir, run))
    trained = {arm: runs for arm, runs in arms.items() if "predictions" not in runs[0].params}
    if not trained:
        raise RunError(f"{workdir}: its runs are of baselines, which predict nothing but what they were made for")
    yield from ({"smiles": one.smiles, "reason": one.reason} for one in refused)
    for arm, runs in trained.items():
        config, data = runs[0].config, runs[0].data
        of_task = _distances if config.task == "distances" else _properties
        with jax.default_matmul_precision(config.precision):
            for smiles_of, what, values in of_task(config, data, [run.params for run in runs], found):
                deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
                said = {"predicted": float(np.mean(values)), "deviation": deviation, "runs": len(values)}
                yield {"arm": arm, "smiles": smiles_of, **what, **said, "unit": data["unit"]}


def in_words(row: dict[str, Any]) -> str:
    """A row of `predict` as a line of text."""
    if "reason" in row:
        return f"{row['smiles']}: refused: {row['reason']}"
    spread = "" if row["deviation"] is None else f" ± {row['deviation']:.2g} over {row['runs']} runs"
    atoms = f"{'-'.join(map(str, row['atoms']))}: " if "atoms" in row else ""
    arm = f" ({row['arm']})" if row["arm"] else ""
    return f"{row['smiles']}: {atoms}{row['predicted']:.4g}{spread} {row['unit']}{arm}"


def _properties(
    config: Any, data: Any, params: Sequence[Any], found: molecules.Molecules
) -> Iterator[tuple[str, dict[str, Any], np.ndarray]]:
    packed = properties.pack(config, found)
    model = properties.build_model(config, data)
    evaluate = jax.jit(properties.evaluator(model, packed, min(_BATCH, len(found.smiles))))
    values = np.array([evaluate(one, packed, np.arange(len(found.smiles))) for one in params])
    for smiles, column in zip(found.smiles.tolist(), values.T, strict=True):
        yield smiles, {}, column


def _distances(
    config: Any, data: Any, params: Sequence[Any], found: molecules.Molecules
) -> Iterator[tuple[str, dict[str, Any], np.ndarray]]:
    """Atoms are counted from 0 in the order of the SMILES."""
    del data
    model, most = distances.build_model(config), int(found.sizes.max())
    dense = distances.read_dense(found)
    apply = jax.jit(lambda one: model.apply({"params": one}, *dense))
    values = np.array([np.stack(apply(one)) for one in params])
    first, second = np.triu_indices(most, 1)
    for m, smiles in enumerate(found.smiles.tolist()):
        order = found.order[found.starts[m] : found.starts[m + 1]]
        for pair in np.flatnonzero(np.asarray(dense[2][m])):
            atoms = sorted((int(order[first[pair]]), int(order[second[pair]])))
            spread = float(values[:, 1, m, pair].mean())
            yield smiles, {"atoms": atoms, "spread": spread}, values[:, 0, m, pair]
