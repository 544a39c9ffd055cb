"""What `SequenceTask` promises, for every entry of `TASKS`."""

import jax
import numpy as np
import pytest

from jaxrnn.data.formal import TASKS


@pytest.fixture(params=TASKS)
def task(request):
    return TASKS[request.param](20)


def draw(task, seed, batch_size=64):
    return jax.jit(task.sample, static_argnums=1)(jax.random.key(seed), batch_size)


def test_sizes_and_types(task):
    tokens_tb, labels_b = draw(task, 0)
    assert (tokens_tb.shape, labels_b.shape) == ((task.input_length, 64), (64,))
    assert tokens_tb.dtype == labels_b.dtype == np.int32
    for values, number in ((tokens_tb, task.vocabulary_size), (labels_b, task.num_classes)):
        assert values.min() >= 0
        assert values.max() < number


def test_a_sample_is_a_function_of_its_key(task):
    first, again, other = (np.asarray(draw(task, seed)[0]) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_vmap_over_keys_equals_separate_calls(task):
    together = jax.jit(jax.vmap(lambda seed: task.sample(jax.random.key(seed), 8)))(np.arange(3))
    for seed in range(3):
        jax.tree.map(np.testing.assert_array_equal, tuple(x[seed] for x in together), draw(task, seed, 8))
