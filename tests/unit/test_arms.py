"""Runs of one arm differ in nothing but the seed."""

import dataclasses
from typing import Annotated

import pytest
from directories import row, write_directory
from pydantic import ConfigDict as Schema
from pydantic.dataclasses import dataclass

from configs.base import Absent, Bookkeeping
from configs.palindrome import Config as Palindrome
from experiments import palindrome
from jaxrnn.rundir.read import read_directories
from jaxrnn.study.arms import ArmScheme, find_arms, with_values


@dataclass(frozen=True, config=Schema(strict=True, extra="forbid"))
class Config:
    cell: str = "lstm"
    size: int = 8
    rate: float = 0.1
    num_seeds: Annotated[int, Bookkeeping()] = 3


@dataclass(frozen=True, config=Schema(strict=True, extra="forbid"))
class Newer(Config):
    decay: Annotated[float, Absent(0.0)] = 0.0


def arms(config=Config, **kwargs):
    return ArmScheme(config, ["cell"], lambda setting: setting["cell"].upper(), paper=[{"cell": "lstm"}], **kwargs)


def find(tmp_path, scheme, source="own"):
    return find_arms(scheme, [(one, source) for one in read_directories(tmp_path)], lambda run: run.result["value"])


def write(path, seeds, config=(), **kwargs):
    fields = {"cell": "lstm", "size": 8, "rate": 0.1, "num_seeds": 3, **dict(config)}
    return write_directory(path, "tiny", fields, [row(seed, value=1.0) for seed in seeds], **kwargs)


def test_a_title_is_one_line_whatever_the_values_are():
    assert with_values("LSTM", {"mark": "\n", "size": 3, "name": "é"}, ["mark", "size", "name"]) == (
        "LSTM, mark='\\n', size=3, name=é"
    )


def test_seeds_of_several_directories_are_one_arm(tmp_path):
    write(tmp_path / "b", [5, 4], {"num_seeds": 2})
    write(tmp_path / "a", [0, 9])
    (arm,) = find(tmp_path, arms()).arms
    assert [run.seed for run in arm.runs] == [0, 4, 5, 9]
    assert (arm.title, arm.count, arm.paths) == ("LSTM", "4", [tmp_path / "a", tmp_path / "b"])


def test_a_new_field_changes_no_arm_and_another_value_is_one_of_its_own(tmp_path):
    write(tmp_path / "old", [0, 1])
    write(tmp_path / "default", [2], {"decay": 0.0})
    write(tmp_path / "decayed", [3], {"decay": 0.3})
    scheme = arms(Newer)
    old, decayed = find(tmp_path, scheme).arms
    assert ([run.seed for run in old.runs], scheme.is_paper(old)) == ([0, 1, 2], True)
    assert (decayed.title, scheme.is_paper(decayed)) == ("LSTM, decay=0.3", False)


def test_every_field_of_the_paper_is_at_its_default_unless_it_is_named(tmp_path):
    write(tmp_path / "a", [0], {"rate": 0.2})
    write(tmp_path / "b", [0], sweep={"rate": [0.1, 0.2]})
    found = find(tmp_path, arms())
    assert found.arm({"cell": "lstm"}) is None  # The swept run does not say which rate it had.
    assert [arm.title for arm in found.arms] == ["LSTM, rate=0.2"]


def test_a_swept_value_is_the_arms(tmp_path):
    fields = dataclasses.asdict(Config())
    rows = [row(0, value=1.0, rate=rate) | {"run": f"seed=0,rate={rate}"} for rate in (0.1, 0.2)]
    write_directory(tmp_path / "a", "tiny", fields, rows, sweep={"rate": [0.1, 0.2]})
    assert [arm.title for arm in find(tmp_path, arms()).arms] == ["LSTM", "LSTM, rate=0.2"]


def test_archived_and_own_runs_other_data_and_unfinished_runs_are_kept_apart(tmp_path):
    write(tmp_path / "a", [0], data={"sha256": "1"})
    write(tmp_path / "b", [1], data={"sha256": "2"})
    write(tmp_path / "c", [2], data={"sha256": "1"}, complete=False)
    directories = read_directories(tmp_path)
    both = [(one, source) for one in directories for source in ("archive", "own")]
    found = find_arms(arms(), both, lambda run: None)
    assert len(found.arms) == 6
    assert [arm.is_complete for arm in found.arms] == [True] * 4 + [False] * 2
    assert found.arm({"cell": "lstm"}).source == "archive"
    assert found.arm({"cell": "lstm"}, "own").source == "own"
    assert [source for source, remark in found.remarks if "other data" in remark] == ["own"]


