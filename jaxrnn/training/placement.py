"""Where the work takes place: how runs and parts of batches are placed on devices.

A *program* works on runs stacked along a leading axis ``S`` of every array. Runs are spread over devices, which never
wait for each other; if there are fewer runs than devices, several devices can share the batch of one run.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxrnn.arrays import Array, PyTree
from jaxrnn.training import processes
from jaxrnn.training.definition import ConfigError, Training

_DIVIDED_BATCH = 64
"""The smallest batch of sequences that is divided: products of halves of a smaller one gain nothing."""


class Plan(NamedTuple):
    """How the runs of a training are placed.

    Attributes:
        runs_per_program: how many runs are trained together.
        parts: the number of parts that a batch is divided into; as many devices, or a divisor, can share a run.
        data_devices: how many devices share a run; 0 for as many as would otherwise be idle.
        own_cores: whether each run has a core of a CPU to itself, and a large enough batch.
    """

    runs_per_program: int = 1
    parts: int = 1
    data_devices: int = 0
    own_cores: bool = False

    def devices_each(self, num_runs: int) -> int:
        """How many devices share each of `num_runs` runs.

        That is `data_devices`; or if it is 0, as many as would otherwise be idle: a divisor of `parts`, or 1 in a job
        of several processes.
        """
        if self.data_devices:
            return self.data_devices
        free = jax.device_count() // num_runs if jax.process_count() == 1 else 1
        return max(n for n in range(1, self.parts + 1) if self.parts % n == 0 and n <= max(1, free))

    def padded_size(self, num_runs: int) -> int:
        """The size of a program for `num_runs`: this number, or the next multiple of the device count.

        With several processes, no device is left out: each process has a part in every program.
        """
        groups = _groups(num_runs if jax.process_count() == 1 else jax.device_count(), self.devices_each(num_runs))
        return -(-num_runs // groups) * groups

    def shrunk_size(self, num_runs: int, size: int) -> int:
        """The size that a program of `size` gets for `num_runs`, fewer than it had.

        The number of runs on each device stays, or becomes a power of two, so that few programs are compiled. It is at
        least one, since a run that has ended costs nothing if it does not share its device.
        """
        shared = self.devices_each(size)
        if self.devices_each(num_runs) > shared:
            return self.padded_size(num_runs)
        groups = _groups(size, shared)
        each = -(-num_runs // groups)
        return min(size, groups << (each - 1).bit_length())


ONE_RUN = Plan()
"""One run at a time, its batch as a whole."""


def make_plan(training: Training, num_runs: int, runs_per_program: int = 0, data_devices: int = 0) -> Plan:
    """The fastest way to place a training.

    Args:
        training: what is trained; its batch size and what it says about parts and cores matter.
        num_runs: how many runs there are.
        runs_per_program: 0 for the fastest choice: a run on each core of a CPU, all runs on an accelerator.
        data_devices: how many devices share the batch of a run; 0 for as many as would otherwise be idle.

    Raises:
        ConfigError: the devices, or the batch, cannot be divided in this way.
    """
    each = data_devices or 1
    if jax.device_count() % each:
        raise ConfigError("data_devices", each, f"should divide the number of devices, {jax.device_count()}")
    if training.batch_size % each:
        raise ConfigError("data_devices", each, f"should divide the batch of {training.batch_size}")
    is_cpu = jax.default_backend() == "cpu"
    if not runs_per_program:
        runs_per_program = min(num_runs, jax.device_count() // each) if is_cpu else num_runs
    has_own_core = is_cpu and runs_per_program * each <= jax.device_count()
    own_cores = has_own_core and training.batch_size >= _DIVIDED_BATCH
    parts = training.core_parts if has_own_core and training.batch_size % training.core_parts == 0 else 1
    return Plan(runs_per_program, data_devices if data_devices > 1 else parts, data_devices, own_cores)


def halves(batch_size: int) -> int:
    """The number of parts of a batch of sequences, so that each stays in a core's cache: 2, or 1 for a small batch."""
    return 2 if batch_size >= _DIVIDED_BATCH else 1


# --- Programs ---------------------------------------------------------------------------------------------------------


