"""Keeps the predictions of all runs, and draws figures from them."""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.molecules import distances, properties
from experiments.molecules.predict import arm_of
from jaxrnn.data import molecules
from jaxrnn.data.files import DataError
from jaxrnn.rundir.directory import RunDirectory
from jaxrnn.rundir.restore import load_run
from jaxrnn.study import plots
from jaxrnn.study.arms import Arm
from jaxrnn.study.page import Figure
from jaxrnn.study.study import Evidence, Row

PREDICTIONS, REFUSED = "predictions.json", "refused.json"
_DRAWN = 4
"""Molecules that are drawn of each kind, the best and the worst."""


def write_predictions(path: Path, rows: Sequence[Row]) -> None:
    """Writes what each arm predicts for molecules that it did not see, and which molecules were refused.

    ``predictions.json`` begins with the names of all runs. For each arm, by the values of its swept fields, it has the
    molecules that were in the test part of a run: their SMILES, the `measured` value, how many `runs` tested them, and
    the mean and the `deviation` of these runs' predictions; for distances, the mean absolute `error` in each molecule
    by its number. ``refused.json`` has lines and reasons.
    """
    names = [row["run"] for row in rows if row["failed_at"] is None]
    file = path / PREDICTIONS
    if file.exists() and json.loads(file.read_bytes())["runs"] == names:
        return
    arms: dict[str, list[Any]] = {}
    for name in names:
        arms.setdefault(arm_of(name), []).append(load_run(path, name))
    found, refused = {}, []
    for arm, runs in arms.items():
        config, data = runs[0].config, runs[0].data
        is_property = config.task == "property"
        with jax.default_matmul_precision(config.precision):
            of_run = properties.test_predictor(config, data) if is_property else distances.test_errors(config)
            tested = [of_run(run.params, int(run.run.split(",")[0].removeprefix("seed="))) for run in runs]
        if is_property:
            dataset = properties.load(config)
            found[arm] = _summary(dataset.molecules.smiles, dataset.targets, tested)
        else:
            found[arm] = _errors(tested)
        of_set = dataset.refused if is_property else distances.load(config).refused
        refused += [one._asdict() for one in of_set if one._asdict() not in refused]
    with RunDirectory(path) as directory:
        directory.write(REFUSED, refused)
        directory.write(PREDICTIONS, {"runs": names, "arms": found}, indent=None)


def _summary(
    smiles: np.ndarray, targets: np.ndarray, tested: Sequence[tuple[np.ndarray, np.ndarray]]
) -> dict[str, Any]:
    """The mean and the deviation over the runs, for each molecule that was tested."""
    count, total, squares = np.zeros(len(targets)), np.zeros(len(targets)), np.zeros(len(targets))
    for ids, predicted in tested:
        errors = predicted.astype(np.float64) - targets[ids]  # So that squares lose no digits.
        count[ids] += 1
        total[ids] += errors
        squares[ids] += errors**2
    at = np.flatnonzero(count)
    mean = total[at] / count[at]
    deviation = np.sqrt(np.maximum(squares[at] / count[at] - mean**2, 0))
    columns = {"measured": targets[at], "predicted": targets[at] + mean, "deviation": deviation}
    rounded = {name: [float(f"{value:.5g}") for value in values] for name, values in columns.items()}
    return {"smiles": smiles[at].tolist(), "runs": count[at].astype(int).tolist(), **rounded}


def _errors(tested: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """The mean error over the runs, for each molecule that was tested."""
    ids, errors = (np.concatenate(parts) for parts in zip(*tested, strict=True))
    molecules_, of = np.unique(ids, return_inverse=True)
    means = np.bincount(of, errors) / np.bincount(of)
    return {"molecules": molecules_.tolist(), "error": [float(f"{error:.4g}") for error in means]}


def molecule_errors(arm: Arm) -> dict[int, float]:
    """By molecule, the mean absolute error of its distances over the runs of an arm; empty where none is kept."""
    kept = _kept_of(arm)
    return dict(zip(kept["molecules"], kept["error"], strict=True)) if "error" in kept else {}


# --- Figures ----------------------------------------------------------------------------------------------------------


def _kept(evidence: Evidence) -> list[tuple[str, Mapping[str, Any]]]:
    """The titles of the arms, and what is kept of their predictions of properties."""
    rows = [(title, _kept_of(arm)) for title, arm in evidence.rows() if arm]
    return [(title, kept) for title, kept in rows if "measured" in kept]


def _kept_of(arm: Arm) -> Mapping[str, Any]:
    """What the directory of an arm's first run keeps of the arm's predictions; empty where there is nothing."""
    file = arm.runs[0].path / PREDICTIONS
    found = json.loads(file.read_bytes())["arms"] if file.exists() else {}
    kept: Mapping[str, Any] = found.get(arm_of(arm.runs[0].name), {})
    return kept


def predicted_against_measured(evidence: Evidence) -> list[Figure]:
    """For each molecule, the mean over the runs that did not see it, with one standard deviation."""
    panels = [
        plots.Against(title, *(np.array(kept[name]) for name in ("measured", "predicted", "deviation")))
        for title, kept in _kept(evidence)
    ]
    if not panels:
        return []
    caption = (
        "Predicted against measured, a point for each molecule: the mean over the runs that had it in their test part, "
        "with one standard deviation over these runs"
    )
    alt = f"Scatter plots of predictions against measured values: {'; '.join(panel.title for panel in panels)}"
    return [Figure("molecules_predicted", plots.svg(plots.predicted_against_measured(panels)), caption, alt)]


def best_and_worst(evidence: Evidence) -> list[Figure]:
    """The molecules that an arm predicts best and worst, drawn by RDKit where it is installed."""
    figures = []
    for number, (title, kept) in enumerate(_kept(evidence), start=1):
        errors = np.abs(np.array(kept["predicted"]) - np.array(kept["measured"]))
        order = np.argsort(errors, kind="stable")
        chosen = [*order[:_DRAWN], *order[: -_DRAWN - 1 : -1]] if len(order) >= 2 * _DRAWN else list(order)
        drawn = tuple(
            (kept["smiles"][i], f"{kept['predicted'][i]:.3g}, measured {kept['measured'][i]:.3g}") for i in chosen
        )
        caption = f"{title}: the molecules that are predicted best (above) and worst (below)"
        try:
            svg = draw(drawn)
        except DataError:  # RDKit is not needed for reading results.
            return []
        figures.append(Figure(f"molecules_drawn_{number}", svg, caption, "; ".join(map(": ".join, drawn))))
    return figures


@functools.cache
def draw(shown: Sequence[tuple[str, str]]) -> str:
    """Draws SMILES with their legends, four in a row, as an SVG; raises DataError where RDKit is not installed."""
    molecules.import_rdkit()
    from rdkit.Chem import Draw

    mols = [molecules.parse(smiles) for smiles, _ in shown]
    legends = [legend for _, legend in shown]
    svg: str = Draw.MolsToGridImage(mols, molsPerRow=_DRAWN, subImgSize=(220, 180), legends=legends, useSVG=True)
    svg = svg if isinstance(svg, str) else svg.data
    return svg[svg.index("<svg") :]
