"""Errors of forecasts as quantities, which can also be compared with baselines that have no seeds."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.rundir.read import Run
from jaxrnn.study.arms import Arm
from jaxrnn.study.blocks import compare_on_blocks
from jaxrnn.study.quantities import Mean
from jaxrnn.study.stats import Comparison


@dataclass(frozen=True)
class ForecastError(Mean):
    """RMSE or MAE of the test part, over all horizons together or at one.

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
        return compare_on_blocks(self._sums(a), self._sums(b), self.measure == "rmse")

    def _sums(self, arm: Arm) -> tuple[NDArray, NDArray]:
        """Sums and counts of errors by block, ``[S, blocks]``, for the runs that have a result."""
        name = "squares" if self.measure == "rmse" else "magnitudes"
        rows = [run.result for run in arm.runs if self.value(run) is not None]
        of = slice(None) if self.horizon == 0 else slice(self.horizon - 1, self.horizon)
        found = [
            np.array([row[f"test_{what}_by_block"] for row in rows if row], np.float64) for what in (name, "counts")
        ]
        sums, counts = (array[..., of].sum(-1) if array.size else np.zeros((0, 0)) for array in found)
        return sums, counts


def error_of(measure: str, horizon: int = 0) -> Any:
    """The function that reads the error from a run, None where the run has failed or has no such horizon."""

    def value(run: Run) -> float | None:
        row = run.result or {}
        if horizon == 0:
            return row.get(f"test_{measure}")
        values = row.get(f"test_{measure}_by_horizon") or []
        return values[horizon - 1] if horizon <= len(values) else None

    return value


def forecast_error(measure: str, horizon: int = 0, form: str = ".4g") -> ForecastError:
    """The test error over all horizons, or at one."""
    at = f", horizon {horizon}" if horizon else ""
    name = f"test {measure.upper()}{at}"
    return ForecastError(
        name, error_of(measure, horizon), form, (0, np.inf), True, False, measure, horizon, is_better="smaller"
    )
