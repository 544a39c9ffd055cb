"""The binaries as processes that start at once: forked from one that has imported what all of them import."""

import itertools
import multiprocessing
import os
import re
import runpy
import subprocess
import sys
from multiprocessing import forkserver
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Compiling well is most of what short runs would take.
_QUICK = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
# Other tests keep the other cores busy, so no program is split to be compiled in parallel.
QUICK_XLA = "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters --xla_cpu_parallel_codegen_split_count=1"
# Lines of files lie in an order that the number of devices has a say in.
_DEVICES = "--xla_force_host_platform_device_count={}"
_IMPORTED = ["jaxrnn.rundir.session", "jaxrnn.nn.sequence", "ml_collections.config_flags", "pydantic"]
_IMPORTED += ["jaxrnn.data.planetoid", "scipy.stats", "tqdm"]


def devices(count):
    """The environment of a process with so many CPU devices, whatever the machine has."""
    return {"XLA_FLAGS": f"{_DEVICES.format(count)} {QUICK_XLA}"}


def as_users(count):
    """The same, with all of XLA's optimizations."""
    return {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": _DEVICES.format(count)}


def command_line(binary, *arguments, **fields):
    """As a user gives it, for a Python that starts from nothing."""
    return [sys.executable, "-m", f"experiments.{binary}", *_flags(arguments, fields)]


def _flags(arguments, fields):
    return [*map(str, arguments), *(f"--config.{name}={value}" for name, value in fields.items())]


def messages(stderr):
    """Its lines but those about the progress, which what takes seconds on a busy machine writes."""
    return [line for line in stderr.splitlines() if not re.match(r"(step \d+/\d+, .*)?\d+/\d+ runs finished", line)]


class Started:
    """A process of a binary; once it has ended, `stdout` and `stderr` can be read."""

    def __init__(self, log, binary, flags, environment):
        self._files = [log.with_suffix(suffix) for suffix in (".out", ".err")]
        context = multiprocessing.get_context("forkserver")
        args = (f"experiments.{binary}", flags, environment, self._files)
        self._process = context.Process(target=_become, args=args, daemon=True)
        self._process.start()
        self.kill, self.terminate, self.poll = self._process.kill, self._process.terminate, lambda: self.returncode

    @property
    def returncode(self):
        return self._process.exitcode

    def wait(self):
        self._process.join()
        return self.returncode

    @property
    def stdout(self):
        return self._files[0].read_text(encoding="utf-8")

    @property
    def stderr(self):
        return self._files[1].read_text(encoding="utf-8")


def _become(module, flags, environment, files):
    for descriptor, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.argv[1:] = flags
    from jaxrnn.rundir import recorder
    from jaxrnn.training import display

    recorder.SAVE_SECONDS = 0.0  # Else runs that take seconds would never be killed between two checkpoints.
    display.FIRST_SECONDS = display.MOST_SECONDS  # Else a busy machine would write lines about progress.
    runpy.run_module(module, run_name="__main__", alter_sys=True)


class Binaries:
    """Starts binaries that share a cache of compiled programs in `folder`."""

    def __init__(self, folder):
        self.environment = {**os.environ, **_QUICK, **devices(2), "JAXRNN_CACHE_DIR": str(folder / "cache")}
        self._logs = (folder / str(number) for number in itertools.count())
        multiprocessing.get_context("forkserver").set_forkserver_preload(_IMPORTED)
        before = dict(os.environ)
        os.environ.update(self.environment)
        forkserver.ensure_running()
        os.environ.clear()
        os.environ.update(before)

    def start(self, binary, *arguments, environment=(), **fields):
        """A process with ``--config.FIELD=VALUE`` for the fields, and variables of its own.

        What JAX has read when it was imported, such as JAX_NUM_CPU_DEVICES, comes too late here.
        """
        return Started(next(self._logs), binary, _flags(arguments, fields), dict(environment))

    def run(self, binary, *arguments, environment=(), **fields):
        """`start`, to its end."""
        started = self.start(binary, *arguments, environment=environment, **fields)
        started.wait()
        return started

    def run_anew(self, binary, *arguments, **fields):
        """A Python that starts from nothing, to its end."""
        command = command_line(binary, *arguments, **fields)
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=self.environment, check=False)
