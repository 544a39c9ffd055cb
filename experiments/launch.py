"""What all experiment binaries share: flags to a validated config, new and resumed runs, errors as one clear line."""

import contextlib
import dataclasses
import difflib
import functools
import importlib.util
import io
import json
import logging
import math
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import absl.logging
import jax
import numpy as np
import pydantic
from absl import app, flags
from ml_collections import config_flags

from experiments import job
from jaxrnn import __version__
from jaxrnn.data.files import DataError
from jaxrnn.rundir.checkpoint import CheckpointError
from jaxrnn.rundir.directory import RunDirectory, RunError, environment, read_config
from jaxrnn.rundir.events import Events
from jaxrnn.training import processes as distributed
from jaxrnn.training.loop import Interrupted, Study, train
from jaxrnn.training.seeds import devices_each, product

ROOT = Path(__file__).parents[1]
EXIT_INTERRUPTED = 75
"""EX_TEMPFAIL: saved, and to be started again, so that ``train && report`` does not go on."""
EXIT_LOST = 76
"""Another process of the job was lost: to be started again unless that one said why it should not."""
EXIT_KILLED = 130
"""By Ctrl-C, where there was nothing to save."""

# Its flags are those of the binary that calls it, so that --help shows them.
flags.disclaim_key_flags()

# What --resume may change. With several lanes in a program, `chunk_steps` also moves lines of metrics.jsonl. A text may
# have moved, since its digest is compared.
_GROWING = ("max_steps", "num_seeds")
_ARRANGING = ("chunk_steps", "data_devices")
_HARMLESS = (*_ARRANGING, "corpus")
_DEVICE_FLAG = "xla_force_host_platform_device_count"
_PATIENCE_FLAG = "xla_cpu_collective_call_terminate_timeout_seconds"
_DIVIDED_BATCH = 64
_OUT_OF_MEMORY = re.compile("RESOURCE_EXHAUSTED|Out of memory")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_OLD_QUOTA = (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))
_HELP = ("--help", "-help", "--helpshort", "--helpfull", "--helpxml", "-h", "-?")


class UsageError(Exception):
    """Flags that cannot be used; the message is for the user."""


class OutOfMemoryError(RunError):
    """What was asked for does not fit; the message is for the user."""


def run_main(main: Callable[[list[str]], None]) -> None:
    """Runs a binary; errors that are the user's to mend end in one line and exit code 1 (files) or 2 (flags).

    The other codes are `EXIT_INTERRUPTED`, `EXIT_LOST` and `EXIT_KILLED`.
    """

    def guarded(argv: list[str]) -> None:
        _log_warnings()
        use_all_cores()
        sys.unraisablehook = _unraisable
        # What a terminal cannot show should not end hours of work.
        if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            job.join()
            main(argv)
            sys.stdout.flush()
        except BrokenPipeError:  # The reader has seen enough, as `head` has; what is left would fail again at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            job.leave(1)
        except KeyboardInterrupt:
            _fail("interrupted", EXIT_KILLED)
        except Exception as error:
            if isinstance(error, UsageError | job.FlagsError):
                _fail(error, 2)
            if isinstance(error, RunError | DataError):
                _fail(error, 1)
            if lost := job.loss(error.__cause__ if isinstance(error, CheckpointError) else error):
                _fail(lost, EXIT_LOST)
            if isinstance(error, CheckpointError):
                _fail(error, 1)
            if job.is_shared():
                traceback.print_exception(error)
                job.leave(1)
            raise
        finally:
            job.say_goodbye()

    app.run(guarded, flags_parser=_parse)


def _unraisable(event: Any) -> None:
    """Leaves out what Orbax's futures say of their closed loop after a failed write; the failure itself is raised."""
    if "Event loop is closed" not in str(event.exc_value):
        sys.__unraisablehook__(event)


