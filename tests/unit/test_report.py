"""The page about somebody's own runs, and about the paper's where there are any."""

import dataclasses
import re
import time
from pathlib import Path

import pytest
from directories import row, write_directory

from configs.palindrome import Config
from experiments import formal, palindrome, report
from jaxrnn.rundir.read import Run, read_directories
from jaxrnn.study import plots
from jaxrnn.study.arms import Arm
from jaxrnn.study.compare import compare_arms
from jaxrnn.study.quantities import Mean, result
from jaxrnn.study.report import make_sections

CURVE = [(0, {"loss": 1.0, "accuracy": 0.5}), (60, {"loss": 0.1, "accuracy": 0.9})]


def write(path, steps, complete=True, **fields):
    """Runs of a palindrome config that stop at these steps."""
    rows = [row(seed, step, step < 3000, test_accuracy=1.0) for seed, step in enumerate(steps)]
    fields = {"eval_every": 3000, "digits": 4, "hidden_size": 32, **fields}
    config = dataclasses.asdict(dataclasses.replace(Config(), **fields))
    curves = {one["run"]: CURVE for one in rows}
    return write_directory(path, "palindrome", config, rows, curves=curves, complete=complete)


def page(tmp_path, archive=None, reference=""):
    report.report([tmp_path / "runs"], archive, tmp_path / "out", reference)
    return (tmp_path / "out/report.md").read_text()


def table(text, caption):
    lines = text.partition(f"*{caption}")[2].splitlines()[2:]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[: lines.index("")]]
    return [dict(zip(rows[0], one, strict=True)) for one in rows[2:]]


@pytest.fixture
def two_arms(tmp_path):
    write(tmp_path / "runs/lstm", [60, 120, 120, 180, 180, 240])
    write(tmp_path / "runs/gru", [300, 360, 360, 420, 420, 480], cell="gru")
    return tmp_path


def test_a_page_is_renewed_until_all_runs_have_ended(tmp_path, monkeypatch, capsys):
    write(tmp_path / "runs/lstm", [60, 120], complete=False)
    renewed, html, results = [], tmp_path / "out/report.html", tmp_path / "runs/lstm/results.json"

    def end_runs(seconds):
        renewed.append((seconds, 'http-equiv="refresh" content="7"' in html.read_text()))
        if len(renewed) == 2:
            results.write_text(results.read_text().replace("false", "true"))

    monkeypatch.setattr(time, "sleep", end_runs)
    report.report([tmp_path / "runs"], None, tmp_path / "out", watch=7)
    assert renewed == [(7, True)] * 2
    assert "refresh" not in html.read_text()
    printed = capsys.readouterr().out
    assert printed.count("2 runs have ended; renewed") == 2
    assert printed.count("The page with all figures") == 1


def test_two_arms_of_ones_own_are_compared_on_the_first_screen(two_arms, capsys):
    text = page(two_arms)
    first = text.partition("\n## ")[2].partition("\n## ")[0]
    arms = table(first, "Your arms")
    assert [(one["arm"], one["cell"]) for one in arms] == [("LSTM", "lstm"), ("GRU", "gru")]
    assert all(re.search(r"\[\d+, \d+\]", one["steps until convergence, restricted mean"]) for one in arms)
    (difference,) = table(first, "steps until convergence: differences")
    assert difference["difference"].startswith("+240 [")
    assert difference["p"] == "0.0022"  # 2 of 12 choose 6 divisions.
    assert difference["verdict"] == "GRU is larger"
    assert "figures/curves_" in first
    assert "figures/survival_" in first
    assert "GRU is larger" in capsys.readouterr().out


def test_without_the_archive_nothing_is_about_the_paper(two_arms, monkeypatch):
    text = page(two_arms)
    assert not re.search("Soons|claim|Table 1|T=20", text, re.IGNORECASE)
    monkeypatch.setattr(plots, "svg", lambda figure: '<svg width="1pt" height="1pt"></svg>')  # It takes its time.
    assert "Claims" in page(two_arms, archive=report.ARCHIVE)


