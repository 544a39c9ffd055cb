"""Loss curves: waits for a new minimum, and plateaus."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# A loss at or below this has fallen from the plateau.
DROPPED = 0.05


@dataclass(frozen=True)
class Plateau:
    """How long a loss stood still, and how suddenly it fell.

    Attributes:
        share: share of evaluations on the plateau.
        drop: evaluations from the last at or above its lower edge to the first later one at or below 0.05, or None.
    """

    share: float
    drop: int | None


def longest_wait(losses: ArrayLike) -> int:
    """The most evaluations in a row without a new minimum of the loss; a NaN is no minimum."""
    return int(_waits(losses).max())


def would_stop_at(losses: ArrayLike, patience: int) -> int | None:
    """The index of the evaluation at which `patience` of them without a new minimum would have stopped, or None."""
    stops = np.flatnonzero(_waits(losses) >= patience)
    return int(stops[0]) if stops.size else None


def plateau(losses: ArrayLike, low: float = 0.5, high: float = 0.7) -> Plateau:
    """Measures the plateau `low <= loss <= high` of a loss curve and the drop that ends it.

    The drop counts the evaluations from the last at or above `low` to the first later one at or below 0.05. It is None
    where the loss never falls that far, or never was at `low`.
    """
    curve = np.asarray(losses, np.float64)
    share = float(np.mean((curve >= low) & (curve <= high)))
    above = np.flatnonzero(curve >= low)
    if not above.size:
        return Plateau(share, None)
    dropped = np.flatnonzero(curve[above[-1] :] <= DROPPED)
    return Plateau(share, int(dropped[0]) if dropped.size else None)


def _waits(losses: ArrayLike) -> NDArray[np.int64]:
    """Evaluations since the last new minimum, at each evaluation."""
    curve = np.asarray(losses, np.float64)
    best_before = np.fmin.accumulate(np.append(np.inf, curve[:-1]))
    indices = np.arange(curve.size)
    return indices - np.maximum.accumulate(np.where(curve < best_before, indices, -1))
