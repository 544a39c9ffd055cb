"""The run directory: its config.json and results.json, its .jsonl files, and its lock."""

import contextlib
import fcntl
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from jaxrnn.rundir.read import FORMAT as FORMAT
from jaxrnn.rundir.read import read_lines
from jaxrnn.training import processes
from jaxrnn.training.recording import METRICS as METRICS
from jaxrnn.training.recording import TIMING as TIMING

CONFIG, RESULTS = "config.json", "results.json"

Rows = Sequence[Mapping[str, Any]]


class RunError(Exception):
    """A training that cannot start or go on; the message is for the user."""


class RunDirectory:
    """A run directory, locked while it is open; use it as a context manager.

    Where several processes train together, the first one holds the lock and writes for all of them.

    Attributes:
        path: the directory.
        record: what ``config.json`` says, or is to say.
        listener: called with the name of a ``.jsonl`` file and the rows that were added to it.
    """

    def __init__(self, path: Path, record: Mapping[str, Any], lock: int | None) -> None:
        self.path = path
        self.record = record
        self.listener: Callable[[str, Rows], None] | None = None
        self._lock = lock

    @classmethod
    def create(cls, path: Path, record: Mapping[str, Any]) -> Self:
        """A directory that holds no runs yet; writes ``config.json``.

        Raises:
            RunError: if the directory holds runs, is in use or cannot be written.
        """
        directory = cls(path, record, processes.on_first(lambda: _acquire(path, is_new=True), RunError))
        directory.write_config()
        return directory

    @classmethod
    def resume(cls, path: Path) -> Self:
        """A directory that holds runs.

        Raises:
            RunError: if there are none, or another process uses it.
        """
        return cls(path, read_config(path), processes.on_first(lambda: _acquire(path), RunError))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._lock is not None:
            os.close(self._lock)

    def discard(self) -> None:
        """Removes runs that have not come to any numbers, so that others can take the directory."""
        if self._lock is None or any(self.path.glob("*.jsonl")):
            return
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)
        for name in (RESULTS, CONFIG):
            (self.path / name).unlink(missing_ok=True)

    def write_config(self) -> None:
        """Writes `record` as ``config.json``."""
        self.write(CONFIG, self.record)

    def write_results(self, rows: Rows, *, complete: bool, indent: int | None = 1) -> None:
        """Writes ``results.json``: a row for each run that has ended."""
        results = {"study": self.record["study"], "complete": complete, "runs": rows}
        self.write(RESULTS, results, indent)

    def write(self, name: str, content: Any, indent: int | None = 1) -> None:
        """Replaces a JSON file as a whole: a reader sees the old or the new one, never half of it.

        Args:
            name: of the file.
            content: of JSON's types; a NaN becomes null.
            indent: as in `json.dumps`; None puts all on one line.
        """
        if self._lock is None:
            return
        temporary = (self.path / name).with_name(f".{Path(name).name}.tmp")
        with self._writing(name), temporary.open("w") as file:
            file.write(json.dumps(_finite(content), indent=indent, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(self.path / name)

    def append(self, name: str, rows: Rows) -> None:
        """Adds one line a row to a ``.jsonl`` file and flushes it to disk; a NaN becomes null."""
        if self._lock is None:
            return
        text = "".join(json.dumps(_finite(row), allow_nan=False) + "\n" for row in rows)
        if not text:
            return
        with self._writing(name), (self.path / name).open("a") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if self.listener:
            self.listener(name, rows)

    def lengths(self, names: Iterable[str]) -> dict[str, int]:
        """Bytes of the ``.jsonl`` files `names`; 0 where there is none."""
        return {name: path.stat().st_size if (path := self.path / name).exists() else 0 for name in names}

    def truncate(self, lengths: Mapping[str, int]) -> None:
        """Cuts the ``.jsonl`` files that are longer back to `lengths`."""
        if self._lock is None:
            return
        for name, length in self.lengths(lengths).items():
            if length > lengths[name]:
                with self._writing(name):
                    os.truncate(self.path / name, lengths[name])

    def cut_torn_line(self, name: str) -> None:
        """Cuts a ``.jsonl`` file back to its last whole line: one that was interrupted has no end."""
        path = self.path / name
        if path.exists():
            self.truncate({name: path.read_bytes().rfind(b"\n") + 1})

    def replay(self, name: str) -> None:
        """Tells the listener the rows that a ``.jsonl`` file has."""
        if self.listener and self._lock is not None:
            self.listener(name, read_lines(self.path / name)[0])

    @contextlib.contextmanager
    def _writing(self, name: str) -> Any:
        try:
            yield
        except OSError as error:
            raise RunError(f"{self.path / name}: cannot be written: {error.strerror}") from error


def read_config(path: Path) -> dict[str, Any]:
    """``config.json`` of a run directory.

    Raises:
        RunError: if it is missing, damaged or of another format.
    """
    file = path / CONFIG
    try:
        record = json.loads(file.read_text())
    except FileNotFoundError:
        reason = "holds no run (there is no config.json)" if path.is_dir() else "no such directory"
        raise RunError(f"{path}: {reason}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{file}: cannot be read: {error}") from error
    parts = [record.get("config"), record.get("data", {})] if isinstance(record, dict) else [record]
    if not all(isinstance(part, dict) for part in parts):
        raise RunError(f"{file}: is not the config of a run")
    if record.get("format") != FORMAT:
        found = record.get("format", 1)
        raise RunError(f"{path}: was written by another version of jaxrnn (format {found}, not {FORMAT})")
    return record


def read_results(path: Path) -> list[dict[str, Any]]:
    """The rows of ``results.json``; none where there is no such file, or a damaged one."""
    return list(_results(path).get("runs", []))


def is_complete(path: Path) -> bool:
    """Whether all runs of a directory have ended, as its ``results.json`` says."""
    return bool(_results(path).get("complete"))


def _results(path: Path) -> dict[str, Any]:
    try:
        results = json.loads((path / RESULTS).read_text())
    except (OSError, ValueError):
        return {}
    return results if isinstance(results, dict) else {}


def _refuse_run(path: Path) -> None:
    if (path / CONFIG).exists():
        raise RunError(f"{path}: holds a run already; --resume goes on with it, or take another --workdir")
    if (path / "checkpoints").exists() or any(path.glob("*.jsonl")):
        raise RunError(f"{path}: holds files of another run, but no config.json; take another --workdir")


def _acquire(path: Path, *, is_new: bool = False) -> int:
    """Locks the directory for this process; the lock goes with the process, however it ends."""
    try:
        if is_new:
            _refuse_run(path)
            path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # Some file systems of clusters have no locks.
        os.close(lock)
        is_taken = isinstance(error, BlockingIOError)
        reason = "another process is running in this directory" if is_taken else f"cannot be locked: {error.strerror}"
        raise RunError(f"{path}: {reason}") from None
    return lock


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are written as null."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
