"""What JAX uses of the machine: each core of a CPU as a device, and a folder for compiled programs."""

import math
import os
import warnings
from pathlib import Path
from typing import Any

import jax

from jaxrnn.data.files import cache_dir

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Where a container says how much CPU time it may take."""
_DEVICE_FLAG = "xla_force_host_platform_device_count"
_PATIENCE_FLAG = "xla_cpu_collective_call_terminate_timeout_seconds"


def use_all_cores() -> None:
    """Makes each core of a CPU a device, so that as many runs can train in parallel.

    The number of devices is fixed when JAX starts, with the first array or key; a call that comes too late warns.
    ``JAX_NUM_CPU_DEVICES``, ``XLA_FLAGS`` and ``jax.config.update("jax_num_cpu_devices", N)`` take precedence.
    """
    given = os.environ.get("XLA_FLAGS", "")
    # Otherwise a core that another program holds up for a minute would end the process.
    if _PATIENCE_FLAG not in given:
        os.environ["XLA_FLAGS"] = f"{given} --{_PATIENCE_FLAG}=86400".strip()
    if _DEVICE_FLAG in given or _setting("jax_num_cpu_devices") >= 0:
        return
    try:
        jax.config.update("jax_num_cpu_devices", num_cores())
    except RuntimeError:  # JAX has started.
        if jax.default_backend() == "cpu" and jax.local_device_count() < num_cores():
            warnings.warn(
                f"JAX has started with {jax.local_device_count()} of {num_cores()} cores, and runs train one after "
                "another: call jaxrnn.use_all_cores() before the first array or key of JAX",
                stacklevel=3,
            )


def keep_programs() -> None:
    """Keeps compiled programs in `cache_dir`, so that a second start trains within seconds.

    A folder that the user has set, with ``JAX_COMPILATION_CACHE_DIR`` or in `jax.config`, takes precedence.
    """
    if _setting("jax_compilation_cache_dir") is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def _setting(name: str) -> Any:
    return getattr(jax.config, name)  # Its type does not declare what it holds.


def num_cores(quota: Path = QUOTA) -> int:
    """Cores that this process may keep busy, by its affinity and its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit, period = quota.read_text().split() if quota.exists() else ("max", "")
    return cores if limit == "max" else min(cores, max(1, math.ceil(int(limit) / int(period))))
