"""What the study of nodes declares of its arms: published numbers, quantities, baselines and claims."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from configs.nodes import DIGITS, DOCUMENTS, GAT, Config
from experiments.nodes import baselines
from experiments.nodes.results import BASELINES, WRONG, problem_of, read
from jaxrnn.data import documents, knn, nodes
from jaxrnn.rundir.read import Run
from jaxrnn.study import stats
from jaxrnn.study.arms import Arm, ArmScheme, Found, Setting
from jaxrnn.study.claims import Claim, Finding, Part, larger, side_of, within
from jaxrnn.study.format import format_count, format_estimate
from jaxrnn.study.quantities import Mean, result
from jaxrnn.study.study import Row

# Means of 100 runs on the public split, in percent, with the standard deviation where it is given (Kipf and Welling
# 2017, Table 2; Velickovic et al. 2018, Table 2). For documents, of 10 runs (Yao, Mao and Luo 2019, Table 2).
PUBLISHED = {
    ("gcn", "cora"): (81.5, None),
    ("gat", "cora"): (83.0, 0.7),
    ("gcn", "citeseer"): (70.3, None),
    ("gat", "citeseer"): (72.5, 0.7),
    ("gcn", "pubmed"): (79.0, None),
    ("gat", "pubmed"): (79.0, 0.3),
    ("gcn", "documents:R8"): (97.07, 0.1),
}
WITH_FIGURE: Sequence[Setting] = [{"model": model, "dataset": dataset} for model, dataset in PUBLISHED]
CITATIONS, TEXT_GCN = WITH_FIGURE[:-1], WITH_FIGURE[-1]
GCN_CORA, GAT_CORA = CITATIONS[:2]
LABELS = (1, 3, 5, 10, 20)
"""Numbers of labels of each class of digits."""


def digits(model: str, labels: int) -> Setting:
    """The arm with this many labels of each class of digits."""
    return {"model": model, "dataset": knn.DIGITS, "split": "random", "train_per_class": labels}


PAPER = [
    *WITH_FIGURE,
    *({**TEXT_GCN, "model": name} for name in baselines.DOCUMENTS),
    *(digits(model, labels) for labels in LABELS for model in ("gcn", *baselines.DIGITS)),
]

accuracy = Mean("test accuracy, %", result("test_accuracy", 100), ".2f", (0, 100), paired=True, deviation=True)
validation = Mean("validation accuracy, %", result("validation_accuracy", 100), ".2f", (0, 100))


# --- Arms -------------------------------------------------------------------------------------------------------------


def model_title(setting: Setting) -> str:
    """The model as the page names it."""
    prefix = "Text " if nodes.is_documents(setting["dataset"]) else ""
    return baselines.NAMES.get(setting["model"], prefix + setting["model"].upper())


def title(setting: Setting) -> str:
    """The name of an arm with its paper's settings."""
    dataset, count = setting["dataset"], setting["train_per_class"]
    has_sizes = nodes.has_sizes(dataset, setting["split"])
    splits = ", random splits" if has_sizes and dataset != knn.DIGITS else ""
    is_usual = dataset != knn.DIGITS and count == Config().train_per_class
    labels = "" if is_usual else f", {format_count(count, 'label')} a class"
    return f"{model_title(setting)} on {dataset.removeprefix(documents.OWN)}{splits}{labels}"


def _protocol(setting: Setting) -> Config:
    """The papers' settings for a graph and a model, and for the GAT on Pubmed."""
    dataset = setting["dataset"]
    usual = DIGITS if dataset == knn.DIGITS else DOCUMENTS if nodes.is_documents(dataset) else Config()
    if setting["model"] != "gat":
        return usual
    if dataset == "pubmed":
        return dataclasses.replace(GAT, num_output_heads=8, learning_rate=0.01, weight_decay=1e-3)
    return dataclasses.replace(GAT, normalize_features=usual.normalize_features)


def _normalize(setting: dict[str, Any]) -> dict[str, Any]:
    """Identifies files by name; graphs that have only random splits have them whatever the config says."""
    dataset = setting["dataset"]
    kind = documents.OWN if nodes.is_documents(dataset) else ""
    name = kind + dataset.removeprefix(kind).rstrip("/").rpartition("/")[2].removesuffix(".txt" if kind else "")
    is_random = dataset in (*nodes.EMBEDDED, knn.DIGITS)
    return {**setting, "dataset": name, "split": "random" if is_random else setting["split"]}


SCHEME = ArmScheme(
    Config,
    ("model", "dataset", "split", "train_per_class"),
    title,
    problem=("dataset", "split", "train_per_class"),
    paper=PAPER,
    defaults=_protocol,
    normalize=_normalize,
)


