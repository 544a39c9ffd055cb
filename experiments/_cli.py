"""The command line of all binaries, the only reader of flags: flags become sessions, errors become one clear line."""

import argparse
import ast
import contextlib
import dataclasses
import functools
import io
import itertools
import json
import logging
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

import absl.logging
from absl import app, flags
from ml_collections import config_flags

from experiments import _help, _job
from experiments._job import UsageError as UsageError
from jaxrnn.data.files import DataError, expand
from jaxrnn.rundir import session
from jaxrnn.rundir.checkpoint import CheckpointError
from jaxrnn.rundir.directory import Listener, RunError
from jaxrnn.rundir.fields import make_config, marked, no_such_field
from jaxrnn.rundir.initial import read_weights
from jaxrnn.rundir.session import Hooks
from jaxrnn.study.stats import FEW_SEEDS
from jaxrnn.study.study import Study
from jaxrnn.study.summary import summarize
from jaxrnn.training import processes, settings
from jaxrnn.training.cores import keep_programs, use_all_cores
from jaxrnn.training.definition import ConfigError
from jaxrnn.training.display import show_progress
from jaxrnn.training.signals import Interrupted

# The flags defined here count as those of the calling binary, so that --help shows them.
flags.disclaim_key_flags()

ROOT = Path(__file__).parents[1]
EXIT_INTERRUPTED = 75
"""EX_TEMPFAIL: saved, and to be started again. Since it is not 0, ``train && report`` does not go on."""
EXIT_LOST = 76
"""Another process of the job was lost: start the job again, unless that process said why not."""
EXIT_KILLED = 130
"""Ended by Ctrl-C, with nothing to save."""


# --- Binaries ---------------------------------------------------------------------------------------------------------


def main(study: Study) -> None:
    """The binary of a study: starts or resumes its runs as flags say, and prints the results."""
    _define_study_flags(study)
    run(lambda: _run_study(study))


def run(action: Callable[..., None], takes_arguments: bool = False) -> None:
    """Runs a binary; an error that the user can mend ends in one line and exit code 1 (files) or 2 (flags).

    Arguments that are not flags are passed to the action, or refused.

    The other exit codes are `EXIT_INTERRUPTED`, `EXIT_LOST` and `EXIT_KILLED`.
    """

    def guarded(argv: list[str]) -> None:
        _log_warnings()
        sys.unraisablehook = _show_unraisable
        use_all_cores()
        for name, value in settings.pin().items():
            logging.getLogger("jaxrnn").warning(
                "%s=%s has no effect here: results are the same without it", name.upper(), value
            )
        if "data_dir" in flags.FLAGS and flags.FLAGS.data_dir:
            os.environ["JAXRNN_DATA_DIR"] = str(expand(flags.FLAGS.data_dir))
        try:
            _job.join()
            keep_programs()
            action(*argv[1:])
            sys.stdout.flush()
        except BrokenPipeError:  # The reader has seen enough, as `head` has.
            os._exit(1)
        except KeyboardInterrupt:
            _exit_with_line("interrupted", EXIT_KILLED)
        except Exception as error:
            _exit_if_mendable(error)
            if _job.is_shared():
                traceback.print_exception(error)
                _job.leave(1)
            raise
        finally:
            _job.say_goodbye()

    # A character that a terminal cannot show should not end hours of work.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="backslashreplace")
    flags.FLAGS.set_gnu_getopt(takes_arguments)
    app.run(guarded, flags_parser=functools.partial(_parse, takes_arguments))


def _show_unraisable(error: Any) -> None:
    # TensorStore says so for each array after the first that a full disk has refused; our one line is about the first.
    if str(error.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(error)


def _exit_if_mendable(error: Exception) -> None:
    """Ends the process with one line about the error, if it is one that a user can mend."""
    if isinstance(error, ConfigError):
        _exit_with_line(_config_line(error), 2)
    if isinstance(error, UsageError | RunError | DataError):
        _exit_with_line(error, 2 if isinstance(error, UsageError) else 1)
    if session.is_out_of_memory(error):
        _exit_with_line(f"out of memory; use smaller sizes ({' '.join(str(error).split())[:200]})", 1)
    if lost := _job.lost_process_message(error.__cause__ if isinstance(error, CheckpointError) else error):
        _exit_with_line(lost, EXIT_LOST)
    if isinstance(error, CheckpointError):
        _exit_with_line(error, 1)


def _exit_with_line(error: Exception | str, code: int) -> NoReturn:
    # One line, whatever the user's own text in it is.
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(error))
    sys.stderr.write(f"error: {line}\n")
    _job.leave(code)


def _config_line(error: ConfigError) -> str:
    """The error about a field, with its value as it was typed, if it was."""
    swept = [f"--sweep={one}" for one in flags.FLAGS.flag_values_dict().get("sweep", ())]
    swept = [one for one in swept if one.startswith(f"--sweep={error.field}=")]
    typed = [one for one in sys.argv if one.startswith((f"--config.{error.field}=", f"--{error.field}="))]
    if swept and not isinstance(error.value, list):
        return f"{swept[0]}: {error.value}: {error.reason}"
    # If a flag is given twice, the last one counts.
    return f"{[*swept, *typed[-1:], f'--config.{error.field}={error.value}'][0]}: {error.reason}"


