"""The host loop: chunks, metrics, progress, checkpoints, signals, and lanes that finish."""

import contextlib
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jaxrnn.arrays import Array, PyTree
from jaxrnn.rundir.checkpoint import Checkpoint, CheckpointError, CheckpointStore, unflatten
from jaxrnn.rundir.directory import METRICS, TIMING, RunDirectory, environment
from jaxrnn.rundir.restore import FINISHED, RUNNING, Kept, newest_first
from jaxrnn.training import processes as distributed
from jaxrnn.training import seeds
from jaxrnn.training.seeds import Lane
from jaxrnn.training.trainer import Looks, Status, Trainer, TrainState, resumed

_LOG = logging.getLogger(__name__)

_LONG, _TOO_LONG = 6.0, 20.0
"""Seconds of a call, which a signal has to wait for: it is made of more steps below the first, of fewer above."""


class Interrupted(Exception):
    """A signal ended the work; what has been done is saved."""


class Visits(NamedTuple):
    """What a study does with a lane at chosen steps, right after their updates.

    Attributes:
        due: whether a lane is visited after the step with this index.
        rows: ``rows(state of one lane [1, ...], step) -> {name of a .jsonl file: its new rows}``; run, seed and step
            come first in each row.
        keeps: whether the parameters are kept for good.
        files: the names of these files.
    """

    due: Callable[[int], bool]
    rows: Callable[[TrainState, int], dict[str, list[dict[str, Any]]]]
    keeps: Callable[[int], bool]
    files: tuple[str, ...] = ()


NO_VISITS = Visits(lambda step: False, lambda state, step: {}, lambda step: False)


class Study(NamedTuple):
    """What the loop has to know of a study.

    Attributes:
        trainer: its pure functions.
        evaluate: ``evaluate(state of one lane) -> {name: scalar}``, once, when a lane ends otherwise than by a NaN; its
            parameters are those that the stop rule has chosen.
        summarize: of the rows of ``results.json`` with one learning rate, what they say together, for its "summary".
        max_steps: index of the last step.
        seeds_per_program: how many lanes share a program.
        visits: what happens at chosen steps.
        data_devices: how many devices share a lane in training; 0 for as many as would be left idle.
    """

    trainer: Trainer
    evaluate: Callable[[TrainState], dict[str, Array]]
    summarize: Callable[[list[dict[str, Any]]], dict[str, Any]]
    max_steps: int
    seeds_per_program: int
    visits: Visits = NO_VISITS
    data_devices: int = 0


class _Block(NamedTuple):
    """The lanes in training: ``state [S, ...]`` and, by position, their names; None is a copy or a lane that ended."""

    names: tuple[str | None, ...]
    state: TrainState

    @property
    def active(self) -> dict[int, str]:
        """The names by position, without None."""
        return {i: name for i, name in enumerate(self.names) if name is not None}


class _Finished(NamedTuple):
    """A lane that ended: its row of ``results.json`` and the number of its checkpoint."""

    row: dict[str, Any]
    checkpoint: int


def train(study: Study, lanes: Sequence[Lane], directory: RunDirectory) -> list[dict[str, Any]]:
    """Trains all lanes, or those that a previous call in the same directory left, and writes what they do.

    A block of `seeds_per_program` lanes is in training at a time; the next lane takes the place of one that ended.
    After every chunk the metrics are on disk and a checkpoint is under way: a process that is killed loses two chunks
    at most, one that gets a signal loses nothing, and a resumed run ends in the same bytes as one that was never
    interrupted.

    Returns:
        The rows of ``results.json``, in the order of `lanes`.

    Raises:
        Interrupted: after SIGINT or SIGTERM, within a fraction of a minute; everything is saved.
        RunError, CheckpointError: if files cannot be read or written.
    """
    if not (directory.path / RUNNING).parent.exists():
        _refuse_numbers(directory, _files(study))  # Before the stores make their directories.
    with (
        CheckpointStore(directory.path / RUNNING, keep=2) as running,
        CheckpointStore(directory.path / FINISHED) as finished,
        signals() as interrupted,
    ):
        loop = _Loop(study, {lane.name: lane for lane in lanes}, directory, running, finished)
        loop.restore()
        with loop.progress() as bar:
            while loop.block is not None:
                seconds = loop.advance(bar)
                is_long, is_too_long, is_interrupted = distributed.any_process(
                    [seconds > _LONG, seconds > _TOO_LONG, interrupted()]
                )
                loop.set_pace(is_long, is_too_long)
                if is_interrupted and not loop.done:
                    if loop.until:  # Else, the chunk has just ended, and did so.
                        loop.save()
                    running.wait()
                    raise Interrupted
        running.wait()
        loop.write_results(complete=True)
        distributed.meet()
        return loop.rows()