def _log_warnings() -> None:
    """Shows what the library warns of, as plain lines; Orbax's own pages come with ``--verbosity``."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("warning: %(message)s"))
    library = logging.getLogger("jaxrnn")
    library.addHandler(handler)
    library.setLevel(logging.WARNING)
    library.propagate = False
    if not flags.FLAGS["verbosity"].present:
        absl.logging.set_verbosity(absl.logging.FATAL)


def _fail(error: Exception | str, code: int) -> NoReturn:
    # One line, whatever the user's own words in it are.
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(error))
    sys.stderr.write(f"error: {line}\n")
    job.leave(code)


def _parse(argv: list[str]) -> list[str]:
    """Parses flags; a bad one, or an argument that is not a flag, is one line and exit code 2."""
    asked = ["--help" if arg == "-h" else arg for arg in argv[1:] if arg in _HELP]
    if asked:
        try:
            flags.FLAGS([argv[0], *asked])
        except SystemExit:  # With absl's code, 1.
            sys.exit(0)
    try:
        if "config" in flags.FLAGS:
            _refuse_unknown_fields()
        rest: list[str] = flags.FLAGS(argv)
        if "config" in flags.FLAGS:
            flags.FLAGS.config.to_dict()  # A file that could not be read fails here.
    except (flags.Error, UsageError) as error:
        # A config file's own error comes with its traceback, whose last line says what it is.
        lines = str(error).strip().splitlines()
        _fail(UsageError(" ".join(dict.fromkeys((lines[0], lines[-1])))), 2)
    except Exception as error:  # A config file is a program: it may raise anything.
        _fail(UsageError(f"--config: {' '.join(str(error).split())}"), 2)
    if len(rest) > 1:
        _fail(UsageError(f"unexpected argument {rest[1]!r}: everything is given as --NAME=VALUE"), 2)
    return rest


# --- The config -------------------------------------------------------------------------------------------------------


def define_flags(config_file: str, schema: type[Any]) -> None:
    """The flags of a training binary: ``--config``, by default `config_file`, ``--workdir`` and ``--resume``."""
    # As an argument, not as the flag's default: errors then come when flags are parsed, and not here.
    if "config" not in _arguments():
        sys.argv.insert(1, f"--config={ROOT / 'configs' / config_file}")
    fields = "".join(
        f"\n  {name}={field.default!r}: {field.description}" for name, field in schema.__pydantic_fields__.items()
    )
    try:
        config_flags.DEFINE_config_file("config", None, f"Config file. --config.FIELD=VALUE sets a field:{fields}")
    except flags.Error as error:  # It reads a --flagfile at once.
        _fail(error, 2)
    flags.FLAGS["config"].schema = schema
    flags.DEFINE_string("workdir", None, "Directory of the run: created, and refused if it holds a run already.")
    growing, harmless = (
        ", ".join(name for name in names if name in schema.__pydantic_fields__) for names in (_GROWING, _HARMLESS)
    )
    may = f"; {growing} may grow" + (f", {harmless} may change" if harmless else "")
    flags.DEFINE_bool("resume", False, f"Go on with the run in --workdir, with its own config{may}.")


def define_training_flags() -> None:
    """The flags of a binary that trains: ``--tensorboard``, and those for several processes."""
    flags.DEFINE_bool("tensorboard", False, "Also write the metrics as TensorBoard events, into WORKDIR/tensorboard.")
    job.define_flags()


def _arguments() -> dict[str, str]:
    """The flags on the command line as they were typed, by name; the text is empty where it stands apart."""
    return {
        name: text for name, _, text in (arg.lstrip("-").partition("=") for arg in sys.argv[1:] if arg.startswith("-"))
    }


def _refuse_unknown_fields() -> None:
    names = [field.name for field in dataclasses.fields(flags.FLAGS["config"].schema)]
    for argument in _arguments():
        config, _, name = argument.partition(".")
        if config in ("config", "noconfig") and name and name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
            raise UsageError(f"--{argument}: there is no such field; {hint}")


def define_data_dir() -> None:
    """The flag ``--data_dir``."""
    flags.DEFINE_string("data_dir", None, "Where data are looked for that need a file; JAXRNN_DATA_DIR by default.")


def data_dir() -> Path | None:
    """Where the user keeps data, by ``--data_dir`` or ``JAXRNN_DATA_DIR``; None where neither is given."""
    path = _given_data_dir() or os.environ.get("JAXRNN_DATA_DIR")
    return Path(path) if path else None


def _given_data_dir() -> str | None:
    return flags.FLAGS["data_dir"].value if "data_dir" in flags.FLAGS else None


def define_chosen_run() -> None:
    """The flags ``--run`` and ``--run_seed``."""
    flags.DEFINE_string("run", None, "The run by its name in results.json, or a part of it, such as learning_rate=0.1.")
    flags.DEFINE_integer("run_seed", None, "The run by its seed, where the directory holds several.")


def chosen_run() -> str | None:
    """By ``--run`` and ``--run_seed``, what `jaxrnn.load` takes as a run; None where neither is given."""
    seed = flags.FLAGS.run_seed
    parts = [*([] if seed is None else [f"seed={seed}"]), *([flags.FLAGS.run] if flags.FLAGS.run else [])]
    return ",".join(parts) or None


def given_fields() -> dict[str, Any]:
    """The config fields that stand on the command line."""
    return dict(config_flags.get_override_values(flags.FLAGS["config"]))


def workdir() -> Path:
    """``--workdir``, which every run needs."""
    if not flags.FLAGS.workdir:
        raise UsageError("--workdir=DIR is needed: the directory that the run writes to")
    if not flags.FLAGS.workdir.isprintable():
        raise UsageError(f"--workdir={flags.FLAGS.workdir}: should have printable characters only")
    return Path(flags.FLAGS.workdir)


def validate(schema: type[Any], fields: dict[str, Any]) -> Any:
    """The frozen config from plain values, or a UsageError that names the flag, its value and what would be right."""
    try:
        return schema(**fields)
    except pydantic.ValidationError as error:
        # A tuple with a bad item also complains about itself: the deepest complaint says most.
        first = max(error.errors(), key=lambda e: len(e["loc"]))
    field = str(first["loc"][0])
    if first["type"] == "unexpected_keyword_argument":
        raise UsageError(f"the config has a field {field!r}, which this experiment does not know")
    raise bad_value(field, fields.get(field), f"{first['msg'][0].lower()}{first['msg'][1:]}")


def bad_value(field: str, value: Any, reason: str) -> UsageError:
    """The error about a field's value, as it was typed where it was."""
    return UsageError(f"--config.{field}={_arguments().get(f'config.{field}') or value}: {reason}")


