"""What holds for every study: it runs in small, resumes to the same bytes, has a page, and a verdict on each claim."""

import re
import shutil

import jax
import numpy as np
import pytest

import jaxrnn
from experiments import report
from experiments.gradients import measure
from jaxrnn.rundir import recorder, session
from jaxrnn.rundir.directory import RunDirectory, read_results
from jaxrnn.rundir.read import read_directories
from jaxrnn.study import plots
from jaxrnn.study.arms import Found, find_arms
from jaxrnn.study.claims import judge
from jaxrnn.study.page import write_page
from jaxrnn.study.report import make_sections
from jaxrnn.study.summary import summarize

STUDIES = {study.name: study for study in report.find_studies()}
TIMES = re.compile(r'"\w*(seconds|repeats|load|process_bytes)": [^,}]+')


class Crash(Exception):
    pass


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "COST_LENGTHS", (4, 8))
        yield


@pytest.fixture(scope="module", params=sorted(STUDIES))
def finished(request, tmp_path_factory):
    """A study, and the directory of its smallest runs."""
    study, path = STUDIES[request.param], tmp_path_factory.mktemp("runs") / request.param
    if study.needs:
        pytest.importorskip(study.needs)
    assert study.tiny, f"the study {study.name} has no `tiny`: fields of a config whose runs take seconds"
    config = study.config(**study.tiny)
    if study.build:
        assert (config.first_seed, config.num_seeds) == (0, 2), f"`tiny` of the study {study.name}: two seeds, 0 and 1"
    session.start(study, config, path)
    return study, path


def contents(path):
    """The files of a directory without times: what resuming must not change."""
    files = [file for file in path.rglob("*") if file.suffix in (".json", ".jsonl") and "checkpoints" not in file.parts]
    kept = [file for file in files if file.name not in ("config.json", "timing.jsonl")]
    return {str(file.relative_to(path)): TIMES.sub("", file.read_text()) for file in kept}


def test_results_have_the_same_keys_in_every_study(finished):
    study, path = finished
    rows = read_results(path)
    assert rows
    assert all({"run", "seed"} <= row.keys() for row in rows)
    if study.build:
        assert all(list(row)[:5] == ["run", "seed", "last_step", "stopped", "failed_at"] for row in rows)
        assert [row["seed"] for row in rows] == [0, 1]


def test_what_came_out_is_said_in_a_few_lines(finished):
    study, path = finished
    lines = summarize(study, path)
    assert 1 <= len(lines) <= 6
    assert all(line.isprintable() and line.strip() for line in lines)
    assert study.build is None or "seeds: 2; " in lines[0]


def test_it_resumes_to_the_same_bytes(finished, tmp_path, monkeypatch):
    study, path = finished
    append, calls = RunDirectory.append, []

    def crashing(*args):
        calls.append(args)
        if len(calls) == 5:
            raise Crash
        return append(*args)

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "append", crashing)
        patch.setattr(recorder, "SAVE_SECONDS", 0.0)
        try:
            session.start(study, study.config(**study.tiny), tmp_path / "run")
        except Crash:
            session.resume(study, tmp_path / "run")
    assert contents(tmp_path / "run") == contents(path)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_its_page_renders_with_no_one_and_many_directories(finished, tmp_path, monkeypatch, number):
    study, path = finished
    if number == 2:  # Its pictures are the README's test's.
        monkeypatch.setattr(plots, "svg", lambda figure: '<svg width="1pt" height="1pt"></svg>')
    found = [(directory, "own") for directory in read_directories(path)]
    if number == 2:
        found += [(d, "archive") for d in read_directories(report.ARCHIVE) if d.study == study.name]
    sections = make_sections([study], found if number else [])
    markdown, _ = write_page("Results", sections, tmp_path)
    assert (study.title in markdown.read_text()) == bool(number)


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_every_claim_gives_a_verdict(name):
    study = STUDIES[name]
    archived = [(d, "archive") for d in read_directories(report.ARCHIVE) if d.study == name]
    for found in (Found(study.arms, []), find_arms(study.arms, archived, lambda run: None)):
        for claim, judged in zip(study.claims, judge(study.claims, found), strict=True):
            assert judged.verdict in ("holds", "does not hold", "undecided")
            assert len(judged.findings) == len(claim.parts)
            assert all(finding.evidence for finding in judged.findings)
        if not found.arms:
            assert {judged.verdict for judged in judge(study.claims, found)} <= {"undecided"}


def test_a_run_can_be_loaded_with_its_model(finished):
    study, path = finished
    if not study.build:
        pytest.skip("it trains nothing")
    _, model, params = jaxrnn.load(path, seed=1)
    expected = jax.eval_shape(study.build(study.config(**study.tiny)).init, jax.random.key(0))
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, expected)
    assert callable(model.apply), f"the study {study.name} has no `model`"


def test_a_directory_of_an_older_format_is_refused(finished, tmp_path):
    study, path = finished
    shutil.copytree(path, tmp_path / "old")
    config = tmp_path / "old/config.json"
    config.write_text(config.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(session.RunError, match="format"):
        session.resume(study, tmp_path / "old")
