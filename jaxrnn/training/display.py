"""Shows how far a training is: a line that is updated on a terminal or in a notebook, otherwise new lines."""

import contextlib
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator

from tqdm import TqdmWarning, tqdm

from jaxrnn.training import processes
from jaxrnn.training.loop import Progress

FIRST_SECONDS, MOST_SECONDS = 5.0, 60.0
"""Without a terminal or a notebook, each wait for a new line is twice the one before it, up to a minute."""


@contextlib.contextmanager
def show_progress() -> Iterator[Callable[[Progress], object]]:
    """Yields a function that shows a `Progress` on standard error, in at most 80 columns.

    Nothing is shown before the first `Progress`, nor by any process but the first.
    """
    describe, is_notebook = _Description(), "ipykernel.zmqshell" in sys.modules
    if not processes.is_first():
        yield lambda _: None
    elif sys.stderr.isatty() or is_notebook:
        with contextlib.ExitStack() as stack:
            bars: list[tqdm] = []

            def renew(progress: Progress) -> None:
                if not bars:
                    bars.append(stack.enter_context(_make_bar(is_notebook)))
                bar, bar.total = bars[0], progress.max_steps
                bar.set_description_str(describe(progress), refresh=progress.is_compiling)
                bar.update(progress.steps - bar.n)

            yield renew
    else:
        with _lines(describe) as show:
            yield show


def _make_bar(is_notebook: bool) -> tqdm:
    if is_notebook:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TqdmWarning)  # Without ipywidgets, it is a bar of characters.
            from tqdm.auto import tqdm as bar
        return bar(bar_format="{desc} {bar}", miniters=1)
    # A terminal that does not report its size has 80 columns.
    size = shutil.get_terminal_size()
    return tqdm(bar_format="{desc} {bar}", miniters=1, ncols=size.columns - 1, nrows=size.lines)


@contextlib.contextmanager
def _lines(describe: "_Description") -> Iterator[Callable[[Progress], object]]:
    """Writes lines, soon at first and later one a minute, even while a call of a program takes longer."""
    ended = threading.Event()

    def write() -> None:
        wait = FIRST_SECONDS
        while not ended.wait(wait):
            wait = min(2 * wait, MOST_SECONDS)
            if describe.text:
                sys.stderr.write(f"{describe.text}\n")
                sys.stderr.flush()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield describe
    finally:
        ended.set()
        thread.join()


class _Description:
    """One line: steps, loss, runs that have finished, and the time that is left."""

    def __init__(self) -> None:
        self.text, self._loss = "", ""
        self._began: tuple[float, int] | None = None
        """When the first call of a program had ended, and the steps until then."""

    def __call__(self, progress: Progress) -> str:
        now = time.monotonic()
        if "loss" in progress.metrics:
            self._loss = f", loss {progress.metrics['loss']:#.3g}".rstrip(".")
        if self._began is None and not progress.is_compiling:
            self._began = now, progress.steps
        # At step 0, the last loss is of runs that have ended.
        loss = self._loss if progress.step else ""
        parts = [f"step {progress.step}/{progress.last_step}{loss}"] if progress.running else []
        parts.append(f"{progress.ended}/{progress.runs} runs finished")
        if progress.is_compiling:
            parts.append("compiling")
        elif self._began and progress.running and progress.steps > self._began[1]:
            seconds = (now - self._began[0]) / (progress.steps - self._began[1])
            left = (progress.max_steps - progress.steps) * seconds
            parts.append(f"{tqdm.format_interval(left)} left")
        self.text = ", ".join(parts)
        return self.text