def choice(field: str, value: str, names: Sequence[str]) -> None:
    """Refuses a value that is not one of `names`."""
    if value not in names:
        raise bad_value(field, value, f"should be one of {', '.join(names)}")


def check_runs(config: Any) -> None:
    """Refuses what no experiment can run: seeds, learning rates and a precision that do not exist."""
    choice("precision", config.precision, ("highest", "high", "default"))
    if config.first_seed + config.num_seeds > 2**31:
        raise bad_value("first_seed", config.first_seed, "all seeds should stay below 2**31")
    if len({np.float32(rate) for rate in config.learning_rate}) < len(config.learning_rate):
        raise bad_value("learning_rate", config.learning_rate, "has the same value twice")


class Experiment(NamedTuple):
    """A kind of run.

    Attributes:
        name: as ``config.json`` has it.
        schema: the config's dataclass; it has `num_seeds`, `first_seed`, `learning_rate` and `precision`.
        check: raises UsageError for what the schema cannot know.
        prepare: gets ready for a config, and returns what then does the work in the run's directory, new or resumed,
            and returns the rows of ``results.json``; `trains` makes it of a study.
        data: what ``config.json`` says of the data of a config, under "data"; a resumed run must find the same.
        finish: called with the run's directory and its rows of ``results.json`` once it is complete; in every process,
            since all take part in reading checkpoints.
    """

    name: str
    schema: type[Any]
    check: Callable[[Any], None]
    prepare: Callable[[Any], Callable[[RunDirectory], list[dict[str, Any]]]]
    data: Callable[[Any], dict[str, Any]] = lambda config: {}
    finish: Callable[[Path, list[dict[str, Any]]], None] = lambda path, rows: None


