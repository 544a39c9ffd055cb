"""Signals that end a training once it is saved."""

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

_LOG = logging.getLogger(__name__)


class Interrupted(Exception):
    """A signal ended the work; what has been done is saved."""


@contextlib.contextmanager
def catch_signals() -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether SIGINT or SIGTERM has come; a second one ends the process at once.

    Python sees a signal between two calls of compiled programs. A signal that is ignored stays ignored, as when
    a shell has started this process in the background. A thread other than the main one gets no signals.
    """
    received: list[int] = []

    def handle(number: int, _: Any) -> None:
        if received:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        received.append(number)
        _LOG.warning("%s: stopping once all is saved; repeat it to stop at once", signal.Signals(number).name)

    is_main = threading.current_thread() is threading.main_thread()
    previous = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM) if is_main}
    previous = {s: handler for s, handler in previous.items() if handler != signal.SIG_IGN}
    for s in previous:
        signal.signal(s, handle)
    try:
        yield lambda: bool(received)
    finally:
        for s, handler in previous.items():
            signal.signal(s, handler)
