"""Metrics as TensorBoard events; the only file that imports tensorboardX."""

import json
import shutil
from pathlib import Path
from typing import Any

from jaxrnn.rundir import UNCOUNTED

FOLDER = "tensorboard"


class Events:
    """The numbers in the ``.jsonl`` files of a run directory as events, a folder for each run in it.

    They follow the files, which are the truth: those of an earlier process are made anew, so that a resumed run has
    each step once.

    Args:
        path: the run directory.

    Raises:
        ImportError: tensorboardX is not installed.
    """

    def __init__(self, path: Path) -> None:
        from tensorboardX import SummaryWriter

        self._new_writer = SummaryWriter
        self._path = path
        self._read: dict[str, int] = {}
        self._writers: dict[str, Any] = {}

    def follow(self, name: str) -> None:
        """Adds what is new in the file `name`."""
        if name == UNCOUNTED:
            return
        if not self._read:
            shutil.rmtree(self._path / FOLDER, ignore_errors=True)
            self._read = {other.name: 0 for other in sorted(self._path.glob("*.jsonl")) if other.name != UNCOUNTED}
        for file in {**self._read, name: 0}:
            self._follow(file)

    def _follow(self, name: str) -> None:
        with (self._path / name).open() as file:
            file.seek(self._read.get(name, 0))
            for line in iter(file.readline, ""):
                self._add(json.loads(line))
            self._read[name] = file.tell()

    def _add(self, row: dict[str, Any]) -> None:
        """The numbers of a row, if it has nothing else."""
        run, step = row.pop("run"), row.pop("step")
        row.pop("seed", None)
        if not all(value is None or isinstance(value, int | float) for value in row.values()):
            return
        if run not in self._writers:
            self._writers[run] = self._new_writer(str(self._path / FOLDER / run), flush_secs=5)
        for metric, value in row.items():
            self._writers[run].add_scalar(metric, float("nan") if value is None else value, step)

    def close(self) -> None:
        """Writes what is not on disk yet."""
        for writer in self._writers.values():
            writer.close()
