"""The cores of a CPU as devices of JAX."""

import math
import os
from pathlib import Path

import jax

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Where a container says how much of the cores it may take."""
_DEVICE_FLAG = "xla_force_host_platform_device_count"
_PATIENCE_FLAG = "xla_cpu_collective_call_terminate_timeout_seconds"


def use_all_cores() -> None:
    """Makes each core of a CPU a device; must come before JAX starts, and gives way to the user's own settings."""
    given = os.environ.get("XLA_FLAGS", "")
    if "JAX_NUM_CPU_DEVICES" not in os.environ and _DEVICE_FLAG not in given:
        jax.config.update("jax_num_cpu_devices", num_cores())
    # Else a core that another program holds up for a minute would end the process.
    if _PATIENCE_FLAG not in given:
        os.environ["XLA_FLAGS"] = f"{given} --{_PATIENCE_FLAG}=86400".strip()


def num_cores(quota: Path = QUOTA) -> int:
    """Cores that this process may keep busy, by its affinity and its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit, period = quota.read_text().split() if quota.exists() else ("max", "")
    return cores if limit == "max" else min(cores, max(1, math.ceil(int(limit) / int(period))))
