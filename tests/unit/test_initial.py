"""New runs that start from the weights of others."""

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import jaxrnn
from jaxrnn.rundir.initial import keep_weights, kept_weights, read_weights, start_from
from jaxrnn.training.definition import Callback, ConfigError, Run


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "runs"
    tiny.train(path, [Run(0), Run(1)], max_steps=9)
    return path


def first_means(source, seeds):
    """What the first step sees: the mean of the weights before any update."""
    training = tiny.training(max_steps=0, callback=Callback())
    metrics = jaxrnn.train(start_from(training, read_weights(source)), seeds).metrics
    return [metrics[f"seed={seed}"]["accuracy"][0] for seed in seeds]


def test_each_seed_starts_from_its_own_weights_and_one_run_serves_all(source):
    means = [jaxrnn.load(source, seed=seed)[2]["w"].mean() for seed in (0, 1)]
    np.testing.assert_allclose(first_means(str(source), [0, 1]), means, rtol=1e-6)
    np.testing.assert_allclose(first_means(f"{source}:seed=1", [0, 5]), [means[1]] * 2, rtol=1e-6)


def test_weights_stay_with_the_runs(source, tmp_path):
    weights = read_weights(str(source))
    keep_weights(tmp_path, weights)
    kept = kept_weights(tmp_path, {"w": jnp.zeros(tiny.SIZE)})
    assert kept.digest == weights.digest != read_weights(f"{source}:seed=1").digest
    np.testing.assert_array_equal(kept.of_seed(1)["w"], weights.params["seed=1"]["w"])


def test_weights_that_do_not_fit_are_named(source):
    weights = read_weights(str(source))
    with pytest.raises(ConfigError, match=r"w is float32\[3\]"):
        start_from(tiny.training(init=lambda key: {"w": jnp.zeros(4)}), weights)
    with pytest.raises(ConfigError, match="seed 7"):
        weights.of_seed(7)
