"""The oracle lists every permutation."""

import itertools
from collections import Counter

import jax
import numpy as np
import pytest
import scipy.stats

from jaxrnn.data.formal import random_combinations

draw = jax.jit(random_combinations.TASK.sample, static_argnums=(1, 2))


def permutations(tokens_tb, labels_b):
    return [tuple(column) for column in np.concatenate([tokens_tb, labels_b[None]]).T.tolist()]


@pytest.mark.parametrize("digits", [2, 3, 4])
def test_every_permutation_is_equally_likely(digits):
    observed = Counter(permutations(*draw(jax.random.key(digits), 100_000, digits)))
    every = list(itertools.permutations(range(digits)))
    assert observed.keys() == set(every)
    assert scipy.stats.chisquare([observed[permutation] for permutation in every]).pvalue > 1e-3


def test_structure_at_twenty():
    task = random_combinations.TASK
    tokens, labels = jax.jit(task.sample, static_argnums=(1, 2))(jax.random.key(0), 5000, 20)
    assert (task.input_length(20), task.symbols(20)) == (19, (20, 20))
    assert tokens.shape == (19, 5000)
    assert labels.shape == (5000,)
    assert tokens.dtype == labels.dtype == np.int32
    assert all(sorted(permutation) == list(range(20)) for permutation in permutations(tokens, labels))
    assert scipy.stats.chisquare(np.bincount(labels, minlength=20)).pvalue > 1e-3
