"""Lanes: one run each, trained one after another, one on each device, or in blocks under `vmap`.

A lane is a seed and a value of every hyperparameter that is swept. A *program* works on lanes stacked along a leading
axis ``S`` of every array.
"""

import enum
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

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

    The lanes are spread over devices that never wait for each other. One lane on a device runs without any batch axis,
    so that its numbers do not depend on whether others run beside it; more run under `vmap`.

    Args:
        fn: a pure function of one lane's pytrees.
        num_lanes: S, a multiple of the number of devices that share them (see `padded`).
        donate: give the first argument's memory to the result.
    """
    mesh = lane_sharding(num_lanes).mesh

    def on_one_device(*trees: PyTree) -> PyTree:
        if num_lanes > mesh.size:
            return jax.vmap(fn)(*trees)
        return jax.tree.map(lambda x: x[None], fn(*jax.tree.map(lambda x: x[0], trees)))

    lane = PartitionSpec("lane")
    # Nothing is replicated, so there is nothing to check; the check would refuse a scan that starts at constants.
    program = jax.shard_map(on_one_device, mesh=mesh, in_specs=lane, out_specs=lane, check_vma=False)
    return jax.jit(program, donate_argnums=(0,) if donate else ())


def lane_sharding(num_lanes: int) -> NamedSharding:
    """The lane axis over the devices, or over the first few where there are fewer lanes."""
    devices = jax.devices()[:num_lanes]
    mesh = jax.make_mesh((len(devices),), ("lane",), axis_types=(AxisType.Auto,), devices=devices)
    return NamedSharding(mesh, PartitionSpec("lane"))


def place(tree: PyTree, num_lanes: int) -> PyTree:
    """Arrays ``[S, ...]``, also of NumPy, on the devices where a program of S lanes expects them."""
    return jax.device_put(tree, lane_sharding(num_lanes))


def padded(num_lanes: int) -> int:
    """The number of lanes of a program that runs `num_lanes`: itself, or the next multiple of the device count."""
    devices = min(num_lanes, jax.device_count())
    return -(-num_lanes // devices) * devices


def shrunk(num_lanes: int, size: int) -> int:
    """How many lanes a program of `size` keeps for `num_lanes`.

    As many for each device as a power of two allows, so that few programs are compiled, and at least one: a lane that
    has ended costs nothing where it does not share its device.
    """
    devices = min(size, jax.device_count())
    each = -(-num_lanes // devices)
    return min(size, devices << (each - 1).bit_length())


def take(tree: PyTree, positions: Sequence[int], size: int) -> PyTree:
    """The lanes at `positions`, followed by copies of the last of them up to `size` lanes."""
    return place(_taken(tree, np.array([*positions, *[positions[-1]] * (size - len(positions))])), size)


@jax.jit
def _taken(tree: PyTree, index: Array) -> PyTree:
    return jax.tree.map(lambda x: x[index], tree)
