"""Records a training in a run directory, so that it can go on to the same bytes whenever it is killed."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from jaxrnn.arrays import PyTree
from jaxrnn.rundir.checkpoint import CheckpointError, CheckpointStore, unflatten
from jaxrnn.rundir.directory import METRICS, RESULTS, TIMING, Rows, RunDirectory
from jaxrnn.rundir.saved import FINISHED, RUNNING, Found, Meta, Saved, newest_first
from jaxrnn.training import processes
from jaxrnn.training.recording import Recorder, Snapshot
from jaxrnn.training.scheduler import Places
from jaxrnn.training.trainer import TrainState

SAVE_SECONDS = 10.0
"""The least time between two checkpoints; a process that is killed loses little more."""

_LOG = logging.getLogger(__name__)


class DirectoryRecorder(Recorder):
    """Writes into a run directory, and keeps nothing in memory.

    The ``.jsonl`` files are on disk at once, and a checkpoint knows their lengths: what was written after it is cut off
    and written anew when the training goes on.
    """

    def __init__(
        self, directory: RunDirectory, files: tuple[str, ...], running: CheckpointStore, finished: CheckpointStore
    ) -> None:
        super().__init__()
        self._directory, self._running, self._finished = directory, running, finished
        self._files = (METRICS, *files)
        self._meta = Meta()
        self._number = 0
        self._known = 0
        """The newest checkpoint of the runs in training knows no other checkpoint from this number on."""
        self._saved_at = time.monotonic()
        self._is_new = True
        self._environment = {name: directory.record.get(name) for name in ("versions", "commit", "device")}

    @classmethod
    @contextlib.contextmanager
    def open(cls, directory: RunDirectory, files: tuple[str, ...]) -> Iterator[Self]:
        """The recorder of a training whose callback writes `files`; leaving it waits for what is being saved."""
        with (
            CheckpointStore(directory.path / RUNNING, keep=2) as running,
            CheckpointStore(directory.path / FINISHED) as finished,
        ):
            yield cls(directory, files, running, finished)

    # --- Going on -----------------------------------------------------------------------------------------------------

    def restore(self, like: Callable[[Places], TrainState]) -> Snapshot | None:
        """Goes back to the newest sound checkpoint; None if there is none.

        Raises:
            CheckpointError: no checkpoint is sound, or it does not fit the training, or there are results without one.
        """
        found = self._newest_sound()
        if found is None:
            path = self._directory.path
            has_results = any(self._directory.lengths(self._files).values()) or (path / RESULTS).exists()
            if processes.any_process([has_results])[0]:
                raise CheckpointError(f"{path}: has results, but no checkpoint to go on from; take another --workdir")
            return None
        meta = found.meta
        if meta.environment != self._environment:
            _LOG.warning("versions or devices have changed: the run goes on, but its last bits may differ")
        places = tuple(meta.places)
        state = unflatten(like(places), found.arrays) if places else None
        self._directory.truncate({name: meta.lengths.get(name, 0) for name in self._files})
        self._directory.cut_torn_line(TIMING)
        self._finished.delete([n for n in self._finished.numbers() if n >= meta.next_checkpoint])
        self._meta, self._is_new, self._known = meta, False, meta.next_checkpoint
        self._number = self._running.numbers()[-1] + 1
        ended = {name: saved.row for name, saved in meta.ended.items() if saved.row is not None}
        return Snapshot(places, state, ended)

    def _newest_sound(self) -> Found | None:
        rejected = []
        for found in newest_first(self._running):
            there, reason = self._directory.lengths(found.meta.lengths), found.reason
            for name, length in found.meta.lengths.items():
                if there[name] < length:
                    reason = f"checkpoint {found.number}: {name} is missing or was cut short"
            if not processes.any_process([bool(reason)])[0]:
                return found
            reason = reason or "another process cannot use the checkpoint"
            _LOG.warning("%s; trying the one before it", reason)
            rejected.append(reason)
        if rejected:
            raise CheckpointError(f"{self._directory.path}: no checkpoint is sound: {'; '.join(rejected)}")
        return None

    def state_of(self, run: str, like: TrainState) -> TrainState:
        """The state of a run that ran out of steps; raises a CheckpointError if it is damaged."""
        try:
            arrays, _ = self._finished.read(self._meta.ended[run].checkpoint)
        except CheckpointError as error:
            where = self._directory.path / FINISHED
            raise CheckpointError(f"{where}: {error}; {run} cannot get more steps") from error
        state: TrainState = unflatten({"params": like.params, "state": like}, arrays)["state"]
        return state

    # --- Recording ----------------------------------------------------------------------------------------------------

    def begin(self, rows: Rows) -> None:
        """Writes the results that stay, then the config, so a grown training is never complete under its new config."""
        if not self._is_new:
            self._directory.write_results(rows, complete=False)
        self._directory.write_config()

    def append(self, file: str, rows: Rows) -> None:
        """Adds rows to a ``.jsonl`` file."""
        self._directory.append(file, rows)

    def save_run(
        self,
        run: str,
        step: int,
        params: PyTree,
        row: dict[str, Any] | None = None,
        state: TrainState | None = None,
    ) -> None:
        """Saves a run after a step; `restore` forgets it if no checkpoint of the runs in training comes after it."""
        tree = {"params": params} | ({} if state is None else {"state": state})
        self._keep(tree, Saved(run=run, step=step, checkpoint=self._meta.next_checkpoint, row=row))

    def keep_lowest(self, run: str, step: int, params: PyTree, value: float) -> None:
        """Keeps the best parameters of a run; earlier ones go when no checkpoint refers to them any more."""
        before = [saved for saved in self._meta.best if saved.run == run]
        if not value < min((saved.lowest or 0.0 for saved in before), default=math.inf):
            return
        number = self._meta.next_checkpoint
        self._keep({"params": params}, Saved(run=run, step=step, checkpoint=number, lowest=value))
        for saved in before:
            saved.passed = self._number
        self._forget([saved for saved in before if saved.checkpoint >= self._known])

    def _keep(self, tree: PyTree, saved: Saved) -> None:
        self._running.wait()  # Two saves at once would mix up the synchronization of several processes.
        self._finished.save(saved.checkpoint, tree, {"run": saved.run})
        self._finished.wait()
        self._meta.saved.append(saved)

    def _forget(self, passed: Sequence[Saved]) -> None:
        self._finished.delete([saved.checkpoint for saved in passed])
        self._meta.saved = [saved for saved in self._meta.saved if saved not in passed]

    def write_results(self, rows: Rows, complete: bool) -> None:
        """Writes ``results.json``."""
        self._directory.write_results(rows, complete=complete)

    def is_due(self) -> bool:
        """Whether the last checkpoint is old enough."""
        return time.monotonic() - self._saved_at >= SAVE_SECONDS

    def save(self, snapshot: Snapshot) -> None:
        """Starts to save the runs in training; the ``.jsonl`` files are on disk already."""
        self._running.wait()
        # The two newest checkpoints of the runs in training know that these have been passed.
        known = self._number - 2
        self._forget([saved for saved in self._meta.saved if saved.passed is not None and saved.passed <= known])
        self._meta.places = list(snapshot.places)
        self._meta.lengths = self._directory.lengths(self._files)
        self._meta.environment = self._environment
        self._running.save(self._number, {} if snapshot.state is None else snapshot.state, self._meta.model_dump())
        self._number += 1
        self._known = self._meta.next_checkpoint
        self._saved_at = time.monotonic()

    def wait(self) -> None:
        """Returns when all that was saved is on disk."""
        self._running.wait()