def trains(build_study: Callable[[Any], Study]) -> Callable[[Any], Callable[[RunDirectory], list[dict[str, Any]]]]:
    """An `Experiment.prepare` that trains the study of a config, a lane for each seed and learning rate."""

    def prepare(config: Any) -> Callable[[RunDirectory], list[dict[str, Any]]]:
        lanes = product(range(config.first_seed, config.first_seed + config.num_seeds), config.learning_rate)
        with memory_errors():
            study = build_study(config)
        _refuse_too_large(study, len(lanes))
        return functools.partial(train, study, lanes)

    return prepare


def _refuse_too_large(study: Study, lanes: int) -> None:
    """Refuses a study whose training state alone is more than there is memory."""
    state = jax.eval_shape(study.trainer.init, *(jax.ShapeDtypeStruct((), kind) for kind in ("int32", "float32")))
    together = min(lanes, study.seeds_per_program)
    copies = together * devices_each(together, study.trainer.parts, study.data_devices)
    needed = copies * sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    there = _memory()
    if needed > there:
        raise UsageError(
            f"the training state of {together} runs at a time takes {needed / 1e9:.3g} GB, and there are "
            f"{there / 1e9:.3g} GB; take a smaller model or a smaller --config.seeds_per_program"
        )


def _memory() -> int:
    """Bytes of all devices together."""
    statistics = [device.memory_stats() or {} for device in jax.local_devices()]
    limits = [int(found["bytes_limit"]) for found in statistics if "bytes_limit" in found]
    if limits:
        return sum(limits) * jax.process_count()
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *memory_limits()]) * jax.process_count()


def memory_limits() -> list[int]:
    """Bytes that the container that this process is in may take, if it says."""
    found = [path.read_text().strip() for path in _LIMITS if path.exists()]
    return [int(limit) for limit in found if limit != "max"]


