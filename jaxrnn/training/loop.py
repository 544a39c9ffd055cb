"""The host loop: calls the compiled programs, hands what they give to a recorder, and replaces runs that end."""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.arrays import Array, PyTree
from jaxrnn.training import placement, processes, scheduler
from jaxrnn.training.definition import Run
from jaxrnn.training.ledger import Ledger, Program
from jaxrnn.training.recording import METRICS, TIMING, Recorder, Snapshot
from jaxrnn.training.scheduler import Places
from jaxrnn.training.signals import Interrupted
from jaxrnn.training.trainer import Evaluations, Status, TrainState, make_trainer, with_more_steps


class Progress(NamedTuple):
    """How far a training is.

    Attributes:
        steps: taken by all runs together; a run that has ended counts as if it had taken all.
        max_steps: of all runs together.
        step: index of the last step that all runs in training have taken.
        last_step: index of the last step of a run.
        running: the names of the runs in training.
        ended: how many runs have ended.
        runs: how many there are.
        metrics: their means over the evaluations of this call; empty if there was none.
        is_compiling: whether the next call is of a program that has to be compiled.
    """

    steps: int
    max_steps: int
    step: int
    last_step: int
    running: list[str]
    ended: int
    runs: int
    metrics: dict[str, float]
    is_compiling: bool


