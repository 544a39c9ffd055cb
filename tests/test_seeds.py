import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import seeds


def test_lanes_are_the_product_and_named_by_their_values():
    lanes = seeds.product(range(2, 4), [1e-3, 0.1])
    assert [lane.name for lane in lanes] == [
        "seed=2,learning_rate=0.001",
        "seed=3,learning_rate=0.001",
        "seed=2,learning_rate=0.1",
        "seed=3,learning_rate=0.1",
    ]


@pytest.mark.parametrize("num_lanes", [1, 3])
def test_a_program_works_on_each_lane(num_lanes):
    program = seeds.over_lanes(lambda x, y: {"sum": x.sum() + y}, num_lanes)
    x = jnp.arange(4.0 * num_lanes).reshape(num_lanes, 4)
    y = jnp.arange(float(num_lanes))
    np.testing.assert_array_equal(program(x, y)["sum"], np.asarray(x).sum(1) + np.asarray(y))


def test_one_lane_runs_without_a_batch_axis():
    shapes = []

    def fn(x):
        shapes.append(x.shape)
        return x

    jaxpr = str(jax.make_jaxpr(seeds.over_lanes(lambda x: jnp.dot(x, x), 1))(jnp.ones((1, 4))))
    seeds.over_lanes(fn, 1)(jnp.ones((1, 4)))
    assert shapes == [(4,)]
    assert "dimension_numbers=(([0], [0]), ([], []))" in jaxpr  # A plain dot, not a batched one.


@pytest.mark.parametrize(("active", "size", "expected"), [(1, 8, 1), (2, 8, 2), (3, 8, 4), (5, 6, 6), (6, 6, 6)])
def test_blocks_shrink_to_powers_of_two(active, size, expected):
    assert seeds.shrunk(active, size) == expected


def test_take_fills_up_with_copies_of_the_last():
    tree = {"x": jnp.arange(5)}
    np.testing.assert_array_equal(seeds.take(tree, [1, 3], 4)["x"], [1, 3, 3, 3])
