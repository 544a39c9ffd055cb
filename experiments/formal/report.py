"""What the study of formal languages declares: arms, quantities, claims, the table of cells by tasks, and its figure.

Thresholds and claims were fixed before the runs; they follow the abstract of Deletang et al. (2023).
"""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.formal import LENGTHS, ONE_LENGTH, Config
from experiments.formal.build import CHOICES, build, build_model, check
from jaxrnn.data.formal import TASKS
from jaxrnn.rundir.read import Run
from jaxrnn.study import length_plots, plots
from jaxrnn.study.arms import Arm, ArmScheme, Setting
from jaxrnn.study.claims import Claim, Part, side_of, within
from jaxrnn.study.format import NONE
from jaxrnn.study.page import Figure, Table
from jaxrnn.study.quantities import Mean, Share, result
from jaxrnn.study.study import ArmTable, Evidence, Study

SOLVED, MOST, NEAR_CHANCE = 0.99, 0.5, 0.05
"""The score with which a run solves a task, the share of runs above which a cell does, and what is near chance."""

CELL_NAMES = {
    "rnn": "Vanilla RNN",
    "relu_rnn": "RNN with relu",
    "linear_rnn": "Linear RNN",
    "lstm": "LSTM",
    "peephole": "Peephole LSTM",
    "gers_peephole": "Peephole LSTM (Gers)",
    "gru": "GRU",
    "gru_cho": "GRU (Cho)",
    "mgu": "MGU",
    "min_gru": "minGRU",
    "min_lstm": "minLSTM",
    "lru": "LRU",
    "slstm": "sLSTM",
    "stack_rnn": "Stack RNN",
}
"""Names on the page; other cells go by their names in `CELLS`."""


def name_arm(setting: Setting) -> str:
    """The name of an arm, by its cell and problem."""
    cell = CELL_NAMES.get(setting["cell"], setting["cell"])
    if setting["shortest"]:
        return f"{cell}, {setting['task']} n={setting['shortest']}..{setting['digits']}"
    if setting["task"] == "palindrome":
        return f"{cell} T={setting['digits']}"
    return f"{cell}, {setting['task']} n={setting['digits']}"


def normalize(setting: dict[str, Any]) -> dict[str, Any]:
    """Makes the embedding's default width explicit."""
    width = setting["embedding_size"] or 2 * TASKS[setting["task"]].input_length(setting["digits"])
    return {**setting, "embedding_size": width}


# --- Quantities -------------------------------------------------------------------------------------------------------


def _accuracies(run: Run) -> dict[int, float]:
    """The accuracies by test length; empty for a run that has not been tested."""
    found = run.result or {}
    return dict(zip(found.get("lengths") or [], found.get("accuracy_by_length") or [], strict=True))


def _has_solved(run: Run) -> bool | None:
    score = SCORE.value(run)
    return None if score is None else score >= SOLVED


SCORE = Mean("score", result("score", optional=True), ".3f", within=(0, 1))
SOLVES = Share(f"score ≥ {SOLVED}", _has_solved)
TEST_ACCURACY = Mean("mean test accuracy", result("test_accuracy", optional=True), within=(0, 1))


def chance(setting: Setting) -> float:
    """The accuracy of a guess without reading, as a mean over the lengths of a score."""
    task = TASKS[setting["task"]]
    return float(np.mean([task.chance(length) for length in setting["test_lengths"] if length > setting["digits"]]))


def verdict(arm: Arm) -> str:
    """Whether a cell solves a task or is at chance, as far as its seeds show."""
    level = chance(arm.setting)
    if side_of(SOLVES.estimate(arm), MOST) == 1:
        return "solves"
    if side_of(SCORE.estimate(arm), level - NEAR_CHANCE, level + NEAR_CHANCE) == 1:
        return "at chance"
    return "does not solve" if side_of(SOLVES.estimate(arm), -inf, MOST) == 1 else "undecided"


# --- Claims -----------------------------------------------------------------------------------------------------------


def _solves(cell: str, task: str) -> Part:
    return within(SOLVES, {"cell": cell, "task": task}, MOST)


def _fails(cell: str, task: str) -> Part:
    return within(SOLVES, {"cell": cell, "task": task}, -inf, MOST)


def _at_chance(cell: str, task: str) -> Part:
    level = chance({"task": task, "test_lengths": LENGTHS.test_lengths, "digits": LENGTHS.digits})
    return within(SCORE, {"cell": cell, "task": task}, level - NEAR_CHANCE, level + NEAR_CHANCE)


_REGULAR = ("parity", "even_pairs", "cycle_navigation")
CLAIMS = [
    Claim(
        "a",
        "The RNN and the LSTM solve parity, even pairs and cycle navigation",
        [_solves(cell, task) for task in _REGULAR for cell in ("rnn", "lstm")],
    ),
    Claim(
        "b",
        "On reverse string neither of the two does, and the stack RNN does",
        [
            _fails("rnn", "reverse_string"),
            _fails("lstm", "reverse_string"),
            _solves("stack_rnn", "reverse_string"),
        ],
    ),
    Claim(
        "c",
        "minGRU and minLSTM, whose factors lie between 0 and 1, are at chance on parity beyond the lengths that they "
        "were trained on, where the RNN solves it",
        [_at_chance("min_gru", "parity"), _at_chance("min_lstm", "parity"), _solves("rnn", "parity")],
    ),
]
CLAIMED: Sequence[Setting] = [
    *({"cell": cell, "task": task} for task in _REGULAR for cell in ("rnn", "lstm")),
    *({"cell": cell, "task": "reverse_string"} for cell in ("rnn", "lstm", "stack_rnn")),
    *({"cell": cell, "task": "parity"} for cell in ("min_gru", "min_lstm")),
]


