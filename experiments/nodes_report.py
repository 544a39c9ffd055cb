"""The node-classification study's part of the report: accuracies beside the published ones, and GCN beside GAT.

What was published, and what is expected of this code, stand here as constants: they are not to be chosen after the runs
were seen. An expectation is judged by the 95 % interval (Student's t) of the kept runs' mean accuracy: it holds where
the whole interval lies in the range, does not hold where it lies outside, and is undecided in between.
"""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, ValidationError, model_validator

from jaxrnn.study import plots, stats
from jaxrnn.study.report import (
    KINDS,
    NONE,
    NOT_RUN,
    UNDECIDED,
    Arm,
    Block,
    Curve,
    Figure,
    Kind,
    Run,
    Section,
    Table,
    Verdict,
    code,
    describe,
    interval,
    merge_arms,
    paths,
    side,
    study_figure,
    valid_runs,
)

EXPERIMENT = "nodes"
HIDDEN = "hidden.json"
"""A file of a run directory: the last hidden layer of its first run in two dimensions, as `Hidden`."""


class Published(NamedTuple):
    """A test accuracy in percent, the mean of 100 runs on the public split."""

    mean: float
    deviation: float | None
    """Standard deviation; the GCN paper gives none for this split."""

    def __str__(self) -> str:
        return f"{self.mean:.1f}" + ("" if self.deviation is None else f" ± {self.deviation:.1f}")


# Kipf and Welling 2017, Table 2; Velickovic et al. 2018, Table 2.
PUBLISHED = {
    ("gcn", "cora"): Published(81.5, None),
    ("gcn", "citeseer"): Published(70.3, None),
    ("gcn", "pubmed"): Published(79.0, None),
    ("gat", "cora"): Published(83.0, 0.7),
    ("gat", "citeseer"): Published(72.5, 0.7),
    ("gat", "pubmed"): Published(79.0, 0.3),
}
EXPECTED = {("gcn", "cora"): (81.0, 82.0), ("gat", "cora"): (82.3, 83.7)}
"""Ranges in percent that this code's means should lie in."""

# The papers' settings, and their codes' where the papers leave them open.
_SHARED = {"weight_decay": 5e-4, "precision": "highest"}
PROTOCOLS = {
    "gcn": _SHARED | {"hidden_size": 16, "dropout": 0.5, "learning_rate": 0.01, "max_steps": 199, "patience": 10},
    "gat": _SHARED
    | {"hidden_size": 8, "num_heads": 8, "num_output_heads": 1, "dropout": 0.6, "learning_rate": 0.005}
    | {"max_steps": 99_999, "patience": 100},
}
PUBMED_GAT = {"num_output_heads": 8, "learning_rate": 0.01, "weight_decay": 1e-3}
WITHOUT_PUBLIC_SPLIT = ("karate", "sbm")
"""Data whose split is another one for each seed, whatever the config says."""

MODEL_NAMES = {"gcn": "GCN", "gat": "GAT"}
COLOURS = {"gcn": plots.BLUE, "gat": plots.ORANGE}
_METRICS = {
    "loss": "training loss",
    "validation_loss": "validation loss",
    "accuracy": "training accuracy",
    "validation_accuracy": "validation accuracy",
}
_COLUMNS = 3
T = TypeVar("T")


class Hidden(BaseModel, extra="forbid"):
    """Nodes by the first two principal components of a hidden layer.

    Attributes:
        run: the name of the run.
        variance_share: of the two components.
        x: along the first one, scaled.
        y: along the second one, by the same scale.
        classes: of the nodes.
        wrong: positions in these lists of the test nodes that the run got wrong.
    """

    run: str
    variance_share: Annotated[float, Field(ge=0, le=1)]
    x: list[FiniteFloat]
    y: list[FiniteFloat]
    classes: list[Annotated[int, Field(ge=0)]]
    wrong: list[Annotated[int, Field(ge=0)]]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (len(self.x) == len(self.y) == len(self.classes) > max(self.wrong, default=-1)):
            raise ValueError("the lists do not fit together")
        return self


class Collected(NamedTuple):
    """What the run directories hold: arms, the papers' first; by run directory the hidden layer; and remarks."""

    arms: Sequence[Arm]
    hidden: Mapping[Path, Hidden]
    remarks: Sequence[str]