def launch(experiment: Experiment, given: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Starts or resumes the run that the flags ask for, to its end, and returns the rows of results.json.

    Args:
        experiment: its kind.
        given: fields that other flags than ``--config.FIELD`` gave.
    """
    path, given = workdir(), given or {}
    if _asked_for_events() and not importlib.util.find_spec("tensorboardX"):
        raise UsageError("--tensorboard: tensorboardX is not installed; pip install -e '.[tensorboard]' installs it")
    fields = {**flags.FLAGS.config.to_dict(), **given}
    if flags.FLAGS.resume:
        fields = _resumed_fields(experiment, saved_fields((experiment.name,), path), {**given_fields(), **given})
    try:
        return run(experiment, _config(experiment, fields), path, resume=flags.FLAGS.resume)
    except Interrupted:
        given_dir = _given_data_dir()
        more = f" --data_dir={given_dir}" if given_dir else ""
        interrupted(f"--resume --workdir={path}{more}" + (" --tensorboard" if _asked_for_events() else ""))


def ensure(experiment: Experiment, fields: dict[str, Any], path: Path) -> None:
    """Sees to it that the run with these `fields` is in `path`: starts it, goes on with it, or finds it complete.

    A complete run with more seeds has it, too. One that is there keeps how its steps and batches are arranged.

    Raises:
        RunError: it holds another one, and this is not that with more steps or seeds.
    """
    fields = {**dataclasses.asdict(experiment.schema()), **fields}
    if not (path / "config.json").exists():
        run(experiment, _config(experiment, fields), path, resume=False)
        return
    saved = dataclasses.asdict(saved_config(experiment, path))
    config = _config(experiment, {**fields, **{name: saved[name] for name in _ARRANGING if name in saved}})
    now = dataclasses.asdict(config)
    changed = {name for name, value in now.items() if saved[name] != value}
    if is_complete(path) and changed <= {"num_seeds"} and saved["num_seeds"] >= now["num_seeds"]:
        use_compilation_cache()
        # Anew, as it may have been interrupted just before this.
        experiment.finish(path, json.loads((path / "results.json").read_text())["runs"])
        return
    if not changed <= {*_GROWING} or any(now[name] < saved[name] for name in changed):
        raise RunError(f"{path}: holds a run with another config: {_difference(saved, now)}; take another --workdir")
    run(experiment, config, path, resume=True)


def run(experiment: Experiment, config: Any, path: Path, *, resume: bool) -> list[dict[str, Any]]:
    """Carries out a run with a valid config, in a new directory or going on in one.

    Raises:
        Interrupted, RunError, CheckpointError: as in `jaxrnn.training.loop.train`.
    """
    use_compilation_cache()
    found = record(experiment.name, dataclasses.asdict(config))
    if data := experiment.data(config):
        found["data"] = data
    if resume:
        saved = read_config(path)
        if (before := saved.get("data", {})) != data:
            raise RunError(f"{path}: the run was started on other data: {_difference(before, data)}")
        found |= _origin(saved, found, is_complete(path))
    with jax.default_matmul_precision(config.precision):
        carry_out = experiment.prepare(config)
        with RunDirectory.resume(path) if resume else RunDirectory.create(path, found) as directory:
            directory.record = found
            try:
                with memory_errors(), _events(directory):
                    rows = carry_out(directory)
            except OutOfMemoryError:
                if not resume:
                    directory.discard()
                raise
    experiment.finish(path, rows)
    return rows


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Makes one line of what Python and XLA say when memory does not suffice."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and not _OUT_OF_MEMORY.search(str(error)):
            raise
        raise OutOfMemoryError(f"out of memory; take smaller sizes ({' '.join(str(error).split())[:200]})") from error


@contextlib.contextmanager
def _events(directory: RunDirectory) -> Iterator[None]:
    """Keeps TensorBoard events beside the metrics, if ``--tensorboard`` asks for them."""
    if not _asked_for_events():
        yield
        return
    with Events(directory.path) as events:
        directory.followers.append(events.follow)
        yield


def _asked_for_events() -> bool:
    return "tensorboard" in flags.FLAGS and bool(flags.FLAGS["tensorboard"].value)


def record(experiment: str, config: dict[str, Any]) -> dict[str, Any]:
    """What ``config.json`` says of every run; starts JAX."""
    found = {"experiment": experiment, "config": config, **environment()}
    found["versions"]["jaxrnn"] = version()
    return found


def version() -> str:
    """Of this code, with the commit where it is a checkout: ``0.1.0+g1a2b3c4d5e6f``, ``.dirty`` if it was changed."""
    if not (ROOT / ".git").exists():
        return __version__
    ask = ["git", "--no-optional-locks", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=.dirty"]
    # In a hook, git's own variables name the repository that the hook is of.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(ask, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+g{done.stdout.strip()}"


def _origin(saved: dict[str, Any], now: dict[str, Any], complete: bool) -> dict[str, Any]:
    """Versions and device for the ``config.json`` of a resumed run, and under "earlier" others that it had before."""
    then, here = ({name: one.get(name, {}) for name in ("versions", "device")} for one in (saved, now))
    earlier = saved.get("earlier", [])
    if complete and all(saved["config"].get(name) == now["config"].get(name) for name in _GROWING):
        here = then  # There is nothing left to do.
    elif then not in (here, *earlier):
        earlier = [*earlier, then]
    return {**here, "earlier": earlier} if earlier else here


def interrupted(how: str) -> NoReturn:
    """Ends the process after an interruption; `how` says what to add to the command."""
    if distributed.is_first():
        sys.stderr.write(f"saved; go on with {how}\n")
    sys.exit(EXIT_INTERRUPTED)


def _config(experiment: Experiment, fields: dict[str, Any]) -> Any:
    config = validate(experiment.schema, fields)
    experiment.check(config)
    return config


def of_experiment(names: Sequence[str], path: Path) -> dict[str, Any]:
    """``config.json`` of a run of one of the experiments `names`.

    Raises:
        RunError: there is no run, or it is of another experiment.
    """
    record = read_config(path)
    if record.get("experiment") not in names:
        raise RunError(f"{path}: holds a run of experiment {record.get('experiment')!r}, not {names[0]!r}")
    return record


def saved_fields(names: Sequence[str], path: Path) -> dict[str, Any]:
    """The config of a run of one of the experiments `names`, as it was saved.

    Raises:
        RunError: as in `of_experiment`.
    """
    return plain_fields(of_experiment(names, path))


def plain_fields(record: dict[str, Any]) -> dict[str, Any]:
    """The config in a ``config.json``, with tuples for JSON's lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in record["config"].items()}


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} was {before.get(name)!r} and is {now.get(name)!r}" for name in changed)


