"""What is kept of the predictions of all runs, and what is drawn of it."""

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
from jaxrnn.rundir.directory import RunDirectory
from jaxrnn.rundir.restore import load_run
from jaxrnn.study import plots
from jaxrnn.study.page import Figure
from jaxrnn.study.study import Evidence, Row

PREDICTIONS, REFUSED = "predictions.json", "refused.json"
_DRAWN = 4
"""Molecules of each kind, the best and the worst."""


def write_predictions(path: Path, rows: Sequence[Row]) -> None:
    """Writes what each arm predicts of molecules that it did not see, and which molecules were refused.

    Of an arm, by the values of its swept fields, ``predictions.json`` has the molecules that were in the test part of a
    run: their SMILES, what was `measured`, of how many `runs` they were, and the mean and the `deviation` of what these
    runs predict; first come the names of all runs. ``refused.json`` has lines and reasons.
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
        if config.task == "distances":
            refused += [one._asdict() for one in distances.load(config).refused if one._asdict() not in refused]
            continue
        dataset = properties.load(config)
        with jax.default_matmul_precision(config.precision):
            predict = properties.test_predictor(config, data)
            tested = [predict(run.params, int(run.run.split(",")[0].removeprefix("seed="))) for run in runs]
        found[arm] = _summary(dataset.molecules.smiles, dataset.targets, tested)
        refused += [one._asdict() for one in dataset.refused if one._asdict() not in refused]
    with RunDirectory(path) as directory:
        directory.write(REFUSED, refused)
        directory.write(PREDICTIONS, {"runs": names, "arms": found}, indent=None)


def _summary(
    smiles: np.ndarray, targets: np.ndarray, tested: Sequence[tuple[np.ndarray, np.ndarray]]
) -> dict[str, Any]:
    """Of each molecule that was tested, over the runs."""
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


# --- Figures ----------------------------------------------------------------------------------------------------------


def _kept(evidence: Evidence) -> list[tuple[str, Mapping[str, Any]]]:
    """The titles of the arms, and their predictions in the first of their directories."""
    found = []
    for title, arm in evidence.rows():
        if arm is None or not (file := arm.runs[0].path / PREDICTIONS).exists():
            continue
        name = arm_of(arm.runs[0].name)
        if name in (kept := json.loads(file.read_bytes())["arms"]):
            found.append((title, kept[name]))
    return found


def predicted_against_measured(evidence: Evidence) -> list[Figure]:
    """Of each molecule the mean over the runs that did not see it, with a standard deviation."""
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
        caption = f"{title}: the molecules that are predicted best, above, and worst, below"
        try:
            svg = _draw(drawn)
        except molecules.DataError:  # Whoever only reads results may not have it.
            return []
        figures.append(Figure(f"molecules_drawn_{number}", svg, caption, "; ".join(map(": ".join, drawn))))
    return figures


@functools.cache
def _draw(shown: Sequence[tuple[str, str]]) -> str:
    molecules.import_rdkit()
    from rdkit.Chem import Draw

    mols = [molecules.parse(smiles) for smiles, _ in shown]
    legends = [legend for _, legend in shown]
    svg: str = Draw.MolsToGridImage(mols, molsPerRow=_DRAWN, subImgSize=(220, 180), legends=legends, useSVG=True)
    svg = svg if isinstance(svg, str) else svg.data
    return svg[svg.index("<svg") :]
