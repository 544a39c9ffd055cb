"""Metrics as TensorBoard events; the only file that imports tensorboardX."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from jaxrnn.rundir.directory import METRICS, TIMING, Rows, RunError

FOLDER = "tensorboard"
_OURS = ".jaxrnn"
"""How the names of our files end; others in the folder are left alone."""


class Events:
    """The numbers of a run directory as events, a folder for each run in it.

    `add` is a listener of the directory. A training that goes on tells it all rows anew, so each step is there once.
    Use it as a context manager: leaving it writes what is not on disk yet.

    Args:
        path: the run directory.

    Raises:
        ImportError: tensorboardX is not installed.
    """

    def __init__(self, path: Path) -> None:
        # Not the SummaryWriter, whose thread would die of a full disk without a word.
        from tensorboardX import event_file_writer, summary
        from tensorboardX.proto.event_pb2 import Event

        self._new_writer, self._scalar, self._event = event_file_writer.EventsWriter, summary.scalar, Event
        self._path = path
        self._is_new = True
        self._writers: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # What ended the training says more than what cannot be written after it.
        with self._writing() if kind is None else contextlib.suppress(OSError):
            for writer in self._writers.values():
                writer.close()

    def add(self, name: str, rows: Rows) -> None:
        """Adds the rows of the file `name`; raises a RunError where events cannot be written."""
        if name == TIMING:
            return
        with self._writing():
            if self._is_new:
                for old in (self._path / FOLDER).glob(f"*/events.out.tfevents.*{_OURS}"):
                    old.unlink()
            self._is_new = False
            for row in rows:
                self._add(name, dict(row))
            for writer in self._writers.values():
                writer.flush()

    def _add(self, name: str, row: dict[str, Any]) -> None:
        """The numbers of a row of the file `name`, if it has nothing else; a file but the metrics is a group."""
        run, step = row.pop("run"), row.pop("step")
        row.pop("seed", None)
        if not all(value is None or isinstance(value, int | float) for value in row.values()):
            return
        if run not in self._writers:
            self._writers[run] = self._opened(run)
        group = "" if name == METRICS else f"{Path(name).stem}/"
        for metric, value in row.items():
            scalar = self._scalar(group + metric, float("nan") if value is None else value)
            self._writers[run].write_event(self._event(wall_time=time.time(), step=step, summary=scalar))

    def _opened(self, run: str) -> Any:
        # A name may have a path in it, which is not to lead anywhere.
        folder = self._path / FOLDER / run.replace("/", "_")
        folder.mkdir(parents=True, exist_ok=True)
        return self._new_writer(str(folder / "events"), _OURS)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(f"{self._path / FOLDER}: cannot be written: {error.strerror}") from error