def saved_config(experiment: Experiment, path: Path) -> Any:
    """The config of a run.

    Raises:
        RunError: there is no run, or it is of another experiment.
        UsageError: its config is none that this version takes.
    """
    return _config(experiment, saved_fields((experiment.name,), path))


def is_complete(path: Path) -> bool:
    """Whether all runs of a directory have ended, as its ``results.json`` says."""
    try:
        return bool(json.loads((path / "results.json").read_text())["complete"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _resumed_fields(experiment: Experiment, saved: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The saved config with what the command line may change; anything else is refused by name."""
    meant = validate(experiment.schema, {**saved, **given})
    for name in given:
        before, value = saved.get(name), getattr(meant, name)
        if value == before or name in _HARMLESS:
            continue
        if name not in _GROWING:
            raise bad_value(name, value, f"the run was started with {before!r}, which --resume keeps")
        if value < before:
            raise bad_value(name, value, f"the run was started with {before!r}, which may only grow")
    return {**saved, **given}


def lanes_in_a_program(seeds_per_program: int, lanes: int, data_devices: int = 0) -> int:
    """`seeds_per_program`, or where it is 0 what is fastest: one lane on each core of a CPU, all on an accelerator.

    Raises:
        UsageError: the devices cannot be divided into groups of `data_devices`.
    """
    each = data_devices or 1
    if jax.device_count() % each:
        raise bad_value("data_devices", each, f"should divide the number of devices, {jax.device_count()}")
    if seeds_per_program:
        return seeds_per_program
    return min(lanes, jax.device_count() // each) if jax.default_backend() == "cpu" else lanes


def halves_may_pay(config: Any, seeds_per_program: int) -> bool:
    """Whether each run has a core of a CPU, or as many as `data_devices` asks for, and a batch of some size."""
    own_cores = seeds_per_program * max(1, config.data_devices) <= jax.device_count()
    return jax.default_backend() == "cpu" and own_cores and config.batch_size >= _DIVIDED_BATCH


def batch_parts(config: Any, *, halves_pay: bool) -> int:
    """Into how many parts a training batch is divided: one for each of `data_devices`, else halves where they pay.

    Raises:
        UsageError: the batch cannot be divided among the devices.
    """
    if config.data_devices < 2:
        return 2 if halves_pay and config.batch_size % 2 == 0 else 1
    if config.batch_size % config.data_devices:
        raise bad_value("data_devices", config.data_devices, f"should divide the batch of {config.batch_size}")
    return config.data_devices


def use_all_cores() -> None:
    """Makes each core of a CPU a device; must come before JAX starts, and gives way to the user's own settings."""
    given = os.environ.get("XLA_FLAGS", "")
    if "JAX_NUM_CPU_DEVICES" not in os.environ and _DEVICE_FLAG not in given:
        jax.config.update("jax_num_cpu_devices", num_cores())
    # Else a core that another program holds up for a minute would end the process. (A name is of a file with flags.)
    if _PATIENCE_FLAG not in given and (not given.strip() or given.lstrip().startswith("-")):
        os.environ["XLA_FLAGS"] = f"{given} --{_PATIENCE_FLAG}=86400".strip()


def num_cores() -> int:
    """Cores that this process may keep busy, by its affinity and its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _core_limit() or cores)


def _core_limit() -> int | None:
    """The quota of the container that this process is in, if there is one."""
    if _QUOTA.exists():
        quota, period = _QUOTA.read_text().split()
    elif all(path.exists() for path in _OLD_QUOTA):
        quota, period = (path.read_text().strip() for path in _OLD_QUOTA)
    else:
        return None
    return None if quota in ("max", "-1") else max(1, math.ceil(int(quota) / int(period)))


def cache_dir() -> Path:
    """Where programs and fetched data are kept."""
    if given := os.environ.get("JAXRNN_CACHE_DIR"):
        return Path(given)
    # Not every account has a home, and only this asks for it.
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxrnn"


def use_compilation_cache() -> None:
    """Keeps compiled programs in the cache directory, so that a second start trains within seconds."""
    jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
