"""A binary as one of several processes that share a run: their flags, how they meet, what is said when one is lost."""

import contextlib
import logging
import os
import re
import signal
import sys
from typing import NoReturn

import jax
from absl import flags

from jaxrnn.rundir.directory import RunError
from jaxrnn.training import processes as distributed

flags.disclaim_key_flags()

_LOST = "a process of this job has been lost; nothing that was saved is: start all of them again, with --resume"
_NOT_MET = "the processes of this job have not found each other: have all been started, with the same coordinator?"
_MET, _DONE = b"m", b"."
"""What the watching process is told."""
_SIGNS_OF_LOSS = re.compile("Gloo|NCCL|heartbeat|[Bb]arrier|Coordination|Socket closed")
"""What JAX's errors say where another process does not answer."""
_WHO = ("coordinator", "num_processes", "process_id")
_watchers: list[int] = []
"""Pipes to the processes that watch over this one."""


class FlagsError(Exception):
    """Flags that do not tell who the processes are; the message is for the user."""


def define_flags() -> None:
    """``--distributed``, and those that say who the processes are."""
    flags.DEFINE_bool(
        "distributed",
        False,
        "This is one of several processes that share the run: those that Slurm, Open MPI, Kubernetes or Cloud TPU have "
        "started, or those that the next three flags tell. The run can be resumed by another number of them.",
    )
    flags.DEFINE_string("coordinator", None, "HOST:PORT, free, on the machine of process 0.")
    flags.DEFINE_integer("num_processes", None, "How many processes there are.", lower_bound=1)
    flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.", lower_bound=0)


def join() -> None:
    """Meets the other processes, if flags ask for it; from then on, only the first one speaks.

    Raises:
        FlagsError: who they are is not said, or only in part.
        RunError: they have not found each other.
    """
    who = {name: flags.FLAGS[name].value for name in _WHO if name in flags.FLAGS}
    missing = [name for name, value in who.items() if value is None]
    if not who or not flags.FLAGS.distributed:
        if len(missing) < len(who):
            raise FlagsError("--coordinator, --num_processes and --process_id go with --distributed")
        return
    if 0 < len(missing) < len(who):
        raise FlagsError(f"--{missing[0]} is missing: --coordinator, --num_processes and --process_id go together")
    if not missing:
        port = re.fullmatch(r".+:(\d{1,5})", who["coordinator"])
        if not port or not 1 <= int(port[1]) < 2**16:
            raise FlagsError(f"--coordinator={who['coordinator']}: should be HOST:PORT, the port from 1 to 65535")
        if who["process_id"] >= who["num_processes"]:
            raise FlagsError(f"--process_id={who['process_id']}: should be below --num_processes")
    _watch_over(str(flags.FLAGS.workdir))
    try:
        distributed.start(**who)
    except ValueError:
        raise FlagsError(
            "--distributed: nothing that JAX knows has started this process; "
            "give --coordinator=HOST:PORT, --num_processes=N and --process_id=I"
        ) from None
    except (RuntimeError, OSError) as error:
        raise RunError(f"--distributed: {_NOT_MET} ({_short(error)})") from error
    _tell_watcher(_MET)
    # What is below JAX prints to the standard output.
    out = os.dup(1) if distributed.is_first() else os.open(os.devnull, os.O_WRONLY)
    sys.stdout = os.fdopen(out, "w", errors=sys.stdout.errors)
    os.dup2(2, 1)
    if not distributed.is_first():
        logging.getLogger("jaxrnn").setLevel(logging.ERROR)


def is_shared() -> bool:
    """Whether this process is one of a job."""
    return jax.distributed.is_initialized()


def loss(error: BaseException | None) -> RunError | None:
    """What to say if JAX's or Orbax's error comes from another process that has been lost, else None."""
    return RunError(f"{_LOST} ({_short(error)})") if is_shared() and _SIGNS_OF_LOSS.search(str(error)) else None


def leave(code: int) -> NoReturn:
    """Ends this process and waits for nothing: neither for others, as JAX does at a regular end, nor for threads.

    Those of Orbax may wait minutes for what a full disk has kept others from.
    """
    say_goodbye()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _short(error: BaseException | None) -> str:
    return " ".join(str(error).split())[:200]


def _watch_over(workdir: str) -> None:
    """Lets a small process say what has happened if this one is ended from inside JAX, which can not say it itself.

    JAX ends a process without a word to Python when it has not heard from another one for a while.
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(reading)
        _watchers.append(writing)
        return
    os.close(writing)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    said = _NOT_MET
    while told := os.read(reading, 1):
        if told == _DONE:
            os._exit(0)
        said = _LOST
    sys.stderr.write(f"error: {workdir}: {said}\n")
    sys.stderr.flush()
    os._exit(0)


def say_goodbye() -> None:
    """Tells the watching process, where there is one, that this one ends on its own account."""
    _tell_watcher(_DONE)


def _tell_watcher(what: bytes) -> None:
    for pipe in _watchers:
        with contextlib.suppress(BrokenPipeError):
            os.write(pipe, what)
