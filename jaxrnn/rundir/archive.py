"""What to do with complete run directories: copy them to pass on, and delete checkpoints that nobody needs any more."""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxrnn.rundir.directory import CONFIG, RunDirectory, RunError, read_config, replace_file, status

CHECKPOINTS = "checkpoints"
_LEFT_OUT = (CHECKPOINTS, "tensorboard", ".*", "*.csv")
"""TensorBoard's files have the host in their names; tables of forecasts are large, and can be made again."""
_PRIVATE = ("host", "command")
_FOLDERS = re.compile(r"(?<![^:=,\s])[/~][^:=,\s]*/")
"""The folders of an absolute path, which may follow a prefix, as in ``planetoid:/data/cora``."""


def disk_bytes(path: Path) -> int:
    """The bytes of all files below a directory."""
    entries = list(os.scandir(path))
    folders = [Path(entry) for entry in entries if entry.is_dir(follow_symlinks=False)]
    return sum(entry.stat(follow_symlinks=False).st_size for entry in entries) + sum(map(disk_bytes, folders))


def free(path: Path) -> int:
    """Deletes the checkpoints of complete runs, which can then neither be loaded nor get more steps.

    Returns:
        The bytes that were freed.

    Raises:
        RunError: the runs are not complete, or another process has the directory.
    """
    _refuse_incomplete(path)
    checkpoints = path / CHECKPOINTS
    if not checkpoints.is_dir():
        return 0
    with RunDirectory(path):
        freed = disk_bytes(checkpoints)
        shutil.rmtree(checkpoints)
    return freed


def copy(path: Path, target: Path) -> None:
    """Copies the directory of complete runs to a new path, without checkpoints, host, command and folders.

    A setting that is an absolute path keeps the name of its file; swept values stay, since runs are named by them.

    Raises:
        RunError: the runs are not complete, or the new path exists already, or it cannot be written.
    """
    _refuse_incomplete(path)
    if target.exists():
        raise RunError(f"{target}: exists already")
    record = read_config(path)
    try:
        # The config comes last, so that half a copy is not a run directory.
        shutil.copytree(path, target, ignore=shutil.ignore_patterns(*_LEFT_OUT, CONFIG))
        replace_file(target / CONFIG, (json.dumps(_public(record), indent=1) + "\n").encode())
    except OSError as error:
        raise RunError(f"{target}: cannot be written: {error.strerror or error}") from error


def _refuse_incomplete(path: Path) -> None:
    if (found := status(path)) != "complete":
        raise RunError(f"{path}: is {found}, not complete")


def _public(record: Mapping[str, Any]) -> dict[str, Any]:
    """What ``config.json`` says in an archive."""
    config = {name: _FOLDERS.sub("", v) if isinstance(v, str) else v for name, v in record["config"].items()}
    public = {name: value for name, value in {**record, "config": config}.items() if name not in _PRIVATE}
    if earlier := record.get("earlier"):
        public["earlier"] = [{name: value for name, value in one.items() if name not in _PRIVATE} for one in earlier]
    return public
