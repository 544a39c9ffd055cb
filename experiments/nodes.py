"""Node classification: ``python -m experiments.nodes --config=configs/nodes.py:gcn --workdir=DIR``."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from configs.nodes import GAT, Config
from experiments._cli import main
from jaxrnn import graph
from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.data import graphs, nodes
from jaxrnn.data.graphs import CITATION_SIZES, Split, SplitSizes
from jaxrnn.nn import losses
from jaxrnn.nn.nodes import GATClassifier, GCNClassifier
from jaxrnn.rundir.directory import RunDirectory
from jaxrnn.rundir.read import Run
from jaxrnn.rundir.restore import load_run
from jaxrnn.study import plots, stats
from jaxrnn.study.arms import Arm, ArmScheme, Setting
from jaxrnn.study.claims import Claim, within
from jaxrnn.study.compare import Differences
from jaxrnn.study.figures import Dots, SeedCurves
from jaxrnn.study.format import NONE
from jaxrnn.study.page import Figure
from jaxrnn.study.quantities import Mean, result
from jaxrnn.study.study import ArmTable, Evidence, Row, Study
from jaxrnn.study.summary import about_untrained
from jaxrnn.training.definition import ConfigError, Training, check_one_of
from jaxrnn.training.seeds import Stream, stream_key
from jaxrnn.training.stop import stop_above_recent_mean, stop_without_progress

_MOST_POINTS = 5000


# --- The data ---------------------------------------------------------------------------------------------------------


def describe_task(config: Config) -> dict[str, Any]:
    """What ``config.json`` keeps of the data."""
    task = nodes.load(config.dataset)
    edges = len(task.edges.senders)
    return {"sha256": task.sha256, "nodes": len(task.labels), "edges": edges, "classes": task.num_classes}


def check(config: Config) -> None:
    """Refuses names that do not exist, and a split that the data do not have."""
    for field in ("num_heads", "num_output_heads") if config.model == "gcn" else ():
        if getattr(config, field) > 1:
            raise ConfigError(field, getattr(config, field), "a gcn has no attention heads; a gat has")
    if not (nodes.is_planetoid(config.dataset) or Path(config.dataset).suffix or "/" in config.dataset):
        check_one_of("dataset", config.dataset, nodes.NAMES)
    for field, default in CITATION_SIZES._asdict().items():
        if getattr(config, field) != default and (config.split != "random" or config.dataset in nodes.EMBEDDED):
            reason = "only a random split of a file's graph has such a size; it goes with --config.split=random"
            raise ConfigError(field, getattr(config, field), reason)
    jax.eval_shape(lambda: _split(config, 0))
    if config.normalize_features and (nodes.load(config.dataset).features.data < 0).any():
        reason = "some features are negative, and a row may sum to anything: give --config.normalize_features=False"
        raise ConfigError("normalize_features", True, reason)


def _split(config: Any, seed: Array | int) -> Split:
    """A run's masks: the public split, or one that is a function of its seed."""
    sizes = SplitSizes(config.train_per_class, config.num_validation, config.num_test)
    return nodes.draw_split(config.dataset, config.split, stream_key(seed, Stream.DATA), sizes)


def inputs(config: Any) -> tuple[Any, Any]:
    """The graph with GCN's weights, and the features, as the models take them."""
    task = nodes.load(config.dataset)
    adjacency = graph.build(*task.edges, num_nodes=len(task.labels), weights=task.weights)
    try:
        adjacency = graph.normalize(adjacency)
    except ValueError as error:  # Of edge weights.
        raise ConfigError("dataset", config.dataset, str(error)) from error
    features = graphs.row_normalize(task.features) if config.normalize_features else task.features
    return adjacency, graph.sparse_rows(features)


# --- The study --------------------------------------------------------------------------------------------------------


