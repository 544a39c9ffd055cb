"""Paths: what the last tokens of a palindrome say, what holds exactly, and a model that counts all palindromes."""

import jax
import numpy as np
import pytest

from configs.paths import Config
from experiments import paths
from jaxrnn.data.formal import palindrome
from jaxrnn.training.definition import ConfigError


def test_all_palindromes_are_listed_as_often_as_they_are_drawn():
    tokens, labels = palindrome.enumerate_all(2)
    assert (tokens.shape, labels.shape) == ((9, 18), (18,))
    drawn, drawn_labels = jax.jit(palindrome.TASK.sample, static_argnums=(1, 2))(jax.random.key(0), 20_000, 2)
    found = {}
    for row in np.vstack([drawn, drawn_labels]).T.tolist():
        found[tuple(row)] = found.get(tuple(row), 0) + 1
    listed = [tuple(row) for row in np.vstack([tokens, labels]).T.tolist()]
    assert set(listed) == set(found)
    for row, count in found.items():
        expected = 20_000 * listed.count(row) / 18
        assert abs(count - expected) < 5 * expected**0.5


@pytest.mark.parametrize(
    ("length", "accuracy", "one_more"),
    [(8, 0.6697, 0.6700), (16, 0.7092, 0.7337), (24, 0.8808, 0.9318), (32, 0.9976, 0.9997)],
)
def test_the_bayes_accuracy_of_the_last_tokens(length, accuracy, one_more):
    assert paths.bayes_accuracy(10, length) == pytest.approx(accuracy, abs=5e-5)
    assert paths.bayes_accuracy(10, length + 1) == pytest.approx(one_more, abs=5e-5)


def test_recurrent_networks_are_graph_networks_on_a_path():
    found = paths.exact_statements(9, 4, 3)
    assert found.keys() == {"linear", "linear_rows", "tied", "tied_rows", "last"}
    assert max(found.values()) < 1e-12


def test_the_test_counts_every_palindrome():
    config = Config(digits=2, depth=3, hidden_size=4)
    training = paths.build(config)
    params = training.init(jax.random.key(0))
    found = jax.jit(training.test)(params, (), 0, training.data)
    tokens, labels = palindrome.enumerate_all(2)
    called = paths.build_model(config).apply({"params": params}, tokens[-3:].astype(np.int32)).argmax(axis=-1)
    accuracy, bound = float(found["test_accuracy"]), float(found["bayes_accuracy"])
    assert accuracy == pytest.approx(float(np.mean(called == labels)), abs=1e-6)
    assert accuracy <= bound + 1e-6


def test_a_bound_that_cannot_be_listed_is_refused():
    with pytest.raises(ConfigError, match="digits"):
        paths.check(Config(digits=20))
    paths.check(Config(digits=20, readout="max"))
