"""Trains from the library alone: without a study, flags and, where none is wanted, a directory."""

import runpy
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from processes import ROOT

import jaxrnn
from jaxrnn.rundir.directory import RunError, read_results
from jaxrnn.training.definition import Run, product

RUNS = [0, *product([1], {"learning_rate": [0.3]})]
SLOW, SOON = "seed=0", "seed=1,learning_rate=0.3"


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.fixture(scope="module")
def trained():
    return jaxrnn.train(tiny.training(), RUNS)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("direct") / "a"
    jaxrnn.train(tiny.training(), RUNS, path)
    return path


def test_results_are_arrays(trained):
    assert trained.results["run"].tolist() == list(trained.metrics) == list(trained.params) == [SLOW, SOON]
    assert trained.results["stopped"].tolist() == [False, True]
    assert np.isnan(trained.results["failed_at"]).all()
    means = [trained.params[run]["w"].mean() for run in (SLOW, SOON)]
    np.testing.assert_allclose(trained.results["test_accuracy"], means, rtol=1e-6)
    assert trained.metrics[SLOW]["step"].tolist() == list(range(0, 41, 5))
    assert np.isfinite(trained.metrics[SLOW]["loss"]).all()


def test_progress_tells_of_the_beginning_and_of_each_call(trained):
    seen = []
    jaxrnn.train(tiny.training(), RUNS, progress=seen.append)
    assert (seen[0].steps, seen[0].runs, seen[0].is_compiling) == (0, 2, True)
    assert not any(one.is_compiling for one in seen[2:])
    assert [one.steps for one in seen] == sorted(one.steps for one in seen)
    assert (seen[-1].ended, seen[-1].steps, seen[-1].running) == (2, seen[-1].max_steps, [])
    middle = next(one for one in seen if one.running == [SLOW] and one.metrics)
    assert (middle.step, middle.last_step, list(middle.metrics)) == (middle.steps - 42, 40, ["loss", "accuracy"])


def test_a_thread_and_a_directory_give_the_same(trained, tmp_path):
    found = []

    def train():
        found.append(jaxrnn.train(tiny.training(), RUNS, tmp_path / "a", progress=True))

    for _ in range(2):  # In a directory that does not have it, and in one that has.
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
        assert_same(found[-1], trained)


def test_a_directory_takes_more_runs_and_more_steps(directory, tmp_path):
    path, more = shutil.copytree(directory, tmp_path / "grown"), tiny.training(max_steps=50)
    assert read_results(path)[0]["last_step"] == 40
    grown = jaxrnn.train(more, [*RUNS, 2], path)
    assert_same(grown, jaxrnn.train(more, [*RUNS, 2], tmp_path / "whole"))
    assert grown.results["last_step"][0] == 50
    assert_same(jaxrnn.train(more._replace(chunk_steps=7), [*RUNS, 2], path), grown)


OTHERS = {
    "fewer steps": ({"max_steps": 30}, RUNS),
    "fewer runs": ({}, RUNS[:1]),
    "a larger model": ({"init": lambda key: {"w": jax.random.normal(key, (4,))}, "data": jnp.ones(4)}, RUNS),
    "another start": ({"init": lambda key: {"w": jax.random.uniform(key, (tiny.SIZE,))}}, RUNS),
    "other batches": ({"sample": lambda key, step, data: jax.random.normal(key, (tiny.BATCH,)) / 2}, RUNS),
    "another optimizer": ({"optimizer": lambda hyper: optax.adam(hyper["learning_rate"])}, RUNS),
    "another rate": ({"hyper": {"learning_rate": 0.03}}, RUNS),
    "other data": ({"data": 2 * jnp.ones(tiny.SIZE)}, RUNS),
    "another test": ({"test": lambda params, *_: {"test_accuracy": params["w"].max()}}, RUNS),
}


@pytest.mark.parametrize("changes", OTHERS)
def test_a_directory_with_another_training_is_refused(directory, changes):
    before, (fields, runs) = tiny.contents(directory), OTHERS[changes]
    with pytest.raises(RunError, match="holds another training"):
        jaxrnn.train(tiny.training(**fields), runs, directory)
    assert tiny.contents(directory) == before


def test_a_value_needs_a_field():
    with pytest.raises(ValueError, match="decay is not in"):
        jaxrnn.train(tiny.training(), [Run(0, {"decay": 0.1})])


def test_runs_are_some_and_different():
    for runs in ([], [0, 1, 0]):
        with pytest.raises(ValueError, match="at least one, all of them different"):
            jaxrnn.train(tiny.training(), runs)


def test_the_front_door_shows_what_there_is():
    assert {"CELLS", "unroll", "Training", "Run", "train", "load", "use_all_cores"} <= {*dir(jaxrnn)}
    assert all(f"`{name}`" in jaxrnn.__doc__ and getattr(jaxrnn, name) for name in jaxrnn.__all__)


def test_the_adding_problem_needs_forty_lines(capsys):
    path = ROOT / "examples/adding_problem_library.py"
    assert len(path.read_text().splitlines()) <= 40
    runpy.run_path(str(path))["compare"]("min_gru", "rnn", length=4, hidden=4, steps=60, seeds=2)
    assert capsys.readouterr().out.startswith("min_gru - rnn: error ")