def build_model(config: Any, num_classes: int) -> GCNClassifier | GATClassifier:
    """The model of a config: a `Config`, or what `jaxrnn.load` returns."""
    if config.model == "gcn":
        return GCNClassifier(num_classes, config.hidden_size, config.dropout)
    return GATClassifier(
        num_classes, config.num_heads, config.hidden_size, config.num_output_heads, dropout=config.dropout
    )


def build(config: Config) -> Training:
    """The training of a config; the memory is the run's split."""
    task, is_gcn = nodes.load(config.dataset), config.model == "gcn"
    model = build_model(config, task.num_classes)
    adjacency, features = inputs(config)

    def penalty(params: PyTree) -> Array:
        """The papers' codes decay the first layer of the GCN, and all of the GAT, biases too."""
        decayed = params["layer_0"] if is_gcn else params
        return config.weight_decay * optax.tree.norm(decayed, squared=True) / 2

    def loss(params: PyTree, split: Split, batch: None, key: Key, data: PyTree) -> tuple[Array, Any]:
        logits, _ = model.apply({"params": params}, *data["inputs"], deterministic=False, rngs={"dropout": key})
        value = losses.cross_entropy(logits, data["labels"], split.train)
        return value + penalty(params), ({"accuracy": losses.accuracy(logits, data["labels"], split.train)}, split)

    def validate(params: PyTree, split: Split, data: PyTree) -> dict[str, Array]:
        logits, _ = model.apply({"params": params}, *data["inputs"])
        value = losses.cross_entropy(logits, data["labels"], split.validation)
        return {
            # The GCN's code compares the loss with the penalty, the GAT's without.
            "validation_loss": value + penalty(params) if is_gcn else value,
            "validation_accuracy": losses.accuracy(logits, data["labels"], split.validation),
        }

    def test(params: PyTree, split: Split, seed: Array, data: PyTree) -> dict[str, Array]:
        logits, _ = model.apply({"params": params}, *data["inputs"])
        parts = {"test_accuracy": split.test, "validation_accuracy": split.validation}
        return {name: losses.accuracy(logits, data["labels"], part) for name, part in parts.items()}

    return Training(
        init=lambda key: model.init(key, adjacency, features)["params"],
        sample=lambda key, step, data: None,
        loss=loss,
        optimizer=lambda hyper: optax.adam(hyper["learning_rate"]),
        test=test,
        hyper={"learning_rate": config.learning_rate},
        max_steps=config.max_steps,
        eval_every=config.eval_every,
        chunk_steps=config.chunk_steps,
        stop=stop_above_recent_mean(config.patience) if is_gcn else stop_without_progress(config.patience),
        stop_every=1,
        start_memory=lambda seed, data: _split(config, seed),
        validate=validate,
        data={"inputs": (adjacency, features), "labels": task.labels},
    )


# --- The hidden layer -------------------------------------------------------------------------------------------------

HIDDEN = "hidden.json"


def _write_hidden(path: Path, rows: Sequence[Row]) -> None:
    """Writes the last hidden layer of the first run that has not failed, in two dimensions, beside the results.

    It is that of the chosen weights, at nodes with a label, 5000 at most. The file has the run, the share of the
    variance that its first two principal components have, `x` and `y` along them, `classes`, and `wrong`, the positions
    in these lists of the test nodes that the run got wrong.
    """
    ended = [row for row in rows if row["failed_at"] is None]
    if not ended:
        return
    config, params, *_ = load_run(path, ended[0]["run"])
    task = nodes.load(config.dataset)
    with jax.default_matmul_precision(config.precision):
        model = build_model(config, task.num_classes)
        logits, hidden = jax.jit(model.apply)({"params": params}, *inputs(config))
        split = jax.jit(lambda: _split(config, ended[0]["seed"]))()
    wrong = np.asarray(split.test) & (np.asarray(logits).argmax(-1) != task.labels)
    shown = np.flatnonzero(task.labels >= 0)
    if len(shown) > _MOST_POINTS:
        shown = np.sort(np.random.default_rng(0).choice(shown, _MOST_POINTS, replace=False))
    plane, share = stats.principal_plane(np.asarray(hidden, np.float64)[shown])
    found = {
        "run": ended[0]["run"],
        "variance_share": round(share, 4),
        "x": plane[:, 0].round(3).tolist(),
        "y": plane[:, 1].round(3).tolist(),
        "classes": task.labels[shown].tolist(),
        "wrong": np.flatnonzero(wrong[shown]).tolist(),
    }
    with RunDirectory(path) as directory:
        directory.write(HIDDEN, found, indent=None)


