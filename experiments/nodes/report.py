"""What the study of nodes shows: tables and figures."""

import numpy as np

from configs.nodes import Config
from experiments.nodes import claims
from experiments.nodes.build import MODELS, build, build_model, check, describe_task
from experiments.nodes.claims import CITATIONS, PUBLISHED, SCHEME, WITH_FIGURE, accuracy, model_title, title, validation
from experiments.nodes.results import HIDDEN, finish, read
from jaxrnn.data import knn, nodes
from jaxrnn.study import plots
from jaxrnn.study.arms import Arm, with_values
from jaxrnn.study.compare import Differences
from jaxrnn.study.figures import Dots, SeedCurves
from jaxrnn.study.format import NONE, format_estimate
from jaxrnn.study.page import Block, Figure, Table
from jaxrnn.study.study import ArmTable, Evidence, Study
from jaxrnn.study.summary import about_untrained

METRICS = ("loss", "accuracy", "validation_loss", "validation_accuracy")

# --- Tables -----------------------------------------------------------------------------------------------------------


def _mean_epochs(arm: Arm) -> str:
    if not arm.is_trained:
        return NONE
    return f"{np.mean([run.result['last_step'] + 1 for run in arm.runs if run.result]):.0f}"


def _published(arm: Arm) -> tuple[float | None, float | None]:
    """The published mean and standard deviation of an arm with its paper's setting, as far as they are known."""
    is_papers = arm.setting["split"] == "public" and arm.title == title(arm.setting)
    pair = arm.setting["model"], arm.setting["dataset"]
    return PUBLISHED.get(pair, (None, None)) if is_papers else (None, None)


def _published_cell(arm: Arm) -> str:
    mean, deviation = _published(arm)
    places = 2 if nodes.is_documents(arm.setting["dataset"]) else 1  # As they are published.
    return NONE if mean is None else f"{mean:.{places}f}" + (f" ± {deviation:.{places}f}" if deviation else "")


def _margin(arm: Arm) -> str:
    """Where the published mean lies relative to our interval."""
    mean, (published, _) = accuracy.estimate(arm), _published(arm)
    if published is None or mean.low is None or mean.high is None:
        return NONE
    if published > mean.high:
        return f"{published - mean.high:.2f} above our interval"
    return "in our interval" if published >= mean.low else f"{mean.low - published:.2f} below our interval"


def _by_labels(evidence: Evidence) -> dict[str, dict[int, Arm]]:
    """The arms of digits, by their name without the labels per class, and by the labels per class."""
    found: dict[str, dict[int, Arm]] = {}
    for _, arm in evidence.rows(lambda arm: arm.setting["dataset"] == knn.DIGITS):
        if arm:
            name = with_values(model_title(arm.setting), arm.setting, SCHEME.differences(arm.setting))
            name += " (archived)" if arm.source == "archive" and len(evidence.sources) > 1 else ""
            found.setdefault(name, {})[arm.setting["train_per_class"]] = arm
    return found


def _digits_table(evidence: Evidence) -> list[Table]:
    """A row for each model, a column for each number of labels per class."""
    models = _by_labels(evidence)
    counts = sorted({count for arms in models.values() for count in arms})
    rows = [
        (
            name,
            next(iter(arms.values())),
            {
                "seeds": next(iter(arms.values())).count,
                **{f"{count} a class": accuracy.brief(arms[count]) if count in arms else NONE for count in counts},
            },
        )
        for name, arms in models.items()
    ]
    caption = "Digits: test accuracy, %, by labels a class; brackets are 95 % intervals over seeds, which are splits"
    return [evidence.table(caption, rows)] if rows else []


def _documents_table(evidence: Evidence) -> list[Table]:
    """Text GCN beside baselines that know no graph."""
    rows = evidence.rows(lambda arm: nodes.is_documents(arm.setting["dataset"]))
    arms = [(name, arm) for name, arm in rows if arm]
    cells = []
    for name, arm in arms:
        own = {"seeds": arm.count, **accuracy.cells(arm), "published": _published_cell(arm)}
        for other_name, other in arms:
            same = all(arm.setting[key] == other.setting[key] for key in SCHEME.problem) and arm.source == other.source
            is_public = arm.setting["split"] == "public"
            if not arm.is_trained and other.is_trained and same and is_public and arm.data == other.data:
                gain = format_estimate(claims.gain_on_documents(other, arm), "+.2f")
                own[f"{other_name} minus it, over seeds and documents"] = gain
        cells.append((name, arm, own))
    caption = "Documents: test accuracy, %; a baseline that needs no training has one result"
    return [evidence.table(caption, cells)] if arms else []


