"""Losses against sums by hand, with masks that hide NaN and wrong labels."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.nn.losses import accuracy, cross_entropy

# The logits of each position may be shifted by any constant.
PROBABILITIES = np.array([[[0.25, 0.5, 0.25], [0.1, 0.1, 0.8]], [[0.1, 0.1, 0.8], [0.25, 0.5, 0.25]]])
LOGITS = np.log(PROBABILITIES) + np.array([[[3], [-40]], [[0], [7]]])
LABELS = np.array([[1, 0], [2, 2]])
LOSSES = [[math.log(2), math.log(10)], [math.log(1.25), math.log(4)]]
HITS = [[1, 0], [1, 0]]
MASKS = [None, [[1, 1], [1, 1]], [[1, 0], [0, 1]], [[0, 0], [1, 0]]]


def mean_by_hand(values, mask):
    unmasked = [v for v, m in zip(np.ravel(values), np.ravel(mask if mask else np.ones_like(values)), strict=True) if m]
    return sum(unmasked) / len(unmasked)


@pytest.mark.parametrize("mask", MASKS)
def test_means_over_the_unmasked_positions(mask):
    array = None if mask is None else np.array(mask, bool)
    for ours, values in [
        (cross_entropy(jnp.array(LOGITS), LABELS, array), LOSSES),
        (accuracy(jnp.array(LOGITS), LABELS, array), HITS),
    ]:
        assert ours.shape == ()
        assert float(ours) == pytest.approx(mean_by_hand(values, mask), rel=1e-5)


def test_the_gradient_of_cross_entropy_is_probability_minus_one_hot():
    gradient = jax.grad(cross_entropy)(jnp.array(LOGITS), LABELS)
    np.testing.assert_allclose(gradient, (PROBABILITIES - np.eye(3)[LABELS]) / LABELS.size, atol=1e-6)


def test_masked_labels_are_not_looked_at():
    mask = np.array([[True, False], [True, True]])
    # PyTorch's "ignore this label" is no class at all.
    expected = jax.value_and_grad(cross_entropy)(jnp.array(LOGITS), LABELS, mask)
    ignored = jax.value_and_grad(cross_entropy)(jnp.array(LOGITS), np.where(mask, LABELS, -100), mask)
    jax.tree.map(np.testing.assert_array_equal, ignored, expected)
    assert not np.any(expected[1][~mask])


@pytest.mark.parametrize("label", [-1, -100, 3])
def test_a_label_that_is_no_class_is_seen(label):
    labels = np.array([[label, 0], [2, 2]])
    assert jnp.isnan(cross_entropy(jnp.array(LOGITS), labels))
    expected = jax.value_and_grad(cross_entropy)(jnp.array(LOGITS), LABELS, labels != label)
    found = jax.value_and_grad(cross_entropy)(jnp.array(LOGITS), labels, labels != label)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_nothing_unmasked_is_zero_with_a_zero_gradient():
    mask = np.zeros((2, 2), bool)
    loss, gradient = jax.value_and_grad(cross_entropy)(jnp.array(LOGITS), LABELS, mask)
    assert loss == accuracy(jnp.array(LOGITS), LABELS, mask) == 0
    np.testing.assert_array_equal(gradient, 0)


def test_what_would_be_broadcast_is_refused():
    logits, labels = jnp.zeros((5, 3, 2)), jnp.zeros((5, 3), jnp.int32)
    for call in (cross_entropy, accuracy):
        with pytest.raises(ValueError, match="labels"):
            call(logits, labels[:, :1])
        with pytest.raises(ValueError, match="mask"):
            call(logits, labels, jnp.ones(3, bool))