class _Loop:
    def __init__(
        self,
        study: Study,
        lanes: dict[str, Lane],
        directory: RunDirectory,
        running: CheckpointStore,
        finished: CheckpointStore,
    ) -> None:
        self.study = study
        self.lanes = lanes
        self.directory = directory
        self.running_store = running
        self.finished_store = finished
        self.finished: dict[str, _Finished] = {}
        self.unfinished: dict[str, _Finished] = {}
        """Lanes that had run out of steps and may now go on."""
        self.kept: list[Kept] = []
        self.block: _Block | None = None
        self.until: dict[str, int] = {}
        """The last step of each lane in the chunk under way; empty between chunks."""
        self.stride = min(4, study.trainer.chunk_steps)
        """Steps of a call."""
        self.number = 0
        self.finished_number = 0
        self.environment = {**environment(), "jaxrnn": directory.record.get("versions", {}).get("jaxrnn")}
        self.files = _files(study)
        self._programs: dict[tuple[str, int], Any] = {}
        self._evaluate = seeds.over_lanes(study.evaluate, 1)

    # --- Programs -----------------------------------------------------------------------------------------------------

    def _program(self, name: str, fn: Callable[..., Any], size: int, *, donate: bool = False) -> Any:
        """A program of the lanes in training."""
        if (name, size) not in self._programs:
            shared = self._devices_each(size)
            self._programs[name, size] = seeds.over_lanes(fn, size, data_devices=shared, donate=donate)
        return self._programs[name, size]

    def _devices_each(self, num_lanes: int) -> int:
        return seeds.devices_each(num_lanes, self.study.trainer.parts, self.study.data_devices)

    def _place(self, tree: PyTree, size: int) -> PyTree:
        return seeds.place(tree, size, self._devices_each(size))

    def _padded(self, num_lanes: int) -> int:
        return seeds.padded(num_lanes, self._devices_each(num_lanes))

    def _shrunk(self, num_lanes: int, size: int) -> int:
        """How many lanes a block of `size` keeps for `num_lanes`, or as few as give each of them more devices."""
        shared = self._devices_each(size)
        if self._devices_each(num_lanes) > shared:
            return self._padded(num_lanes)
        return seeds.shrunk(num_lanes, size, shared)

    # --- Blocks -------------------------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        return len(self.finished) == len(self.lanes)

    def _begin(self) -> _Block | None:
        """The first lanes; None if all have ended."""
        waiting = self._waiting(())[: self.study.seeds_per_program]
        if not waiting:
            return None
        names = (*waiting, *[None] * (self._padded(len(waiting)) - len(waiting)))
        state = self._started(names)
        return _Block(names, self._standing_still(state, names))

    def _waiting(self, names: Sequence[str | None]) -> list[str]:
        """Lanes that have not ended and are not among `names`."""
        return [name for name in self.lanes if name not in self.finished and name not in names]

    def _started(self, names: Sequence[str | None]) -> TrainState:
        """The states that lanes begin or go on with, each at its position; those at the others are of no use."""
        lanes = [self.lanes[name] if name else next(iter(self.lanes.values())) for name in names]
        size = len(lanes)
        lane_seeds = self._place(np.array([lane.seed for lane in lanes], np.int32), size)
        rates = self._place(np.array([lane.learning_rate for lane in lanes], np.float32), size)
        state = self._program("init", self.study.trainer.init, size)(lane_seeds, rates)
        for i, name in enumerate(names):
            if name in self.unfinished:
                saved = self._saved_state(name)
                state = self._place(jax.tree.map(lambda new, old, i=i: new.at[i].set(old[0]), state, saved), size)
        return state

    def _saved_state(self, name: str) -> TrainState:
        saved = self.finished_store.read(self.unfinished[name].checkpoint)
        target = self._target(1)
        state = unflatten({"params": target.params, "state": target}, saved.arrays)["state"]
        return distributed.fetch(resumed(state, self.study.max_steps))

    def _target(self, size: int) -> TrainState:
        """Shapes and dtypes of a block's state."""
        lanes = jax.ShapeDtypeStruct((size,), jnp.int32), jax.ShapeDtypeStruct((size,), jnp.float32)
        return jax.eval_shape(jax.vmap(self.study.trainer.init), *lanes)

    # --- Training -----------------------------------------------------------------------------------------------------

    def advance(self, bar: Any) -> float:
        """Takes some steps and writes what they gave; at the end of a chunk, also ends the chunk.

        Returns:
            The seconds that `stride` steps take, as far as this call tells: a first one compiles.
        """
        assert self.block is not None
        size = len(self.block.names)
        first = ("chunk", size) not in self._programs
        program = self._program("chunk", self.study.trainer.chunk, size, donate=True)
        started = time.perf_counter()
        before = distributed.fetch(self.block.state.step)
        if not self.until:
            self.until = {name: self._pause(int(before[i])) for i, name in self.block.active.items()}
        until = np.array([self.until[name] if name else 0 for name in self.block.names], np.int32)
        state, looks = program(self.block.state, self._place(np.minimum(until, before + self.stride), size))
        looks, status, step = distributed.fetch((looks, state.status, state.step))
        seconds = time.perf_counter() - started

        self.directory.append(METRICS, self._metrics(self.block, looks))
        steps = int((_next_step(status, step) - before).max())
        timing = {"lanes": len(self.block.active), "program": size, "steps": steps, "first": first, "seconds": seconds}
        self.directory.append(TIMING, [timing])
        self._describe(bar, self.block, looks)
        self.block = _Block(self.block.names, state)
        if not ((status == Status.RUNNING) & (step <= until)).any():
            self._end_chunk(status, step)
        bar.update(self._steps_done() - bar.n)
        return 0.0 if first else seconds * max(1.0, self.stride / steps)

    def _end_chunk(self, status: np.ndarray, step: np.ndarray) -> None:
        """Visits the lanes that are due, takes out those that ended, and starts to save."""
        assert self.block is not None
        self.until = {}
        self._visit(self.block, status, step)
        self.block = self._take_out(self.block, status, step)
        self.save()

    def set_pace(self, is_long: bool, is_too_long: bool) -> None:
        """Gives the next call more or fewer steps than the last one had, as that one took."""
        if is_too_long:
            self.stride = max(1, self.stride // 2)
        elif not is_long:
            self.stride = min(2 * self.stride, self.study.trainer.chunk_steps)

    def _pause(self, step: int) -> int:
        """The last step of the chunk that starts at `step`: a visit's, or the next multiple of `chunk_steps`."""
        steps = self.study.trainer.chunk_steps
        end = max(1, -(-step // steps)) * steps
        return next((s for s in range(step, end) if self.study.visits.due(s)), end)

    def _visit(self, block: _Block, status: np.ndarray, step: np.ndarray) -> None:
        visits = self.study.visits
        for i, name in block.active.items():
            # A running lane's step is the one to come.
            done = int(step[i]) - int(status[i] == Status.RUNNING)
            if status[i] == Status.FAILED or not visits.due(done):
                continue
            state = seeds.take(block.state, [i], 1)
            where = {"run": name, "seed": self.lanes[name].seed, "step": done}
            for file, rows in visits.rows(state, done).items():
                assert file in self.files  # Else a resumed run would repeat its lines.
                self.directory.append(file, ({**where, **row} for row in rows))
            if visits.keeps(done):
                self.kept.append(Kept(name, done, self._save_finished(name, {"params": state.params})))

    def _metrics(self, block: _Block, looks: Looks) -> Iterator[dict[str, Any]]:
        """In the order of time, which does not depend on how a chunk is divided into calls."""
        for j in np.flatnonzero(looks.taken.any(axis=0)):
            for i, name in block.active.items():
                if not looks.taken[i, j]:
                    continue
                metrics = {key: float(values[i, j]) for key, values in looks.metrics.items()}
                # The loss comes first, wherever JAX sorts it.
                row = {"run": name, "seed": self.lanes[name].seed, "step": int(looks.step[i, j]), "loss": None}
                yield {**row, **metrics}

    def _take_out(self, block: _Block, status: np.ndarray, step: np.ndarray) -> _Block | None:
        """Concludes the lanes that ended; others take their places, or the block shrinks where none are left."""
        names = list(block.names)
        for i, name in block.active.items():
            if status[i] == Status.RUNNING:
                continue
            self._conclude(name, seeds.take(block.state, [i], 1), Status(status[i]), int(step[i]))
            names[i] = None
        if names != list(block.names):
            self.write_results()
        block = _Block(tuple(names), block.state)
        if not block.active:
            return self._begin()
        waiting = self._waiting(names)[: max(0, self.study.seeds_per_program - len(block.active))]
        size = self._padded(len(block.active) + len(waiting))
        if size < len(names):
            size = self._shrunk(len(block.active) + len(waiting), len(names))
        if size != len(names):  # It grows where a resumed run has more seeds, or more devices for them.
            block = self._fill(block.active, block.state, size)
        return self._joined(block, waiting) if waiting else block

    def _joined(self, block: _Block, waiting: Sequence[str]) -> _Block:
        """The block with lanes that begin in its free places, as many as there are."""
        free = [i for i, name in enumerate(block.names) if name is None]
        new: list[str | None] = [None] * len(block.names)
        for i, name in zip(free, waiting, strict=False):
            new[i] = name
        size = len(new)
        is_new = self._place(np.array([name is not None for name in new]), size)
        replace = self._program("replace", _replace, size, donate=True)
        state = replace(block.state, self._started(new), is_new)
        return _Block(tuple(a or b for a, b in zip(block.names, new, strict=True)), state)

    def _placed(self, names: tuple[str | None, ...], state: TrainState) -> _Block:
        """A restored block as it was, or laid out anew where it does not fit the devices that there are now."""
        block = _Block(names, state)
        if self._padded(len(names)) == len(names):
            return _Block(names, self._place(state, len(names)))
        return self._fill(block.active, state, self._padded(len(block.active)))

    def _fill(self, lanes: dict[int, str], state: TrainState, size: int) -> _Block:
        """A block of `size` lanes: `lanes` by their positions in `state`, then copies that stand still."""
        state = seeds.take(state, list(lanes), size, self._devices_each(size))
        names = (*lanes.values(), *[None] * (size - len(lanes)))
        return _Block(names, self._standing_still(state, names))

    def _standing_still(self, state: TrainState, names: Sequence[str | None]) -> TrainState:
        """The lanes, where those without a name are padding."""
        is_padding = np.array([name is None for name in names])
        status = jnp.where(is_padding, np.int32(Status.PADDING), state.status)
        return state._replace(status=self._place(status, len(names)))

    def _conclude(self, name: str, state: TrainState, status: Status, step: int) -> None:
        """Evaluates a lane that ended and saves what is needed of it; an older checkpoint of it stays."""
        lane = self.lanes[name]
        judged = state._replace(params=self.study.trainer.chosen(state))
        if status == Status.FAILED:
            evaluated = dict.fromkeys(jax.eval_shape(jax.vmap(self.study.evaluate), judged))
        else:
            values = {key: value[0].item() for key, value in self._evaluate(judged).items()}
            evaluated = {key: value if math.isfinite(value) else None for key, value in values.items()}
        stopped = status == Status.STOPPED
        row = {
            "run": name,
            **lane._asdict(),
            "steps": step if stopped else None,
            "converged": stopped,
            "last_step": step,
            **evaluated,
        }
        if status == Status.FAILED:
            row["failed_at"] = step
        tree = {"params": judged.params} | ({"state": state} if status == Status.OUT_OF_STEPS else {})
        self.finished[name] = _Finished(row, self._save_finished(name, tree))
        self.unfinished.pop(name, None)

    def _save_finished(self, name: str, tree: PyTree) -> int:
        """Saves what is kept for good; the number of its checkpoint."""
        number = self.finished_number
        self.running_store.wait()  # Two saves at once would mix up the meetings of several processes.
        self.finished_store.save(number, tree, {"run": name})
        self.finished_store.wait()
        self.finished_number += 1
        return number

    # --- Files --------------------------------------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        return [self.finished[name].row for name in self.lanes if name in self.finished]

    def write_results(self, complete: bool = False) -> None:
        """Writes ``results.json``; it is complete once a checkpoint on disk knows all that it says."""
        rows = self.rows()
        results = {
            "experiment": self.directory.record["experiment"],
            "complete": complete,
            "runs": rows,
            "summary": summary(rows, self.study.summarize),
        }
        self.directory.write("results.json", results)

    def save(self) -> None:
        """Starts to save; the ``.jsonl`` files are on disk already."""
        block = self.block
        steps = None if block is None else _next_step(*distributed.fetch((block.state.status, block.state.step)))
        meta = {
            "names": [] if block is None else block.names,
            "steps": [] if steps is None else steps.tolist(),
            "until": self.until,
            "finished": {name: lane._asdict() for name, lane in self.finished.items()},
            "unfinished": {name: lane._asdict() for name, lane in self.unfinished.items()},
            "kept": [kept._asdict() for kept in self.kept],
            "finished_number": self.finished_number,
            "lengths": self.directory.lengths(self.files),
            "environment": self.environment,
        }
        self.running_store.save(self.number, {} if block is None else block.state, meta)
        self.number += 1

    def restore(self) -> None:
        """Goes back to the newest sound checkpoint, or begins."""
        checkpoint = self._newest_sound()
        if checkpoint is None:
            self._begin_run()
            return
        meta = checkpoint.meta
        if meta["environment"] != self.environment:
            _LOG.warning("versions or devices have changed: the run goes on, but perhaps not to the same last bit")
        for name, lane in {**meta["unfinished"], **meta["finished"]}.items():
            row = lane["row"]
            goes_on = not row["converged"] and "failed_at" not in row and row["last_step"] < self.study.max_steps
            (self.unfinished if goes_on else self.finished)[name] = _Finished(**lane)
        self._check_unfinished(meta["names"])
        self.directory.truncate({name: meta["lengths"].get(name, 0) for name in self.files})
        self.directory.cut_torn_line(TIMING)
        self.number = self.running_store.numbers()[-1] + 1
        self.finished_number = meta["finished_number"]
        self.finished_store.delete_from(self.finished_number)
        self.kept = [Kept(**kept) for kept in meta.get("kept", [])]
        if checkpoint.arrays:
            names = tuple(meta["names"])
            state = resumed(unflatten(self._target(len(names)), checkpoint.arrays), self.study.max_steps)
            self.block = self._placed(names, distributed.fetch(state))
            self.until = meta.get("until", {})
        else:
            self.block = self._begin()
        # In this order: a run that is to grow is never complete under its new config.
        self.write_results()
        self.directory.write_config()

    def _check_unfinished(self, in_training: Sequence[str | None]) -> None:
        """Refuses to go on, while nothing has changed, if a lane that should go on from its end cannot."""
        for name, lane in self.unfinished.items():
            if name in in_training:
                continue
            try:
                self.finished_store.read(lane.checkpoint)
            except CheckpointError as error:
                where = self.directory.path / FINISHED
                raise CheckpointError(f"{where}: {error}; {name} cannot get more steps") from error

    def _begin_run(self) -> None:
        """Saves the start, before anything is measured: what has numbers but no checkpoint has lost it."""
        _refuse_numbers(self.directory, self.files)
        self.directory.write_config()
        self.block = self._begin()
        self.save()
        self.running_store.wait()

    def _newest_sound(self) -> Checkpoint | None:
        rejected = []
        for found in newest_first(self.running_store):
            reason = ""
            if isinstance(found, CheckpointError):
                reason = str(found)
            elif missing := self._cut_short(found.meta["lengths"]):
                reason = f"checkpoint {found.number}: {missing} is missing or was cut short"
            if not distributed.any_process([bool(reason)])[0] and isinstance(found, Checkpoint):
                return found
            reason = reason or "another process cannot use the checkpoint"
            _LOG.warning("%s; trying the one before it", reason)
            rejected.append(reason)
        if rejected:
            raise CheckpointError(f"{self.directory.path}: no checkpoint is sound: {'; '.join(rejected)}")
        return None

    def _cut_short(self, lengths: dict[str, int]) -> str:
        """The first file that is not as long as `lengths` says, if there is one."""
        found = self.directory.lengths(lengths)
        return next((name for name, length in lengths.items() if found[name] < length), "")

    # --- Progress -----------------------------------------------------------------------------------------------------

    def progress(self) -> Any:
        """A bar over the steps of all lanes; silent where standard error is not a terminal."""
        steps = self.study.max_steps + 1
        bar = tqdm(total=steps * len(self.lanes), unit="step", disable=None if distributed.is_first() else True)
        if self.block is not None:
            bar.initial = bar.n = self._steps_done()
        return bar

    def _steps_done(self) -> int:
        """Of all lanes together; one that ended has none left."""
        block = self.block
        running = 0 if block is None else int(distributed.fetch(block.state.step)[list(block.active)].sum())
        return running + len(self.finished) * (self.study.max_steps + 1)

    def _describe(self, bar: Any, block: _Block, looks: Looks) -> None:
        """The metrics of the last look of this call, over the lanes that took it; those before it where none did."""
        active, names = list(block.active), list(block.active.values())
        bar.set_description(names[0] if len(names) == 1 else f"{len(names)} runs", refresh=False)
        taken = looks.taken[active]
        if not taken.any():
            return
        last = np.flatnonzero(taken.any(axis=0))[-1]
        shown = {"finished": f"{len(self.finished)}/{len(self.lanes)}"}
        for key in ("loss", *looks.metrics):
            shown[key] = f"{looks.metrics[key][active, last][taken[:, last]].mean():.4f}"
        bar.set_postfix(shown, refresh=False)


def _files(study: Study) -> tuple[str, ...]:
    """What a checkpoint knows the lengths of."""
    return (METRICS, *study.visits.files)


def _refuse_numbers(directory: RunDirectory, files: Sequence[str]) -> None:
    """Refuses to begin in a directory that has numbers: it has lost its checkpoints."""
    path = directory.path
    has_numbers = any(directory.lengths(files).values()) or (path / "results.json").exists()
    if distributed.any_process([has_numbers])[0]:
        raise CheckpointError(f"{path}: has results, but no checkpoint to go on from; take another --workdir")


def summary(
    rows: list[dict[str, Any]], summarize: Callable[[list[dict[str, Any]]], dict[str, Any]]
) -> list[dict[str, Any]]:
    """For each learning rate how many runs ended, how many of them by a NaN, and what `summarize` says of them."""
    found = []
    for rate in dict.fromkeys(row["learning_rate"] for row in rows):
        runs = [row for row in rows if row["learning_rate"] == rate]
        failed = sum("failed_at" in row for row in runs)
        found.append({"learning_rate": rate, "runs": len(runs), "failed": failed, **summarize(runs)})
    return found


def _next_step(status: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The index behind that of the last step of each lane."""
    return np.where(status == Status.RUNNING, step, step + 1)


def _replace(state: TrainState, start: TrainState, is_new: Array) -> TrainState:
    return jax.tree.map(lambda old, new: jnp.where(is_new, new, old), state, start)


@contextlib.contextmanager
def signals() -> Iterator[Callable[[], bool]]:
    """Turns the first SIGINT or SIGTERM into a flag, which is what this gives; a second one ends the process at once.

    Both come through between two calls of compiled programs; two of one kind within a call are one.
    One that is ignored stays so: a shell has started this process in the background.
    """
    received: list[int] = []

    def handle(number: int, _: Any) -> None:
        if received:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        received.append(number)
        _LOG.warning("%s: stopping once all is saved; once more to stop at once", signal.Signals(number).name)

    previous = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    previous = {s: handler for s, handler in previous.items() if handler != signal.SIG_IGN}
    for s in previous:
        signal.signal(s, handle)
    try:
        yield lambda: bool(received)
    finally:
        for s, handler in previous.items():
            signal.signal(s, handler)
