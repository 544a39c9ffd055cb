"""The checkpoints of a run: where they are, and their parameters, read back."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax

from jaxrnn.arrays import PyTree
from jaxrnn.rundir.checkpoint import Arrays, Checkpoint, CheckpointError, CheckpointStore, subtree
from jaxrnn.rundir.directory import RunDirectory, RunError, read_config

RUNNING = "checkpoints/running"
"""The newest two: the lanes in training, what the finished ones gave, and the lengths of the ``.jsonl`` files."""
FINISHED = "checkpoints/finished"
"""One for each lane that ended, its parameters or its whole state if more steps would let it go on, and for each visit
that keeps the parameters."""
_META = {"names", "steps", "finished", "unfinished"}
"""What every running checkpoint says, also that of a run that was imported."""


class Kept(NamedTuple):
    """The parameters of a lane after a step, and the number of their checkpoint."""

    run: str
    step: int
    checkpoint: int


def deposit(directory: RunDirectory, run: str, params: PyTree) -> None:
    """Saves parameters that were not trained here, for `load` to find under the name `run`, at step 0.

    Raises:
        CheckpointError: if they could not be written.
    """
    with CheckpointStore(directory.path / RUNNING) as running, CheckpointStore(directory.path / FINISHED) as finished:
        finished.save(0, {"params": jax.tree.map(lambda x: x[None], params)}, {"run": run})
        finished.wait()
        kept = [Kept(run, 0, 0)._asdict()]
        running.save(0, {}, {"names": [], "steps": [], "finished": {}, "unfinished": {}, "kept": kept})
        running.wait()


class _Saved(NamedTuple):
    """Where a lane's weights are, at one step."""

    run: str
    step: int
    store: str
    number: int
    position: int


class Loaded(NamedTuple):
    """What `load_run` finds: a config, nested dicts of arrays, and which run and step they are of."""

    config: SimpleNamespace
    params: dict[str, Any]
    run: str
    step: int


def load_run(workdir: str | Path, run: str | None = None, seed: int | None = None, step: int | None = None) -> Loaded:
    """As `jaxrnn.load`."""
    path = Path(workdir)
    config = SimpleNamespace(**read_config(path)["config"])
    if not (path / FINISHED).is_dir():
        raise RunError(f"{path}: no checkpoint has been saved there")
    with CheckpointStore(path / RUNNING) as running, CheckpointStore(path / FINISHED) as finished:
        saved = _saved(running, path)
        wanted = {*run.split(",")} if run else set()
        wanted |= set() if seed is None else {f"seed={seed}"}
        chosen = [s for s in saved if wanted <= {*s.run.split(",")} and step in (None, s.step)]
        available = ", ".join(f"{s.run} at step {s.step}" for s in saved) or "none"
        if not chosen:
            raise RunError(f"{path}: no such run has been saved; there are: {available}")
        if len({s.run for s in chosen}) > 1:
            raise RunError(f"{path}: which run? Give its seed or its name (run); there are: {available}")
        newest = max(chosen, key=lambda s: s.step)
        arrays: Arrays = (finished if newest.store == FINISHED else running).read(newest.number).arrays
    params = jax.tree.map(lambda x: x[newest.position], subtree(arrays, "params"))
    return Loaded(config, params, newest.run, newest.step)


def _saved(running: CheckpointStore, path: Path) -> list[_Saved]:
    """All lanes and steps that sound checkpoints hold, those of the newest checkpoint first.

    Raises:
        CheckpointError: there are checkpoints, but none is sound.
    """
    saved: list[_Saved] = []
    rejected = []
    for checkpoint in newest_first(running):
        if isinstance(checkpoint, CheckpointError):
            rejected.append(str(checkpoint))
            continue
        meta = checkpoint.meta
        here = [
            _Saved(name, step - 1, RUNNING, checkpoint.number, i)
            for i, (name, step) in enumerate(zip(meta["names"], meta["steps"], strict=True))
            if name and step
        ]
        there = [
            _Saved(name, ended["row"]["last_step"], FINISHED, ended["checkpoint"], 0)
            for name, ended in {**meta["unfinished"], **meta["finished"]}.items()
        ]
        kept = [_Saved(k["run"], k["step"], FINISHED, k["checkpoint"], 0) for k in meta.get("kept", [])]
        for s in there + here + kept:
            if (s.run, s.step) not in {(o.run, o.step) for o in saved}:
                saved.append(s)
    if rejected and not saved:
        raise CheckpointError(f"{path}: no checkpoint is sound: {'; '.join(rejected)}")
    return saved


def newest_first(running: CheckpointStore) -> Iterator[Checkpoint | CheckpointError]:
    """The checkpoints of a run, or why each cannot be used."""
    for found in running.newest_first():
        if isinstance(found, Checkpoint) and not found.meta.keys() >= _META:
            yield CheckpointError(f"checkpoint {found.number} was saved by another version of jaxrnn")
        else:
            yield found