def sections(runs: Sequence[Run]) -> list[Section]:
    """The study's sections from all run directories; those of other experiments are passed over."""
    found = collect(runs)
    judged = judge(found.arms)
    pairs = compare(found.arms)
    blocks: dict[str, Sequence[Block]] = {
        "accuracies": [_NOTE, _arms_table(found.arms)],
        "expectations": [_judged_list(judged), _judged_table(judged)],
        "GCN and GAT": [_PAIRS_NOTE, _pairs_table(pairs)] if pairs else [],
        "figures": [figure for kind in KINDS for figure in _figures(kind, found)],
        "remarks": ["\n".join(f"- {remark}" for remark in found.remarks)] if found.remarks else [],
    }
    return [Section(f"Node classification: {title}", content) for title, content in blocks.items() if content]


def summary(runs: Sequence[Run]) -> list[Block]:
    """What a reader wants first, from kept runs: the accuracies that a paper has a figure for, and the verdicts."""
    kept = [arm for arm in collect(runs).arms if arm.kind == "kept" and is_reported(arm)]
    rows = [[*row[:2], row[9], *row[4:8]] for row in map(_arm_row, kept)]
    columns = ("model", "data", "published", "our seeds", "mean epochs", "test accuracy, %", "standard deviation")
    caption = "Public splits; the published figures are over 100 runs; brackets are 95 % intervals over seeds"
    return [Table(columns, rows, caption), _judged_list(judge(kept))] if rows else []


# --- Reading ----------------------------------------------------------------------------------------------------------


class _Setting(BaseModel, extra="allow"):
    """The fields of a config that are looked at here."""

    model: Literal["gcn", "gat"]
    dataset: str
    split: Literal["public", "random"]
    learning_rate: list[float]


_Share = Annotated[float, Field(ge=0, le=1)]


class _Outcome(BaseModel):
    """The fields of a result that are looked at here."""

    learning_rate: float
    steps: Annotated[int, Field(ge=1)] | None
    test_accuracy: _Share | None
    validation_accuracy: _Share | None


def collect(runs: Iterable[Run]) -> Collected:
    """The study's runs, whatever their settings, with the hidden layers that their directories hold."""
    usable, remarks = valid_runs((run for run in runs if run.experiment == EXPERIMENT), _Setting, _Outcome)
    # The protocols look at every epoch: `eval_every` only says which of them are written down.
    arms, twice = merge_arms(
        replace(run, config={name: value for name, value in run.config.items() if name != "eval_every"})
        for run in usable
    )
    arms.sort(key=_place)
    hidden = {}
    for path in dict.fromkeys(path for arm in arms for path in arm.sources):
        try:
            hidden[path] = Hidden.model_validate_json((path / HIDDEN).read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, ValidationError) as error:
            remarks.append(f"{code(path)}: {HIDDEN} is damaged ({describe(error)}): left out")
    return Collected(arms, hidden, [*remarks, *twice])


# --- What an arm is ---------------------------------------------------------------------------------------------------


def data_name(arm: Arm) -> str:
    """The name of the data; files of one's own go by their name, without the folder."""
    name: str = arm.config["dataset"]
    return name.rpartition("/")[2] if name.startswith("planetoid:") else name


def _pair(arm: Arm) -> tuple[str, str]:
    return arm.config["model"], data_name(arm)


def split_name(arm: Arm) -> str:
    """How the nodes are divided: public or random."""
    return "random" if arm.config["dataset"] in WITHOUT_PUBLIC_SPLIT else arm.config["split"]


def is_reported(arm: Arm) -> bool:
    """Whether a paper has a figure for the arm: its data and split, with its settings."""
    return _pair(arm) in PUBLISHED and split_name(arm) == "public" and not _differences(arm)


def _place(arm: Arm) -> tuple[bool, str, str, int]:
    """Orders arms: those that a paper has a figure for, then by data and split, with the models beside each other."""
    return not is_reported(arm), data_name(arm), split_name(arm), list(MODEL_NAMES).index(arm.config["model"])