# --- Figures ----------------------------------------------------------------------------------------------------------


def _labels_figure(evidence: Evidence) -> list[Figure]:
    """Accuracies of digits against the labels per class."""
    lines = []
    for number, (name, arms) in enumerate(_by_labels(evidence).items()):
        means = {count: accuracy.estimate(arm).value for count, arm in sorted(arms.items())}
        known = {count: mean for count, mean in means.items() if mean is not None}
        if len(known) > 1:
            is_baseline = not next(iter(arms.values())).is_trained
            colour = plots.COLOURS[number % len(plots.COLOURS)]
            lines.append(plots.Line(name, colour, np.array([*known]), np.array([*known.values()]), is_baseline))
    if not lines:
        return []
    plot = plots.lines({"": lines}, "labels a class", "test accuracy, %")
    caption = "Digits: mean test accuracy against the labels a class; dashed lines are baselines without training"
    return [Figure("digits_labels", plots.svg(plot), caption, f"{caption}: {'; '.join(one.label for one in lines)}")]


def _hidden_figures(evidence: Evidence) -> list[Figure]:
    """The hidden layer of a run of each arm that has one."""
    caption = "The last hidden layer at each node: its first two principal components and their share of variance"
    figures = []
    arms = [(name, arm) for name, arm in evidence.rows(lambda arm: arm.is_trained) if arm]
    for number, (own, arm) in enumerate(arms, start=1):
        hidden = read(arm.paths[0] / HIDDEN)
        if hidden and hidden["run"] in {run.name for run in arm.runs}:
            name = f"{own}, {hidden['run']} ({hidden['variance_share']:.0%})"
            points = plots.Points(name, *(hidden[key] for key in ("x", "y", "classes", "wrong")))
            plot = plots.points_by_class([points], ring="test node, classified wrongly")
            alt = f"Scatter plot of the nodes in the last hidden layer by class: {name}"
            figures.append(Figure(f"hidden_{number}", plots.svg(plot), caption, alt))
    return figures


CITATION_TABLE = ArmTable(
    "Public splits; the published figures are over 100 runs; brackets are 95 % intervals over seeds",
    [("published", _published_cell), ("mean epochs", _mean_epochs), accuracy.cells],
    CITATIONS[:4],
)


def _headline(evidence: Evidence) -> list[Block]:
    return [*CITATION_TABLE(evidence), *_digits_table(evidence), *_documents_table(evidence)]


STUDY: Study = Study(
    name="nodes",
    title="Node classification",
    config=Config,
    build=build,
    model=lambda config, data: build_model(config, data["classes"]),
    check=check,
    data=describe_task,
    choices={"model": MODELS},
    finish=finish,
    arms=SCHEME,
    quantities=[accuracy],
    baselines=claims.baseline_arms,
    untrained=claims.untrained,
    metrics=METRICS,
    claims=claims.CLAIMS,
    headline=_headline,
    sections={
        "Accuracies": [
            ArmTable(
                "The arms that a paper has a figure for",
                [
                    *(("mean epochs", _mean_epochs), accuracy.cells, validation.cells),
                    *(("published", _published_cell), ("the published mean is", _margin)),
                ],
                WITH_FIGURE,
            ),
            Differences(accuracy, CITATIONS),
            _digits_table,
            _documents_table,
            lambda evidence: [line for _, arm in evidence.rows() if arm for line in about_untrained(STUDY, arm)],
        ],
        "Figures": [
            Dots(
                "accuracies",
                "Test accuracy: each run, the mean with its 95 % interval, and as a stroke the published mean",
                {accuracy.name: accuracy},
                lambda arm: arm.setting["dataset"] != knn.DIGITS,
                published=lambda arm: _published(arm)[0],
                from_zero=False,
            ),
            SeedCurves(
                "epochs",
                "Losses and accuracies of each run; those of training are with dropout",
                {name: name.replace("_", " ") for name in METRICS},
                step="epoch",
            ),
            _labels_figure,
            _hidden_figures,
        ],
    },
    note=(
        "Accuracies are in percent, with the weights that the protocol chooses: the last ones for the GCN, and those "
        "that were best in validation for the GAT. The standard deviation over runs follows ±. Where the split is "
        "random, each seed has its own. Baselines of digits know only the training nodes; those of documents know the "
        "training and the validation documents."
    ),
    tiny={"max_steps": 12, "eval_every": 4, "chunk_steps": 4, "num_seeds": 2},
)
