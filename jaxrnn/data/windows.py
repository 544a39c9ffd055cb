"""Windows of signals: inputs followed by targets, how they are divided into parts, and their scale."""

from typing import NamedTuple

import numpy as np

from jaxrnn.data.files import DataError

SCALINGS = ("standard", "minmax", "max", "none")
_VALIDATION = 0.1
"""Share of the training part, if nothing lies between it and the test part."""


class Scale(NamedTuple):
    """What is subtracted from the values of each node, and what they are then divided by; float32 `[N]`."""

    offset: np.ndarray
    factor: np.ndarray


class Windows(NamedTuple):
    """Windows whose inputs begin at rows `starts` `[W]`; bool `counts` `[W, horizon]` says which targets count.

    A target counts if its row lies in the part.
    """

    starts: np.ndarray
    counts: np.ndarray


class Parts(NamedTuple):
    """The windows of all parts; `fitted` are those of the whole training part, with or without validation in it."""

    train: Windows
    validation: Windows
    test: Windows
    fitted: Windows
    train_rows: int


def divide(num_rows: int, input_length: int, horizon: int, split: tuple[float, float], *, reaches_back: bool) -> Parts:
    """The windows of each part, as `jaxrnn.data.signals.Protocol` explains them.

    Raises:
        DataError: a part has no window.
    """
    train_end, test_start = (int(share * num_rows) for share in (split[0], 1 - split[1]))
    has_own = test_start - train_end > 1
    middle = train_end if has_own else train_end - int(_VALIDATION * train_end)
    bounds = {
        "training": (0, middle),
        "validation": (middle, test_start if has_own else train_end),
        "test": (test_start if has_own else train_end, num_rows),
        "fitted": (0, train_end),
    }
    found = {}
    for part, (begin, end) in bounds.items():
        found[part] = _windows(begin, end, num_rows, input_length, horizon, reaches_back=reaches_back)
        if not found[part].counts.any(0).all():
            raise DataError(
                f"the {part} part has no window: it has {end - begin} of {num_rows} rows, and a window has "
                f"{input_length} inputs and {horizon} targets"
            )
    return Parts(found["training"], found["validation"], found["test"], found["fitted"], train_end)


def _windows(begin: int, end: int, num_rows: int, input_length: int, horizon: int, *, reaches_back: bool) -> Windows:
    if not reaches_back:
        starts = begin + np.arange(max(0, end - begin - input_length - horizon))
    else:
        starts = np.arange(max(0, begin - input_length - horizon + 1), max(0, end - input_length))
    rows = starts[:, None] + input_length + np.arange(horizon)
    return Windows(starts.astype(np.int32), (begin <= rows) & (rows < end))


def filled(values: np.ndarray, train_rows: int) -> np.ndarray:
    """The values, float32 `[time, N]`, without gaps: each missing value becomes the last one seen before it.

    If none was seen before it, it becomes the node's mean over the training part, or that of all nodes.
    """
    rows = np.where(np.isnan(values), -1, np.arange(len(values))[:, None])
    last = np.maximum.accumulate(rows, axis=0)
    means = node_means(values[:train_rows])
    return np.where(last >= 0, np.take_along_axis(values, np.maximum(last, 0), 0), means).astype(np.float32)


def node_means(values: np.ndarray) -> np.ndarray:
    """The mean of the values of each node, `[N]`; for a node without values, the mean of all, or 0."""
    there = ~np.isnan(values)
    sums, counts = np.where(there, values, 0).sum(0, dtype=np.float64), there.sum(0)
    overall = sums.sum() / max(counts.sum(), 1)
    return np.where(counts, sums / np.maximum(counts, 1), overall)


def fit_scale(scaling: str, values: np.ndarray) -> Scale:
    """The scale of training values, `[time, N]`, NaN where one is missing.

    ``standard`` and ``minmax`` scale each node by itself, ``max`` divides by the largest magnitude of all, and ``none``
    leaves the values as they are. A node whose values are all equal, or missing, is divided by 1.
    """
    num_nodes = values.shape[1]
    zeros, ones = np.zeros(num_nodes), np.ones(num_nodes)
    there = ~np.isnan(values)
    low, high = np.where(there, values, np.inf).min(0), np.where(there, values, -np.inf).max(0)
    is_flat = ~(high > low)
    means = node_means(values)
    if scaling == "max":
        largest = np.abs(np.where(there, values, 0)).max()
        offset, factor = zeros, ones * (largest or 1)
    elif scaling == "minmax":
        offset, factor = np.where(is_flat, means, low), np.where(is_flat, 1, np.where(is_flat, 1, high) - low)
    elif scaling == "standard":
        squares = np.where(there, values - means, 0) ** 2
        deviations = np.sqrt(squares.sum(0, dtype=np.float64) / np.maximum(there.sum(0), 1))
        offset, factor = means, np.where(is_flat, 1, deviations)
    else:
        offset, factor = zeros, ones
    return Scale(offset.astype(np.float32), factor.astype(np.float32))


def flat_nodes(values: np.ndarray) -> np.ndarray:
    """Whether each node's values, `[time, N]`, are all equal or missing."""
    there = ~np.isnan(values)
    low, high = np.where(there, values, np.inf).min(0), np.where(there, values, -np.inf).max(0)
    return ~(high > low)
