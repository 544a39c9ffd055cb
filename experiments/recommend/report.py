"""What the study of recommendation declares: its arms and baselines, claims, tables and figures."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.recommend import GCMC, LIGHTGCN, Config
from experiments.recommend import baselines
from experiments.recommend.build import MODELS, TOP, build, build_model, check, describe_data, pose
from jaxrnn.data import ratings
from jaxrnn.rundir.directory import RunDirectory, read_config
from jaxrnn.rundir.fields import make_config, saved_fields
from jaxrnn.study.arms import Arm, ArmScheme, Setting
from jaxrnn.study.baselines import BASELINES, baseline_arms
from jaxrnn.study.blocks import compare_on_blocks
from jaxrnn.study.claims import Claim, larger, within
from jaxrnn.study.compare import Differences
from jaxrnn.study.figures import Dots, SeedCurves
from jaxrnn.study.format import NONE
from jaxrnn.study.page import Figure
from jaxrnn.study.quantities import Mean, result
from jaxrnn.study.stats import Comparison
from jaxrnn.study.study import ArmTable, Evidence, Row, Study

_PROBLEM = ("task", "split", "test_fraction")
"""The fields that say, beside the data, what is measured."""
PUBLISHED = {"ml100k": 0.910, "flixster": 0.917}
"""RMSE of GC-MC without features (Berg et al. 2017, Tables 2 and 3)."""
ML100K: Setting = {"task": "rating", "model": "gcmc", "dataset": "ml100k"}
FLIXSTER: Setting = {**ML100K, "dataset": "flixster"}
LASTFM: Setting = {"task": "ranking", "model": "lightgcn", "dataset": "lastfm"}
TRUST: Setting = {**LASTFM, "trust": 1.0}


@dataclass(frozen=True)
class TestMeasure(Mean):
    """RMSE, recall or NDCG of the test part.

    Models are compared by means over seeds. Against a baseline without seeds, the model's seeds and groups of users are
    resampled, the groups for both alike.
    """

    sums: str = ""

    def compare(self, a: Arm, b: Arm) -> Comparison | str:
        """The first arm minus the second."""
        if a.is_trained and b.is_trained:
            return super().compare(a, b)
        return compare_on_blocks(self._sums(a), self._sums(b), self.sums == "squares")

    def _sums(self, arm: Arm) -> tuple[NDArray, NDArray]:
        """Sums and counts by group, ``[S, groups]``, of the runs that have a result."""
        rows = [run.result for run in arm.runs if self.value(run) is not None]
        names = f"test_{self.sums}_by_block", "test_counts_by_block"
        sums, counts = (np.array([row[name] for row in rows if row], np.float64) for name in names)
        return sums, counts


def _measure(name: str, key: str, sums: str, is_better: Any) -> TestMeasure:
    upper = np.inf if sums == "squares" else 1
    value = result(f"test_{key}", optional=True)
    return TestMeasure(name, value, ".4f", (0, upper), False, False, sums, is_better=is_better)


rmse = _measure("test RMSE", "rmse", "squares", "smaller")
recall = _measure(f"recall@{TOP}", "recall", "recall", "larger")
ndcg = _measure(f"NDCG@{TOP}", "ndcg", "ndcg", "larger")
best_step = Mean("step of the weights", result("best_step", optional=True), ".0f")


def _protocol(setting: Setting) -> Config:
    """The published settings of a model on the data that they are for."""
    kind = setting["model"], setting["dataset"]
    if kind == ("lightgcn", "lastfm"):
        return LIGHTGCN
    if kind in (("gcmc", "ml100k"), ("gcmc", "flixster")):
        return dataclasses.replace(GCMC, max_steps=999 if kind[1] == "ml100k" else 199)
    return Config()


def _title(setting: Setting) -> str:
    trust = f", trust {setting['trust']:g}" if setting["trust"] else ""
    return f"{setting['model']} on {setting['dataset'].rpartition('/')[2]}, {setting['task']}{trust}"


SCHEME = ArmScheme(
    Config,
    ("task", "model", "dataset", "trust"),
    _title,
    problem=("dataset", *_PROBLEM),
    paper=[ML100K, FLIXSTER, LASTFM, TRUST],
    defaults=_protocol,
)


# --- Baselines --------------------------------------------------------------------------------------------------------


def problem_of(setting: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """What is measured, from a setting and what ``config.json`` says of the data."""
    return {"data": data["sha256"], **{name: setting[name] for name in _PROBLEM}}


def finish(path: Path, rows: Sequence[Row]) -> None:
    """Writes the baselines of complete runs, once for each problem."""
    record = read_config(path)
    saved, known = saved_fields(Config, record["config"]), dict[str, dict[str, Any]]()
    for values in dict.fromkeys(json.dumps({field: row[field] for field in record["sweep"]}) for row in rows):
        config = make_config(Config, {**saved, **json.loads(values)})
        problem = pose(config)
        fields = problem_of(dataclasses.asdict(config), {"sha256": problem.data.sha256})
        key = json.dumps(fields)
        if key not in known:
            known[key] = {"fields": fields, "found": baselines.measure(config, problem)}
    with RunDirectory(path) as directory:
        directory.write(BASELINES, list(known.values()), indent=None)


# --- Tables and figures -----------------------------------------------------------------------------------------------


def _published(arm: Arm) -> str:
    value = PUBLISHED.get(arm.setting["dataset"]) if arm.setting["model"] == "gcmc" else None
    return NONE if value is None else f"{value:.3f}"


def _is(task: str) -> Any:
    return lambda arm: arm.setting["task"] == task


def _dots(evidence: Evidence) -> list[Figure]:
    """Each run and the estimate of each arm, a figure for each task and data set."""
    problems = dict.fromkeys(
        (arm.setting["task"], arm.setting["dataset"]) for _, arm in evidence.rows() if arm and arm.is_trained
    )
    figures = []
    for number, (task, dataset) in enumerate(problems, start=1):
        of = {rmse.name: rmse} if task == "rating" else {recall.name: recall, ndcg.name: ndcg}
        name = dataset.rpartition("/")[2]
        caption = f"{task.capitalize()} on {name}: each seed, and the mean with its 95 % interval"
        settings = [
            arm.setting
            for _, arm in evidence.rows()
            if arm and (arm.setting["task"], arm.setting["dataset"]) == (task, dataset)
        ]
        figures += Dots(f"recommend_{number}", caption, of, settings, from_zero=False)(evidence)
    return figures


STUDY = Study(
    name="recommend",
    title="Recommendation",
    config=Config,
    build=build,
    model=build_model,
    choices={"model": MODELS, "dataset": ratings.NAMES},
    check=check,
    data=describe_data,
    finish=finish,
    arms=SCHEME,
    quantities=[recall, ndcg, rmse],
    baselines=lambda arms: baseline_arms(SCHEME, arms, problem_of),
    metrics=("loss", "validation_error"),
    claims=[
        Claim(
            "a",
            "GC-MC reaches its published RMSE, at most 2 % above: .910 on `ml100k`, .917 on `flixster`",
            [within(rmse, arm, -np.inf, 1.02 * PUBLISHED[arm["dataset"]]) for arm in (ML100K, FLIXSTER)],
        ),
        Claim(
            "b",
            "GC-MC beats user and item biases",
            [larger(rmse, {**arm, "model": "biases"}, arm, "b", 2) for arm in (ML100K, FLIXSTER)],
        ),
        Claim(
            "c",
            "Friends help: on `lastfm` LightGCN finds more with the edges between users than without",
            [larger(one, TRUST, LASTFM, "c", 2) for one in (recall, ndcg)],
        ),
        Claim("d", "On `ml100k` GC-MC has an RMSE of at most .915", [within(rmse, ML100K, -np.inf, 0.915)]),
        Claim(
            "e",
            "On `lastfm` LightGCN finds what the closed-form filter does: recall@20 of at least .271",
            [within(recall, LASTFM, 0.271)],
        ),
    ],
    headline=ArmTable(
        "Data with a published protocol, and baselines that need no training; brackets are 95 % intervals over seeds",
        [rmse.cells, ("published", _published), recall.cells, ndcg.cells],
        lambda arm: arm.setting["dataset"] in (*PUBLISHED, "lastfm"),
    ),
    sections={
        "Ratings": [
            ArmTable("An arm without seeds needs no training", [rmse.cells, best_step.cells], _is("rating")),
        ],
        "Rankings": [
            ArmTable(
                f"What users took among the first {TOP} items",
                [recall.cells, ndcg.cells, best_step.cells],
                _is("ranking"),
            ),
            Differences(recall, [LASTFM, TRUST]),
        ],
        "Figures": [
            _dots,
            *(
                SeedCurves(f"recommend_{key}", caption, {key: axis}, settings=lambda arm: arm.is_trained)
                for key, axis, caption in (
                    ("loss", "loss", "Loss of each run"),
                    ("validation_error", "validation error", "RMSE, or 1 - NDCG, of the validation part"),
                )
            ),
        ],
    },
    note=(
        f"Recall and NDCG count the first {TOP} items that a user did not have in training, and are means over users "
        "with an item in the test part. Items with the same score may come in any order, and both are means over these "
        "orders. Baselines are fitted to the whole training part."
    ),
    tiny={"hidden_size": 4, "batch_size": 16, "max_steps": 4, "eval_every": 2, "chunk_steps": 2, "num_seeds": 2},
)
