"""Stop rules against loops over their evaluations."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.training.stop import (
    stop_above_recent_mean,
    stop_when_loss_below,
    stop_without_lower,
    stop_without_progress,
)


def test_patience_counts_evaluations_in_a_row():
    rule = stop_when_loss_below(0.1, 3)
    state, stops = rule.start(None), []
    for loss in [0.05, 0.05, 0.2, 0.1, 0.1, 0.1]:
        state, stop = rule.update(state, {"loss": jnp.asarray(loss)}, None)
        stops.append(bool(stop))
    assert stops == [False] * 5 + [True]


def validations(seed):
    """Losses that fall and then rise, accuracies that do the opposite, with noise and ties."""
    rng = np.random.default_rng(seed)
    trend = np.abs(np.arange(60) - 25) / 25
    accuracy = np.round(0.8 - 0.2 * trend + 0.03 * rng.standard_normal(60), 2)
    return (1 + trend + 0.1 * rng.standard_normal(60)).astype(np.float32), accuracy.astype(np.float32)


def ended_at(rule, losses, accuracies):
    """The evaluation at which a rule stops, None if it does not, and the one whose parameters it chooses."""
    state, stop, i = rule.start(-1), False, -1
    for i, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True)):
        state, stop = rule.update(state, {"validation_loss": loss, "validation_accuracy": accuracy}, i)
        if stop:
            break
    return (i if stop else None), int(rule.choose(state, i))


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_rule_is_that_of_the_gcn_code(seed):
    losses, accuracies = validations(seed)
    stops = (e for e in range(len(losses)) if e > 10 and losses[e] > np.mean(losses[e - 10 : e]))
    expected = next(stops, None)
    assert expected is not None
    assert ended_at(stop_above_recent_mean(10), losses, accuracies) == (expected, expected)
    assert ended_at(stop_above_recent_mean(10), losses[:12] * 0 + 1, accuracies[:12])[0] is None


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
    assert ended_at(stop_without_progress(7), losses, accuracies) == (ended, best)


@pytest.mark.parametrize("seed", range(3))
def test_without_a_lower_value_the_lowest_is_chosen(seed):
    losses, accuracies = validations(seed)
    lows = [i for i in range(len(losses)) if losses[i] < losses[:i].min(initial=np.inf)]
    best = next(i for i, after in zip(lows, [*lows[1:], len(losses) + 9], strict=True) if after > i + 9)
    assert ended_at(stop_without_lower("validation_loss", 9), losses, accuracies) == (best + 9, best)