def _differences(arm: Arm) -> dict[str, Any]:
    """The fields in which the arm differs from its paper's settings, other than data and split, with its values."""
    wanted = PROTOCOLS[arm.config["model"]] | (PUBMED_GAT if _pair(arm) == ("gat", "pubmed") else {})
    return arm.differences(wanted)


def _title(arm: Arm) -> str:
    """What the arm is, in lines that fit into a figure."""
    split = "" if arm.config["split"] == "public" else f", {split_name(arm)} splits"
    others = "".join(f", {name}={value}" for name, value in _differences(arm).items())
    return textwrap.fill(f"{MODEL_NAMES[arm.config['model']]}, {data_name(arm)}{split}{others}", 40)


def _accuracies(arm: Arm, name: str = "test_accuracy") -> dict[int, float]:
    """In percent, by seed; without the runs that met a NaN."""
    return {lane.seed: 100 * lane.result[name] for lane in arm.lanes if lane.result[name] is not None}


def mean_percent(values: Iterable[float]) -> stats.Estimate:
    """Mean of percentages."""
    return stats.mean(list(values), within=(0, 100))


# --- Verdicts and comparisons -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judgement:
    """A verdict on one expectation, from the kept runs of one arm, or None where there are none."""

    model: str
    data: str
    verdict: Verdict
    arm: Arm | None


def judge(arms: Iterable[Arm]) -> list[Judgement]:
    """Verdicts on all of `EXPECTED`, from kept runs alone."""
    kept = {_pair(arm): arm for arm in reversed(list(arms)) if arm.kind == "kept" and is_reported(arm)}
    judged = []
    for pair, (low, high) in EXPECTED.items():
        arm = kept.get(pair)
        verdict: Verdict = UNDECIDED
        if arm:
            mean = mean_percent(_accuracies(arm).values())
            above_low, above_high = side(mean, low), side(mean, high)
            if above_low == 1 and above_high == -1:
                verdict = "holds"
            elif above_low == -1 or above_high == 1:
                verdict = "does not hold"
        judged.append(Judgement(*pair, verdict, arm))
    return judged


def margin(estimate: stats.Estimate, published: Published) -> str:
    """Where the published mean lies, seen from our interval."""
    if estimate.low is None or estimate.high is None:
        return NONE
    if estimate.low <= published.mean <= estimate.high:
        return "in our interval"
    if published.mean > estimate.high:
        return f"{published.mean - estimate.high:.2f} above our interval"
    return f"{estimate.low - published.mean:.2f} below our interval"


class Pair(NamedTuple):
    """GCN and GAT on the same data, split and seeds.

    Attributes:
        gcn: the one arm.
        gat: the other one.
        differences: GAT's test accuracy minus GCN's in percent, seed by seed.
    """

    gcn: Arm
    gat: Arm
    differences: Sequence[float]

    @property
    def verdict(self) -> str:
        """Which one is better, by the interval of the mean difference."""
        return {1: "GAT is better", -1: "GCN is better", 0: "undecided"}[side(stats.mean(self.differences), 0)]


def compare(arms: Sequence[Arm]) -> list[Pair]:
    """All pairs of arms with their papers' settings that share data, split and seeds; kept and own runs apart."""
    models = {model: [a for a in arms if a.config["model"] == model and not _differences(a)] for model in MODEL_NAMES}
    pairs = []
    for gcn in models["gcn"]:
        for gat in models["gat"]:
            if any(of(gcn) != of(gat) for of in _SAME):
                continue
            first, second = _accuracies(gcn), _accuracies(gat)
            differences = [second[seed] - first[seed] for seed in first if seed in second]
            if differences:
                pairs.append(Pair(gcn, gat, differences))
    return pairs


_SAME: tuple[Callable[[Arm], Any], ...] = (
    lambda arm: arm.kind,
    lambda arm: arm.config["dataset"],
    lambda arm: arm.data,
    split_name,
)


# --- Tables -----------------------------------------------------------------------------------------------------------

_NOTE = """\
Accuracies are in percent, brackets are 95 % intervals of the mean over seeds (Student's t). The published figures are
means of 100 runs on the public split; what stands behind ± is the standard deviation over these runs, which the GCN
paper does not give for this split. They stand beside arms with the papers' settings only. Where the split is random,
each seed has one of its own. Accuracies are those of the weights that the protocol chooses: the last ones for the GCN,
those that were best in validation for the GAT."""