def test_the_numbers_of_ones_own_runs_are_explained_once(two_arms):
    first = page(two_arms).partition("\n## ")[2].partition("\n## ")[0]
    for words in ("detection times", "The restricted mean counts", "permutation test", "z is positive where"):
        assert first.count(words) == 1


def test_the_reference_is_compared_with_all_others(two_arms):
    write(two_arms / "runs/rnn", [600] * 6, cell="rnn")
    assert len(table(page(two_arms), "steps until convergence: differences")) == 3
    rows = table(page(two_arms, reference="RNN"), "steps until convergence: differences")
    assert [one["arms"] for one in rows] == ["LSTM minus Vanilla RNN", "GRU minus Vanilla RNN"]
    assert [one["arms"] for one in table(page(two_arms, reference="vanilla"), "steps until")] == [
        one["arms"] for one in rows
    ]
    assert "No arm here has" in page(two_arms, reference="Elman")


def test_more_than_six_arms_are_compared_with_the_first_alone(tmp_path):
    for size in range(2, 10):
        write(tmp_path / f"runs/{size}", [60, 120, 180], hidden_size=size)
    assert len(table(page(tmp_path), "steps until convergence: differences")) == 7


def test_too_few_seeds_for_any_p_value_are_said_to_be_so(tmp_path):
    write(tmp_path / "runs/a", [60, 120, 180])
    write(tmp_path / "runs/b", [600, 660, 720], cell="gru")
    (one,) = table(page(tmp_path), "steps until convergence: differences")
    assert (one["p"], one["verdict"]) == ("0.1", "no p-value can reach .05 with so few seeds")


def test_other_problems_are_not_compared(two_arms):
    write(two_arms / "runs/longer", [600] * 6, digits=5)
    text = page(two_arms)
    assert len(table(text, "steps until convergence: differences")) == 1
    assert text.count("*Your arms") == 2


def test_runs_in_training_are_shown_and_not_judged(two_arms):
    write(two_arms / "runs/rnn", [600], complete=False, cell="rnn")
    text = page(two_arms)
    (rnn,) = [one for one in table(text, "Your arms") if "in training" in one["arm"]]
    assert rnn["seeds"] == "1 of 3 have ended"
    assert rnn["steps until convergence, restricted mean"] == "-"
    assert len(table(text, "steps until convergence: differences")) == 1


@pytest.mark.parametrize("damaged", ["seed=0", '{"run": "seed=0", "step": 4611686018427387904, "loss": 0.1}'])
def test_a_curve_of_a_run_in_training_that_is_not_whole_is_left_out(two_arms, damaged):
    path = write(two_arms / "runs/rnn", [600, 600], complete=False, cell="rnn", eval_every=60)
    (path / "results.json").unlink()
    lines = (path / "metrics.jsonl").read_text().splitlines()
    (path / "metrics.jsonl").write_text("\n".join([damaged, *lines[1:]]))
    page(two_arms)
    (figure,) = (two_arms / "out/figures").glob("curves_*.svg")
    assert "Vanilla RNN T=4 (in training), 1 run<" in figure.read_text()


def test_what_is_damaged_is_said_before_all_else(two_arms, capsys):
    (two_arms / "runs/gru/results.json").write_text("{")
    text = page(two_arms)
    first = text.partition("## What was found\n\n")[2].partition("\n")[0]
    assert re.match(r"- `.*/runs/gru`: results\.json is damaged .*: left out$", first)
    assert first in capsys.readouterr().out
    assert len(table(text, "Your arms")) == 1


def test_directories_of_no_known_study_and_what_was_put_together_are_said_first(two_arms):
    write_directory(two_arms / "runs/strange", "strange", {}, [])
    write(two_arms / "runs/again", [60])
    first = page(two_arms).partition("## What was found\n\n")[2].partition("\n\n")[0]
    assert re.search(r"/strange`: is of `strange`, which is none of the studies here", first)
    assert re.search(r"LSTM T=4.*, seed=0: `.*/again`, not `.*/lstm`, is taken", first)


