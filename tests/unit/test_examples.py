"""The examples, as a user copies them."""

import sys

import pytest
from processes import ROOT

import experiments
from experiments import report
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
