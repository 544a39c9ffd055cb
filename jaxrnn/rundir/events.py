"""Metrics as TensorBoard events; the only file that imports tensorboardX."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from jaxrnn.rundir.directory import METRICS, TIMING, RunError

FOLDER = "tensorboard"
_OURS = ".jaxrnn"
"""How the names of our files end; others in the folder are left alone."""
_FLUSH_SECONDS = 5.0


class Events:
    """The numbers in the ``.jsonl`` files of a run directory as events, a folder for each run in it.

    They follow the files, which are the truth: those of an earlier process are made anew, so that a resumed run has
    each step once. Use it as a context manager: leaving it writes what is not on disk yet.

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
        self._read: dict[str, int] = {}
        self._writers: dict[str, Any] = {}
        self._flushed = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # What ended the run says more than what cannot be written after it.
        with self._writing() if kind is None else contextlib.suppress(OSError):
            for writer in self._writers.values():
                writer.close()

    def follow(self, name: str) -> None:
        """Adds what is new in the file `name`.

        Raises:
            RunError: the file cannot be read, or events cannot be written.
        """
        if name == TIMING:
            return
        file = self._path / name
        with self._writing():
            if not self._read:
                for old in (self._path / FOLDER).glob(f"*/events.out.tfevents.*{_OURS}"):
                    old.unlink()
            with file.open() as lines:
                lines.seek(self._read.get(name, 0))
                try:
                    for line in iter(lines.readline, ""):
                        self._add(name, json.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise RunError(f"{file}: cannot be read: {error}") from error
                self._read[name] = lines.tell()
            if time.monotonic() - self._flushed > _FLUSH_SECONDS:
                for writer in self._writers.values():
                    writer.flush()
                self._flushed = time.monotonic()

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
