"""What the study of molecules declares: its arms, quantities, claims, tables and figures."""

import functools
import logging
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from configs.molecules import Config
from experiments.molecules import distances, pictures, properties
from jaxrnn.data import geometries, molecule_sets
from jaxrnn.data.geometries import Geometries
from jaxrnn.data.molecule_sets import ColumnError, PropertySet
from jaxrnn.study import plots, stats
from jaxrnn.study.arms import Arm, ArmScheme, Found, Setting
from jaxrnn.study.claims import Claim, Finding, Part, larger, side_of, within
from jaxrnn.study.compare import Differences
from jaxrnn.study.figures import Dots, SeedCurves
from jaxrnn.study.format import NONE, format_estimate
from jaxrnn.study.page import Figure
from jaxrnn.study.quantities import Mean, result
from jaxrnn.study.study import ArmTable, Evidence, Row, Study
from jaxrnn.training.definition import ConfigError, Training, check_one_of

PROPERTY_MODELS = (*properties.USUAL, *properties.BASELINES)
_FEWEST = 10
"""The fewest molecules; a tenth of fewer is none."""
MODELS = {"property": PROPERTY_MODELS, "distances": (distances.NETWORK, *distances.BASELINES)}


def build(config: Config) -> Training:
    """The training of a config, for its task."""
    return distances.build(config) if config.task == "distances" else properties.build(config)


def build_model(config: Any, data: Mapping[str, Any]) -> Any:
    """The model of a config, for its task."""
    return distances.build_model(config) if config.task == "distances" else properties.build_model(config, data)


def describe(config: Config) -> dict[str, Any]:
    """What ``config.json`` keeps of the data."""
    return distances.describe(config) if config.task == "distances" else properties.describe(config)


def check(config: Config) -> None:
    """Refuses names that do not exist, columns that a file does not have, and refused molecules if they are fatal."""
    names = MODELS[config.task]
    if config.model:
        check_one_of("model", config.model, names)
    try:
        found = _load(config)
    except ColumnError as error:
        raise ConfigError(error.field, getattr(config, error.field), error.reason) from error
    said = ""
    if found.refused:
        first = found.refused[0]
        said = f"{len(found.refused)} molecules are refused, the first in line {first.line}: {first.reason}"
        if config.refused == "fatal":
            raise ConfigError("refused", config.refused, said)
    if (count := len(found.molecules.smiles)) < _FEWEST:
        raise ConfigError("dataset", config.dataset, f"has {count} molecules that can be used; {_FEWEST} are needed")
    if said:
        _warn(said)


@functools.cache
def _warn(said: str) -> None:
    """Warns once, because a config is checked several times."""
    logging.getLogger("jaxrnn").warning("%s; they are left out, and listed in refused.json", said)


def _load(config: Config) -> PropertySet | Geometries:
    if config.task == "property":
        if config.dataset not in molecule_sets.NAMES and not config.target:
            raise ConfigError("target", config.target, f"should be the column of {config.dataset} that is learned")
        return properties.load(config)
    if config.dataset != geometries.NAME and not config.dataset.endswith(".npz"):
        reason = f"has no positions of atoms; take {geometries.NAME}, or an NPZ file with them"
        raise ConfigError("dataset", config.dataset, reason)
    if config.split == "scaffold":
        raise ConfigError("split", config.split, "should be random or folds for distances")
    return distances.load(config)


def finish(path: Path, rows: Sequence[Row]) -> None:
    """Writes what the pictures are made of."""
    pictures.write_predictions(path, rows)


# --- What is declared -------------------------------------------------------------------------------------------------

_SIZE: Any = {"within": (0, inf), "paired": True, "is_better": "smaller"}
rmse = Mean("test RMSE", result("test_rmse"), ".3f", deviation=True, **_SIZE)
mae = Mean("test MAE", result("test_mae"), ".3f", **_SIZE)
rmsd = Mean("test RMSD", result("test_rmsd", optional=True), ".3f", **_SIZE)
# What hyperparameters are chosen by.
validation = Mean("validation RMSE", result("validation_rmse", optional=True), ".3f", **_SIZE)


def _mean_square(run: Any) -> float | None:
    found = rmse.value(run)
    return None if found is None else found**2