def over_runs(
    fn: Callable[..., Any], num_runs: int, *, data_devices: int = 1, donate: bool = False
) -> Callable[..., Any]:
    """Compiles ``fn(data, *trees)`` of one run into a program of trees with a leading axis of runs.

    One run on a device has no batch axis, so that its numbers do not depend on whether others run beside it; several
    runs on a device run under `vmap`.

    Args:
        fn: a pure function of data that all runs share, and of one run's pytrees.
        num_runs: S, a multiple of the number of devices that share the runs (see `Plan.padded_size`).
        data_devices: how many devices share each run; they divide what `fn` gives to `over_parts`.
        donate: give the first tree's memory to the result.
    """
    sharding = run_sharding(num_runs, data_devices)
    mesh, runs = sharding.mesh, PartitionSpec("run")

    def on_one_device(data: PyTree, *trees: PyTree) -> PyTree:
        if num_runs > mesh.shape["run"]:
            return jax.vmap(fn, in_axes=(None, *[0] * len(trees)))(data, *trees)
        return jax.tree.map(lambda x: x[None], fn(data, *jax.tree.map(lambda x: x[0], trees)))

    def program(data: PyTree, *trees: PyTree) -> PyTree:
        specs = (PartitionSpec(), *[runs] * len(trees))
        # The check would refuse a scan that starts at constants.
        return jax.shard_map(on_one_device, mesh=mesh, in_specs=specs, out_specs=runs, check_vma=False)(data, *trees)

    return jax.jit(program, out_shardings=sharding, donate_argnums=(1,) if donate else ())


def over_parts(fn: Callable[[Array], PyTree], parts: int) -> PyTree:
    """``fn(i)`` of each part of a run's batch, stacked along a leading axis of `parts`.

    Devices that share the run take as many parts each, one after another; a device that has the run alone takes them
    all, to the same bits.
    """
    devices = dict(jax.sharding.get_abstract_mesh().shape).get("data", 1)
    each = parts // devices
    if devices == 1:
        return jax.lax.map(fn, jnp.arange(parts))
    first = each * jax.lax.axis_index("data")
    taken = jax.lax.map(fn, first + jnp.arange(each))
    return jax.lax.all_gather(taken, "data", tiled=True)


def run_sharding(num_runs: int, data_devices: int = 1) -> NamedSharding:
    """Spreads the axis of runs over the devices of all processes, or over the first few of this one for fewer runs.

    So runs in training belong to all processes, and each process on its own tests a run that has ended.
    """
    groups = _groups(num_runs, data_devices)
    everybody = groups * data_devices == jax.device_count()
    devices = (jax.devices() if everybody else jax.local_devices())[: groups * data_devices]
    mesh = jax.make_mesh((groups, data_devices), ("run", "data"), axis_types=(AxisType.Auto,) * 2, devices=devices)
    return NamedSharding(mesh, PartitionSpec("run"))


def _groups(num_runs: int, data_devices: int) -> int:
    """How many runs a program of `num_runs` trains in parallel."""
    return min(num_runs, jax.device_count() // data_devices)


def place(tree: PyTree, num_runs: int, data_devices: int = 1) -> PyTree:
    """Puts arrays ``[S, ...]``, also of NumPy, on the devices where a program of S runs expects them."""
    return _put(tree, run_sharding(num_runs, data_devices))


def replicate(data: PyTree, num_runs: int, data_devices: int = 1) -> PyTree:
    """Puts arrays that all runs share on every device of a program of S runs."""
    return _put(data, NamedSharding(run_sharding(num_runs, data_devices).mesh, PartitionSpec()))


def _put(tree: PyTree, sharding: NamedSharding) -> PyTree:
    # Processes compare what each of them places with what comes back in JAX's dtypes: NumPy's float64 would differ.
    def in_jax_dtype(x: Any) -> Any:
        return x.astype(jax.dtypes.canonicalize_dtype(x.dtype), copy=False) if isinstance(x, np.ndarray) else x

    return jax.device_put(jax.tree.map(in_jax_dtype, tree), sharding)


def take(tree: PyTree, positions: Sequence[int], size: int, data_devices: int = 1) -> PyTree:
    """The runs at `positions`, followed by copies of the last of them up to `size` runs."""
    taken = _take(tree, np.array([*positions, *[positions[-1]] * (size - len(positions))]))
    # Arrays of one process cannot be placed among those of all, nor the other way round.
    return place(processes.fetch(taken) if jax.process_count() > 1 else taken, size, data_devices)


@jax.jit
def _take(tree: PyTree, index: Array) -> PyTree:
    return jax.tree.map(lambda x: x[index], tree)