def _arms_table(arms: Sequence[Arm]) -> Table:
    """The arms that a paper has a figure for, then all others."""
    reported = {pair: [arm for arm in arms if is_reported(arm) and _pair(arm) == pair] for pair in PUBLISHED}
    rows = []
    for (model, data), ours in reported.items():
        name, published = [MODEL_NAMES[model], code(data), "public", NONE], str(PUBLISHED[model, data])
        not_run = [*name, NOT_RUN, *[NONE] * 4, published, NONE, NONE, ""]
        rows += [_arm_row(arm) for arm in ours] or [not_run]
    rows += [_arm_row(arm) for arm in arms if not is_reported(arm)]
    columns = ("model", "data", "split", "runs", "seeds", "mean epochs", "test accuracy", "standard deviation")
    beside = ("validation accuracy", "published", "the published mean is", "setting, where not the paper's", "source")
    return Table((*columns, *beside), rows, "Test accuracy beside the published one")


def _arm_row(arm: Arm) -> list[str]:
    tested = list(_accuracies(arm).values())
    mean = mean_percent(tested)
    published = PUBLISHED[_pair(arm)] if is_reported(arm) else None
    failed = len(arm.lanes) - len(tested)
    epochs = [lane.result["steps"] for lane in arm.lanes if lane.result["steps"] is not None]
    others = [code(f"{name}={value}") for name, value in _differences(arm).items()]
    return [
        MODEL_NAMES[arm.config["model"]],
        code(data_name(arm)),
        split_name(arm),
        arm.kind,
        f"{len(arm.lanes)}" + (f", {failed} met a NaN" if failed else ""),
        f"{np.mean(epochs):.0f}" if epochs else NONE,
        interval(mean, ".2f"),
        f"{np.std(tested, ddof=1):.2f}" if len(tested) > 1 else NONE,
        interval(mean_percent(_accuracies(arm, "validation_accuracy").values()), ".2f"),
        str(published) if published else NONE,
        margin(mean, published) if published else NONE,
        ", ".join(others) or NONE,
        paths(arm.sources),
    ]


def _expectation(one: Judgement) -> str:
    low, high = EXPECTED[one.model, one.data]
    return f"{low:.1f} to {high:.1f}"


def _judged_list(judged: Iterable[Judgement]) -> str:
    return "\n".join(
        f"- The mean test accuracy of the {MODEL_NAMES[one.model]} on {code(one.data)} lies in {_expectation(one)}: "
        f"**{one.verdict}**"
        for one in judged
    )


def _judged_table(judged: Iterable[Judgement]) -> Table:
    rows = []
    for one in judged:
        tested = list(_accuracies(one.arm).values()) if one.arm else []
        seeds = f"{len(tested)}" if one.arm else NOT_RUN
        mean = interval(mean_percent(tested), ".2f")
        name = (MODEL_NAMES[one.model], code(one.data), _expectation(one))
        rows.append([*name, seeds, mean, one.verdict, paths(one.arm.sources if one.arm else ())])
    columns = ("model", "data", "expected mean", "seeds", "mean test accuracy", "verdict", "source")
    return Table(columns, rows, "What is expected of this code, judged by the kept runs")


_PAIRS_NOTE = """\
Both models with their papers' settings, on the same seeds: where the split is random, a seed has the same one for
both. The interval is that of the mean of the differences."""


def _pairs_table(pairs: Iterable[Pair]) -> Table:
    rows = []
    for pair in pairs:
        mean = stats.mean(pair.differences)
        wins = sum(difference > 0 for difference in pair.differences)
        ties = sum(difference == 0 for difference in pair.differences)
        rows.append(
            [
                code(data_name(pair.gcn)),
                split_name(pair.gcn),
                pair.gcn.kind,
                f"{len(pair.differences)}",
                interval(mean, "+.2f"),
                f"{wins}" + (f", {ties} alike" if ties else ""),
                pair.verdict + (f" ({mean.note})" if mean.note else ""),
                paths(sorted({*pair.gcn.sources, *pair.gat.sources})),
            ]
        )
    columns = ("data", "split", "runs", "seeds", "GAT minus GCN", "seeds with a better GAT", "verdict", "source")
    return Table(columns, rows, "Test accuracy of GAT minus that of GCN, seed by seed")


