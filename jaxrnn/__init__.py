"""Recurrent networks in JAX: pure cells, many seeds in one program, resumable runs.

>>> config, params = jaxrnn.load("runs/lstm10", seed=2)  # doctest: +SKIP
>>> trained = jaxrnn.train(training, runs=range(3))  # doctest: +SKIP
>>> frame = jaxrnn.runs("runs", each="run")  # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxrnn.rundir.direct import train as train
    from jaxrnn.rundir.restore import load as load
    from jaxrnn.study.overview import runs as runs

__version__ = "0.1.0"

_HOMES = {"load": "jaxrnn.rundir.restore", "train": "jaxrnn.rundir.direct", "runs": "jaxrnn.study.overview"}


def __getattr__(name: str) -> Any:
    """What is behind the front door, imported with all that it takes when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxrnn' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
