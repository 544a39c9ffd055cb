"""The trainer against a NumPy loop that follows the text of the specification."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from jaxrnn.training.definition import Training
from jaxrnn.training.placement import ONE_RUN, Plan
from jaxrnn.training.seeds import Stream, stream_key
from jaxrnn.training.stop import stop_when_loss_below, stop_without_progress
from jaxrnn.training.trainer import Status, make_trainer

NO_END = np.iinfo(np.int32).max
SETTINGS = {"max_steps": 40, "eval_every": 5, "tolerance": 0.05, "patience": 2}


def reference(seed, rate, max_steps, eval_every, tolerance, patience):
    """Step by step in float32: evaluations, the step it ended at, whether it converged, and the weights."""
    w = np.asarray(jax.random.normal(stream_key(seed, Stream.INIT), (tiny.SIZE,)))
    evaluations, in_a_row = [], 0
    for step in range(max_steps + 1):
        noise = np.asarray(jax.random.normal(stream_key(seed, Stream.DATA, step), (tiny.BATCH,)))
        loss = np.mean((w - 1) ** 2) + 0.001 * np.mean(noise**2)
        w = w - np.float32(rate) * np.float32(2 / tiny.SIZE) * (w - 1)
        if step % eval_every == 0:
            evaluations.append((step, loss))
            in_a_row = in_a_row + 1 if loss <= tolerance else 0
            if in_a_row == patience:
                return evaluations, step, True, w
    return evaluations, max_steps, False, w


def run(training, seed, rate, chunks=1, plan=ONE_RUN):
    trainer = make_trainer(training, plan)
    state = jax.jit(trainer.init)(training.data, seed, {"learning_rate": rate})
    chunk = jax.jit(trainer.chunk)
    evaluations = []
    for _ in range(chunks):
        state, found = chunk(training.data, state, NO_END)
        recorded = zip(found.step, found.metrics["loss"], found.recorded, strict=True)
        evaluations += [(int(s), float(v)) for s, v, is_recorded in recorded if is_recorded]
    return state, evaluations


def minimal(**changes):
    """One weight that starts at zero and is its own loss."""
    default = Training(
        init=lambda key: {"w": jnp.zeros(())},
        sample=lambda key, step, data: step,
        loss=lambda params, memory, batch, key, data: (params["w"], ({}, memory)),
        optimizer=lambda hyper: optax.sgd(hyper["learning_rate"]),
        test=lambda params, memory, seed, data: {},
        hyper={"learning_rate": 0.1},
        max_steps=10,
        eval_every=5,
        chunk_steps=20,
    )
    return default._replace(**changes)


@pytest.mark.parametrize(("rate", "chunk_steps"), [(0.3, 7), (0.3, 41), (0.02, 7), (0.12, 1)])
def test_trainer_equals_a_numpy_loop(rate, chunk_steps):
    state, evaluations = run(tiny.training(chunk_steps=chunk_steps, **SETTINGS), 3, rate, -(-41 // chunk_steps) + 1)
    expected, step, has_converged, w = reference(3, rate, **SETTINGS)
    assert [s for s, _ in evaluations] == [s for s, _ in expected]
    np.testing.assert_allclose([v for _, v in evaluations], [v for _, v in expected], rtol=1e-5)
    assert (int(state.step), has_converged) == (step, rate > 0.1)
    assert int(state.status) == (Status.STOPPED if has_converged else Status.OUT_OF_STEPS)
    np.testing.assert_allclose(state.params["w"], w, rtol=1e-5)


def test_a_chunk_goes_no_further_than_it_is_told():
    training = tiny.training(chunk_steps=7)
    trainer = make_trainer(training)
    chunk = jax.jit(trainer.chunk)
    state, found = chunk(training.data, trainer.init(training.data, 3, {"learning_rate": 0.02}), 4)
    assert int(state.step) == 5
    assert found.recorded.tolist() == [True] + 7 * [False]
    again, found = chunk(training.data, state, 4)
    jax.tree.map(np.testing.assert_array_equal, again, state)
    assert not found.recorded.any()


def test_memory_goes_from_batch_to_batch_and_a_schedule_knows_the_step():
    state, _ = run(
        minimal(
            loss=lambda params, memory, batch, key, data: (params["w"], ({}, memory + batch)),
            optimizer=lambda hyper: optax.sgd(lambda step: hyper["learning_rate"] * 0.5**step),
            start_memory=lambda seed, data: jnp.int32(100),
        ),
        seed=0,
        rate=0.1,
    )
    assert (int(state.status), int(state.step), int(state.memory)) == (Status.OUT_OF_STEPS, 10, 155)
    np.testing.assert_allclose(state.params["w"], -0.1 * sum(0.5**step for step in range(11)), rtol=1e-6)


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_batch_give_the_step_of_the_whole(parts):
    rng = np.random.default_rng(0)
    xs, ys = rng.normal(size=(3, 8)), rng.normal(size=8)
    keys = []

    def loss(params, memory, batch, key, data):
        xs_db, ys_b, scale = batch
        residuals_b = params["w"] @ xs_db - ys_b
        jax.debug.callback(lambda key: keys.append(tuple(key.tolist())), jax.random.key_data(key))
        return scale * (residuals_b**2).mean(), ({"first": residuals_b[0]}, memory + ys_b)

    training = minimal(
        init=lambda key: {"w": jnp.ones(3)},
        sample=lambda key, step, data: (*data, 3.0),
        loss=loss,
        max_steps=1,
        eval_every=1,
        chunk_steps=2,
        start_memory=lambda seed, data: jnp.zeros(8),
        data=(jnp.asarray(xs), jnp.asarray(ys)),
        batch_size=8,
        batch_axes=(1, 0, None),
    )
    w, losses = np.ones(3), []
    for _ in range(2):
        residuals = w @ xs - ys
        losses.append(3 * np.mean(residuals**2))
        w = w - 0.1 * 3 * 2 * xs @ residuals / 8
    for number in (1, parts):
        keys.clear()
        state, evaluations = run(training, 0, 0.1, plan=Plan(parts=number))
        jax.effects_barrier()
        assert len(set(keys)) == len(keys) == 2 * number  # Two steps; no key twice.
        np.testing.assert_allclose(state.params["w"], w, rtol=1e-5)
        np.testing.assert_allclose(state.memory, 2 * ys, rtol=1e-6)
        np.testing.assert_allclose([value for _, value in evaluations], losses, rtol=1e-5)


def test_a_faster_loss_is_taken_where_a_run_has_a_core():
    def faster(rows):
        return lambda params, memory, batch, key, data: (params["w"] * rows, ({}, memory))

    training = minimal(loss_on_own_core=faster, batch_size=8, max_steps=0)
    for plan, factor in ((Plan(own_cores=True), 8), (Plan(), 1)):
        state, _ = run(training, 0, 0.1, plan=plan)
        np.testing.assert_allclose(state.params["w"], -0.1 * factor, rtol=1e-6)


def test_a_nan_ends_the_run_and_keeps_the_weights_before_it():
    with jax.debug_nans(False):
        state, evaluations = run(tiny.training(), 0, float("inf"), 2)
    assert int(state.status) == Status.FAILED
    assert int(state.step) == evaluations[-1][0] == 1
    assert not np.isfinite(evaluations[-1][1])


def test_a_gradient_that_is_not_finite_ends_the_run_too():
    def loss(params, memory, batch, key, data):
        return jnp.sqrt(params["w"]), ({}, memory)  # 0, with an infinite slope.

    state, _ = run(minimal(loss=loss, stop=stop_when_loss_below(-1.0, 1)), 0, 0.1)
    assert (int(state.status), int(state.step), float(state.params["w"])) == (Status.FAILED, 0, 0.0)


def test_validation_is_of_the_updated_parameters_and_the_rule_is_asked_more_often_than_is_recorded():
    def validate(params, seed, data):
        """The parameters are -1, -2, ... after the updates: best at minus the seed."""
        distance = (params["w"] + seed) ** 2
        return {"validation_loss": distance, "validation_accuracy": 1 / (1 + distance)}

    training = minimal(
        stop=stop_without_progress(3),
        max_steps=100,
        eval_every=4,
        stop_every=1,
        start_memory=lambda seed, data: jnp.asarray(seed, jnp.float32),
        validate=validate,
        test=lambda params, memory, seed, data: {"w": params["w"]},
    )
    trainer = make_trainer(training)
    state, found = jax.jit(trainer.chunk)((), trainer.init((), 6, {"learning_rate": 1.0}), NO_END)
    assert (int(state.status), int(state.step)) == (Status.STOPPED, 8)
    assert float(trainer.test((), state)["w"]) == float(trainer.chosen(state)["w"]) == -6
    assert float(state.params["w"]) == -9
    assert np.flatnonzero(found.recorded).tolist() == [0, 4, 8]
    np.testing.assert_allclose(found.metrics["validation_loss"][np.array([0, 4, 8])], [25, 1, 9])


def test_streams_and_steps_have_keys_of_their_own():
    keys = [stream_key(seed, stream, step) for seed in (0, 1) for stream in Stream for step in (0, 1)]
    data = {tuple(np.asarray(jax.random.key_data(key))) for key in keys}
    assert len(data) == len(keys)
