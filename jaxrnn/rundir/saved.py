"""What the checkpoints of a run directory hold besides arrays, and where they are; no other file knows."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pydantic

from jaxrnn.rundir.checkpoint import Arrays, CheckpointError, CheckpointStore

RUNNING = "checkpoints/running"
"""The newest two checkpoints of the runs in training, with `Meta`."""
FINISHED = "checkpoints/finished"
"""The parameters of each run that has ended, or its whole state if more steps would let it go on; and the parameters
that callbacks save, or keep as the best."""


class Saved(pydantic.BaseModel, extra="forbid"):
    """A run after a step.

    Attributes:
        run: its name.
        step: index of the last step taken.
        checkpoint: the number of its checkpoint.
        row: of ``results.json`` if it has ended there.
        lowest: the value for which it was kept as the best.
        passed: the first checkpoint of the runs in training that knows of a better one.
    """

    run: str
    step: int
    checkpoint: int
    row: dict[str, Any] | None = None
    lowest: float | None = None
    passed: int | None = None


class Meta(pydantic.BaseModel, extra="forbid"):
    """What a checkpoint of the runs in training says.

    Attributes:
        places: the names of the runs, by their place along the first axis of each array.
        saved: runs that have ended, and what callbacks saved.
        lengths: bytes of each ``.jsonl`` file.
        environment: versions and device.
    """

    places: list[str | None] = []
    saved: list[Saved] = []
    lengths: dict[str, int] = {}
    environment: dict[str, Any] = {}

    @property
    def ended(self) -> dict[str, Saved]:
        """The last of `saved` of each run that has ended, by its name."""
        return {saved.run: saved for saved in self.saved if saved.row is not None}

    @property
    def next_checkpoint(self) -> int:
        """The number of the next checkpoint; one that is passed is passed by a later one, which stays."""
        return 1 + max((saved.checkpoint for saved in self.saved), default=-1)

    @property
    def best(self) -> list[Saved]:
        """Where the value of each run was lowest."""
        return [saved for saved in self.saved if saved.lowest is not None and saved.passed is None]


class Found(NamedTuple):
    """A checkpoint of the runs in training, and why it cannot be used; empty for a sound one."""

    number: int
    arrays: Arrays
    meta: Meta
    reason: str = ""


def newest_first(running: CheckpointStore) -> Iterator[Found]:
    """The checkpoints of the runs in training, the newest first."""
    for number in reversed(running.numbers()):
        try:
            arrays, meta = running.read(number)
            yield Found(number, arrays, Meta.model_validate(meta))
        except CheckpointError as error:
            yield Found(number, {}, Meta(), str(error))
        except pydantic.ValidationError:
            yield Found(number, {}, Meta(), f"checkpoint {number} was saved by another version of jaxrnn")
