"""The run directory: its config.json and results.json, its .jsonl files, and its lock."""

import contextlib
import fcntl
import json
import math
import os
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from jaxrnn.training import processes
from jaxrnn.training.definition import text_of
from jaxrnn.training.recording import METRICS as METRICS
from jaxrnn.training.recording import TIMING as TIMING

CONFIG, RESULTS = "config.json", "results.json"
OWNER = ".owner"
"""On file systems without locks, this file names the process that writes into the directory, and its host."""
FORMAT = 2
"""The format of ``config.json`` and the files beside it; older formats are not read."""

Rows = Sequence[Mapping[str, Any]]
Listener = Callable[[str, Rows], None]
"""Called with the name of a ``.jsonl`` file and the rows that were added to it."""


class RunError(Exception):
    """A training that cannot start or go on; the message is for the user."""


class RunDirectory:
    """A run directory, locked while it is open; use it as a context manager.

    Where several processes train together, the first one holds the lock and writes for all of them.

    Args:
        path: of the directory, which holds runs, or none yet if there is a record.
        record: what ``config.json`` is to say about new runs.

    Attributes:
        record: what ``config.json`` says, or is to say.
        listener: hears of new rows.

    Raises:
        RunError: the directory has no runs (or has some, although they are to be new), is in use, or cannot be written.
    """

    def __init__(self, path: Path, record: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.record = read_config(path) if record is None else record
        self.listener: Listener | None = None
        self._lock = processes.on_first(lambda: _acquire(path, is_new=record is not None), RunError)
        if record is not None:
            self.write_config()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._lock is not None:
            (self.path / OWNER).unlink(missing_ok=True)
            os.close(self._lock)

    def discard(self) -> None:
        """Removes runs that have not recorded anything yet, so that others can use the directory."""
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
        """Replaces a JSON file as a whole.

        Args:
            name: of the file.
            content: of JSON's types; a NaN becomes null.
            indent: as in `json.dumps`; None puts all on one line.
        """
        if self._lock is not None:
            self.write_text(name, json.dumps(_finite(content), indent=indent, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Replaces a file as a whole."""
        if self._lock is None:
            return
        with self._writing(name):
            replace_file(self.path / name, text.encode())

    def append(self, name: str, rows: Rows) -> None:
        """Adds one line per row to a ``.jsonl`` file and flushes it to disk; a NaN becomes null."""
        if self._lock is None or not rows:
            return
        text = "".join(json.dumps(_finite(row), allow_nan=False) + "\n" for row in rows)
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
        for name, length in self.lengths(lengths).items():
            if length > lengths[name] and self._lock is not None:
                with self._writing(name):
                    os.truncate(self.path / name, lengths[name])

    def cut_torn_line(self, name: str) -> None:
        """Cuts a ``.jsonl`` file back to its last whole line: one that was interrupted has no end."""
        path = self.path / name
        if path.exists():
            self.truncate({name: path.read_bytes().rfind(b"\n") + 1})

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(f"{self.path / name}: cannot be written: {error.strerror}") from error


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file as a whole: a reader sees the old or the new one, never half of it.

    Raises:
        OSError: it cannot be written; the old one stays.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_config(path: Path) -> dict[str, Any]:
    """``config.json`` of a run directory.

    Raises:
        RunError: if it is missing, damaged or of another format.
    """
    try:
        record = json.loads((path / CONFIG).read_text())
    except FileNotFoundError:
        reason = f"holds no run (there is no {CONFIG})" if path.is_dir() else "no such directory"
        raise RunError(f"{path}: {reason}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: {CONFIG} is damaged: {' '.join(str(error).split())}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise RunError(f"{path}: {CONFIG} is not of format {FORMAT}: another version of jaxrnn wrote it")
    return record


def data_of(record: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """What ``config.json`` says about the data of runs with these values of swept fields."""
    for other in record.get("other_data", ()):
        if all(text_of(values.get(field)) == text_of(value) for field, value in other["sweep"].items()):
            return dict(other["data"])
    return dict(record.get("data", {}))


def read_lines(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The objects in a ``.jsonl`` file, and what is wrong with it; a missing file counts as empty."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    rows = _parsed(b"[%s]" % b",".join(lines))  # Parsing all lines at once is several times as fast.
    if not isinstance(rows, list) or len(rows) != len(lines):
        rows = [_parsed(line) for line in lines]
    damaged = [number for number, row in enumerate(rows, start=1) if not isinstance(row, dict)]
    remarks = [f"{path.name}: {len(damaged)} damaged lines left out, the first is line {damaged[0]}"] if damaged else []
    return [row for row in rows if isinstance(row, dict)], remarks


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read_results(path: Path) -> list[dict[str, Any]]:
    """The rows of ``results.json``; none where there is no such file, or a damaged one."""
    return list(_results(path).get("runs", []))


def is_complete(path: Path) -> bool:
    """Whether all runs of a directory have ended, as its ``results.json`` says."""
    return bool(_results(path).get("complete"))


def status(path: Path) -> str:
    """Whether the runs of a directory are complete, running or interrupted."""
    return "complete" if is_complete(path) else "running" if is_running(path) else "interrupted"


def is_running(path: Path) -> bool:
    """Whether a process holds the lock of a directory."""
    try:
        lock = os.open(path / ".lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return bool(owner := _owner(path / OWNER)) and not _has_ended(owner)
    finally:
        os.close(lock)
    return False


def _results(path: Path) -> dict[str, Any]:
    try:
        results = json.loads((path / RESULTS).read_text())
    except (OSError, ValueError):
        return {}
    return results if isinstance(results, dict) else {}


def _acquire(path: Path, *, is_new: bool) -> int:
    """Locks the directory for this process; the lock goes with the process, however it ends."""
    try:
        if is_new and (path / CONFIG).exists():
            raise RunError(f"{path}: holds a run already; --resume goes on with it, or take another --workdir")
        if is_new and ((path / "checkpoints").exists() or any(path.glob("*.jsonl"))):
            raise RunError(f"{path}: holds files of another run, but no {CONFIG}; take another --workdir")
        if is_new:
            path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise RunError(f"{path}: another process is running in this directory") from None
    except OSError:  # Some file systems of clusters have no locks.
        try:
            _take_over(path / OWNER)
        except BaseException:
            os.close(lock)
            raise
    return lock


def _take_over(owner: Path) -> None:
    """Locks a directory by a file that says who uses it; a file of an ended process of this host is replaced.

    Raises:
        RunError: another process uses it, or one of another host may.
    """
    process = f"{os.getpid()} {socket.gethostname()}"
    if (found := _owner(owner)) and not _has_ended(found):
        raise RunError(
            f"{owner.parent}: process {found} is running in this directory, or was killed: this file system has no"
            f" locks; if it no longer runs, remove {owner}"
        )
    try:
        owner.unlink(missing_ok=True)
        with owner.open("x") as file:
            file.write(process)
    except OSError as error:
        raise RunError(f"{owner}: cannot be written: {error.strerror}") from error


def _owner(path: Path) -> str:
    """The process, and its host, that an owner file names; empty if there is no such file."""
    try:
        return path.read_text(errors="replace").strip() or "?"
    except OSError:
        return ""


def _has_ended(owner: str) -> bool:
    """Whether a process of this host has ended; for one of another host, nobody can tell."""
    pid, _, host = owner.partition(" ")
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are written as null."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
