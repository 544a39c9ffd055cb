"""Losses and metrics, masked."""

import jax.numpy as jnp
import optax

from jaxrnn.arrays import Array, at_least_float32


def cross_entropy(logits: Array, labels: Array, mask: Array | None = None) -> Array:
    """Mean cross-entropy in nats of ``logits [..., C]`` against integer ``labels [...]`` where ``mask [...]`` is True.

    A scalar of the logits' dtype, computed in at least float32; it is 0 if the mask is nowhere True. A label that is
    not a class, such as -1, makes it NaN where the mask is True.

    Raises:
        ValueError: if labels or mask have another shape.
    """
    _check_shapes(logits, labels, mask)
    labels = labels.astype(jnp.int32)
    labels = jnp.where(labels < 0, logits.shape[-1], labels)  # Otherwise -1 would be the last class.
    values = optax.softmax_cross_entropy_with_integer_labels(at_least_float32(logits), labels)
    return mean(values, mask).astype(logits.dtype)


def accuracy(logits: Array, labels: Array, mask: Array | None = None) -> Array:
    """Share of positions where the largest of ``logits [..., C]`` is at ``labels [...]``; else as `cross_entropy`."""
    _check_shapes(logits, labels, mask)
    hits = logits.argmax(-1) == labels
    return mean(hits.astype(at_least_float32(logits).dtype), mask).astype(logits.dtype)


def _check_shapes(logits: Array, labels: Array, mask: Array | None) -> None:
    # Broadcasting would give a different number.
    for name, array in (("labels", labels), ("mask", mask)):
        if array is not None and array.shape != logits.shape[:-1]:
            raise ValueError(f"{name} should have shape {logits.shape[:-1]}, not {array.shape}")


def mean(values: Array, mask: Array | None) -> Array:
    """The mean of ``values [...]`` where ``mask [...]`` is True, a scalar; 0 where it is nowhere True."""
    if mask is None:
        return values.mean()
    mask = mask.astype(bool)
    return jnp.where(mask, values, 0).sum() / jnp.maximum(mask.sum(), 1)
