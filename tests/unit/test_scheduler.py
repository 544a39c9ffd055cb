"""Which run trains where, without any training."""

import pytest

from jaxrnn.training.scheduler import rearrange


def padded_size(num_runs):
    """On two devices, each with any number of runs."""
    groups = min(num_runs, 2)
    return -(-num_runs // groups) * groups


def shrunk_size(num_runs, size):
    return min(size, padded_size(num_runs))


@pytest.mark.parametrize(
    ("places", "waiting", "expected", "kept", "joining"),
    [
        ((), "abc", "abc.", (), {0: "a", 1: "b", 2: "c"}),  # The first runs, padded for two devices.
        ((), "", "", None, {}),
        ("ab", "", "ab", None, {}),
        ("ab", "c", "ab", None, {}),  # Nothing is free.
        ("a.", "bc", "ab", None, {1: "b"}),
        ("..", "bc", "bc", (), {0: "b", 1: "c"}),
        ("..", "", "", None, {}),
        ("a..b", "", "ab", (0, 3), {}),
        ("a..b", "cd", "acdb", None, {1: "c", 2: "d"}),
        ("...b", "c", "bc", (3,), {1: "c"}),
    ],
)
def test_runs_that_wait_take_free_places_and_programs_shrink(places, waiting, expected, kept, joining):
    def names(text):
        return tuple(None if name == "." else name for name in text)

    per_program = max(2, len(places)) if places else 3
    move = rearrange(names(places), list(waiting), per_program, padded_size, shrunk_size)
    assert move == (names(expected), kept, joining)