# --- Tables and figures -----------------------------------------------------------------------------------------------


def _by_cell(evidence: Evidence) -> dict[str, dict[str, Arm]]:
    """Arms that have a score, by their title without the task, and by task."""
    found: dict[str, dict[str, Arm]] = {}
    for title, arm in evidence.rows(lambda arm: SCORE.estimate(arm).value is not None):
        if arm:
            task = arm.setting["task"]
            found.setdefault(title.replace(f", {task}", "", 1), {})[task] = arm
    return found


def _table(evidence: Evidence) -> list[Table]:
    """Cells by tasks."""
    by_cell = _by_cell(evidence)
    if not by_cell:
        return []
    tasks = [task for task in TASKS if any(task in arms for arms in by_cell.values())]
    rows = []
    for cell, arms in by_cell.items():
        cells = [_cell(arms[task]) if task in arms else NONE for task in tasks]
        paths = sorted({path for arm in arms.values() for path in arm.paths})
        rows.append([cell, *cells, evidence.cite(paths)])
    caption = (
        "Cells by tasks: mean score over seeds with its 95 % interval, the best seed's score, and the verdict with the "
        f"number of runs whose score is ≥ {SOLVED}"
    )
    return [Table(caption, ["cell", *tasks, "source"], rows)]


def _cell(arm: Arm) -> str:
    solved, runs = SOLVES.counts(arm)
    best = max(SCORE.values(arm))
    return f"{SCORE.brief(arm)}, best {best:{SCORE.form}}: {verdict(arm)} ({solved} of {runs})"


def _figure(evidence: Evidence) -> list[Figure]:
    """Accuracy against length, a panel for each task."""
    panels: dict[str, length_plots.Lengths] = {}
    by_cell = _by_cell(evidence)
    for task in TASKS:
        curves: dict[str, tuple[NDArray, NDArray]] = {}
        arms = [(cell, arms[task]) for cell, arms in by_cell.items() if task in arms]
        for cell, arm in arms:
            found = [_accuracies(run) for run in arm.runs if _accuracies(run)]
            curves[cell] = np.array([*found[0]]), np.array([[*one.values()] for one in found], np.float64)
        if arms:
            setting = arms[0][1].setting
            panels[task] = length_plots.Lengths(curves, setting["digits"], chance(setting))
    if not panels:
        return []
    caption = (
        "Accuracy against length: mean and one standard deviation over seeds. Lengths left of the dotted line were "
        "trained on; the grey line is the best guess without reading"
    )
    alt = f"Accuracy against length, one panel per task: {', '.join(panels)}; cells: {', '.join(by_cell)}"
    return [Figure("lengths", plots.svg(length_plots.accuracy_by_length(panels)), caption, alt)]


def _accuracy_by_length(arm: Arm) -> Mapping[str, str]:
    """The mean over seeds with its interval, by test length."""

    def of_length(length: int) -> Mean:
        return Mean("", lambda run: _accuracies(run).get(length), within=(0, 1))

    means = {f"length {length}": of_length(length) for length in arm.setting["test_lengths"]}
    return {head: mean.cell(arm, mean.estimate(arm)) for head, mean in means.items()}


_BY_LENGTH = ArmTable(
    "Test accuracy at lengths other than the training length; brackets are 95 % intervals over seeds",
    [_accuracy_by_length],
    lambda arm: not arm.setting["shortest"] and bool(arm.setting["test_lengths"]),
)
ARMS = ArmScheme(
    Config,
    ("task", "cell", "shortest", "digits"),
    name_arm,
    ("task", "shortest", "digits"),
    paper=CLAIMED,
    defaults=lambda setting: LENGTHS if setting.get("shortest", 1) else ONE_LENGTH,
    normalize=normalize,
)
STUDY = Study(
    name="formal",
    title="Formal languages",
    config=Config,
    build=build,
    choices=CHOICES,
    model=lambda config, data: build_model(config),
    check=check,
    arms=ARMS,
    quantities=[SCORE, SOLVES, TEST_ACCURACY],
    claims=CLAIMS,
    headline=_table,
    pictures=[_table, _figure, _BY_LENGTH],
    sections={"Accuracy against length": [_figure, _BY_LENGTH]},
    note=(
        f"The score is the mean accuracy over the test lengths beyond the training lengths. A cell solves a task "
        f"if the 95 % interval of its share of runs with a score of at least {SOLVED} lies above {MOST}; it is at "
        f"chance if the 95 % interval of its mean score lies within {NEAR_CHANCE} of the accuracy of the best guess "
        "without reading. n is the size of a task (`shortest`, `digits`): a word's length, or a palindrome's digits. "
        "The accuracy of the adding problem is the share of answers with an error below .04. Published scores of this "
        "kind are often maxima over seeds and learning rates; here the mean and the best seed are both shown."
    ),
    tiny={"task": "reverse_string", "digits": 3, "shortest": 1, "test_lengths": (1, 4, 6), "hidden_size": 4}
    | {"batch_size": 8, "test_samples": 16, "max_steps": 12, "eval_every": 4, "chunk_steps": 4, "num_seeds": 2},
)