def baseline_arms(arms: Sequence[Arm]) -> list[Arm]:
    """The baselines of what these arms classify, from the directories of the complete ones.

    Where splits are random, a baseline has a run for each seed, which shares its split with a graph network's run.
    """
    found: dict[str, Arm] = {}
    for arm in arms:
        for path in arm.paths if arm.is_complete and baselines.names(arm.setting["dataset"]) else ():
            for known in read(path / BASELINES):
                fields = problem_of(SCHEME.setting({**dataclasses.asdict(Config()), **known["fields"]}))
                if fields != problem_of(arm.setting):
                    continue
                for name, rows in known["found"].items():
                    setting = SCHEME.of_fields({**fields, "model": name})
                    one = Arm(SCHEME.name(setting), setting, arm.source, [], arm.data, is_trained=False)
                    one = found.get(key := json.dumps([arm.source, arm.data, setting]), one)
                    by_seed = {run.seed: run for run in one.runs}
                    for seed, row in rows.items():
                        run = Run(baselines.NAMES[name], int(seed), {}, path, row, data=arm.data)
                        by_seed.setdefault(run.seed, run)
                    found[key] = dataclasses.replace(one, runs=[by_seed[seed] for seed in sorted(by_seed)])
    return list(found.values())


def untrained(arm: Arm) -> list[Run]:
    """The runs that ended within twice the window of their stop rule, with an accuracy within .1 of chance."""

    def is_untrained(row: Row | None) -> bool:
        if row is None or not arm.is_trained or row["failed_at"] is not None:
            return False
        is_early = row["stopped"] and row["last_step"] + 1 < 2 * arm.setting["patience"]
        return bool(is_early and abs(row["test_accuracy"] - 1 / arm.data["classes"]) <= 0.1)

    return [run for run in arm.runs if is_untrained(run.result)]


# --- Claims -----------------------------------------------------------------------------------------------------------


def gain_on_documents(arm: Arm, other: Arm) -> stats.Estimate:
    """The first arm's mean accuracy minus that of a baseline, in percentage points, over seeds and documents."""
    files = {path: read(path / WRONG) for path in arm.paths}
    by_run = [files[run.path][run.name] for run in arm.runs if run.name in files[run.path]]
    baseline = other.runs[0].result or {}
    either = sorted({*baseline["wrong"], *(node for wrong in by_run for node in wrong)})
    # No other document is gained or lost.
    gains = np.zeros((len(by_run), baseline["tested"]))
    for gain, wrong in zip(gains, by_run, strict=True):
        gain[: len(either)] = np.isin(either, baseline["wrong"]).astype(float) - np.isin(either, wrong)
    return stats.bootstrap_table(100 * gains)


def _beats_on_documents(name: str) -> Part:
    """Text GCN is right more often than a baseline."""

    def find(found: Found) -> Finding:
        arm, other = found.arm(TEXT_GCN), found.arm({**TEXT_GCN, "model": name})
        if arm is None or other is None:
            return Finding(0, f"no runs of {title(SCHEME.of_fields(TEXT_GCN))}, or none of {baselines.NAMES[name]}")
        estimate = gain_on_documents(arm, other)
        said = f"{arm.title} minus {baselines.NAMES[name]}: {format_estimate(estimate, '+.2f')} percentage points"
        return Finding(side_of(estimate, 0), said, arms=[arm, other])

    rule = f"test accuracy minus that of {baselines.NAMES[name]}: the 95 % interval over seeds and documents, both "
    return Part(find, f"{rule}resampled, lies above 0")


CLAIMS = [
    *(
        Claim(
            key,
            f"The mean test accuracy of the {arm['model'].upper()} on `cora` lies in {low:.1f} to {high:.1f}",
            [within(accuracy, arm, low, high)],
        )
        for key, arm, low, high in (("a", GCN_CORA, 81.0, 82.0), ("b", GAT_CORA, 82.3, 83.7))
    ),
    *(
        Claim(
            key,
            f"Graph networks serve where there is no explicit structure: on `digits`, with "
            f"{', '.join(map(str, LABELS[:-1]))} or {LABELS[-1]} labels a class, the GCN beats {other}",
            [larger(accuracy, digits("gcn", k), digits(model, k), model, len(LABELS)) for k in LABELS],
        )
        for key, model, other in (("c", "svm", "the RBF SVM"), ("d", "spreading", "label spreading"))
    ),
    Claim(
        "e",
        "Text GCN reaches 97.07 ± 0.10 on R8: its mean test accuracy lies in 96.8 to 97.3",
        [within(accuracy, TEXT_GCN, 96.8, 97.3)],
    ),
    Claim(
        "f", "Text GCN beats the linear baselines on R8", [_beats_on_documents(name) for name in baselines.DOCUMENTS]
    ),
]