def test_runs_that_are_no_arm_of_the_paper_say_why(tmp_path):
    write(tmp_path / "runs/a", [60] * 3, digits=10, eval_every=60)
    assert "The nearest, LSTM T=10, hidden_size=32, would be one with hidden_size=256." in page(tmp_path)
    write(tmp_path / "runs/b", [60] * 3, digits=10, eval_every=60, hidden_size=256)
    assert "The nearest" not in page(tmp_path)


def test_why_arms_cannot_be_compared_and_an_interval_has_no_end_is_said(tmp_path):
    write(tmp_path / "runs/a", [60, 120, 180])
    write(tmp_path / "runs/b", [60, 120, 180], max_steps=6000)
    text = page(tmp_path)
    (one,) = table(text, "steps until convergence: differences")
    assert one["difference"] == "cannot be compared"
    assert one["beside it"] == "their horizons differ: 6000 and 3000 steps"
    arm, _ = table(text, "Your arms")
    assert arm["median"] == "120 [60, -] (with so few seeds it has no upper end)"
    assert arm["mean test accuracy"] == "1.0000 (all values alike; no interval)"


def test_two_baselines_are_not_compared():
    def arm(name, scores):
        runs = [Run(f"seed={i}", i, {}, Path("runs"), {"score": score}) for i, score in enumerate(scores)]
        return Arm(name, {"model": name}, "own", runs, is_trained=name == "gcn")

    arms = {name: arm(name, scores) for name, scores in {"svm": (1, 2), "gcn": (2, 4), "nearest": (0, 1)}.items()}
    table = compare_arms(Mean("score", result("score")), arms)
    assert [row[0] for row in table.rows] == ["gcn minus svm", "nearest minus gcn"]


def test_sources_are_numbered_and_linked(two_arms):
    text = page(two_arms)
    links = set(re.findall(r"\(#(source-\d)\)", text))
    assert links == set(re.findall(r'<a id="(source-\d)">', text)) == {"source-1", "source-2"}
    html = (two_arms / "out/report.html").read_text()
    ids = re.findall(r'id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(ids)


def test_a_study_without_quantities_and_problems_shows_its_arms_and_curves(two_arms):
    at_defaults = Config(eval_every=3000, hidden_size=32)
    scheme = dataclasses.replace(formal.ARMS, paper=(), problem=(), defaults=lambda setting: at_defaults)
    study = dataclasses.replace(formal.STUDY, name="palindrome", arms=scheme, quantities=())
    found = [(directory, "own") for directory in read_directories(two_arms / "runs")]
    ((yours,), *_) = (section.blocks for section in make_sections([study], found))
    arms, *figures, note = yours.blocks
    assert note == study.note
    assert arms.caption == "Your arms; brackets are 95 % intervals over seeds"
    assert (len(arms.rows), [figure.name for figure in figures]) == (2, ["curves_palindrome_"])


def test_a_quantity_that_no_arm_has_is_no_column(two_arms):
    quantities = (*palindrome.STUDY.quantities, Mean("absent", lambda run: None))
    study = dataclasses.replace(palindrome.STUDY, quantities=quantities)
    found = [(directory, "own") for directory in read_directories(two_arms / "runs")]
    ((yours,), *_) = (section.blocks for section in make_sections([study], found))
    columns = next(block for block in yours.blocks if not isinstance(block, str)).columns
    assert ("median" in columns, "absent" in columns) == (True, False)


def test_one_run_is_a_page(tmp_path):
    write(tmp_path / "runs/a", [60])
    assert "Your arms" in page(tmp_path)


def test_nothing_to_report_is_one_line(tmp_path):
    with pytest.raises(report.RunError, match="no run directory"):
        page(tmp_path)
