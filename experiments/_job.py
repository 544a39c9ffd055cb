"""A binary as one of several processes that train together: its flags, how they meet, what it says if one is lost."""

import logging
import os
import re
import subprocess
import sys
from typing import Any, NoReturn

import jax
from absl import flags

from jaxrnn.rundir.directory import RunError
from jaxrnn.training import processes

flags.disclaim_key_flags()

_LOST = (
    "a process of this job has been lost, or not been found at the coordinator; "
    "nothing that was saved is lost: start all processes again, with --resume"
)
_SIGNS_OF_LOSS = re.compile("Gloo|NCCL|heartbeat|[Bb]arrier|Coordination|Socket closed")
"""Words in JAX's errors where another process does not answer."""
_WHO = ("coordinator", "num_processes", "process_id")
_WATCH = 'trap "" INT TERM; read -r goodbye || echo "error: $0: $1" >&2'
_watchers: list[subprocess.Popen[bytes]] = []
"""The processes that say what has happened if JAX ends this one without a word to Python."""


class UsageError(Exception):
    """Flags that cannot be used; the message is for the user."""


def define_flags() -> None:
    """``--distributed``, and the flags that say which process this is."""
    flags.DEFINE_bool(
        "distributed",
        False,
        "This is one of several processes that train together, started by Slurm, Open MPI, Kubernetes or Cloud TPU, or "
        "described by the next three flags. Another number of processes can resume the runs.",
    )
    flags.DEFINE_string("coordinator", None, "HOST:PORT on the machine of process 0; the port must be free.")
    flags.DEFINE_integer("num_processes", None, "How many processes there are.", lower_bound=1)
    flags.DEFINE_integer("process_id", None, "Which of the processes this is, from 0.", lower_bound=0)


def join() -> None:
    """Meets the other processes, if flags ask for it; from then on, only the first one speaks.

    Raises:
        UsageError: the flags do not say who the processes are.
        RunError: they have not found each other.
    """
    if "distributed" not in flags.FLAGS:
        return
    who: dict[str, Any] = {name: flags.FLAGS[name].value for name in _WHO}
    is_told = any(value is not None for value in who.values())
    if not flags.FLAGS.distributed:
        if is_told:
            raise UsageError("--coordinator, --num_processes and --process_id go with --distributed")
        return
    if is_told and not re.fullmatch(r".+:[1-9]\d{0,4}", str(who["coordinator"])):
        raise UsageError(f"--coordinator={who['coordinator']}: should be HOST:PORT")
    _watchers.append(subprocess.Popen(["sh", "-c", _WATCH, str(flags.FLAGS.workdir), _LOST], stdin=subprocess.PIPE))
    try:
        processes.start(**who)
    except ValueError as error:
        raise UsageError(
            f"--distributed: {_short(error)}; give --coordinator=HOST:PORT, --num_processes=N and --process_id=I"
        ) from error
    except (RuntimeError, OSError) as error:
        raise RunError(f"--distributed: {_LOST} ({_short(error)})") from error
    # Libraries below JAX print to the standard output.
    out = os.dup(1) if processes.is_first() else os.open(os.devnull, os.O_WRONLY)
    sys.stdout = os.fdopen(out, "w", errors=sys.stdout.errors)
    os.dup2(2, 1)
    if not processes.is_first():
        logging.getLogger("jaxrnn").setLevel(logging.ERROR)


def is_shared() -> bool:
    """Whether this process is one of a job."""
    return jax.distributed.is_initialized()


def lost_process_message(error: BaseException | None) -> str | None:
    """What to say if JAX's or Orbax's error comes from another process that has been lost, else None."""
    return f"{_LOST} ({_short(error)})" if is_shared() and _SIGNS_OF_LOSS.search(str(error)) else None


def leave(code: int) -> NoReturn:
    """Ends this process without waiting for threads or for other processes; at a regular end, JAX waits for these.

    Threads of Orbax may wait for minutes if a full disk has stopped others.
    """
    say_goodbye()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _short(error: BaseException | None) -> str:
    return " ".join(str(error).split())[:200]


def say_goodbye() -> None:
    """Tells the watching process, where there is one, that this one ends on purpose."""
    for watcher in _watchers:
        watcher.communicate(b"goodbye\n")
    _watchers.clear()
