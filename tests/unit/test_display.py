"""What people see of a training: on a terminal, and where there is none."""

import io
import sys
import threading

import pytest

from jaxrnn.training import display
from jaxrnn.training.loop import Progress

TWO, START = ["seed=0", "seed=1"], Progress(0, 9003, 0, 3000, [], 0, 3, {}, True)
CALLS = [
    (START, "0/3 runs finished, compiling"),
    (START._replace(running=TWO), "step 0/3000, 0/3 runs finished, compiling"),
    (Progress(600, 9003, 299, 3000, TWO, 0, 3, {"loss": 0.7}, False), "step 299/3000, loss 0.700, 0/3 runs finished"),
    # Ten seconds for 600 steps.
    (
        Progress(1200, 9003, 599, 3000, TWO, 0, 3, {}, False),
        "step 599/3000, loss 0.700, 0/3 runs finished, 02:10 left",
    ),
    (
        Progress(8000, 9003, 1997, 3000, ["seed=2"], 2, 3, {"loss": 1.2345e-5}, True),
        "step 1997/3000, loss 1.23e-05, 2/3 runs finished, compiling",
    ),
    (Progress(9003, 9003, 0, 3000, [], 3, 3, {"loss": 123.4}, False), "3/3 runs finished"),
]


class Stream(io.StringIO):
    """Standard error, a terminal or not."""

    def __init__(self, is_terminal):
        super().__init__()
        self.isatty = lambda: is_terminal
        self.is_flushed = threading.Event()

    def flush(self):
        self.is_flushed.set()


@pytest.fixture
def show(monkeypatch):
    """Shows the first calls, ten seconds from one to the next."""
    clock = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(display, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(display, "MOST_SECONDS", 0.01)
    monkeypatch.setenv("COLUMNS", "80")

    def run(count, is_terminal):
        stream = Stream(is_terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        with display.show_progress() as renew:
            for progress, _ in CALLS[:count]:
                clock[0] += 10
                renew(progress)
            if count and not is_terminal:
                stream.is_flushed.clear()
                assert stream.is_flushed.wait(10)
        return stream.getvalue()

    return run


@pytest.mark.parametrize("count", range(1, len(CALLS) + 1))
def test_a_terminal_and_a_log_show_the_same_line(show, count):
    on_terminal = show(count, is_terminal=True).rstrip("\n").split("\r")
    assert on_terminal[-1].startswith(f"{CALLS[count - 1][1]} ")  # Followed by the bar.
    assert all(len(line) < 80 for line in on_terminal)
    assert show(count, is_terminal=False).splitlines()[-1] == CALLS[count - 1][1]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_trains_nothing_shows_nothing(show, is_terminal):
    assert show(0, is_terminal) == ""
