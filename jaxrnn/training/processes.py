"""Several processes that train one study together, on JAX's distributed runtime.

All of them run the same program and come to the same decisions; only the first one writes and prints. With one process,
which is the common case, nothing here does anything.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxrnn.arrays import PyTree

HEARTBEAT_SECONDS = 30
"""A process that has not been heard from for so long is given up, and the others with it."""
_LOOPBACK = ("127.", "localhost", "[::1]")
_MESSAGE_BYTES = 2048

T = TypeVar("T")


def start(coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None) -> None:
    """Joins the other processes; must be called before anything else in JAX.

    Args:
        coordinator: ``HOST:PORT`` at which the first process listens. By default, this and the other arguments come
            from Slurm, Open MPI, Kubernetes or Cloud TPU.
        num_processes: how many there are.
        process_id: which one this is, from 0.

    Raises:
        ValueError: nothing was given, and the process runs under none of these.
        RuntimeError: the others could not be reached.
    """
    # It would keep SIGTERM to itself, and `any_process` does its work after each call.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        coordinator,
        num_processes,
        process_id,
        cluster_detection_method="deactivate" if coordinator else None,
        # A job on this machine alone should not be open to others.
        coordinator_bind_address=coordinator if coordinator and coordinator.startswith(_LOOPBACK) else None,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
    )


def is_first() -> bool:
    """Whether this process writes and prints."""
    return jax.process_index() == 0


def fetch(tree: PyTree) -> PyTree:
    """The arrays as NumPy arrays, wherever they are; all processes must call this."""
    return jax.tree.map(_fetched, jax.device_get(tree) if jax.process_count() == 1 else tree)


def _fetched(x: jax.Array | np.ndarray) -> np.ndarray:
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return np.asarray(multihost_utils.process_allgather(x, tiled=True))
    return np.asarray(x)


def any_process(conditions: Sequence[bool]) -> list[bool]:
    """Which of the conditions hold in any process; all processes must call this."""
    if jax.process_count() == 1:
        return list(conditions)
    of_all = np.asarray(multihost_utils.process_allgather(np.array(conditions)))
    return [bool(of_one.any()) for of_one in of_all.T]


def meet() -> None:
    """Waits for all processes; each can then read what the first one has written."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("jaxrnn")


def on_first(action: Callable[[], T], error: type[Exception]) -> T | None:
    """Does something in the first process only; all processes must call this.

    Args:
        action: what is done. The result is None in the other processes.
        error: what it may raise, with one message; it is then raised in all processes.
    """
    if jax.process_count() == 1:
        return action()
    result, message = None, b""
    if is_first():
        try:
            result = action()
        except error as raised:
            message = str(raised).encode()[:_MESSAGE_BYTES] or b"failed"
    padded = np.frombuffer(message.ljust(_MESSAGE_BYTES, b"\0"), np.uint8)
    heard = bytes(multihost_utils.broadcast_one_to_all(padded)).rstrip(b"\0")
    if heard:
        raise error(heard.decode(errors="replace"))
    return result
