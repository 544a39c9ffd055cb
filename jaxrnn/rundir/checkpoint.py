"""Checkpoints that know whether they are sound; the only file that imports Orbax.

A pytree is saved as a flat dict of named arrays (``params/forward/w_x``), beside a JSON of everything that is not an
array and a SHA-256 over both: Orbax restores a flipped byte silently, so a checkpoint is trusted only if its digest
agrees. Each process writes and digests its part of arrays that are shared; any number of processes can read them.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import LatestN

from jaxrnn.arrays import PyTree

Arrays = dict[str, np.ndarray]


class CheckpointError(Exception):
    """A checkpoint that is missing, damaged or of another shape; the message is for the user."""


class CheckpointStore:
    """Numbered checkpoints in one directory, written asynchronously. Use it as a context manager: leaving it waits.

    The newest `keep` are kept, by default all.

    Raises:
        CheckpointError: the directory cannot be made, or on leaving, what was saved could not be written.
    """

    def __init__(self, directory: Path, *, keep: int | None = None) -> None:
        self.directory = directory
        options = ocp.CheckpointManagerOptions(preservation_policy=None if keep is None else LatestN(keep))
        handlers = {"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()}
        # For example, a run in training may just have deleted an old one.
        with _explained(f"{directory}: cannot be opened"):
            directory.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(directory.absolute(), options=options, item_handlers=handlers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # What ended the training says more than what could not be saved after it.
        with _explained("could not save a checkpoint") if kind is None else contextlib.suppress(Exception):
            self._manager.close()

    def numbers(self) -> list[int]:
        """The numbers of all complete checkpoints, sound or not, in ascending order."""
        return sorted(self._manager.all_steps())

    def save(self, number: int, tree: PyTree, meta: dict[str, Any]) -> None:
        """Starts to save; returns as soon as `tree` may change. `number` must be larger than all before.

        Raises:
            CheckpointError: if this or the save before it could not be written, e.g. because the disk is full.
        """
        arrays = flatten(tree)
        meta = {**meta, "sha256": digest_of(arrays, meta)}
        items: dict[str, Any] = {"meta": ocp.args.JsonSave(meta)}
        if arrays:  # Orbax does not save an empty tree.
            items["state"] = ocp.args.StandardSave(arrays)
        with _explained(f"could not save checkpoint {number}"):
            if not self._manager.save(number, args=ocp.args.Composite(**items)):
                raise FileExistsError(errno.EEXIST, "it exists already")

    def wait(self) -> None:
        """Returns when all that was saved is on disk; raises a CheckpointError if it could not be written."""
        with _explained("could not save a checkpoint"):
            self._manager.wait_until_finished()

    def delete(self, numbers: Collection[int]) -> None:
        """Deletes those of these checkpoints that exist."""
        for number in self.numbers():
            if number in numbers:
                self._manager.delete(number)

    def read(self, number: int) -> tuple[Arrays, dict[str, Any]]:
        """The named arrays of checkpoint `number` and its `meta`, once its digest has been compared.

        Raises:
            CheckpointError: if it is missing or damaged.
        """
        arrays: Arrays = {}
        with _explained(f"checkpoint {number} is unreadable"):
            restored = self._manager.restore(number, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
            meta = dict(restored.meta)
            if (self.directory / str(number) / "state").exists():
                shapes = self._manager.item_metadata(number).state
                target = {name: np.empty(leaf.shape, leaf.dtype) for name, leaf in shapes.items()}
                arguments = ocp.args.Composite(state=ocp.args.StandardRestore(target))
                arrays = dict(self._manager.restore(number, args=arguments).state)
        if meta.pop("sha256", None) != digest_of(arrays, meta):
            raise CheckpointError(f"checkpoint {number} is damaged: its contents do not match its SHA-256")
        return arrays, meta


def flatten(tree: PyTree) -> dict[str, Any]:
    """Copies of the leaves by path, ``{"params/head/kernel": ...}``: the next chunk may reuse their memory.

    They are NumPy arrays, or JAX arrays where other processes have a part.
    """
    return {name: jnp.copy(x) if _is_shared(x) else np.array(x) for name, x in _named_leaves(tree).items()}


def _is_shared(array: Any) -> bool:
    return isinstance(array, jax.Array) and not array.is_fully_addressable


def unflatten(target: PyTree, arrays: Arrays) -> PyTree:
    """The pytree of `target`'s structure, whose leaves have shape and dtype, from named arrays as `flatten` gives them.

    Raises:
        CheckpointError: names the first leaf that is missing, superfluous or of another shape or dtype.
    """
    found, wanted = shapes_of(arrays), shapes_of(target)
    for name in wanted | found:
        if found.get(name) != wanted.get(name):
            here, there = found.get(name, "missing"), wanted.get(name, "part of this model")
            raise CheckpointError(f"{name} is {here}, not {there}")
    return jax.tree.unflatten(jax.tree.structure(target), [arrays[name] for name in wanted])


def shapes_of(tree: PyTree) -> dict[str, str]:
    """Dtype and shape of each leaf by its path: ``{"params/head/kernel": "float32[20, 30]"}``."""
    return {name: f"{x.dtype}{list(x.shape)}" for name, x in _named_leaves(tree).items()}


def _named_leaves(tree: PyTree) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def digest_of(arrays: dict[str, Any], meta: dict[str, Any]) -> str:
    """SHA-256 of `meta`, names, dtypes, shapes and the digest of each entry along the first axis (the runs)."""
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    parts = {name: _rows(array) for name, array in sorted(arrays.items())}
    if any(_is_shared(array) for array in arrays.values()):
        # Each row is known to the processes that have it, and zero in the others.
        parts = jax.tree.map(lambda seen: seen.max(axis=0), multihost_utils.process_allgather(parts))
    for name, rows in parts.items():
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(rows).data)
    return digest.hexdigest()


def _rows(array: Any) -> np.ndarray:
    """SHA-256 of each entry along the first axis ``[S, 32]``, uint8; zeros for what this process does not have."""
    array = array if _is_shared(array) else np.atleast_1d(array)
    parts = [(s.index[0], s.data) for s in array.addressable_shards] if _is_shared(array) else [(slice(None), array)]
    rows = np.zeros((len(array), 32), np.uint8)
    for where, part in parts:
        digests = [hashlib.sha256(np.ascontiguousarray(row).data).digest() for row in np.asarray(part)]
        rows[where] = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
    return rows


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Catches everything: Orbax passes on what its readers and writers raise, and a damaged file can raise anything."""
    try:
        yield
    except Exception as error:
        raise CheckpointError(f"{what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """An error in one short line: tensorstore's errors name every layer, with the system's own error among them."""
    text = " ".join(str(error).split())
    if code := re.search(r"os_error_code='(\d+)'", text):
        return os.strerror(int(code[1]))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = text if len(text) <= 200 else f"{text[:60]} ... {text[-130:]}"
    return f"{type(error).__name__}: {text}"
