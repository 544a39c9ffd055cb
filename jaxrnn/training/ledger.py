"""The programs that are trained one after another, and the ledger of their runs: which have ended, which go on."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.training import processes
from jaxrnn.training.definition import Run, Training
from jaxrnn.training.placement import Plan
from jaxrnn.training.recording import Recorder, Snapshot
from jaxrnn.training.scheduler import Places
from jaxrnn.training.trainer import TrainState, make_trainer, with_more_steps


class Program(NamedTuple):
    """Runs that share a training, and so their compiled code.

    Attributes:
        training: what is trained.
        runs: seeds, and values of the fields that the training takes as arrays; other values are the same in all runs.
        plan: how they are placed.
        precision: of matrix products; None for JAX's current setting.
    """

    training: Training
    runs: Sequence[Run]
    plan: Plan
    precision: str | None = None


class Ledger:
    """The state of the runs of all programs: their programs, which have ended, and which go on with more steps."""

    def __init__(self, programs: Sequence[Program]) -> None:
        self.program_of = {run.name: program for program in programs for run in program.runs}
        self.ended: dict[str, dict[str, Any]] = {}
        self.going_on: dict[str, TrainState] = {}
        """The states of runs that had run out of steps and now have more."""

    def program_at(self, places: Places) -> Program | None:
        """The program whose runs have these places; None if there is no run."""
        return next((self.program_of[name] for name in places if name), None)

    def like(self, places: Places) -> TrainState:
        """Shapes and dtypes of the state of all places, one of which has a run."""
        training, _, plan, _ = next(self.program_of[name] for name in places if name)
        seeds = jax.ShapeDtypeStruct((len(places),), jnp.int32)
        hyper = dict.fromkeys(training.hyper, jax.ShapeDtypeStruct((len(places),), jnp.float32))
        init = jax.vmap(make_trainer(training, plan).init, in_axes=(None, 0, 0))
        state: TrainState = jax.eval_shape(init, training.data, seeds, hyper)
        return state

    def recall(self, snapshot: Snapshot, recorder: Recorder) -> None:
        """Takes over what the snapshot says about the runs that had ended."""
        for name in filter(snapshot.ended.__contains__, self.program_of):
            row, max_steps = snapshot.ended[name], self.max_steps(name)
            has_more = not row["stopped"] and row["failed_at"] is None and row["last_step"] < max_steps
            if not has_more:
                self.ended[name] = row
            elif name not in snapshot.places:
                state = recorder.state_of(name, self.like((name,)))
                self.going_on[name] = processes.fetch(with_more_steps(state, max_steps))

    def max_steps(self, name: str) -> int:
        """The index of the last step of a run."""
        return self.program_of[name].training.max_steps

    def is_left(self) -> bool:
        """Whether any run has not ended."""
        return len(self.ended) < len(self.program_of)

    def rows(self) -> list[dict[str, Any]]:
        """The results so far."""
        return [self.ended[name] for name in self.program_of if name in self.ended]
