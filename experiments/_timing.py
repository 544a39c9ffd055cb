"""How long a call takes."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

_MIN_REPEATS, _MIN_SECONDS = 5, 0.2


def time_calls(call: Callable[[], Any]) -> float:
    """The median seconds of repeated calls, after one to warm up."""
    jax.block_until_ready(call())
    seconds: list[float] = []
    while len(seconds) < _MIN_REPEATS or sum(seconds) < _MIN_SECONDS:
        started = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))
