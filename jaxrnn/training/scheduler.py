"""Which run trains in which place of a program: pure bookkeeping of names and sizes."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

Places = tuple[str | None, ...]
"""The names of the runs in training, by their place; None is padding, or a run that has ended."""


class Move(NamedTuple):
    """How a program changes once runs have ended.

    Attributes:
        places: afterwards; empty when all runs have ended.
        kept: the old places of the runs that move to the first places, in order; None where all runs stay.
        joining: the runs that begin, by their place.
    """

    places: Places
    kept: tuple[int, ...] | None
    joining: dict[int, str]


def rearrange(
    places: Places,
    waiting: Sequence[str],
    runs_per_program: int,
    padded_size: Callable[[int], int],
    shrunk_size: Callable[[int, int], int],
) -> Move:
    """Gives the places of ended runs to those that wait, or shrinks the program if none are left.

    The program grows if a resumed training has more seeds, or more devices for them.

    Args:
        places: as they are, None where a run has ended.
        waiting: the names of the runs that have not begun, in their order.
        runs_per_program: how many runs are trained together.
        padded_size: as in `jaxrnn.training.placement.Plan`.
        shrunk_size: as there.
    """
    active = tuple(i for i, name in enumerate(places) if name is not None)
    waiting = waiting[: max(0, runs_per_program - len(active))]
    number = len(active) + len(waiting)
    if not number:
        return Move((), None, {})
    size = padded_size(number)
    if active and size < len(places):
        size = shrunk_size(number, len(places))
    kept = None if active and size == len(places) else active
    after = list(places) if kept is None else [*(places[i] for i in active), *[None] * (size - len(active))]
    free = [i for i, name in enumerate(after) if name is None]
    joining = dict(zip(free, waiting, strict=False))
    return Move(tuple(joining.get(i, name) for i, name in enumerate(after)), kept, joining)
