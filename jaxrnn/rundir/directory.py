"""The files of one run: config.json, metrics.jsonl, results.json, timing.jsonl and the lock."""

import contextlib
import fcntl
import importlib.metadata
import json
import math
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import jax

from jaxrnn.training import processes as distributed

METRICS = "metrics.jsonl"
"""What is measured during training: a line for each run and look."""
TIMING = "timing.jsonl"
"""How long what took; it is not cut back on resume, since times differ from run to run anyway."""


class RunError(Exception):
    """A run that cannot start or go on; the message is for the user."""


def environment() -> dict[str, Any]:
    """Versions and device, as ``config.json`` records them."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    device = jax.devices()[0]
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
    }


class RunDirectory:
    """The directory of one run, locked while it is open; use it as a context manager.

    Of several processes that share a run, the first one holds the lock and writes, for all of them.

    Args:
        path: the directory.
        record: what ``config.json`` says: experiment, config, versions, device.
    """

    def __init__(self, path: Path, record: Mapping[str, Any], lock: int | None) -> None:
        self.path = path
        self.record = record
        self.followers: list[Callable[[str], None]] = []
        """Called with the name of a ``.jsonl`` file after lines were added to it."""
        self._lock = lock

    @classmethod
    def create(cls, path: Path, record: Mapping[str, Any]) -> Self:
        """A new run in a directory that holds none; writes ``config.json``.

        Raises:
            RunError: if the directory holds a run, is in use or cannot be written.
        """

        def begin() -> int:
            try:
                _refuse_run(path)
                path.mkdir(parents=True, exist_ok=True)
                lock = _acquire(path)
                _refuse_run(path)
            except OSError as error:
                raise RunError(f"{path}: cannot be written: {error.strerror}") from error
            return lock

        directory = cls(path, record, distributed.on_first(begin, RunError))
        directory.write_config()
        return directory

    @classmethod
    def resume(cls, path: Path) -> Self:
        """The run in a directory.

        Raises:
            RunError: if there is none, or another process is at it.
        """
        record = read_config(path)

        def go_on() -> int:
            try:
                return _acquire(path)
            except OSError as error:
                raise RunError(f"{path}: cannot be written: {error.strerror}") from error

        return cls(path, record, distributed.on_first(go_on, RunError))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._lock is not None:
            os.close(self._lock)

    def discard(self) -> None:
        """Removes a run that has not come to any numbers, so that another can take the directory."""
        if self._lock is None or any(self.path.glob("*.jsonl")):
            return
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)
        (self.path / "config.json").unlink(missing_ok=True)

    def write_config(self) -> None:
        """Writes `record` as ``config.json``."""
        self.write("config.json", self.record)

    def write(self, name: str, content: Any, indent: int | None = 1) -> None:
        """Replaces a JSON file as a whole: a reader sees the old or the new one, never half of it.

        Args:
            name: of the file.
            content: of JSON's types; a NaN becomes null.
            indent: as in `json.dumps`; None puts all on one line.
        """
        if self._lock is None:
            return
        temporary = self.path / f".{name}.tmp"
        with self._writing(name), temporary.open("w") as file:
            file.write(json.dumps(_finite(content), indent=indent, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(self.path / name)

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
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
        self._tell_followers(name)

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
            if lengths[name]:
                self._tell_followers(name)

    def cut_torn_line(self, name: str) -> None:
        """Cuts a ``.jsonl`` file back to its last whole line: one that was interrupted has no end."""
        path = self.path / name
        if path.exists():
            self.truncate({name: path.read_bytes().rfind(b"\n") + 1})

    def _tell_followers(self, name: str) -> None:
        for follow in self.followers:
            follow(name)

    @contextlib.contextmanager
    def _writing(self, name: str) -> Any:
        try:
            yield
        except OSError as error:
            raise RunError(f"{self.path / name}: cannot be written: {error.strerror}") from error


def read_config(path: Path) -> dict[str, Any]:
    """``config.json`` of a run.

    Raises:
        RunError: if it is missing or damaged.
    """
    if not os.path.isdir(path):  # noqa: PTH112 - of a name that is too long, Path.is_dir raises an error.
        raise RunError(f"{path}: no such directory")
    file = path / "config.json"
    try:
        record = json.loads(file.read_text())
    except FileNotFoundError:
        raise RunError(f"{path}: holds no run (there is no config.json)") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{file}: cannot be read: {error}") from error
    parts = [record.get("config"), record.get("data", {})] if isinstance(record, dict) else [record]
    if not all(isinstance(part, dict) for part in parts):
        raise RunError(f"{file}: is not the config of a run")
    return record


def _refuse_run(path: Path) -> None:
    if (path / "config.json").exists():
        raise RunError(f"{path}: holds a run already; --resume goes on with one in training, or take another --workdir")
    if (path / "checkpoints").exists() or any(path.glob("*.jsonl")):
        raise RunError(f"{path}: holds files of another run, but no config.json; take another --workdir")


def _acquire(path: Path) -> int:
    """Locks the directory for this process; the lock goes with the process, however it ends."""
    lock = os.open(path / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise RunError(f"{path}: another process is running in this directory") from None
    except OSError as error:  # Some file systems of clusters have no locks.
        os.close(lock)
        raise RunError(f"{path}: cannot be locked: {error.strerror}") from error
    return lock


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are written as null."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
