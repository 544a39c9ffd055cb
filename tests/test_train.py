"""The trainer against a NumPy loop that follows the text of the specification."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from jaxrnn.training.seeds import Stream, stream_key
from jaxrnn.training.trainer import Status, above_recent_mean, adam, best_validation, converged, make_trainer, never


def reference(seed, rate, max_steps, eval_every, tolerance, patience):
    """Step by step in float32: looks, the step it ended at, whether it converged, and the weights."""
    w = np.asarray(jax.random.normal(stream_key(seed, Stream.INIT), (tiny.SIZE,)))
    looks, in_a_row = [], 0
    for step in range(max_steps + 1):
        noise = np.asarray(jax.random.normal(stream_key(seed, Stream.DATA, step), (tiny.BATCH,)))
        loss = np.mean((w - 1) ** 2) + 0.001 * np.mean(noise**2)
        w = w - np.float32(rate) * np.float32(2 / tiny.SIZE) * (w - 1)
        if step % eval_every == 0:
            looks.append((step, loss))
            in_a_row = in_a_row + 1 if loss <= tolerance else 0
            if in_a_row == patience:
                return looks, step, True, w
    return looks, max_steps, False, w


NO_END = np.iinfo(np.int32).max


def run(study, seed, rate, chunks):
    state = jax.jit(study.trainer.init)(seed, rate)
    chunk = jax.jit(study.trainer.chunk)
    looks = []
    for _ in range(chunks):
        state, seen = chunk(state, NO_END)
        looks += [(int(s), float(v)) for s, v, t in zip(seen.step, seen.metrics["loss"], seen.taken, strict=True) if t]
    return state, looks


@pytest.mark.parametrize(("rate", "chunk_steps"), [(0.3, 7), (0.3, 41), (0.02, 7), (0.12, 1)])
def test_trainer_equals_a_numpy_loop(rate, chunk_steps):
    settings = {"max_steps": 40, "eval_every": 5, "tolerance": 0.05, "patience": 2}
    study = tiny.study(chunk_steps=chunk_steps, **settings)
    state, looks = run(study, 3, rate, -(-41 // chunk_steps) + 1)
    expected, step, has_converged, w = reference(3, rate, **settings)
    assert [s for s, _ in looks] == [s for s, _ in expected]
    np.testing.assert_allclose([v for _, v in looks], [v for _, v in expected], rtol=1e-5)
    assert int(state.step) == step
    assert int(state.status) == (Status.STOPPED if has_converged else Status.OUT_OF_STEPS)
    np.testing.assert_allclose(state.params["w"], w, rtol=1e-5)


def test_the_cases_above_are_of_both_kinds():
    settings = {"max_steps": 40, "eval_every": 5, "tolerance": 0.05, "patience": 2}
    assert reference(3, 0.3, **settings)[2]
    assert not reference(3, 0.02, **settings)[2]


def test_a_chunk_goes_no_further_than_it_is_told():
    study = tiny.study(chunk_steps=7)
    chunk = jax.jit(study.trainer.chunk)
    state, looks = chunk(study.trainer.init(3, 0.02), 4)
    assert int(state.step) == 5
    assert looks.taken.tolist() == [True] + 7 * [False]
    again, looks = chunk(state, 4)
    jax.tree.map(np.testing.assert_array_equal, again, state)
    assert not looks.taken.any()


def test_memory_goes_from_batch_to_batch_and_the_schedule_scales_the_rate():
    trainer = make_trainer(
        init_params=lambda key: {"w": jnp.zeros(())},
        sample_batch=lambda key, step: step,
        loss=lambda params, memory, batch, key: (params["w"], ({}, memory + batch)),
        optimizer=optax.identity(),
        rule=never(),
        max_steps=10,
        eval_every=5,
        chunk_steps=20,
        init_memory=lambda _: jnp.int32(100),
        schedule=lambda step: 0.5**step,
    )
    state, _ = jax.jit(trainer.chunk)(trainer.init(0, 0.1), NO_END)
    assert (int(state.status), int(state.step), int(state.memory)) == (Status.OUT_OF_STEPS, 10, 155)
    np.testing.assert_allclose(state.params["w"], -0.1 * sum(0.5**step for step in range(11)), rtol=1e-6)


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_batch_give_the_step_of_the_whole(parts):
    rng = np.random.default_rng(0)
    xs, ys = rng.normal(size=(3, 8)), rng.normal(size=8)
    keys = []

    def loss(params, memory, batch, key):
        xs_db, ys_b, scale = batch
        residuals_b = params["w"] @ xs_db - ys_b
        jax.debug.callback(lambda key: keys.append(tuple(key.tolist())), jax.random.key_data(key))
        return scale * (residuals_b**2).mean(), ({"first": residuals_b[0]}, memory + ys_b)

    def trainer(parts):
        return make_trainer(
            init_params=lambda key: {"w": jnp.ones(3)},
            sample_batch=lambda key, step: (jnp.asarray(xs), jnp.asarray(ys), 3.0),
            loss=loss,
            optimizer=optax.identity(),
            rule=never(),
            max_steps=1,
            eval_every=1,
            chunk_steps=2,
            init_memory=lambda _: jnp.zeros(8),
            parts=parts,
            batch_axes=(1, 0, None),
        )

    def trained(trainer):
        keys.clear()
        state, looks = jax.jit(trainer.chunk)(trainer.init(0, 0.1), NO_END)
        jax.effects_barrier()
        assert len(set(keys)) == len(keys) == 2 * trainer.parts  # Two steps; no key twice.
        return state, looks

    w, losses, firsts = np.ones(3), [], []
    for _ in range(2):
        residuals = w @ xs - ys
        losses.append(3 * np.mean(residuals**2))
        firsts.append(residuals[:: 8 // parts].mean())
        w = w - 0.1 * 3 * 2 * xs @ residuals / 8
    (whole, _), (divided, looks) = trained(trainer(1)), trained(trainer(parts))
    for state in (whole, divided):
        np.testing.assert_allclose(state.params["w"], w, rtol=1e-5)
        np.testing.assert_allclose(state.memory, 2 * ys, rtol=1e-6)
    np.testing.assert_allclose(looks.metrics["loss"][:2], losses, rtol=1e-5)
    np.testing.assert_allclose(looks.metrics["first"][:2], firsts, rtol=1e-5)


def test_a_nan_ends_the_lane_and_keeps_the_weights_before_it():
    study = tiny.study()
    with jax.debug_nans(False):
        state, looks = run(study, 0, float("inf"), 2)
    assert int(state.status) == Status.FAILED
    assert int(state.step) == looks[-1][0] == 1
    assert not np.isfinite(looks[-1][1])


def test_a_gradient_that_is_not_finite_ends_the_lane_too():
    trainer = make_trainer(
        init_params=lambda key: {"w": jnp.zeros(())},
        sample_batch=lambda key, step: None,
        loss=lambda params, memory, batch, key: (jnp.sqrt(params["w"]), ({}, memory)),  # 0, with an infinite slope.
        optimizer=optax.identity(),
        rule=converged(-1.0, 1),
        max_steps=10,
        eval_every=5,
        chunk_steps=3,
    )
    state, _ = jax.jit(trainer.chunk)(trainer.init(0, 0.1), NO_END)
    assert (int(state.status), int(state.step), float(state.params["w"])) == (Status.FAILED, 0, 0.0)


def test_patience_counts_looks_in_a_row():
    rule = converged(0.1, 3)
    state, stops = rule.start(None), []
    for loss in [0.05, 0.05, 0.2, 0.1, 0.1, 0.1]:
        state, stop = rule.look(state, {"loss": jnp.asarray(loss)}, None)
        stops.append(bool(stop))
    assert stops == [False] * 5 + [True]


def validations(seed):
    """Losses that fall and then rise, accuracies that do the opposite, with noise and ties."""
    rng = np.random.default_rng(seed)
    trend = np.abs(np.arange(60) - 25) / 25
    accuracy = np.round(0.8 - 0.2 * trend + 0.03 * rng.standard_normal(60), 2)
    return (1 + trend + 0.1 * rng.standard_normal(60)).astype(np.float32), accuracy.astype(np.float32)


def ended_at(rule, losses, accuracies):
    """The look at which a rule stops, None if it does not, and the look whose parameters it chooses."""
    state, stop, i = rule.start(-1), False, -1
    for i, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True)):
        state, stop = rule.look(state, {"validation_loss": loss, "validation_accuracy": accuracy}, i)
        if stop:
            break
    return (i if stop else None), int(rule.choose(state, i))


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_rule_is_that_of_the_gcn_code(seed):
    losses, accuracies = validations(seed)
    stops = (e for e in range(len(losses)) if e > 10 and losses[e] > np.mean(losses[e - 10 : e]))
    expected = next(stops, None)
    assert expected is not None
    assert ended_at(above_recent_mean(10), losses, accuracies) == (expected, expected)
    assert ended_at(above_recent_mean(10), losses[:12] * 0 + 1, accuracies[:12])[0] is None


@pytest.mark.parametrize("seed", range(5))
def test_the_patience_rule_is_that_of_the_gat_code(seed):
    losses, accuracies = validations(seed)
    best, highest, lowest, without, ended = -1, 0.0, np.inf, 0, None
    for epoch, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True)):
        if accuracy >= highest or loss <= lowest:
            if accuracy >= highest and loss <= lowest:
                best = epoch
            highest, lowest, without = max(highest, accuracy), min(lowest, loss), 0
        else:
            without += 1
            if without == 7:
                ended = epoch
                break
    assert ended is not None
    assert 0 < best < ended
    assert ended_at(best_validation(7), losses, accuracies) == (ended, best)


def test_validation_is_of_the_updated_parameters_and_the_rule_looks_more_often_than_is_reported():
    def loss(params, memory, batch, key):
        return jnp.sum(params["w"]), ({}, memory)

    trainer = make_trainer(
        init_params=lambda key: {"w": jnp.zeros(())},
        sample_batch=lambda key, step: None,
        loss=loss,
        optimizer=optax.identity(),
        rule=best_validation(3),
        max_steps=100,
        eval_every=4,
        look_every=1,
        chunk_steps=20,
        init_memory=lambda seed: jnp.asarray(seed, jnp.float32),
        # The parameters are -1, -2, ... after the updates: best at minus the seed.
        validate=lambda params, seed: {
            "validation_loss": (params["w"] + seed) ** 2,
            "validation_accuracy": 1 / (1 + (params["w"] + seed) ** 2),
        },
    )
    state, looks = jax.jit(trainer.chunk)(trainer.init(6, 1.0), NO_END)
    assert (int(state.status), int(state.step)) == (Status.STOPPED, 8)
    assert float(trainer.chosen(state)["w"]) == -6
    assert float(state.params["w"]) == -9
    assert np.flatnonzero(looks.taken).tolist() == [0, 4, 8]
    np.testing.assert_allclose(looks.metrics["validation_loss"][np.array([0, 4, 8])], [25, 1, 9])


def test_adam_clips_the_global_norm_and_takes_unit_first_steps():
    optimizer = adam(clip_norm=1.0)
    params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    gradients = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}
    updates, (_, moments) = optimizer.update(gradients, optimizer.init(params))
    np.testing.assert_allclose(moments.mu["a"], 0.1 * np.array([0.6, 0.0]), rtol=1e-6)
    np.testing.assert_allclose(moments.mu["b"], 0.1 * np.array([0.8]), rtol=1e-6)
    np.testing.assert_allclose(updates["b"], [1.0], rtol=1e-5)  # Bias-corrected: g / |g|.
    assert isinstance(optimizer, optax.GradientTransformation)


def test_streams_and_steps_have_keys_of_their_own():
    keys = [stream_key(seed, stream, step) for seed in (0, 1) for stream in Stream for step in (0, 1)]
    data = {tuple(np.asarray(jax.random.key_data(key))) for key in keys}
    assert len(data) == len(keys)
