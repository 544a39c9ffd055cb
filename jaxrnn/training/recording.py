"""Where the loop puts what it measures and saves."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxrnn.arrays import PyTree
from jaxrnn.training.scheduler import Places
from jaxrnn.training.trainer import TrainState

METRICS = "metrics.jsonl"
"""What is measured during training: a line for each run and evaluation."""
TIMING = "timing.jsonl"
"""How long each call of a compiled program took. Resuming does not cut it back, since times always differ."""

Rows = Sequence[dict[str, Any]]


class Snapshot(NamedTuple):
    """Where a training stands.

    Attributes:
        places: the names of the runs in training.
        state: of all places, with a leading axis; None if no run is in training.
        ended: the row of results of each run that has ended, by the name of the run.
    """

    places: Places = ()
    state: TrainState | None = None
    ended: Mapping[str, dict[str, Any]] = {}


class Recorder:
    """Keeps what is measured in memory and saves nothing; a subclass saves it too. Runs are named as in `Run.name`.

    Attributes:
        files: the rows of each file, by its name.
        params: the parameters of each run that has ended, by its name, with a leading axis of length 1.
    """

    def __init__(self) -> None:
        self.files: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.params: dict[str, PyTree] = {}

    def restore(self, like: Callable[[Places], TrainState]) -> Snapshot | None:
        """What was saved last, or None at the beginning; `like` gives shapes and dtypes of the state of some places."""
        del like
        return None

    def state_of(self, run: str, like: TrainState) -> TrainState:
        """The state of a run that ran out of steps before."""
        raise KeyError(run)

    def begin(self, rows: Rows) -> None:
        """Called when the training begins or goes on; `rows` are the results that stay."""

    def append(self, file: str, rows: Rows) -> None:
        """Adds rows to a file."""
        self.files[file] += rows

    def save_run(
        self,
        run: str,
        step: int,
        params: PyTree,
        row: dict[str, Any] | None = None,
        state: TrainState | None = None,
    ) -> None:
        """Saves a run after a step, for good.

        Args:
            run: its name.
            step: index of the last step taken.
            params: its parameters, with a leading axis of length 1.
            row: of results, if it has ended.
            state: the whole state, if more steps may come.
        """
        if row is not None:
            self.params[run] = params

    def keep_lowest(self, run: str, step: int, params: PyTree, value: float) -> None:
        """Saves the parameters after a step, with a leading axis of length 1, if no earlier value was as low."""

    def write_results(self, rows: Rows, complete: bool) -> None:
        """Writes the results so far."""

    def is_due(self) -> bool:
        """Whether it is time to save."""
        return False

    def save(self, snapshot: Snapshot) -> None:
        """Starts to save all that a resumed training needs."""

    def wait(self) -> None:
        """Returns when all that was saved is safe."""
