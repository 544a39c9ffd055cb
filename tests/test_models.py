"""How the palindrome study divides its batches."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from configs.palindrome import Config
from experiments.launch import UsageError
from experiments.palindrome import Plan, build_model, build_trainer, plan_batch
from jaxrnn.data.formal import TASKS
from jaxrnn.recurrence import Phase


def test_training_divides_a_batch_and_shares_padding_where_that_pays():
    config = Config(digits=3, batch_size=128)
    length = TASKS["palindrome"](3).input_length
    parts, (*shared, last) = plan_batch(config, 1)
    assert parts == 2
    assert last == Phase(64, length)
    assert [phase.rows for phase in shared] == [4, 16]
    assert 0 < shared[0].end < shared[1].end < length
    # Several runs on a device, small products, and sequences that are all as long.
    assert plan_batch(config, jax.device_count() + 1) == (1, ())
    assert plan_batch(dataclasses.replace(config, data_devices=2), 2) == (2, ())
    assert plan_batch(dataclasses.replace(config, batch_size=32), 1) == (1, ())
    assert plan_batch(dataclasses.replace(config, task="random_combinations"), 1) == (2, ())
    # What divides the batch: the devices that are asked for, and nothing where there are no halves.
    assert plan_batch(dataclasses.replace(config, data_devices=4), 1) == (4, ())
    assert plan_batch(dataclasses.replace(config, data_devices=2), 1) == plan_batch(config, 1)
    assert plan_batch(dataclasses.replace(config, data_devices=1), 1).parts == 2
    assert plan_batch(dataclasses.replace(config, batch_size=65), 1).parts == 1
    with pytest.raises(UsageError, match="data_devices=3: should divide the batch of 128"):
        plan_batch(dataclasses.replace(config, data_devices=3), 1)


def test_a_shared_training_step_is_the_same_step():
    config = Config(digits=3, batch_size=64, hidden_size=4, embedding_size=3, max_steps=9, chunk_steps=9)
    model = build_model(config)
    outcomes = []
    for plan in (Plan(1, ()), plan_batch(config, 1)):
        trainer = build_trainer(config, model.clone(phases=plan.phases), plan.parts)
        state = jax.jit(trainer.init)(0, 1e-3)
        outcomes.append(jax.jit(trainer.chunk)(state, 9))
    (plain, plain_evaluations), (shared, evaluations) = outcomes
    np.testing.assert_allclose(evaluations.metrics["loss"], plain_evaluations.metrics["loss"], rtol=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-5), shared.params, plain.params)
