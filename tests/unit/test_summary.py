"""The lines at the end of a command."""

import dataclasses

from directories import row, write_directory

from configs.nodes import Config as Nodes
from configs.palindrome import Config
from experiments import nodes, palindrome
from jaxrnn.study.summary import MOST_ROWS, summarize

FIELDS = {**dataclasses.asdict(Config()), "digits": 4, "hidden_size": 32}


def write(path, rows, sweep=None):
    return write_directory(path, "palindrome", FIELDS, rows, sweep=sweep)


def swept(steps, accuracy=1.0, failed=False, **values):
    """The runs of one setting, which stop at these steps."""
    rows = [row(i, step, step < 3000, test_accuracy=accuracy, **values) for i, step in enumerate(steps)]
    rows[-1] |= {"failed_at": 7, "stopped": False, "test_accuracy": None} if failed else {}
    return [one | {"run": ",".join([one["run"], *(f"{k}={v}" for k, v in values.items())])} for one in rows]


def test_one_arm_is_one_line(tmp_path):
    (line,) = summarize(palindrome.STUDY, write(tmp_path / "a", swept([60, 120, 180])))
    assert line.startswith("LSTM T=4, hidden_size=32, seeds: 3; steps until convergence 120 [60, 180]; ")
    (line,) = summarize(palindrome.STUDY, write(tmp_path / "b", swept([60, 3000])))
    assert "1530 [60, 3000], 1 of 2 converged" in line
    (line,) = summarize(palindrome.STUDY, write(tmp_path / "c", swept([3000], 0.5)))
    assert line.endswith("seeds: 1; steps until convergence > 3000, 0 of 1 converged; mean test accuracy 0.5000")


def test_settings_are_ranked_and_the_next_quantity_decides_where_the_first_is_the_same(tmp_path):
    sweep = {"cell": ["rnn", "mgu", "gru", "lstm"]}
    rows = swept([3000, 3000], 0.5, cell="rnn") + swept([3000, 3000], 0.9, cell="mgu")
    rows += swept([60, 120], cell="gru") + swept([180, 60], cell="lstm", failed=True)
    title, head, *ranking = summarize(palindrome.STUDY, write(tmp_path / "a", rows, sweep))
    assert "4 settings, the best first by steps until convergence" in title
    assert head.split()[:2] == ["cell", "seeds"]
    assert [one.split()[:2] for one in ranking] == [["1", "gru"], ["2", "lstm"], ["3", "mgu"], ["4", "rnn"]]
    assert "2, 1 met a NaN" in ranking[1]
    assert {len(one.partition("  0.")[0]) for one in ranking[2:]} == {head.index("mean test accuracy") - 2}


def test_other_problems_are_ranked_apart_and_long_rankings_are_cut(tmp_path):
    sizes, digits = range(1, MOST_ROWS + 3), (3, 4)
    rows = [one for n in digits for size in sizes for one in swept([60 * size], digits=n, hidden_size=size)]
    lines = summarize(palindrome.STUDY, write(tmp_path / "a", rows, {"digits": [*digits], "hidden_size": [*sizes]}))
    assert len(lines) == 2 * (MOST_ROWS + 3)
    assert [line.partition(":")[0] for line in lines[:: MOST_ROWS + 3]] == [
        "task=palindrome, digits=3",
        "task=palindrome, digits=4",
    ]
    assert lines[MOST_ROWS + 2] == "and 2 more"


def test_runs_that_a_stop_rule_ended_untrained_are_named_and_the_mean_is_given_without_them(tmp_path):
    fields = dataclasses.asdict(Nodes(num_seeds=4))
    # The third was long enough in training, the fourth is better than chance.
    found = [
        row(seed, step, step < 199, test_accuracy=accuracy, validation_accuracy=accuracy)
        for seed, (step, accuracy) in enumerate([(199, 0.8), (16, 0.3), (30, 0.25), (16, 0.45)])
    ]
    path = write_directory(tmp_path / "a", "nodes", fields, found, data={"classes": 5})
    first, second = summarize(nodes.STUDY, path)
    assert "seeds: 4" in first
    assert "1 of 4 runs untrained (seed=1 after 17 steps)" in second
    assert "45.00" in second.split(" with them, ")[0] and "50.00" in second.split(" with them, ")[1]
    path = write_directory(tmp_path / "b", "nodes", fields, found[:1], data={"classes": 5})
    assert len(summarize(nodes.STUDY, path)) == 1
