"""Metrics as TensorBoard events; the only file that imports tensorboardX, which is optional."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter  # The SummaryWriter's thread dies silently on a full disk.
from tensorboardX.proto.event_pb2 import Event

from jaxrnn.rundir.directory import METRICS, Listener, Rows, RunError, read_lines
from jaxrnn.training.definition import name_parts

FOLDER = "tensorboard"
_OURS = ".jaxrnn"
"""How the names of our files end; others in the folder are left alone."""


@contextlib.contextmanager
def record_events(path: Path) -> Iterator[Listener]:
    """A listener of the run directory `path` that writes its numbers as events, a folder for each run.

    A training that goes on has cut its files back, so with the first new rows all that the files have is written anew,
    and each step is there once. The listener raises a RunError if events cannot be written.
    """
    writers: dict[str, EventsWriter] = {}

    def listen(name: str, rows: Rows) -> None:
        found = [(name, row) for row in rows]
        try:
            if not writers:
                for old in (path / FOLDER).glob(f"*/events.out.tfevents.*{_OURS}"):
                    old.unlink()
                found = [(file.name, row) for file in sorted(path.glob("*.jsonl")) for row in read_lines(file)[0]]
            for file, row in found:
                if not {"run", "step"} <= row.keys():
                    continue
                named = {"run", "seed", "step", *(part.partition("=")[0] for part in name_parts(row["run"]))}
                values = {key: value for key, value in row.items() if key not in named}
                if all(value is None or isinstance(value, int | float) for value in values.values()):
                    if row["run"] not in writers:
                        writers[row["run"]] = _open(path, row["run"])
                    _write(writers[row["run"]], file, row["step"], values)
            for writer in writers.values():
                writer.flush()
        except OSError as error:
            raise RunError(f"{path / FOLDER}: cannot be written: {error.strerror}") from error

    try:
        yield listen
    finally:
        for writer in writers.values():
            with contextlib.suppress(OSError):  # The error has been reported already.
                writer.close()


def _open(path: Path, run: str) -> EventsWriter:
    # A name may have a path in it, which must not lead anywhere.
    folder = path / FOLDER / run.replace("/", "_")
    folder.mkdir(parents=True, exist_ok=True)
    return EventsWriter(str(folder / "events"), _OURS)


def _write(writer: EventsWriter, file: str, step: int, values: dict[str, Any]) -> None:
    """Writes the numbers of a row; every file but the metrics is a group."""
    group = "" if file == METRICS else f"{Path(file).stem}/"
    for metric, value in values.items():
        scalar = summary.scalar(group + metric, float("nan") if value is None else value)
        writer.write_event(Event(wall_time=time.time(), step=step, summary=scalar))