def interrupted(how: str) -> NoReturn:
    """Ends the process after an interruption; `how` says how to go on."""
    if processes.is_first():
        sys.stderr.write(f"saved; go on with {how}\n")
    sys.exit(EXIT_INTERRUPTED)


def _log_warnings() -> None:
    """Shows the library's warnings as plain lines; ``--verbosity`` also shows Orbax's own pages of them."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("warning: %(message)s"))
    library = logging.getLogger("jaxrnn")
    library.addHandler(handler)
    library.setLevel(logging.WARNING)
    library.propagate = False
    if not flags.FLAGS["verbosity"].present:
        absl.logging.set_verbosity(absl.logging.FATAL)


# --- Flags ------------------------------------------------------------------------------------------------------------


def _define_study_flags(study: Study) -> None:
    _arrange_arguments(study)
    sys.modules["__main__"].__doc__ = _help.usage(study)  # --help begins with it.
    config_flags.DEFINE_config_file("config", None, "Config file, or FILE:VARIANT; by default that of the study.")
    flags.DEFINE_string("workdir", None, "Directory of the runs; it is created, and refused if it already holds runs.")
    growing, changeable = (", ".join(marked(study.config, mark)) for mark in ("Growing", "Changeable"))
    may = f"; {growing} may grow" + (f", {changeable} may change" if changeable else "")
    flags.DEFINE_bool("resume", False, f"Resume the runs in --workdir with their own config{may}.")
    flags.DEFINE_multi_string(
        "sweep",
        [],
        "FIELD=A,B,C: make runs with each of these values of a field, which may be any but bookkeeping. If given "
        "several times, make runs with each combination. Values with commas are JSON: FIELD=[1,2],[3]",
    )
    flags.DEFINE_string(
        "init_from",
        None,
        "DIR or DIR:RUN, where RUN is a part of the runs' names: start from the weights with which these runs were "
        "tested. With several runs, each seed takes the weights of the same seed; a single run serves all seeds.",
    )
    flags.DEFINE_bool("print_config", False, "Show the whole setting, swept fields too, and run nothing.")
    flags.DEFINE_bool("tensorboard", False, "Also write the metrics as TensorBoard events, into WORKDIR/tensorboard.")
    define_data_dir()
    _job.define_flags()


def define_data_dir() -> None:
    """The flag ``--data_dir``."""
    flags.DEFINE_string("data_dir", None, "Directory of data files; JAXRNN_DATA_DIR by default.")


def define_chosen_run() -> None:
    """The flags ``--run`` and ``--run_seed``."""
    flags.DEFINE_string("run", None, "The run by its name in results.json, or a part of it, such as cell=gru.")
    flags.DEFINE_integer("run_seed", None, "The run by its seed, where the directory holds several.")


def define_step() -> None:
    """The flag ``--step``."""
    flags.DEFINE_string("step", None, "Step of saved weights, or best for the lowest validation loss; else the newest.")
    flags.register_validator("step", lambda x: x in (None, "best") or x.isdecimal(), "should be a whole number or best")


def chosen_step() -> int | Literal["best"] | None:
    """The value of ``--step``, as `jaxrnn.load` takes it."""
    step = flags.FLAGS.step
    return int(step) if step and step != "best" else step


def workdir() -> Path:
    """``--workdir``, which every run needs."""
    if not flags.FLAGS.workdir:
        raise UsageError("--workdir=DIR is needed: the directory of the runs")
    return expand(flags.FLAGS.workdir)


def chosen_run() -> str | None:
    """The run of ``--run`` and ``--run_seed``, as `jaxrnn.load` takes it; None if neither is given."""
    seed = flags.FLAGS.run_seed
    parts = [*([] if seed is None else [f"seed={seed}"]), *([flags.FLAGS.run] if flags.FLAGS.run else [])]
    return ",".join(parts) or None


def _arrange_arguments(study: Study) -> None:
    """Expands flag files into `sys.argv` and puts the last ``--config`` first, since it defines the flags of fields."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", "-config", default=_help.config_module(study).__file__)
    names = [field.name for field in dataclasses.fields(study.config)]
    try:
        given, rest = parser.parse_known_args(flags.FLAGS.read_flags_from_files(sys.argv[1:]))
        file = given.config.partition(":")[0]  # A variant follows the colon.
        if not Path(file).is_file():
            raise UsageError(f"--config={given.config}: there is no file {file!r}")
        for flag in (argument.partition("=")[0] for argument in rest):
            name = flag.removeprefix("--config.")
            if name not in (flag, *names):
                raise UsageError(f"{flag}: {no_such_field(name, names)}")
    except (flags.Error, argparse.ArgumentError, UsageError) as error:
        _exit_with_line(error, 2)
    sys.argv[1:] = [f"--config={given.config}", *rest]


