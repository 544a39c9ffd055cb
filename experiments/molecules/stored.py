"""Trainings that change nothing; predictions made without training are kept as the parameters of a run."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxrnn.arrays import Array, PyTree
from jaxrnn.training.definition import Training


class Stored(nn.Module):
    """Predictions that were computed beforehand."""

    @nn.compact
    def __call__(self, ids: Array) -> Array:
        """The predictions for the molecules with these numbers."""
        return self.variables["params"]["predictions"][ids]


def stored_training(initial: Callable[[int], PyTree], shapes: Mapping[str, tuple[int, ...]], **parts: Any) -> Training:
    """A training of one step that changes nothing.

    Args:
        initial: as in `Training`.
        shapes: shapes of what `initial` returns, by name.
        parts: further fields of `Training`.
    """

    def loss(params: PyTree, memory: PyTree, *_: Any) -> tuple[Array, Any]:
        return jnp.zeros(()), ({}, memory)

    return Training(
        init=lambda key: {name: jnp.zeros(shape) for name, shape in shapes.items()},
        initial=initial,
        sample=lambda key, step, data: (),
        loss=loss,
        optimizer=lambda hyper: optax.set_to_zero(),
        hyper={},
        max_steps=0,
        eval_every=1,
        chunk_steps=1,
        **parts,
    )
