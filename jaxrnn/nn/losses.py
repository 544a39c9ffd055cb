"""Losses and metrics, masked."""

import jax.numpy as jnp
import optax

from jaxrnn.arrays import Array


def masked_mean(values: Array, mask: Array | None = None) -> Array:
    """Mean of ``values [...]`` over the positions where ``mask [...]`` is True; scalar, 0 where there are none.

    Raises:
        ValueError: if the shapes differ.
    """
    if mask is None:
        return values.mean()
    _check_shape("mask", mask, values.shape)
    return jnp.where(mask, values, 0).sum() / jnp.maximum(mask.sum(), 1)


def cross_entropy(logits: Array, labels: Array, mask: Array | None = None) -> Array:
    """Mean cross-entropy in nats of ``logits [..., C]`` against integer ``labels [...]``; scalar.

    Raises:
        ValueError: if labels or mask have another shape.
    """
    _check_shape("labels", labels, logits.shape[:-1])
    return masked_mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels), mask)


def accuracy(logits: Array, labels: Array, mask: Array | None = None) -> Array:
    """Share of positions where the largest of ``logits [..., C]`` is at ``labels [...]``; scalar in [0, 1].

    Raises:
        ValueError: if labels or mask have another shape.
    """
    _check_shape("labels", labels, logits.shape[:-1])
    return masked_mean((logits.argmax(-1) == labels).astype(logits.dtype), mask)


def _check_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    # Broadcasting would give another number.
    if array.shape != shape:
        raise ValueError(f"{name} should have shape {shape}, not {array.shape}")
