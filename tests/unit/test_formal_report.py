"""What the formal study says of made-up scores."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from directories import row, write_directory

import experiments.report
from configs.formal import LENGTHS
from experiments.formal import report
from jaxrnn.rundir.read import Run
from jaxrnn.study.arms import Arm, Found
from jaxrnn.study.claims import judge
from jaxrnn.study.study import Evidence

REGULAR = ("parity", "even_pairs", "cycle_navigation")
NEAR_CHANCE = np.linspace(0.47, 0.53, 10)


def arm(cell, task, scores):
    """Runs with these scores, all of them of what they have at each length beyond 40."""
    setting = report.ARMS.of_fields({"cell": cell, "task": task})
    runs = []
    for seed, score in enumerate(scores):
        accuracies = [1.0 if length <= 40 else score for length in LENGTHS.test_lengths]
        tested = {"lengths": [*LENGTHS.test_lengths], "accuracy_by_length": accuracies, "score": score}
        one = row(seed, 9999, False, **tested)
        runs.append(Run(one["run"], seed, {}, Path("a"), one))
    return Arm(report.ARMS.name(setting), setting, "own", runs, asked=len(runs))


def verdicts(*arms):
    return "".join(judgement.verdict[0] for judgement in judge(report.CLAIMS, Found(report.ARMS, arms)))


SOLVING = [arm(cell, task, [1.0] * 10) for task in REGULAR for cell in ("rnn", "lstm")]
FAILING = [arm(cell, "reverse_string", NEAR_CHANCE + 0.05) for cell in ("rnn", "lstm")]
STACK = arm("stack_rnn", "reverse_string", [0.995] * 9 + [0.7])
LINEAR = [arm(cell, "parity", NEAR_CHANCE) for cell in ("min_gru", "min_lstm")]


@pytest.mark.parametrize(
    ("cell", "task", "scores", "expected"),
    [
        ("rnn", "parity", [0.99] * 9 + [0.5], "solves"),
        ("rnn", "parity", [0.99] * 8 + [0.5] * 2, "undecided"),
        ("rnn", "parity", NEAR_CHANCE, "at chance"),
        ("rnn", "parity", NEAR_CHANCE + 0.1, "does not solve"),
        ("rnn", "cycle_navigation", NEAR_CHANCE - 0.3, "at chance"),
        ("rnn", "adding", NEAR_CHANCE, "does not solve"),
        ("rnn", "parity", [0.5, 0.51], "undecided"),
    ],
)
def test_a_cell_solves_a_task_is_at_chance_or_neither(cell, task, scores, expected):
    found = arm(cell, task, scores)
    if task == "cycle_navigation":
        assert report.chance(found.setting) == pytest.approx(0.2)
    assert report.verdict(found) == expected


def test_claims_follow_from_all_their_arms():
    assert verdicts(*SOLVING, *FAILING, STACK, *LINEAR) == "hhh"
    assert verdicts(*SOLVING[1:], *FAILING, *LINEAR) == "uuu"
    solved = arm("lstm", "reverse_string", [1.0] * 10)
    assert verdicts(arm("rnn", "parity", NEAR_CHANCE), *SOLVING[1:], FAILING[0], solved, STACK) == "ddd"


def test_the_table_has_cells_by_tasks_with_mean_best_seed_and_verdict():
    evidence = Evidence(Found(report.ARMS, [*SOLVING, STACK]), [], lambda paths: "1")
    (table,) = report.STUDY.headline(evidence)
    assert list(table.columns) == ["cell", "cycle_navigation", "even_pairs", "parity", "reverse_string", "source"]
    rows = {cells[0]: cells for cells in table.rows}
    assert rows.keys() == {f"{cell} n=1..40" for cell in ("Vanilla RNN", "LSTM", "Stack RNN")}
    assert rows["LSTM n=1..40"][4] == "-"
    mean, best = np.mean([0.995] * 9 + [0.7]), "best 0.995: solves (9 of 10)"
    assert rows["Stack RNN n=1..40"][4].startswith(f"{mean:.3f} [")
    assert rows["Stack RNN n=1..40"][4].endswith(best)


def test_the_table_of_runs_with_settings_of_ones_own_is_printed(tmp_path, capsys):
    for task in ("parity", "reverse_string"):
        found = arm("gru", task, [0.5, 1.0])
        config = {**dataclasses.asdict(LENGTHS), "task": task, "cell": "gru", "hidden_size": 8}
        write_directory(tmp_path / "runs" / task, "formal", config, [run.result for run in found.runs])
    experiments.report.report([tmp_path / "runs"], None, tmp_path / "out")
    printed = capsys.readouterr().out
    assert "Cells by tasks" in printed
    assert printed.count("best 1.000: undecided (1 of 2)") == 2


def test_the_figure_has_a_panel_for_each_task():
    other = dataclasses.replace(STACK, setting={**STACK.setting, "learning_rate": 0.01}, title="other, reverse_string")
    evidence = Evidence(Found(report.ARMS, [*LINEAR, STACK, other]), [], lambda paths: "1")
    (figure,) = report.STUDY.pictures[1](evidence)
    assert [figure.svg.count(task) for task in ("parity", "reverse_string", "adding")] == [1, 1, 0]
    assert all(name in figure.svg for name in ("minGRU n=1..40", "Stack RNN n=1..40", "other"))
