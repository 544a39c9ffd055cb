"""The examples, as a user copies them."""

import re
import runpy
import sys

import pytest
from processes import ROOT

import experiments
from experiments import palindrome, report
from jaxrnn import cells
from jaxrnn.rundir import session
from jaxrnn.study.summary import summarize

NAME = "adding_problem"


@pytest.fixture
def study(monkeypatch):
    """The example's, found where `experiments` are."""
    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(ROOT / "examples")])
    yield next(study for study in report.find_studies() if study.name == NAME)
    del sys.modules[f"experiments.{NAME}"]


def test_a_study_of_ones_own_has_seeds_sweeps_and_a_report(study, tmp_path):
    assert len((ROOT / f"examples/{NAME}.py").read_text().splitlines()) <= 120
    config, path = study.config(**study.tiny), tmp_path / "run"
    sweep = {"cell": ["rnn", "min_gru"], "weight_decay": [0.0, 0.1]}
    session.start(study, config, path, sweep)
    title, *ranking = summarize(study, path)
    assert "4 settings, the best first by mean squared error" in title
    assert {tuple(row.split()[1:3]) for row in ranking[1:]} == {
        (cell, decay) for cell in ("rnn", "min_gru") for decay in ("0.0", "0.1")
    }
    report.report([path], None, tmp_path / "page")
    page = (tmp_path / "page/report.md").read_text()
    assert "The adding problem" in page
    assert "min_gru T=4" in page


def test_a_cell_of_ones_own_is_in_a_study_by_its_name(tmp_path, monkeypatch):
    """The file of the documentation, found beside the others."""
    (cell,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/howto/cell.md").read_text(), re.DOTALL)
    assert len(cell.splitlines()) <= 60
    (tmp_path / "leaky.py").write_text(cell)
    folders = {"__path__": [*cells.__path__, str(tmp_path)]}
    found = runpy.run_path(cells.__file__, folders, run_name="jaxrnn.cells")["CELLS"]
    monkeypatch.delitem(sys.modules, "jaxrnn.cells.leaky")
    assert found.keys() == {*cells.CELLS, "leaky"}
    monkeypatch.setitem(cells.CELLS, "leaky", found["leaky"])
    config = palindrome.STUDY.config(**{**palindrome.STUDY.tiny, "cell": "leaky"})
    results = session.start(palindrome.STUDY, config, tmp_path / "run")
    assert all(0 <= row["test_accuracy"] <= 1 for row in results)
    assert any("leaky" in line for line in summarize(palindrome.STUDY, tmp_path / "run"))
