"""Recurrent networks in JAX: pure cells, many seeds in one program, resumable runs.

>>> config, params = jaxrnn.load("runs/lstm10", seed=2)  # doctest: +SKIP
"""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__version__ = "0.1.0"


def load(
    workdir: "str | Path", run: str | None = None, seed: int | None = None, step: int | None = None
) -> tuple[SimpleNamespace, dict[str, Any]]:
    """A run's config and parameters, from its newest checkpoint or from the one at a training step.

    Args:
        workdir: the run directory.
        run: the lane's name as in ``results.json``, e.g. ``seed=2,learning_rate=0.001``, or as much of it as tells it
            from others: ``learning_rate=0.001``.
        seed: the same as ``run="seed=2"``; both together narrow the choice.
        step: index of the last step taken; the newest saved by default.

    Returns:
        The config, fields as attributes (a list where the config has several values), and the parameters as nested
        dicts of NumPy arrays, ready for ``model.apply({"params": params}, ...)``.

    Raises:
        RunError: if the directory holds no such run, or several; the message lists those there are.
        CheckpointError: if its checkpoint is damaged.
    """
    from jaxrnn.rundir.restore import load_run  # With all that it takes: imported when it is first called.

    found = load_run(workdir, run, seed, step)
    return found.config, found.params
