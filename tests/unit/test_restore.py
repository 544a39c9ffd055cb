"""Runs are found by their names, and while they are in training."""

import numpy as np
import pytest
import tiny

import jaxrnn
from jaxrnn.rundir.checkpoint import CheckpointStore
from jaxrnn.rundir.directory import RunError
from jaxrnn.training.definition import product


def test_load_names_a_run_by_its_values(whole):
    path, found = whole
    config, _, params = jaxrnn.load(path, run="seed=1,learning_rate=0.3")
    assert config.max_steps == 40
    *_, by_part = jaxrnn.load(path, run="learning_rate=0.3", seed=1)
    np.testing.assert_array_equal(by_part["w"], params["w"])
    row = next(row for row in found if row["run"] == "seed=1,learning_rate=0.3")
    np.testing.assert_allclose(params["w"].mean(), row["test_accuracy"], rtol=1e-6)


def test_load_of_an_ambiguous_or_missing_run_lists_what_there_is(whole):
    path, _ = whole
    with pytest.raises(RunError, match=r"which run\?.*seed=1,learning_rate=0.02 at step 40"):
        jaxrnn.load(path, seed=1)
    with pytest.raises(RunError, match=r"no such run.*seed=0,learning_rate=0.3"):
        jaxrnn.load(path, seed=7)
    with pytest.raises(RunError, match="no such run"):
        jaxrnn.load(path, run="seed=1,learning_rate=0.3", step=33)


def test_load_reads_a_run_in_training(saving_after_each_call, tmp_path, crash):
    crash(CheckpointStore, "save", 6, tmp_path / "a", product([5], {}))
    *_, params = jaxrnn.load(tmp_path / "a", seed=5)
    assert params["w"].shape == (tiny.SIZE,)
    *_, before = jaxrnn.load(tmp_path / "a", seed=5, step=tiny.CALLBACKS[0])
    assert np.abs(params["w"] - before["w"]).max() > 0.01
