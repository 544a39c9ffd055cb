"""Recurrent and graph networks in JAX: pure cells, many seeds in one program, resumable runs.

========================  ==============================================================================================
`CELLS`                   the recurrent cells by name, as pure functions
`unroll`                  runs a cell over time
`Training`, `Run`         what is trained, as a record of pure functions; one seed under one setting
`train`                   trains a `Training`, many runs at once, in memory or in a directory
`load`                    a trained run's config, model and parameters
`runs`                    all runs below directories, as a table
`use_all_cores`           lets each core of a CPU train a run; call it before the first array of JAX
`jaxrnn.nn`               Flax modules and models, losses; `jaxrnn.graph` has graph layers, `jaxrnn.data` tasks and data
`jaxrnn.study.stats`      estimates with intervals, and comparisons of arms
========================  ==============================================================================================

>>> trained = jaxrnn.train(training, runs=range(6), progress=True)  # doctest: +SKIP
>>> trained.results["test_error"].mean()  # doctest: +SKIP
>>> config, model, params = jaxrnn.load("runs/lstm10", seed=2)  # doctest: +SKIP

``examples/adding_problem_library.py`` is a whole study in 40 lines.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxrnn.cells import CELLS as CELLS
    from jaxrnn.recurrence import unroll as unroll
    from jaxrnn.rundir.direct import train as train
    from jaxrnn.rundir.restore import load as load
    from jaxrnn.study.overview import runs as runs
    from jaxrnn.training.cores import use_all_cores as use_all_cores
    from jaxrnn.training.definition import Run as Run
    from jaxrnn.training.definition import Training as Training

__version__ = "0.1.0"

_HOMES = {
    "CELLS": "jaxrnn.cells",
    "unroll": "jaxrnn.recurrence",
    "Training": "jaxrnn.training.definition",
    "Run": "jaxrnn.training.definition",
    "train": "jaxrnn.rundir.direct",
    "load": "jaxrnn.rundir.restore",
    "runs": "jaxrnn.study.overview",
    "use_all_cores": "jaxrnn.training.cores",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Imports a public name, and all that it needs, when the name is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxrnn' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names, including those that are not imported yet."""
    return ["__doc__", "__version__", *__all__]
