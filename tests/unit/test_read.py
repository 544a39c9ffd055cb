"""Run directories are read as they are; what is wrong with them is said, and nothing is raised."""

import dataclasses
import json

import numpy as np
import pytest
from directories import row, write_directory

from jaxrnn.rundir.read import read_directories, read_directory


def make(path, **kwargs):
    rows = [row(0, loss=0.5), row(1, loss=0.25)]
    curves = {run["run"]: [(0, {"loss": 1.0}), (10, {"loss": None})] for run in rows}
    return write_directory(path, "tiny", {"size": 3}, rows, curves=curves, **kwargs)


def test_a_directory_is_read_whole(tmp_path):
    found = read_directory(make(tmp_path / "a"))
    assert (found.study, dict(found.config), found.complete, found.remarks) == ("tiny", {"size": 3}, True, [])
    assert [(run.name, run.seed, run.result["loss"]) for run in found.runs] == [("seed=0", 0, 0.5), ("seed=1", 1, 0.25)]
    curve = found.runs[0].curve
    np.testing.assert_array_equal(curve.steps, [0, 10])
    np.testing.assert_array_equal(curve.metrics["loss"], [1.0, np.nan])
    assert found.origins == ["jaxrnn ?, jax 0.10, 2 x cpu"]


def test_directories_are_found_below_a_root_but_not_in_each_other(tmp_path):
    for name in ("b", "a/deep", "b/inner"):
        make(tmp_path / name)
    assert [one.path for one in read_directories(tmp_path)] == [tmp_path / "a/deep", tmp_path / "b"]


def test_swept_values_are_those_of_the_run(tmp_path):
    rows = [row(0, rate=0.1) | {"run": "seed=0,rate=0.1"}, row(0, rate=0.2) | {"run": "seed=0,rate=0.2"}]
    found = read_directory(write_directory(tmp_path / "a", "tiny", {}, rows, sweep={"rate": [0.1, 0.2]}))
    assert [run.swept for run in found.runs] == [{"rate": 0.1}, {"rate": 0.2}]


def test_a_curve_in_another_file_is_that_of_the_run_alone(tmp_path):
    rows = [row(0, cell=cell) | {"run": f"seed=0,cell={cell}"} for cell in ("gru", "lstm")]
    (run, _) = read_directory(write_directory(tmp_path / "a", "tiny", {}, rows, sweep={"cell": ["gru", "lstm"]})).runs
    lines = [
        {"run": one["run"], "seed": 0, "cell": one["run"][12:], "step": 3, "bits": i} for i, one in enumerate(rows)
    ]
    (tmp_path / "a/more.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run.curve_in("more.jsonl").metrics == {"bits": [0]}
    assert dataclasses.replace(run, name="baseline", swept={}).curve_in("more.jsonl") is None


def test_runs_in_training_are_there_without_a_result(tmp_path):
    curves = {"seed=0": [(0, {"loss": 1.0})], "seed=7": [(0, {"loss": 2.0})]}
    path = write_directory(tmp_path / "a", "tiny", {}, [row(0)], curves=curves, complete=False)
    found = read_directory(path)
    assert not found.complete
    assert [(run.seed, run.result is None) for run in found.runs] == [(0, False), (7, True)]
    assert "in training" in found.remarks[0]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", "{", "config.json"),
        ("config.json", "[1]", "config.json"),
        ("config.json", json.dumps({"experiment": "tiny", "config": {}}), "another version"),
        ("config.json", json.dumps({"format": 2, "config": {}}), "study"),
        ("config.json", json.dumps({"format": 2, "study": None, "config": {}}), "belongs to no study"),
        ("results.json", "{}", "results.json"),
        ("results.json", json.dumps({"complete": True, "runs": [{"run": "a"}]}), "seed"),
        ("metrics.jsonl", '{"run": "seed=0", "step": 0, "loss": 1}\nhalf a li', "line 2"),
    ],
)
def test_what_is_damaged_is_said(tmp_path, file, content, said):
    path = make(tmp_path / "a")
    (path / file).write_text(content)
    assert said in " ".join(read_directory(path).remarks)


def test_missing_files_are_no_error(tmp_path):
    path = make(tmp_path / "a")
    for file in ("results.json", "metrics.jsonl"):
        (path / file).unlink()
    assert not read_directory(path).runs