# --- What is declared -------------------------------------------------------------------------------------------------

# Means of 100 runs on the public split, in percent, with the standard deviation where it is given (Kipf and Welling
# 2017, Table 2; Velickovic et al. 2018, Table 2).
PUBLISHED = {
    ("gcn", "cora"): (81.5, None),
    ("gat", "cora"): (83.0, 0.7),
    ("gcn", "citeseer"): (70.3, None),
    ("gat", "citeseer"): (72.5, 0.7),
    ("gcn", "pubmed"): (79.0, None),
    ("gat", "pubmed"): (79.0, 0.3),
}
PAPER: Sequence[Setting] = [{"model": model, "dataset": dataset} for model, dataset in PUBLISHED]
GCN_CORA, GAT_CORA = PAPER[:2]
METRICS = ("loss", "accuracy", "validation_loss", "validation_accuracy")

accuracy = Mean("test accuracy, %", result("test_accuracy", 100), ".2f", (0, 100), paired=True, deviation=True)
validation = Mean("validation accuracy, %", result("validation_accuracy", 100), ".2f", (0, 100))


def _title(setting: Setting) -> str:
    splits = ", random splits" if setting["split"] == "random" and setting["dataset"] not in nodes.EMBEDDED else ""
    return f"{setting['model'].upper()} on {setting['dataset']}{splits}"


def _protocol(setting: Setting) -> Config:
    """The paper's settings for a model, and for the GAT on Pubmed."""
    if setting["model"] == "gcn":
        return Config()
    if setting["dataset"] == "pubmed":
        return dataclasses.replace(GAT, num_output_heads=8, learning_rate=0.01, weight_decay=1e-3)
    return GAT


def _normalize(setting: dict[str, Any]) -> dict[str, Any]:
    """Files are known by their name, and the embedded graphs have random splits, whatever the config says."""
    split = "random" if setting["dataset"] in nodes.EMBEDDED else setting["split"]
    return {**setting, "dataset": setting["dataset"].rpartition("/")[2], "split": split}


def untrained(arm: Arm) -> list[Run]:
    """The runs that ended within twice the window of their stop rule, with an accuracy within .1 of chance."""

    def is_untrained(row: Row) -> bool:
        is_early = row["stopped"] and row["last_step"] + 1 < 2 * arm.setting["patience"]
        return bool(is_early and abs(row["test_accuracy"] - 1 / arm.data["classes"]) <= 0.1)

    return [run for run in arm.runs if run.result and run.result["failed_at"] is None and is_untrained(run.result)]


def _mean_epochs(arm: Arm) -> str:
    return f"{np.mean([run.result['last_step'] + 1 for run in arm.runs if run.result]):.0f}"


def _published(arm: Arm) -> tuple[float | None, float | None]:
    """The published mean and standard deviation of an arm with its paper's setting, as far as they are known."""
    is_papers = arm.setting["split"] == "public" and arm.title == _title(arm.setting)
    pair = arm.setting["model"], arm.setting["dataset"]
    return PUBLISHED.get(pair, (None, None)) if is_papers else (None, None)


def _published_cell(arm: Arm) -> str:
    mean, deviation = _published(arm)
    return NONE if mean is None else f"{mean:.1f}" + (f" ± {deviation:.1f}" if deviation else "")


