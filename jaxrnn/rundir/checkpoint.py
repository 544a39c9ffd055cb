"""Checkpoints that know whether they are sound; the only file that imports Orbax.

A pytree is saved as a flat dict of named arrays (``params/forward/w_x``), beside a JSON of everything that is not an
array and a SHA-256 over both: Orbax restores a flipped byte silently, so a checkpoint is believed only if its digest
agrees. Of arrays that several processes share, each writes and digests its part; any number of processes can read them.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

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


class Checkpoint(NamedTuple):
    """What was saved under a number: named arrays, and `meta`, whatever JSON can hold."""

    number: int
    arrays: Arrays
    meta: dict[str, Any]


class CheckpointStore:
    """Numbered checkpoints in one directory, written asynchronously. Use it as a context manager: leaving it waits.

    Args:
        directory: created if it is missing.
        keep: how many of the newest stay; all by default.

    Raises:
        CheckpointError: the directory cannot be made, or on leaving, what was saved could not be written.
    """

    def __init__(self, directory: Path, *, keep: int | None = None) -> None:
        self.directory = directory
        options = ocp.CheckpointManagerOptions(preservation_policy=None if keep is None else LatestN(keep))
        handlers = {"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()}
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{directory}: cannot be written: {error.strerror}") from error
        try:
            self._manager = ocp.CheckpointManager(directory.absolute(), options=options, item_handlers=handlers)
        except Exception as error:  # Among others, where a run in training has just deleted an old one.
            raise CheckpointError(f"{directory}: cannot be read: {_reason(error)}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._manager.close()
        except Exception as error:
            if kind is None:  # Else, what ended the run says more.
                raise CheckpointError(f"could not save a checkpoint: {_reason(error)}") from error

    def numbers(self) -> list[int]:
        """The numbers of all complete checkpoints, sound or not, in ascending order."""
        return sorted(self._manager.all_steps())

    def save(self, number: int, tree: PyTree, meta: dict[str, Any]) -> None:
        """Starts to save; returns as soon as `tree` may change. `number` must be larger than all before.

        Raises:
            CheckpointError: if this or the save before it could not be written, e.g. because the disk is full.
        """
        arrays = flatten(tree)
        meta = {**meta, "sha256": _digest(arrays, meta)}
        items: dict[str, Any] = {"meta": ocp.args.JsonSave(meta)}
        if arrays:  # Orbax does not save an empty tree.
            items["state"] = ocp.args.StandardSave(arrays)
        try:
            saved = self._manager.save(number, args=ocp.args.Composite(**items))
        except Exception as error:  # Orbax passes on whatever its writers raised.
            raise CheckpointError(f"could not save checkpoint {number}: {_reason(error)}") from error
        if not saved:
            raise CheckpointError(f"{self.directory}: checkpoint {number} exists already")

    def wait(self) -> None:
        """Returns when all that was saved is on disk.

        Raises:
            CheckpointError: if it could not be written.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise CheckpointError(f"could not save a checkpoint: {_reason(error)}") from error

    def delete_from(self, number: int) -> None:
        """Deletes all checkpoints numbered `number` or more."""
        for n in self.numbers():
            if n >= number:
                self._manager.delete(n)

    def read(self, number: int) -> Checkpoint:
        """The checkpoint `number`, its digest compared.

        Raises:
            CheckpointError: if it is missing or damaged.
        """
        try:
            restored = self._manager.restore(number, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
            meta = dict(restored.meta)
            arrays: Arrays = {}
            if (self.directory / str(number) / "state").exists():
                shapes = self._manager.item_metadata(number).state
                target = {name: np.empty(leaf.shape, leaf.dtype) for name, leaf in shapes.items()}
                arguments = ocp.args.Composite(state=ocp.args.StandardRestore(target))
                arrays = dict(self._manager.restore(number, args=arguments).state)
        except Exception as error:  # A damaged file can raise anything.
            raise CheckpointError(f"checkpoint {number} is unreadable: {_reason(error)}") from error
        if "digest" in meta:  # Was over all lanes at once.
            raise CheckpointError(f"checkpoint {number} was saved by another version of jaxrnn")
        if meta.pop("sha256", None) != _digest(arrays, meta):
            raise CheckpointError(f"checkpoint {number} is damaged: its contents do not match its SHA-256")
        return Checkpoint(number, arrays, meta)

    def newest_first(self) -> Iterator[Checkpoint | CheckpointError]:
        """All checkpoints from the newest on; one that is not sound comes as the error that says why."""
        for number in reversed(self.numbers()):
            try:
                yield self.read(number)
            except CheckpointError as error:
                yield error


def flatten(tree: PyTree) -> dict[str, Any]:
    """The leaves by path, ``{"params/head/kernel": ...}``: of NumPy, or of JAX where other processes have a part."""
    return {_name(path): _copy(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _copy(leaf: Any) -> Any:
    """A copy, since the arrays may be given away to the next chunk while they are being written."""
    return jnp.copy(leaf) if _is_shared(leaf) else np.array(leaf)


def _is_shared(array: Any) -> bool:
    return isinstance(array, jax.Array) and not array.is_fully_addressable


def unflatten(target: PyTree, arrays: Arrays) -> PyTree:
    """The pytree of `target`'s structure from named arrays.

    Args:
        target: arrays or `jax.ShapeDtypeStruct`s.
        arrays: as from `flatten`.

    Raises:
        CheckpointError: names the first leaf that is missing, superfluous or of another shape or dtype.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(target)
    expected = {_name(path): leaf for path, leaf in leaves}
    for name in [*expected, *arrays]:
        if name not in arrays:
            raise CheckpointError(f"the checkpoint has no {name}")
        if name not in expected:
            raise CheckpointError(f"the checkpoint has {name}, which is not part of this model")
        found, wanted = arrays[name], expected[name]
        if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
            raise CheckpointError(f"{name} is {found.dtype}{list(found.shape)}, not {wanted.dtype}{list(wanted.shape)}")
    return jax.tree_util.tree_unflatten(structure, [arrays[name] for name in expected])


def subtree(arrays: Arrays, prefix: str) -> dict[str, Any]:
    """The arrays under ``prefix/`` as nested dicts, e.g. a model's parameters from a saved training state."""
    nested: dict[str, Any] = {}
    for name, array in arrays.items():
        first, *path = name.split("/")
        if first == prefix:
            node = nested
            for key in path[:-1]:
                node = node.setdefault(key, {})
            node[path[-1]] = array
    return nested


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _digest(arrays: dict[str, Any], meta: dict[str, Any]) -> str:
    """Of `meta`, and of names, dtypes, shapes and the digest of each entry along the first axis (the lanes)."""
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    parts = {name: _rows(array) for name, array in sorted(arrays.items())}
    if any(_is_shared(array) for array in arrays.values()):
        # Each row is known to the processes that have it, and zero to the others.
        parts = jax.tree.map(lambda seen: seen.max(axis=0), multihost_utils.process_allgather(parts))
    for name, rows in parts.items():
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(rows).data)
    return digest.hexdigest()


def _rows(array: Any) -> np.ndarray:
    """SHA-256 of each entry along the first axis ``[S, 32]``, uint8; zeros for what this process does not have."""
    if _is_shared(array):
        parts = [(shard.index[0], np.asarray(shard.data)) for shard in array.addressable_shards]
        assert all(part.shape[1:] == array.shape[1:] for _, part in parts)
    else:
        array = np.atleast_1d(array)
        parts = [(slice(None), array)]
    rows = np.zeros((len(array), 32), np.uint8)
    for where, part in parts:
        digests = [hashlib.sha256(np.ascontiguousarray(row).data).digest() for row in part]
        rows[where] = np.array([list(digest) for digest in digests], np.uint8).reshape(-1, 32)
    return rows


def _reason(error: Exception) -> str:
    """An error in one short line: tensorstore's name every layer, and the system's own error somewhere among them."""
    text = " ".join(str(error).split())
    if code := re.search(r"os_error_code='(\d+)'", text):
        return os.strerror(int(code[1]))
    text = text if len(text) <= 200 else f"{text[:60]} ... {text[-130:]}"
    return f"{type(error).__name__}: {text}"