# --- Figures ----------------------------------------------------------------------------------------------------------


class Picture(NamedTuple):
    """A figure and what is said about it."""

    name: str
    plot: plots.Figure
    caption: str
    alt: str


def pictures(arms: Sequence[Arm], hidden: Mapping[Path, Hidden]) -> list[Picture]:
    """Curves, spread of the accuracies, and hidden layers; what is not there is not drawn."""
    return [*_curve_pictures(arms), *_spread_pictures(arms), *_hidden_pictures(arms, hidden)]


def _figures(kind: Kind, found: Collected) -> list[Figure]:
    return [
        study_figure("nodes", kind, one.name, plots.png(one.plot), one.caption, one.alt)
        for one in pictures([arm for arm in found.arms if arm.kind == kind], found.hidden)
    ]


def _curve_pictures(arms: Iterable[Arm]) -> list[Picture]:
    columns = [_column(arm, curves) for arm in arms if (curves := _curves(arm))]
    return [
        Picture(
            f"curves{number}",
            plots.seed_curves(some, plots.BLUE, step="epoch"),
            "Losses and accuracies of each run; those of the training with dropout",
            f"Losses and accuracies against the epoch: {'; '.join(column.title for column in some)}",
        )
        for number, some in _numbered(columns)
    ]


def _curves(arm: Arm) -> dict[str, Curve]:
    return {
        f"seed {lane.seed}": lane.curve
        for lane in arm.lanes
        if lane.curve is not None and _METRICS.keys() <= lane.curve.metrics.keys()
    }


def _column(arm: Arm, curves: Mapping[str, Curve]) -> plots.Curves:
    return plots.Curves(
        title=_title(arm),
        labels=list(curves),
        steps=[curve.steps for curve in curves.values()],
        metrics={shown: [curve.metrics[name] for curve in curves.values()] for name, shown in _METRICS.items()},
    )


def _spread_pictures(arms: Iterable[Arm]) -> list[Picture]:
    """All arms in one picture, those of the same data next to each other."""
    tested = {arm: list(values) for arm in arms if (values := _accuracies(arm).values())}
    rows = [
        plots.Dots(
            _title(arm),
            COLOURS[arm.config["model"]],
            tested[arm],
            mean_percent(tested[arm]),
            PUBLISHED[_pair(arm)].mean if is_reported(arm) else None,
        )
        for arm in sorted(tested, key=lambda arm: _place(arm)[1:])
    ]
    if not rows:
        return []
    return [
        Picture(
            "spread",
            plots.dots_and_intervals({"test accuracy in percent": rows}, from_zero=False),
            "Test accuracy: each run, the mean with its 95 % interval, and as a black stroke the published mean",
            f"Dot plot of the test accuracies: {'; '.join(row.label for row in rows)}",
        )
    ]


def _hidden_pictures(arms: Iterable[Arm], hidden: Mapping[Path, Hidden]) -> list[Picture]:
    panels = [points for arm in arms if (points := _points(arm, hidden))]
    return [
        Picture(
            f"hidden{number}",
            plots.points_by_class(some, ring="test node, taken for another class"),
            "The last hidden layer of a run at each node: its first two principal components, with their share of the "
            "variance",
            f"Scatter plot of the nodes in the last hidden layer by class: {'; '.join(panel.title for panel in some)}",
        )
        for number, some in _numbered(panels)
    ]


def _points(arm: Arm, hidden: Mapping[Path, Hidden]) -> plots.Points | None:
    """The hidden layer of the arm's first run that has one."""
    for lane in arm.lanes:
        one = hidden.get(lane.path)
        if one and one.run == lane.result["run"]:
            title = f"{_title(arm)}, seed {lane.seed} ({one.variance_share:.0%})"
            return plots.Points(title, one.x, one.y, one.classes, one.wrong)
    return None


def _numbered(columns: Sequence[T]) -> list[tuple[str, Sequence[T]]]:
    """As many as fit into one picture, with what its name ends in."""
    firsts = range(0, len(columns), _COLUMNS)
    return [(f"_{n}" if n > 1 else "", columns[i : i + _COLUMNS]) for n, i in enumerate(firsts, start=1)]