def _margin(arm: Arm) -> str:
    """Where the published mean lies, seen from our interval."""
    mean, (published, _) = accuracy.estimate(arm), _published(arm)
    if published is None or mean.low is None or mean.high is None:
        return NONE
    if published > mean.high:
        return f"{published - mean.high:.2f} above our interval"
    return "in our interval" if published >= mean.low else f"{mean.low - published:.2f} below our interval"


def _hidden_figures(evidence: Evidence) -> list[Figure]:
    """The hidden layer of a run of each arm that has one."""
    caption = "The last hidden layer at each node: its first two principal components and their share of variance"
    figures = []
    arms = [(title, arm) for title, arm in evidence.rows() if arm]
    for number, (title, arm) in enumerate(arms, start=1):
        if (path := arm.paths[0] / HIDDEN).exists():
            hidden = json.loads(path.read_bytes())
            if hidden["run"] not in {run.name for run in arm.runs}:
                continue
            name = f"{title}, {hidden['run']} ({hidden['variance_share']:.0%})"
            points = plots.Points(name, *(hidden[key] for key in ("x", "y", "classes", "wrong")))
            plot = plots.points_by_class([points], ring="test node, taken for another class")
            alt = f"Scatter plot of the nodes in the last hidden layer by class: {name}"
            figures.append(Figure(f"hidden_{number}", plots.svg(plot), caption, alt))
    return figures


STUDY: Study = Study(
    name="nodes",
    title="Node classification",
    config=Config,
    build=build,
    model=lambda config, data: build_model(config, data["classes"]),
    check=check,
    data=describe_task,
    finish=_write_hidden,
    arms=ArmScheme(
        Config,
        ("model", "dataset", "split"),
        _title,
        problem=("dataset", "split"),
        paper=PAPER,
        defaults=_protocol,
        normalize=_normalize,
    ),
    quantities=[accuracy],
    untrained=untrained,
    metrics=METRICS,
    claims=[
        Claim(
            key,
            f"The mean test accuracy of the {arm['model'].upper()} on `cora` lies in {low:.1f} to {high:.1f}",
            [within(accuracy, arm, low, high)],
        )
        for key, arm, low, high in (("a", GCN_CORA, 81.0, 82.0), ("b", GAT_CORA, 82.3, 83.7))
    ],
    headline=ArmTable(
        "Public splits; the published figures are over 100 runs; brackets are 95 % intervals over seeds",
        [("published", _published_cell), ("mean epochs", _mean_epochs), accuracy.cells],
        PAPER[:4],
    ),
    sections={
        "Accuracies": [
            ArmTable(
                "The arms that a paper has a figure for",
                [
                    *(("mean epochs", _mean_epochs), accuracy.cells, validation.cells),
                    *(("published", _published_cell), ("the published mean is", _margin)),
                ],
                PAPER,
            ),
            Differences(accuracy, PAPER),
            lambda evidence: [line for _, arm in evidence.rows() if arm for line in about_untrained(STUDY, arm)],
        ],
        "Figures": [
            Dots(
                "accuracies",
                "Test accuracy: each run, the mean with its 95 % interval, and as a stroke the published mean",
                {accuracy.name: accuracy},
                published=lambda arm: _published(arm)[0],
                from_zero=False,
            ),
            SeedCurves(
                "epochs",
                "Losses and accuracies of each run; those of the training with dropout",
                {name: name.replace("_", " ") for name in METRICS},
                step="epoch",
            ),
            _hidden_figures,
        ],
    },
    note=(
        "Accuracies are in percent, of the weights that the protocol chooses: the last ones for the GCN, those that "
        "were best in validation for the GAT. Behind ± stands the standard deviation over runs. Where the split is "
        "random, each seed has one of its own."
    ),
    tiny={"max_steps": 12, "eval_every": 4, "chunk_steps": 4, "num_seeds": 2},
)

if __name__ == "__main__":
    main(STUDY)
