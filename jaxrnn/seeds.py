"""Lanes: one run each, trained one after another, in blocks under `vmap`, or over devices.

A lane is a seed and a value of every hyperparameter that is swept. A *program* works on lanes stacked along a leading
axis ``S`` of every array.
"""

import enum
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec, Sharding

from jaxrnn.arrays import Array, Key, PyTree


class Stream(enum.IntEnum):
    """The random streams of a run; none is consumed by another."""

    INIT = 0
    DATA = 1
    DROPOUT = 2
    EVAL = 3
    SAMPLE = 4


def stream_key(seed: Array | int, stream: Stream, step: Array | int = 0) -> Key:
    """The key of a run's stream at a step; a run is a function of its integer seed and nothing else."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), stream), step)


class Lane(NamedTuple):
    """One run: its seed, and the learning rate that it was given."""

    seed: int
    learning_rate: float

    @property
    def name(self) -> str:
        """The lane by its values, e.g. ``seed=2,learning_rate=0.001``."""
        return f"seed={self.seed},learning_rate={self.learning_rate!r}"


def product(seeds: Iterable[int], learning_rates: Iterable[float]) -> list[Lane]:
    """All lanes of a sweep, the seeds of the first learning rate first."""
    seeds = list(seeds)
    return [Lane(seed, rate) for rate in learning_rates for seed in seeds]


def over_lanes(fn: Callable[..., Any], num_lanes: int, *, donate: bool = False) -> Callable[..., Any]:
    """Compiles ``fn(*trees)`` of one lane into a program of trees with a leading lane axis.

    One lane runs without any batch axis, so that its numbers do not depend on whether others run before or after it.
    More run under `vmap`, spread over all devices, whose number must divide `num_lanes` (see `padded`).

    Args:
        fn: a pure function of one lane's pytrees.
        num_lanes: S.
        donate: give the first argument's memory to the result.
    """
    donated = (0,) if donate else ()
    if num_lanes == 1:

        def single(*trees: PyTree) -> PyTree:
            return jax.tree.map(lambda x: x[None], fn(*jax.tree.map(lambda x: x[0], trees)))

        return jax.jit(single, donate_argnums=donated)
    return jax.jit(jax.vmap(fn), out_shardings=lane_sharding(num_lanes), donate_argnums=donated)


def lane_sharding(num_lanes: int) -> Sharding | None:
    """The lane axis over all devices; None (the default device) for one lane or one device."""
    if num_lanes == 1 or jax.device_count() == 1:
        return None
    mesh = jax.make_mesh((jax.device_count(),), ("lane",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec("lane"))


def place(tree: PyTree, num_lanes: int) -> PyTree:
    """Arrays ``[S, ...]``, also of NumPy, on the devices where a program of S lanes expects them."""
    return jax.device_put(tree, lane_sharding(num_lanes))


def padded(num_lanes: int) -> int:
    """The number of lanes of a program that runs `num_lanes`: itself if 1, else a multiple of the device count."""
    devices = jax.device_count()
    return 1 if num_lanes == 1 else -(-num_lanes // devices) * devices


def shrunk(num_lanes: int, size: int) -> int:
    """How many lanes a program keeps for `num_lanes` of its `size`: a power of two, so that few are compiled."""
    return min(size, padded(1 << (num_lanes - 1).bit_length()))


def take(tree: PyTree, positions: Sequence[int], size: int) -> PyTree:
    """The lanes at `positions`, followed by copies of the last of them up to `size` lanes."""
    index = jnp.asarray([*positions, *[positions[-1]] * (size - len(positions))])
    return place(jax.tree.map(lambda x: x[index], tree), size)