mse = Mean("test MSE", _mean_square, ".3f", **_SIZE)

ESOL, FREESOLV, LIPOPHILICITY = (
    {model: {"model": model, "dataset": name} for model in ("fingerprint", "weave", "gcn", *properties.BASELINES)}
    for name in ("esol", "freesolv", "lipophilicity")
)
FOLDS: dict[tuple[str, str], Setting] = {
    (name, head): {"model": "fingerprint", "dataset": name, "split": "folds", "head": head}
    for name in ("esol", "cep")
    for head in ("linear", "network")
}
GEOMETRY: dict[str, Setting] = {
    model: {"task": "distances", "dataset": "qm9", "model": model} for model in MODELS["distances"]
}
PAPER = [*(arm for arms in (ESOL, FREESOLV, LIPOPHILICITY, FOLDS, GEOMETRY) for arm in arms.values())]
# Duvenaud et al. 2015, Table 1: mean square errors over five folds with their deviations.
PUBLISHED = {("esol", "linear"): 0.77, ("esol", "network"): 0.52, ("cep", "linear"): 2.58, ("cep", "network"): 1.43}
RANGES = {"esol": (0.45, 0.59), "cep": (1.34, 1.52)}


def _label(setting: Setting) -> str:
    linear = ", linear" if setting["head"] == "linear" else ""
    split = "" if setting["split"] == "random" else f", {setting['split']}"
    target = f" ({setting['target']})" if setting["target"] else ""
    where = "distances in" if setting["task"] == "distances" else "on"
    return f"{setting['model']}{linear}, {where} {setting['dataset']}{target}{split}"


def _normalize(setting: dict[str, Any]) -> dict[str, Any]:
    """Identifies files by name, and makes the default model explicit."""
    model = setting["model"] or MODELS[setting["task"]][0]
    return {**setting, "dataset": setting["dataset"].rpartition("/")[2], "model": model}


def _smaller_by_molecules(other: str) -> Part:
    """The network's mean absolute error in a molecule is smaller, over the molecules that both were tested on."""

    def find(found: Found) -> Finding:
        arms = [found.arm(GEOMETRY[model]) for model in (other, "network")]
        if None in arms:
            return Finding(0, f"no runs of {other}, or none of the network")
        errors = [pictures.molecule_errors(arm) for arm in arms if arm]
        both = sorted(errors[0].keys() & errors[1].keys())
        estimate = stats.mean([errors[0][molecule] - errors[1][molecule] for molecule in both])
        said = f"{other} minus network, by {len(both)} molecules: {format_estimate(estimate, '+.4f')} Å"
        return Finding(side_of(estimate, 0), said, arms=[arm for arm in arms if arm])

    rule = "mean absolute error: the 95 % interval of the difference over molecules lies above 0"
    return Part(find, rule)


def _errors_by_path(evidence: Evidence) -> list[Figure]:
    """How far predicted distances are off, by the number of bonds between the atoms."""
    bands = []
    for number, (title, arm) in enumerate(evidence.rows(lambda arm: arm.setting["task"] == "distances")):
        results = [run.result for run in arm.runs if run.result] if arm else []
        curves = [one["mae_by_path"] for one in results if one["mae_by_path"]]
        if curves:
            values = np.array(curves, np.float64)
            bands.append(plots.Band(title, plots.COLOURS[number % len(plots.COLOURS)], values, dashed=number % 2 == 1))
    if not bands:
        return []
    plot = plots.decays({"": bands}, "bonds between the atoms", "mean absolute error, Å")
    caption = (
        "Distances: errors by the number of bonds on the shortest path; the band reaches from the best to the worst run"
    )
    alt = f"Errors of distances by path length: {'; '.join(band.label for band in bands)}"
    return [Figure("molecules_paths", plots.svg(plot), caption, alt)]


def _published(arm: Arm) -> str:
    setting = arm.setting
    key = setting["dataset"], setting["head"]
    is_papers = setting["model"] == "fingerprint" and setting["split"] == "folds"
    return f"{PUBLISHED[key]:.2f}" if is_papers and key in PUBLISHED else NONE


