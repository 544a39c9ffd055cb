"""Lanes that share a program against the same lanes alone, on a small real task with many seeds."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
import scipy.stats

from configs.palindrome import Config
from experiments.palindrome import build_study
from jaxrnn.training import seeds
from jaxrnn.training.trainer import Status

pytestmark = pytest.mark.usefixtures("all_optimizations")

SEEDS = np.arange(20, dtype=np.int32)
CONFIG = Config(
    digits=2, hidden_size=16, batch_size=16, max_steps=400, eval_every=10, chunk_steps=401, tolerance=0.3, patience=2
)


@functools.cache
def programs(num_lanes):
    trainer = build_study(CONFIG).trainer
    return seeds.over_lanes(trainer.init, num_lanes), seeds.over_lanes(trainer.chunk, num_lanes)


def outcome(lane_seeds):
    """Losses ``[S, steps]``, last steps and statuses ``[S]`` of one program over `lane_seeds`."""
    init, chunk = programs(len(lane_seeds))
    state, looks = jax.device_get(
        chunk(init(lane_seeds, np.full(len(lane_seeds), 1e-2, np.float32)), np.full(len(lane_seeds), 1000))
    )
    return looks.metrics["loss"], state.step, state.status


@pytest.fixture(scope="module")
def together():
    return outcome(SEEDS)


@pytest.mark.parametrize("cell", ["lstm", "gru_cho"])
def test_a_lane_whose_batch_two_devices_share_has_the_same_bits(cell):
    config = dataclasses.replace(CONFIG, cell=cell, digits=3, batch_size=64, max_steps=60, chunk_steps=61)
    trainer = build_study(config).trainer
    assert trainer.parts == 2

    def trained(lane_seeds, data_devices):
        init, chunk = (
            seeds.over_lanes(fn, len(lane_seeds), data_devices=data_devices) for fn in (trainer.init, trainer.chunk)
        )
        rates = np.full(len(lane_seeds), 1e-2, np.float32)
        return jax.device_get(chunk(init(lane_seeds, rates), np.full(len(lane_seeds), 1000)))

    together = trained(SEEDS[:2], 1)
    for lane in range(2):
        for devices in (1, 2):
            alone = trained(SEEDS[lane : lane + 1], devices)
            jax.tree.map(lambda a, b, i=lane: np.testing.assert_array_equal(a[0], b[i]), alone, together)


def test_the_first_minute_agrees_lane_by_lane(together):
    losses, _, _ = together
    for seed in (0, 7, 19):
        alone, _, _ = outcome(SEEDS[seed : seed + 1])
        np.testing.assert_allclose(losses[seed, :60], alone[0, :60], atol=1e-5)
        # A lane that read its neighbour's data would not be the only one at this distance.
        others = np.delete(losses[:, :60], seed, axis=0)
        assert np.abs(others - alone[0, :60]).max(axis=1).min() > 1e-2


def test_steps_have_the_same_distribution(together):
    _, steps, statuses = together
    alone = np.concatenate([outcome(SEEDS[i : i + 1])[1] for i in range(len(SEEDS))])
    assert (statuses == Status.STOPPED).mean() > 0.5
    assert np.unique(alone).size > 3
    assert scipy.stats.ks_2samp(steps, alone).pvalue > 0.1
    assert np.median(steps) == pytest.approx(np.median(alone), abs=20)
