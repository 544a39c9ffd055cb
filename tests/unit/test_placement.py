"""How runs, batches and devices meet: on two devices, bits, sizes and plans."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import tiny

from configs.formal import Config
from experiments import formal
from jaxrnn.training import placement
from jaxrnn.training.definition import ConfigError, Run, product
from jaxrnn.training.placement import Plan, make_plan, over_parts, over_runs
from jaxrnn.training.trainer import Status, make_trainer


def test_runs_are_the_product_and_named_by_what_sets_them_apart():
    runs = product(range(2, 4), {"learning_rate": [1e-3, 0.1]})
    assert [run.name for run in runs] == [
        "seed=2,learning_rate=0.001",
        "seed=3,learning_rate=0.001",
        "seed=2,learning_rate=0.1",
        "seed=3,learning_rate=0.1",
    ]
    assert runs[0].record() == {"run": runs[0].name, "seed": 2, "learning_rate": 1e-3}
    assert [run.name for run in product([5], {})] == [Run(5).name] == ["seed=5"]


# --- Programs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_runs", [1, 2, 4])
def test_a_program_works_on_each_run_and_on_data_that_all_share(num_runs):
    program = over_runs(lambda data, x, y: {"sum": x.sum() + y + data.sum()}, num_runs)
    x, y, data = jnp.arange(4.0 * num_runs).reshape(num_runs, 4), jnp.arange(float(num_runs)), np.arange(5.0)
    replicated = placement.replicate(data, num_runs)
    np.testing.assert_array_equal(program(replicated, x, y)["sum"], np.asarray(x).sum(1) + np.asarray(y) + 10)
    assert not re.search(r"constant.*\{0, 1, 2, 3, 4\}", program.lower(replicated, x, y).as_text())


@pytest.mark.parametrize(("num_runs", "batched"), [(1, False), (2, False), (4, True)])
def test_one_run_on_a_device_has_no_batch_axis(num_runs, batched):
    program = over_runs(lambda data, x: jnp.dot(x, x), num_runs)
    plain = "dimension_numbers=(([0], [0]), ([], []))" in str(jax.make_jaxpr(program)((), jnp.ones((num_runs, 4))))
    assert plain != batched


def test_runs_are_spread_over_devices_that_do_not_communicate():
    program = over_runs(lambda data, x: jnp.cumsum(x) / x.sum(), 4)
    x = placement.place(np.ones((4, 8), np.float32), 4)
    assert [shard.data.shape for shard in program((), x).addressable_shards] == [(2, 8), (2, 8)]
    assert not re.search("all-|permute|collective", program.lower((), x).compile().as_text())


def test_runs_on_devices_of_their_own_have_the_same_bits():
    def fn(data, x):
        return jax.lax.scan(lambda c, _: (jnp.tanh(c @ c.T), c.sum()), x, None, length=20)

    x = np.random.default_rng(0).normal(size=(2, 64, 64)).astype(np.float32)
    together = over_runs(fn, 2)((), x)
    for run in range(2):
        alone = over_runs(fn, 1)((), x[run : run + 1])
        jax.tree.map(lambda a, b, run=run: np.testing.assert_array_equal(a[0], b[run]), alone, together)


@pytest.mark.parametrize(("devices", "parts"), [(1, 2), (2, 2), (1, 4), (2, 4)])
def test_parts_of_a_batch_have_the_same_bits_wherever_they_are(devices, parts):
    x = np.random.default_rng(0).normal(size=(1, 8, 64)).astype(np.float32)

    def fn(data, x):
        def of_part(i):
            part = jax.lax.dynamic_slice_in_dim(x, i * 8 // parts, 8 // parts)
            return {"sum": jnp.tanh(part @ x.T).sum(), "i": i}

        return over_parts(of_part, parts)

    found = over_runs(fn, 1, data_devices=devices)((), x)
    np.testing.assert_array_equal(found["i"][0], np.arange(parts))
    np.testing.assert_array_equal(found["sum"][0], jax.jit(fn)((), x[0])["sum"])
    expected = np.tanh(x[0].reshape(parts, 8 // parts, 64) @ x[0].T).sum((1, 2))
    np.testing.assert_allclose(found["sum"][0], expected, rtol=1e-5)


def test_take_fills_up_with_copies_of_the_last():
    tree = {"x": jnp.arange(5)}
    np.testing.assert_array_equal(placement.take(tree, [1, 3], 4)["x"], [1, 3, 3, 3])


# --- Sizes and plans --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("runs", "size"), [(1, 1), (2, 2), (3, 4), (5, 6)])
def test_programs_are_padded_to_a_multiple_of_the_devices(runs, size):
    assert jax.device_count() == 2
    assert placement.ONE_RUN.padded_size(runs) == size


@pytest.mark.parametrize(
    ("active", "size", "expected"), [(1, 1, 1), (1, 2, 2), (2, 8, 2), (3, 8, 4), (4, 8, 4), (5, 8, 8), (5, 6, 6)]
)
def test_programs_shrink_to_powers_of_two_on_each_device(active, size, expected):
    assert placement.ONE_RUN.shrunk_size(active, size) == expected


@pytest.mark.parametrize(
    ("runs", "parts", "data_devices", "expected"),
    [(1, 1, 0, 1), (1, 2, 0, 2), (2, 2, 0, 1), (5, 2, 0, 1), (1, 4, 0, 2), (1, 3, 0, 1), (1, 2, 1, 1), (2, 2, 2, 2)],
)
def test_runs_share_the_devices_that_would_be_idle(runs, parts, data_devices, expected):
    assert Plan(parts=parts, data_devices=data_devices).devices_each(runs) == expected


@pytest.mark.parametrize(
    ("fields", "runs", "arguments", "expected"),
    [
        ({}, 5, {}, Plan(2, 1, 0, False)),  # A run for each of two cores.
        ({"batch_size": 64}, 1, {}, Plan(1, 1, 0, True)),
        ({"batch_size": 64, "core_parts": 2}, 5, {}, Plan(2, 2, 0, True)),
        ({"batch_size": 32, "core_parts": 4}, 5, {}, Plan(2, 4, 0, False)),
        ({"batch_size": 65, "core_parts": 2}, 5, {}, Plan(2, 1, 0, True)),
        ({"batch_size": 64, "core_parts": 2}, 5, {"runs_per_program": 3}, Plan(3, 1, 0, False)),
        ({"batch_size": 64}, 5, {"data_devices": 2}, Plan(1, 2, 2, True)),
    ],
)
def test_a_training_is_placed_as_is_fastest_on_a_cpu(fields, runs, arguments, expected):
    assert make_plan(tiny.training(**fields), runs, **arguments) == expected


@pytest.mark.parametrize(("batch_size", "data_devices", "reason"), [(4, 3, "number of devices"), (5, 2, "batch of 5")])
def test_what_cannot_be_divided_names_the_field(batch_size, data_devices, reason):
    with pytest.raises(ConfigError, match=reason) as error:
        make_plan(tiny.training(batch_size=batch_size), 1, data_devices=data_devices)
    assert error.value.field == "data_devices"


# --- A real task ------------------------------------------------------------------------------------------------------

SEEDS = np.arange(20, dtype=np.int32)
CONFIG = Config(
    digits=2, hidden_size=16, batch_size=16, max_steps=400, eval_every=10, chunk_steps=401, tolerance=0.3, patience=2
)


@functools.cache
def programs(num_runs):
    trainer = make_trainer(formal.build(CONFIG))
    return [over_runs(fn, num_runs) for fn in (trainer.init, trainer.chunk)]


def trained(seeds):
    """State and evaluations of one program over these seeds."""
    init, chunk = programs(len(seeds))
    state = init((), seeds, {"learning_rate": np.full(len(seeds), 1e-2, np.float32)})
    return jax.device_get(chunk((), state, placement.place(np.full(len(seeds), 1000), len(seeds))))


def test_runs_that_share_a_program_train_as_they_do_alone():
    state, found = trained(SEEDS)
    alone = [trained(SEEDS[i : i + 1]) for i in range(len(SEEDS))]
    for seed in (0, 7, 19):
        losses = alone[seed][1].metrics["loss"][0, :60]
        np.testing.assert_allclose(found.metrics["loss"][seed, :60], losses, atol=1e-5)
        # A run that read its neighbour's data would not be the only one at this distance.
        others = np.delete(found.metrics["loss"][:, :60], seed, axis=0)
        assert np.abs(others - losses).max(axis=1).min() > 1e-2
    steps = np.concatenate([one.step for one, _ in alone])
    assert (state.status == Status.STOPPED).mean() > 0.5
    assert np.unique(steps).size > 3
    assert scipy.stats.ks_2samp(state.step, steps).pvalue > 0.1
    assert np.median(state.step) == pytest.approx(np.median(steps), abs=20)
