"""Lanes: one run each, trained one after another, one on each device, or in blocks under `vmap`.

A lane is a seed and a value of every hyperparameter that is swept. A *program* works on lanes stacked along a leading
axis ``S`` of every array.
"""

import enum
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.training import processes as distributed


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


def over_lanes(
    fn: Callable[..., Any], num_lanes: int, *, data_devices: int = 1, donate: bool = False
) -> Callable[..., Any]:
    """Compiles ``fn(*trees)`` of one lane into a program of trees with a leading lane axis.

    The lanes are spread over devices that never wait for each other. One lane on a device runs without any batch axis,
    so that its numbers do not depend on whether others run beside it; more run under `vmap`.

    Args:
        fn: a pure function of one lane's pytrees.
        num_lanes: S, a multiple of the number of devices that share them (see `padded`).
        data_devices: how many devices share each lane; what they divide is what `fn` gives to `over_parts`.
        donate: give the first argument's memory to the result.
    """
    sharding = lane_sharding(num_lanes, data_devices)
    mesh = sharding.mesh

    def on_one_device(*trees: PyTree) -> PyTree:
        if num_lanes > mesh.shape["lane"]:
            return jax.vmap(fn)(*trees)
        return jax.tree.map(lambda x: x[None], fn(*jax.tree.map(lambda x: x[0], trees)))

    lane = PartitionSpec("lane")
    # The check would refuse a scan that starts at constants.
    program = jax.shard_map(on_one_device, mesh=mesh, in_specs=lane, out_specs=lane, check_vma=False)
    return jax.jit(program, out_shardings=sharding, donate_argnums=(0,) if donate else ())


def over_parts(fn: Callable[[Array], PyTree], parts: int) -> PyTree:
    """``fn(i)`` of each part of a lane's batch, stacked along a leading axis of `parts`.

    Devices that share the lane take as many parts each, one after another; a device that has the lane alone takes them
    all, to the same bits.
    """
    devices = dict(jax.sharding.get_abstract_mesh().shape).get("data", 1)
    each = parts // devices
    if devices == 1:
        return jax.lax.map(fn, jnp.arange(parts))
    first = each * jax.lax.axis_index("data")
    taken = jax.lax.map(fn, first + jnp.arange(each))
    return jax.lax.all_gather(taken, "data", tiled=True)


def devices_each(num_lanes: int, parts: int, data_devices: int = 0) -> int:
    """How many devices share each of `num_lanes` lanes whose batches are in `parts`.

    That is `data_devices`, or where it is 0 as many as would be left idle: a divisor of `parts`, and one in a job of
    several processes.
    """
    if data_devices:
        return data_devices
    free = jax.device_count() // num_lanes if jax.process_count() == 1 else 1
    return max(devices for devices in range(1, parts + 1) if parts % devices == 0 and devices <= max(1, free))


def lane_sharding(num_lanes: int, data_devices: int = 1) -> NamedSharding:
    """The lane axis over the devices of all processes, or over the first few of this one where there are fewer lanes.

    So a block in training is everybody's, and a lane that is taken out of it is looked at in every process alone.
    """
    groups = _groups(num_lanes, data_devices)
    everybody = groups * data_devices == jax.device_count()
    devices = (jax.devices() if everybody else jax.local_devices())[: groups * data_devices]
    mesh = jax.make_mesh((groups, data_devices), ("lane", "data"), axis_types=(AxisType.Auto,) * 2, devices=devices)
    return NamedSharding(mesh, PartitionSpec("lane"))


def _groups(num_lanes: int, data_devices: int) -> int:
    """How many lanes a program of `num_lanes` has beside each other."""
    return min(num_lanes, jax.device_count() // data_devices)


def place(tree: PyTree, num_lanes: int, data_devices: int = 1) -> PyTree:
    """Arrays ``[S, ...]``, also of NumPy, on the devices where a program of S lanes expects them."""
    return jax.device_put(tree, lane_sharding(num_lanes, data_devices))


def padded(num_lanes: int, data_devices: int = 1) -> int:
    """The number of lanes of a program that runs `num_lanes`: itself, or the next multiple of the device count.

    No device is left out where there are several processes: each has a part in every program.
    """
    groups = _groups(num_lanes if jax.process_count() == 1 else jax.device_count(), data_devices)
    return -(-num_lanes // groups) * groups


def shrunk(num_lanes: int, size: int, data_devices: int = 1) -> int:
    """How many lanes a program of `size` keeps for `num_lanes`.

    As many for each device as a power of two allows, so that few programs are compiled, and at least one: a lane that
    has ended costs nothing where it does not share its device.
    """
    groups = _groups(size, data_devices)
    each = -(-num_lanes // groups)
    return min(size, groups << (each - 1).bit_length())


def take(tree: PyTree, positions: Sequence[int], size: int, data_devices: int = 1) -> PyTree:
    """The lanes at `positions`, followed by copies of the last of them up to `size` lanes."""
    taken = _taken(tree, np.array([*positions, *[positions[-1]] * (size - len(positions))]))
    # What is of one process alone and what is of all are not placed into each other.
    return place(distributed.fetch(taken) if jax.process_count() > 1 else taken, size, data_devices)


@jax.jit
def _taken(tree: PyTree, index: Array) -> PyTree:
    return jax.tree.map(lambda x: x[index], tree)
