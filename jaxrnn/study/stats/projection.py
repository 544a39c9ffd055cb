"""Points in a plane, for plots."""

import numpy as np
from numpy.typing import NDArray


def principal_plane(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The first two principal components of points ``[n, H]``, and their share of the variance.

    Returns:
        Coordinates ``[n, 2]``, the largest of which is 1 or -1, and the share; zeros where all points are one.
    """
    centred = points - points.mean(axis=0)
    _, spreads, axes = np.linalg.svd(centred, full_matrices=False)
    # A component's sign is free: its largest weight is positive.
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    plane = centred @ (axes * np.sign(largest))[:2].T
    plane = np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))
    scale, variance = np.abs(plane).max(), (spreads**2).sum()
    if scale == 0:
        return plane, 0.0
    return plane / scale, float((spreads[:2] ** 2).sum() / variance)
