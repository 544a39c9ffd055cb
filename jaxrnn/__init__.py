"""Recurrent networks in JAX: pure cells, many seeds in one program, resumable runs.

>>> config, params = jaxrnn.load("runs/lstm10", seed=2)  # doctest: +SKIP
"""

from typing import Any

__version__ = "0.1.0"


def load(*args: Any, **kwargs: Any) -> Any:
    """A run's config and parameters: see `jaxrnn.loop.load`, which is imported when it is first called."""
    from jaxrnn.loop import load as load_run

    return load_run(*args, **kwargs)
