"""What `SequenceTask` promises, for every entry of `TASKS`."""

import jax
import numpy as np
import pytest

from jaxrnn.data.formal import TASKS

LENGTH = 20


@pytest.fixture(params=TASKS)
def task(request):
    return TASKS[request.param]


def draw(task, seed, batch_size=64, length=LENGTH):
    return jax.jit(task.sample, static_argnums=(1, 2))(jax.random.key(seed), batch_size, length)


@pytest.mark.parametrize("longer", [0, 17])
def test_sizes_and_types_at_any_length(task, longer):
    length = task.min_length + longer
    inputs, labels = draw(task, 0, length=length)
    assert inputs.shape[:2] == (task.input_length(length), 64)
    assert labels.shape == ((task.output_length(length), 64) if task.output_length else (64,))
    for longest in (length, 2 * length):
        for values, number in zip((inputs, labels), task.symbols(longest), strict=True):
            if values.dtype == np.float32:
                assert values.shape[2:] == (() if values is labels else (number,))
            else:
                assert values.dtype == np.int32
                assert values.min(initial=0) >= 0
                assert values.max(initial=0) < number


def test_a_sample_is_a_function_of_its_key(task):
    first, again, other = (np.asarray(draw(task, seed)[0]) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_vmap_over_keys_equals_separate_calls(task):
    together = jax.jit(jax.vmap(lambda seed: task.sample(jax.random.key(seed), 8, LENGTH)))(np.arange(3))
    for seed in range(3):
        jax.tree.map(np.testing.assert_array_equal, tuple(x[seed] for x in together), draw(task, seed, 8))