def _is_property(arm: Arm) -> bool:
    return bool(arm.setting["task"] == "property")


PICTURES = (_errors_by_path, pictures.predicted_against_measured, pictures.best_and_worst)
ARMS = ArmScheme(
    Config,
    ("task", "model", "dataset", "target", "split", "head"),
    _label,
    problem=("task", "dataset", "target", "split"),
    paper=PAPER,
    normalize=_normalize,
)

STUDY = Study(
    name="molecules",
    title="Molecules",
    config=Config,
    build=build,
    model=build_model,
    check=check,
    data=describe,
    finish=finish,
    choices={"model": [name for names in MODELS.values() for name in names]},
    arms=ARMS,
    quantities=[rmse, mae, rmsd, validation],
    metrics=("loss", "validation_rmse", "validation_mae"),
    claims=[
        Claim(
            "a",
            "Neural fingerprints beat the circular ones of the paper's authors (ESOL: MSE 1.71 linear, 1.40 network)",
            [within(mse, FOLDS["esol", head], -inf, most) for head, most in (("linear", 1.71), ("network", 1.40))],
        ),
        Claim(
            "b",
            "Neural fingerprints beat ridge regression on circular counts (ESOL)",
            [larger(rmse, ESOL["ridge"], ESOL["fingerprint"], "models", 2)],
        ),
        Claim(
            "c",
            "Weave beats the neural fingerprint (ESOL)",
            [larger(rmse, ESOL["fingerprint"], ESOL["weave"], "models", 2)],
        ),
        Claim(
            "d",
            "Duvenaud's Table 1 for solubility and photovoltaic efficiency, within one of its deviations",
            [within(mse, FOLDS[name, "network"], *ends) for name, ends in RANGES.items()],
        ),
        Claim(
            "e",
            "Test RMSE over random splits: fingerprint below 0.77 on ESOL, 1.4 on FreeSolv and 0.72 on Lipophilicity; "
            "Weave below 0.68 on ESOL",
            [
                within(rmse, arm, -inf, most)
                for arm, most in (
                    (ESOL["fingerprint"], 0.77),
                    (FREESOLV["fingerprint"], 1.4),
                    (LIPOPHILICITY["fingerprint"], 0.72),
                    (ESOL["weave"], 0.68),
                )
            ],
        ),
        *(
            Claim(
                key,
                f"Of the distances between heavy atoms, the network has smaller absolute errors than {name}",
                [_smaller_by_molecules(model)],
            )
            for key, model, name in (("f", "etkdg", "one ETKDG conformer"), ("g", "table", "the table"))
        ),
    ],
    headline=ArmTable(
        "Test errors; the published ones are mean squares over five folds (Duvenaud et al. 2015); brackets are "
        "95 % intervals over seeds",
        [("published MSE", _published), mse.cells, rmse.cells, mae.cells],
        ARMS.is_paper,
    ),
    sections={
        "Errors": [
            ArmTable("Errors in the target's unit", [rmse.cells, mae.cells, validation.cells], _is_property),
            ArmTable(
                "Errors of distances, and of positions after alignment (RMSD), in Å",
                [rmse.cells, mae.cells, rmsd.cells],
                lambda arm: not _is_property(arm),
            ),
            Differences(rmse, PAPER),
        ],
        "Figures": [
            Dots("errors", "Test errors: each run, the mean with its 95 % interval", {rmse.name: rmse, mae.name: mae}),
            SeedCurves("steps", "Loss and validation RMSE", {"loss": "loss", "validation_rmse": "validation RMSE"}),
            *PICTURES,
        ],
    },
    pictures=PICTURES,
    note=(
        "Errors are in the target's unit. A seed is a random split (80, 10 and 10 % for training, validation and test) "
        "and its weights, which are those with the lowest validation RMSE (of distances, the lowest MAE). With "
        "`split=scaffold`, the split is the same for all seeds; with `split=folds`, there are five."
    ),
    needs="rdkit",
    tiny={
        "model": "gcn",
        "head": "linear",
        "max_steps": 8,
        "eval_every": 4,
        "chunk_steps": 4,
        "num_seeds": 2,
        "hidden_size": 8,
        "fingerprint_size": 8,
        "num_layers": 1,
    },
)
