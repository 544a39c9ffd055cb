"""Reads each command line of standard input as its binary does, and runs nothing: a program of its own.

A study also refuses a setting that it cannot have, if it needs no file and nothing that is not installed. Writes a line
for each command that is refused, and a last line.
"""

import contextlib
import importlib
import importlib.util
import io
import os
import runpy
import shlex
import sys
import warnings

import absl.app

import experiments
from experiments import report

# What no setting can be made from here: runs and data that are not there.
ABSENT = ("--resume", "--config.trained=", "--config.dataset=", "--config.corpus=")
if importlib.util.find_spec("sklearn") is None:
    ABSENT = (*ABSENT, "--config=configs/nodes.py:digits")


def read(module, arguments):
    """Ends this process, a child, with the code of the binary."""
    settles = not any(one.startswith(ABSENT) for one in arguments)
    study = getattr(importlib.import_module(module), "STUDY", None) if settles else None
    if study and not (study.needs and importlib.util.find_spec(study.needs) is None):
        arguments = [*arguments, "--print_config"]
    else:
        absl.app.run = lambda main, flags_parser: flags_parser(sys.argv)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def outcome(module, arguments):
    """What a child says on its standard error, if it refuses."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(writer, 2)
        code = 1
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                read(module, arguments)
                code = 0
            except SystemExit as end:
                code = end.code or 0
        sys.stderr.flush()
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as errors:
        said = errors.read()
    return said if os.waitpid(child, 0)[1] else ""


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    experiments.__path__.append("examples")
    report.find_studies()
    for line in sys.stdin:
        module, *arguments = shlex.split(line)
        if refused := outcome(module, arguments):
            print(f"{line.strip()}: {refused.strip()}")
    print("all read")
