"""Errors of forecasts as quantities, also beside baselines that have no seeds."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.rundir.read import Run
from jaxrnn.study.arms import Arm
from jaxrnn.study.quantities import Mean
from jaxrnn.study.stats import Comparison

_RESAMPLES = 9999


@dataclass(frozen=True)
class ForecastError(Mean):
    """RMSE or MAE of the test part, of all horizons together or of one.

    Models are compared by pairs of seeds. Against a baseline without seeds, the model's seeds and the blocks of the
    test part are resampled, the blocks for both alike.

    Attributes:
        measure: rmse or mae.
        horizon: from 1; 0 for all together.
    """

    measure: str = "rmse"
    horizon: int = 0

    def compare(self, a: Arm, b: Arm) -> Comparison | str:
        """The first arm minus the second."""
        if a.is_trained and b.is_trained:
            return super().compare(a, b)
        return _compare_on_blocks(self._sums(a), self._sums(b), self.measure == "rmse")

    def _sums(self, arm: Arm) -> tuple[NDArray, NDArray]:
        """Sums of errors and their numbers by block, ``[S, blocks]``, of the runs that have a result."""
        name = "squares" if self.measure == "rmse" else "magnitudes"
        rows = [run.result for run in arm.runs if self.value(run) is not None]
        of = slice(None) if self.horizon == 0 else slice(self.horizon - 1, self.horizon)
        found = [
            np.array([row[f"test_{what}_by_block"] for row in rows if row], np.float64) for what in (name, "counts")
        ]
        sums, counts = (array[..., of].sum(-1) if array.size else np.zeros((0, 0)) for array in found)
        return sums, counts


def error_of(measure: str, horizon: int = 0) -> Any:
    """The function that reads the error from a run; None where it has failed or has no such horizon."""

    def value(run: Run) -> float | None:
        row = run.result or {}
        if horizon == 0:
            return row.get(f"test_{measure}")
        values = row.get(f"test_{measure}_by_horizon") or []
        return values[horizon - 1] if horizon <= len(values) else None

    return value


def forecast_error(measure: str, horizon: int = 0, form: str = ".4g") -> ForecastError:
    """The test error of all horizons, or of one."""
    at = f", horizon {horizon}" if horizon else ""
    name = f"test {measure.upper()}{at}"
    return ForecastError(
        name, error_of(measure, horizon), form, (0, np.inf), True, False, measure, horizon, is_better="smaller"
    )


def _compare_on_blocks(a: tuple[NDArray, NDArray], b: tuple[NDArray, NDArray], is_root: bool) -> Comparison | str:
    """The mean over seeds of one arm's errors minus that of another, from ``[S, blocks]`` sums and counts."""
    if not (a[0].size and b[0].size) or a[0].shape[1] != b[0].shape[1]:
        return "one of them has no values, or they have other blocks"
    rng, num_blocks = np.random.default_rng(0), a[0].shape[1]
    blocks = np.stack(
        [np.ones(num_blocks), *rng.multinomial(num_blocks, np.full(num_blocks, 1 / num_blocks), _RESAMPLES)]
    )

    def means(sums: NDArray, counts: NDArray) -> NDArray:
        """Of the arm as it is, and of each resample."""
        errors = blocks @ sums.T / np.maximum(blocks @ counts.T, 1)
        errors = np.sqrt(errors) if is_root else errors
        seeds = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), _RESAMPLES)
        seeds = np.stack([np.ones(len(sums)), *seeds])
        return (errors * seeds).sum(1) / len(sums)

    found = means(*a) - means(*b)
    difference, resampled = float(found[0]), found[1:]
    low, high = np.quantile(resampled, [0.025, 0.975])
    smaller = min(np.count_nonzero(resampled <= 0), np.count_nonzero(resampled >= 0))
    p_value, smallest = min(1.0, 2 * (smaller + 1) / (_RESAMPLES + 1)), 2 / (_RESAMPLES + 1)
    note = f"seeds and {num_blocks} blocks of the test part are resampled"
    return Comparison(difference, float(low), float(high), p_value, smallest, note)