def test_a_seed_that_is_there_twice_counts_once(tmp_path):
    write(tmp_path / "a", [0])
    write(tmp_path / "b", [0, 1])
    found = find(tmp_path, arms())
    assert found.arms[0].count == "2"
    assert "seed=0" in found.remarks[0][1]


def test_arms_come_in_the_order_of_the_sweep_and_of_how_near_a_config_is_to_its_defaults(tmp_path):
    write(tmp_path / "a", [0], {"cell": "gru", "size": 9})
    write(tmp_path / "b", [0], {"cell": "gru"})
    rows = [row(0, value=1.0, cell=cell) | {"run": f"seed=0,cell={cell}"} for cell in ("rnn", "cell")]
    write_directory(tmp_path / "c", "tiny", dataclasses.asdict(Config()), rows, sweep={"cell": ["rnn", "cell"]})
    scheme = ArmScheme(Config, ["cell"], lambda setting: setting["cell"].upper())
    assert [arm.title for arm in find(tmp_path, scheme).arms] == ["RNN", "CELL", "GRU", "GRU, size=9"]


def test_runs_that_have_not_begun_count_as_asked_for(tmp_path):
    write(tmp_path / "a", [0], {"num_seeds": 3}, complete=False)
    write(tmp_path / "b", [0, 1], {"num_seeds": 4}, complete=False)
    (arm,) = find(tmp_path, arms()).arms
    assert arm.count == "2 of 4 have ended"


def test_the_nearest_of_the_papers_arms_is_named_by_what_differs():
    scheme = ArmScheme(Config, paper=[{"cell": "lstm"}, {"cell": "gru", "size": 4}])
    assert scheme.off_paper(scheme.of_fields({"cell": "gru", "size": 5})) == {"size": 4}
    assert scheme.off_paper(scheme.of_fields({"rate": 0.2})) == {"rate": 0.1}
    assert scheme.off_paper(scheme.of_fields({})) == {}


@pytest.mark.parametrize("config", [{"size": "large"}, {"unknown": 1}, {"cell": 3}])
def test_a_config_that_the_study_does_not_know_is_left_out(tmp_path, config):
    write(tmp_path / "a", [0], config)
    found = find(tmp_path, arms())
    assert (found.arms, len(found.remarks)) == ([], 1)


def test_a_result_without_what_the_study_asks_for_is_left_out(tmp_path):
    write_directory(tmp_path / "a", "tiny", dataclasses.asdict(Config()), [row(0)])
    found = find(tmp_path, arms())
    assert (found.arms, len(found.remarks)) == ([], 1)
    assert "value" in found.remarks[0][1]


def test_curves_end_before_a_nan_and_need_every_evaluation(tmp_path):
    fields = dataclasses.asdict(Palindrome()) | {"eval_every": 10}
    points = [(step, {"loss": 1.0, "accuracy": 0.5}) for step in (0, 10, 20)]
    rows = [row(seed, 20, test_accuracy=None) for seed in (0, 1)] + [row(2, 15, failed_at=15, test_accuracy=None)]
    curves = {"seed=0": points, "seed=1": points[::2], "seed=2": [*points[:2], (15, {"loss": None, "accuracy": 0.5})]}
    write_directory(tmp_path / "a", "palindrome", fields, rows, curves=curves)
    directories = [(one, "own") for one in read_directories(tmp_path)]
    (arm,) = find_arms(palindrome.STUDY.arms, directories, lambda run: None).arms
    assert {seed: curve.steps.tolist() for seed, curve in arm.curves.items()} == {0: [0, 10, 20], 2: [0, 10]}


def test_values_that_mean_the_same_are_the_same():
    scheme = palindrome.STUDY.arms
    assert scheme.of_fields({"digits": 20, "embedding_size": 162}) == scheme.of_fields({"digits": 20})
    assert scheme.name(scheme.of_fields({"digits": 20, "embedding_size": 40})) == "LSTM T=20, embedding_size=40"