def train(
    programs: Sequence[Program],
    recorder: Recorder,
    *,
    progress: Callable[[Progress], object] | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:
    """Trains all runs, or goes on with what the recorder has saved, and records what they do.

    Programs are trained one after another. A program's plan says how many runs are in training at a time; the next run
    takes the place of one that has ended. A resumed training records the same bytes as one that was never interrupted.

    Args:
        programs: what is trained; the names of all runs are different.
        recorder: gets metrics, results and states.
        progress: called at the beginning, and after each call of the compiled program.
        interrupted: called after each call; if it returns True, all is saved and the training ends.

    Returns:
        The rows of results, in the order of the programs and their runs.

    Raises:
        Interrupted: everything is saved.
    """
    report = progress or (lambda _: None)
    ledger = Ledger(programs)
    found = recorder.restore(ledger.like)
    snapshot = found or Snapshot()
    ledger.recall(snapshot, recorder)
    recorder.begin(ledger.rows())
    in_training = ledger.program_at(snapshot.places)
    # What was in training goes on first; the sort keeps the order of the others.
    for program in sorted(programs, key=lambda program: program is not in_training):
        with jax.default_matmul_precision(program.precision) if program.precision else contextlib.nullcontext():
            loop = _Loop(program, ledger, recorder)
            report(loop.progress({}))
            loop.begin(snapshot)
            report(loop.progress({}))
            snapshot = Snapshot()
            if found is None:
                # Before anything is measured: a directory with numbers but no checkpoint has lost its checkpoint.
                found = loop.snapshot()
                recorder.save(found)
                recorder.wait()
            while loop.places:
                report(loop.progress(loop.advance()))
                is_interrupted, is_due = processes.any_process([interrupted(), recorder.is_due()])
                if ledger.is_left() and (is_interrupted or is_due):
                    recorder.save(loop.snapshot())
                if ledger.is_left() and is_interrupted:
                    recorder.wait()
                    raise Interrupted
    recorder.save(Snapshot(ended=ledger.ended))
    recorder.wait()
    # Complete only once a checkpoint on disk knows all that the results say.
    recorder.write_results(ledger.rows(), complete=True)
    processes.meet()
    return ledger.rows()


class _Loop:
    """The runs of one program."""

    def __init__(self, program: Program, ledger: Ledger, recorder: Recorder) -> None:
        self.training, self.plan = program.training, program.plan
        self.ledger, self.recorder = ledger, recorder
        self.runs = {run.name: run for run in program.runs}
        self.trainer = make_trainer(self.training, self.plan)
        self.places: Places = ()
        self.state: TrainState | None = None
        self._steps: dict[str, int] = {}
        """By run in training, the step to take next."""
        self._programs: dict[tuple[str, int], Any] = {}
        self._data = functools.cache(functools.partial(placement.replicate, self.training.data))
        self._test = placement.over_runs(self.trainer.test, 1)

    # --- Programs -----------------------------------------------------------------------------------------------------

    def _call(self, name: str, fn: Callable[..., Any], size: int, *trees: PyTree, donate: bool = False) -> Any:
        """Runs a program on the runs in training; it is compiled once for each size."""
        each = self.plan.devices_each(size)
        if (name, size) not in self._programs:
            self._programs[name, size] = placement.over_runs(fn, size, data_devices=each, donate=donate)
        # An array by itself may wait forever for a program that ran out of memory.
        return jax.block_until_ready(self._programs[name, size](self._data(size, each), *trees))

    def _place(self, tree: PyTree, size: int) -> PyTree:
        return placement.place(tree, size, self.plan.devices_each(size))

    # --- Which runs are in training -----------------------------------------------------------------------------------

    def begin(self, snapshot: Snapshot) -> None:
        """Goes on with the runs that the snapshot has in training, or begins."""
        if snapshot.state is not None:
            self._restore(snapshot.places, snapshot.state)
        else:
            self._rearrange()

    def _restore(self, places: Places, state: TrainState) -> None:
        """Places the runs as they were, or anew if they do not fit the current devices."""
        state = processes.fetch(with_more_steps(state, self.training.max_steps))
        self.places = places
        if self.plan.padded_size(len(places)) == len(places):
            self.state = self._place(state, len(places))
        else:
            active = [i for i, name in enumerate(places) if name is not None]
            self._take(state, active, self.plan.padded_size(len(active)))

    def _take(self, state: TrainState, kept: Sequence[int], size: int) -> None:
        """Moves the runs at the places `kept` to the front of a program of `size`."""
        self.state = placement.take(state, kept, size, self.plan.devices_each(size))
        self.places = (*(self.places[i] for i in kept), *[None] * (size - len(kept)))
        self._mark_padding()

    def _mark_padding(self) -> None:
        assert self.state is not None
        is_padding = np.array([name is None for name in self.places])
        status = jnp.where(is_padding, np.int32(Status.PADDING), self.state.status)
        self.state = self.state._replace(status=self._place(status, len(self.places)))

    def _rearrange(self) -> None:
        """Gives free places to waiting runs; a program with fewer runs shrinks."""
        waiting = [name for name in self.runs if name not in self.ledger.ended and name not in self.places]
        plan = self.plan
        places, kept, joining = scheduler.rearrange(
            self.places, waiting, plan.runs_per_program, plan.padded_size, plan.shrunk_size
        )
        size = len(places)
        if not places:
            self.places, self.state = (), None
        elif kept == ():
            self.places, self.state = places, self._start(joining, size)
            self._mark_padding()
        else:
            if kept is not None and self.state is not None:
                self._take(self.state, kept, size)
            if joining:
                is_new = self._place(np.array([i in joining for i in range(size)]), size)
                started = self._start(joining, size)
                self.state = self._call("replace", _replace, size, self.state, started, is_new, donate=True)
            self.places = places

    def _start(self, joining: dict[int, str], size: int) -> TrainState:
        """The states with which runs begin or go on, each at its place; states at other places are not used."""
        runs = [self.runs[joining.get(i, next(iter(self.runs)))] for i in range(size)]
        seeds = np.array([run.seed for run in runs], np.int32)
        hyper = {
            name: np.array([run.values.get(name, value) for run in runs], np.float32)
            for name, value in self.training.hyper.items()
        }
        given = [self.training.initial(run.seed) if self.training.initial else () for run in runs]
        params = jax.tree.map(lambda *x: np.stack(x), *given)
        state = self._call("init", self.trainer.init, size, *self._place((seeds, hyper, params), size))
        for i, name in joining.items():
            if name in self.ledger.going_on:
                saved = self.ledger.going_on.pop(name)
                state = self._place(jax.tree.map(lambda new, old, i=i: new.at[i].set(old[0]), state, saved), size)
        return state

    # --- Training -----------------------------------------------------------------------------------------------------

    def advance(self) -> dict[str, float]:
        """Takes a chunk of steps, records what they gave, and replaces the runs that end.

        Returns:
            The means of the metrics, as in `Progress`.
        """
        assert self.state is not None
        size = len(self.places)
        is_first = ("chunk", size) not in self._programs
        started = time.perf_counter()
        before = processes.fetch(self.state.step)
        host_seconds = self._ask_host(before.tolist()) if self.training.host else {}
        ends = [self._chunk_end(step) if name else 0 for name, step in zip(self.places, before.tolist(), strict=True)]
        if not before.any():  # The first step by itself: its results are seen as soon as the programs are compiled.
            ends = [0] * size
        ends_s, batches = self._place((np.array(ends, np.int32), self._batches(before.tolist())), size)
        self.state, found = self._call("chunk", self.trainer.chunk, size, self.state, ends_s, batches, donate=True)
        evaluations, status, step = processes.fetch((found, self.state.status, self.state.step))
        seconds = time.perf_counter() - started

        rows = list(self._metrics(evaluations))
        self.recorder.append(METRICS, rows)
        steps = int((_next_step(status, step) - before).max())
        runs = sum(name is not None for name in self.places)
        timing = {"runs": runs, "program": size, "steps": steps, "first": is_first, "seconds": seconds, **host_seconds}
        self.recorder.append(TIMING, [timing])
        self._steps = dict(zip(map(str, self.places), _next_step(status, step).tolist(), strict=True))
        self._call_back(status, step)
        self._conclude(status, step)
        names = sorted(evaluations.metrics, key=lambda name: name != "loss") if rows else []
        return {name: float(np.mean([row[name] for row in rows])) for name in names}

    def _ask_host(self, steps: Sequence[int]) -> dict[str, float]:
        """Gives the host's answers to the runs that are due to ask; returns the seconds that the host took."""
        assert self.state is not None and self.training.host
        asking = {i: name for i, name in enumerate(self.places) if name and steps[i] % self.training.chunk_steps == 0}
        if not asking:
            return {"host_seconds": 0.0}
        size = len(self.places)
        requests = processes.fetch(self._call("request", self.trainer.request, size, self.state))
        memory = jax.tree.map(np.array, processes.fetch(self.state.memory))
        started = time.perf_counter()
        for i, name in asking.items():
            run = self.runs[name]
            answer, found = self.training.host(jax.tree.map(lambda x, i=i: x[i], requests), run.seed, steps[i])
            for all_runs, own in zip(jax.tree.leaves(memory), jax.tree.leaves(answer), strict=True):
                all_runs[i] = own
            self._append_rows(run, steps[i], found)
        self.state = self.state._replace(memory=self._place(memory, size))
        return {"host_seconds": time.perf_counter() - started}

    def _batches(self, steps: Sequence[int]) -> PyTree:
        """The host's batches ``[S, chunk_steps + 1, ...]`` from each run's step on; a place without a run has some."""
        batches = self.training.batches
        if batches is None:
            return ()
        seeds = [self.runs[name or next(iter(self.runs))].seed for name in self.places]
        after = range(self.training.chunk_steps + 1)
        last = self.training.max_steps  # Batches after it are not used.

        def of_run(seed: int, step: int) -> PyTree:
            # Copies: an iterator may reuse the same arrays.
            found = [jax.tree.map(np.array, batches(seed, min(step + i, last))) for i in after]
            return jax.tree.map(lambda *x: np.stack(x), *found)

        runs = [of_run(seed, step) for seed, step in zip(seeds, steps, strict=True)]
        return jax.tree.map(lambda *x: np.stack(x), *runs)

    def _chunk_end(self, step: int) -> int:
        """The last step of a call that starts at `step`: a callback's, or the next multiple of `chunk_steps`.

        If there is a host, which is asked at such multiples, it is the step before one.
        """
        steps = self.training.chunk_steps
        end = (step // steps + 1) * steps - 1 if self.training.host else max(1, -(-step // steps)) * steps
        return next((s for s in range(step, end) if self.training.callback.when(s)), end)

    def _metrics(self, evaluations: Evaluations) -> Iterator[dict[str, Any]]:
        """The rows of metrics, in the order of time."""
        for j in np.flatnonzero(evaluations.recorded.any(axis=0)):
            for i, name in enumerate(self.places):
                if name and evaluations.recorded[i, j]:
                    metrics = {key: float(values[i, j]) for key, values in evaluations.metrics.items()}
                    # The loss comes first, wherever JAX sorts it.
                    yield {**self.runs[name].record(), "step": int(evaluations.step[i, j]), "loss": None, **metrics}

    def _call_back(self, status: np.ndarray, step: np.ndarray) -> None:
        callback = self.training.callback
        for i, name in enumerate(self.places):
            # The step of a run that goes on is its next one.
            done = int(step[i]) - int(status[i] == Status.RUNNING)
            if not name or status[i] == Status.FAILED or not callback.when(done):
                continue
            run, params = self.runs[name], placement.take(self.state, [i], 1).params
            found = callback.record(jax.tree.map(lambda x: x[0], params), run, done, self._data(1, 1))
            self._append_rows(run, done, found)
            if callback.save_params(done):
                self.recorder.save_run(name, done, params)
            if callback.lowest:
                file, column = callback.lowest
                for row in found.get(file, []):
                    self.recorder.keep_lowest(name, done, params, row[column])

    def _append_rows(self, run: Run, step: int, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        for file, rows in found.items():
            assert file in self.training.callback.files  # Otherwise a resumed training would repeat its lines.
            self.recorder.append(file, [{**run.record(), "step": step, **row} for row in rows])

    def _conclude(self, status: np.ndarray, step: np.ndarray) -> None:
        """Tests the runs that have ended, and lets others take their places."""
        ended = [i for i, name in enumerate(self.places) if name and status[i] != Status.RUNNING]
        for i in ended:
            self._end(str(self.places[i]), placement.take(self.state, [i], 1), Status(status[i]), int(step[i]))
        if ended:
            self.recorder.write_results(self.ledger.rows(), complete=False)
            self.places = tuple(None if i in ended else name for i, name in enumerate(self.places))
        self._rearrange()

    def _end(self, name: str, state: TrainState, status: Status, step: int) -> None:
        has_failed = status == Status.FAILED
        if has_failed:
            tested = dict.fromkeys(jax.eval_shape(self._test, self._data(1, 1), state))
        else:
            found = self._test(self._data(1, 1), state)
            tested = {key: _finite(np.asarray(value[0]).tolist()) for key, value in found.items()}
        row = {
            **self.runs[name].record(),
            "last_step": step,
            "stopped": status == Status.STOPPED,
            "failed_at": step if has_failed else None,
            **tested,
        }
        self.ledger.ended[name] = row
        more = state if status == Status.OUT_OF_STEPS else None
        self.recorder.save_run(name, step, self.trainer.chosen(state), row, more)

    # --- What is saved and shown --------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Where the training stands."""
        return Snapshot(self.places, self.state, self.ledger.ended)

    def progress(self, metrics: dict[str, float]) -> Progress:
        """How far all programs are."""
        ended, running = self.ledger.ended, [name for name in self.places if name]
        most, past = (sum(self.ledger.max_steps(name) + 1 for name in of) for of in (self.ledger.program_of, ended))
        taken = [self._steps.get(name, 0) for name in running]
        is_compiling = ("chunk", len(self.places)) not in self._programs and len(ended) < len(self.ledger.program_of)
        return Progress(
            steps=past + sum(taken),
            max_steps=most,
            step=max(0, min(taken, default=0) - 1),
            last_step=self.training.max_steps,
            running=running,
            ended=len(ended),
            runs=len(self.ledger.program_of),
            metrics=metrics,
            is_compiling=is_compiling,
        )


def _next_step(status: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The index after that of the last step of each run."""
    return np.where(status == Status.RUNNING, step, step + 1)


def _replace(_: PyTree, state: TrainState, start: TrainState, is_new: Array) -> TrainState:
    return jax.tree.map(lambda old, new: jnp.where(is_new, new, old), state, start)


def _finite(value: Any) -> Any:
    """A number, or lists of numbers, with None for those that are not finite."""
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return value if math.isfinite(value) else None
