import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.training import seeds


def test_lanes_are_the_product_and_named_by_their_values():
    lanes = seeds.product(range(2, 4), [1e-3, 0.1])
    assert [lane.name for lane in lanes] == [
        "seed=2,learning_rate=0.001",
        "seed=3,learning_rate=0.001",
        "seed=2,learning_rate=0.1",
        "seed=3,learning_rate=0.1",
    ]


@pytest.mark.parametrize("num_lanes", [1, 2, 4])
def test_a_program_works_on_each_lane(num_lanes):
    program = seeds.over_lanes(lambda x, y: {"sum": x.sum() + y}, num_lanes)
    x = jnp.arange(4.0 * num_lanes).reshape(num_lanes, 4)
    y = jnp.arange(float(num_lanes))
    np.testing.assert_array_equal(program(x, y)["sum"], np.asarray(x).sum(1) + np.asarray(y))


@pytest.mark.parametrize(("num_lanes", "batched"), [(1, False), (2, False), (4, True)])
def test_one_lane_on_a_device_has_no_batch_axis(num_lanes, batched):
    program = seeds.over_lanes(lambda x: jnp.dot(x, x), num_lanes)
    plain = "dimension_numbers=(([0], [0]), ([], []))" in str(jax.make_jaxpr(program)(jnp.ones((num_lanes, 4))))
    assert plain != batched


def test_lanes_are_spread_over_devices_that_do_not_communicate():
    program = seeds.over_lanes(lambda x: jnp.cumsum(x) / x.sum(), 4)
    x = seeds.place(np.ones((4, 8), np.float32), 4)
    assert [shard.data.shape for shard in program(x).addressable_shards] == [(2, 8), (2, 8)]
    assert not re.search("all-|permute|collective", program.lower(x).compile().as_text())


def test_lanes_on_devices_of_their_own_have_the_same_bits():
    def fn(x):
        return jax.lax.scan(lambda c, _: (jnp.tanh(c @ c.T), c.sum()), x, None, length=20)

    x = np.random.default_rng(0).normal(size=(2, 64, 64)).astype(np.float32)
    together = seeds.over_lanes(fn, 2)(x)
    for lane in range(2):
        alone = seeds.over_lanes(fn, 1)(x[lane : lane + 1])
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            np.testing.assert_array_equal(a[0], b[lane])


@pytest.mark.parametrize(("lanes", "size"), [(1, 1), (2, 2), (3, 4), (5, 6)])
def test_lanes_are_padded_to_a_multiple_of_the_devices(lanes, size):
    assert jax.device_count() == 2
    assert seeds.padded(lanes) == size


@pytest.mark.parametrize(
    ("active", "size", "expected"), [(1, 1, 1), (1, 2, 2), (2, 8, 2), (3, 8, 4), (4, 8, 4), (5, 8, 8), (5, 6, 6)]
)
def test_blocks_shrink_to_powers_of_two_on_each_device(active, size, expected):
    assert seeds.shrunk(active, size) == expected


@pytest.mark.parametrize(("devices", "parts"), [(1, 2), (2, 2), (1, 4), (2, 4)])
def test_parts_of_a_batch_have_the_same_bits_wherever_they_are(devices, parts):
    x = np.random.default_rng(0).normal(size=(1, 8, 64)).astype(np.float32)

    def fn(x):
        def of_part(i):
            part = jax.lax.dynamic_slice_in_dim(x, i * 8 // parts, 8 // parts)
            return {"sum": jnp.tanh(part @ x.T).sum(), "i": i}

        return seeds.over_parts(of_part, parts)

    found = seeds.over_lanes(fn, 1, data_devices=devices)(x)
    np.testing.assert_array_equal(found["i"][0], np.arange(parts))
    np.testing.assert_array_equal(found["sum"][0], jax.jit(fn)(x[0])["sum"])
    expected = np.tanh(x[0].reshape(parts, 8 // parts, 64) @ x[0].T).sum((1, 2))
    np.testing.assert_allclose(found["sum"][0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("lanes", "parts", "data_devices", "expected"),
    [(1, 1, 0, 1), (1, 2, 0, 2), (2, 2, 0, 1), (5, 2, 0, 1), (1, 4, 0, 2), (1, 3, 0, 1), (1, 2, 1, 1), (2, 2, 2, 2)],
)
def test_lanes_share_the_devices_that_would_be_idle(lanes, parts, data_devices, expected):
    assert jax.device_count() == 2
    assert seeds.devices_each(lanes, parts, data_devices) == expected


def test_take_fills_up_with_copies_of_the_last():
    tree = {"x": jnp.arange(5)}
    np.testing.assert_array_equal(seeds.take(tree, [1, 3], 4)["x"], [1, 3, 3, 3])