def _parse(takes_arguments: bool, argv: list[str]) -> list[str]:
    """Parses flags; a bad flag, or an argument where none is taken, ends in one line and exit code 2."""
    try:
        rest: list[str] = flags.FLAGS(argv)
        _refuse_flags_as_values(argv)
    except SystemExit:  # After --help, with absl's code 1.
        sys.exit(0)
    except (flags.Error, UsageError) as error:
        # A config file's own error comes with its traceback, whose last line says what it is.
        lines = str(error).strip().splitlines()
        _exit_with_line(" ".join(dict.fromkeys((lines[0], lines[-1]))), 2)
    except Exception as error:  # A config file is a program: it may raise anything.
        _exit_with_line(f"--config: {' '.join(str(error).split())}", 2)
    if len(rest) > 1 and not takes_arguments:
        _exit_with_line(f"unexpected argument {rest[1]!r}: everything is given as --NAME=VALUE", 2)
    return rest


def _refuse_flags_as_values(argv: list[str]) -> None:
    """Refuses a flag without its value, which would take the next flag as its value."""
    for argument, following in itertools.pairwise(argv):
        name = argument.lstrip("-")
        if following.startswith("--") and name != argument and name in flags.FLAGS and not flags.FLAGS[name].boolean:
            raise UsageError(f"{argument}: needs a value, as in {argument}=VALUE; it was followed by {following}")


def _sweep() -> dict[str, list[Any]]:
    """The values of each field that ``--sweep`` names."""
    found: dict[str, list[Any]] = {}
    for given in flags.FLAGS.sweep:
        name, equals, values = given.partition("=")
        if not equals or not values or name in found:
            raise UsageError(f"--sweep={given}: should be FIELD=A,B,C, once for each field")
        found[name] = _values(values)
    return found


def _values(text: str) -> list[Any]:
    """The values that commas divide, read as JSON or Python, or else as texts."""
    for parse in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError):
            return list(parse(f"[{text}]"))
    return [value for part in text.split(",") for value in _values(part)] if "," in text else [text]


# --- A study ----------------------------------------------------------------------------------------------------------


def _run_study(study: Study) -> None:
    if flags.FLAGS.init_from and (flags.FLAGS.resume or study.build is None):
        reason = "its runs have the weights already" if flags.FLAGS.resume else "this study trains nothing"
        raise UsageError(f"--init_from={flags.FLAGS.init_from}: leave it out; {reason}")
    if flags.FLAGS.print_config:
        if flags.FLAGS.resume:
            raise UsageError(
                "--print_config: cannot be used with --resume; WORKDIR/config.json has the setting of its runs"
            )
        print(_help.show_setting(study, make_config(study.config, flags.FLAGS.config.to_dict()), _sweep()))
        return
    path, sweep = workdir(), _sweep()
    try:
        with show_progress() as progress, _listener(path) as listener:
            hooks = Hooks(progress, listener)
            if flags.FLAGS.resume:
                changes = config_flags.get_override_values(flags.FLAGS["config"])
                session.resume(study, path, changes, sweep, hooks)
            else:
                config = make_config(study.config, flags.FLAGS.config.to_dict())
                weights = read_weights(str(expand(flags.FLAGS.init_from))) if flags.FLAGS.init_from else None
                session.start(study, config, path, sweep, hooks, weights)
    except Interrupted:
        interrupted(_resuming(study, path))
    _print_end(study, path)


def _resuming(study: Study, path: Path, *more: str) -> str:
    """The command that resumes runs."""
    given = [f"--data_dir={flags.FLAGS.data_dir}"] if flags.FLAGS.data_dir else []
    given += ["--tensorboard"] if flags.FLAGS.tensorboard else []
    return shlex.join(["python", "-m", f"experiments.{study.name}", "--resume", f"--workdir={path}", *more, *given])


def _print_end(study: Study, path: Path) -> None:
    """Prints the results, where they are, and the next commands."""
    print(*summarize(study, path), sep="\n")
    print(f"Results: {path / 'results.json'}")
    page = shlex.join(["python", "-m", "experiments.report", f"--runs={path}", "--archive=none"])
    print(f"Page of them, with curves and differences: {page}")
    if study.build and session.read_record(path, study.name)["config"]["num_seeds"] < FEW_SEEDS:
        print(f"More seeds: {_resuming(study, path, f'--config.num_seeds={FEW_SEEDS}')}")


def _listener(path: Path) -> contextlib.AbstractContextManager[Listener | None]:
    if not flags.FLAGS.tensorboard:
        return contextlib.nullcontext()
    try:
        from jaxrnn.rundir.events import record_events
    except ImportError as error:
        reason = "tensorboardX is not installed; pip install -e '.[tensorboard]' installs it"
        raise UsageError(f"--tensorboard: {reason}") from error
    return record_events(path)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints the rows in columns below their heads."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
