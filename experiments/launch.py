"""What all experiment binaries share: flags to a validated config, new and resumed runs, errors as one clear line."""

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import pydantic
from absl import app, flags, logging
from ml_collections import config_flags

from jaxrnn import __version__
from jaxrnn.checkpoint import CheckpointError
from jaxrnn.loop import Interrupted, Study, train
from jaxrnn.rundir import RunDirectory, RunError, environment, read_config
from jaxrnn.seeds import product

ROOT = Path(__file__).parents[1]
EXIT_INTERRUPTED = 75
"""EX_TEMPFAIL: saved, and to be started again, so that ``train && report`` does not go on."""

_GROWING = ("max_steps", "num_seeds")
_HARMLESS = ("chunk_steps",)


class UsageError(Exception):
    """Flags that cannot be used; the message is for the user."""


def run_main(main: Callable[[list[str]], None]) -> None:
    """Runs a binary; errors that are the user's to mend end in one line and exit code 1 (files) or 2 (flags)."""

    def guarded(argv: list[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # Orbax tells a page for each checkpoint.
        try:
            main(argv)
        except UsageError as error:
            _fail(error, 2)
        except (RunError, CheckpointError) as error:
            _fail(error, 1)

    app.run(guarded, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    """Parses flags; a bad one, or an argument that is not a flag, is one line and exit code 2."""
    try:
        rest: list[str] = app.parse_flags_with_usage(argv) if _asks_for_help(argv) else flags.FLAGS(argv)
    except (flags.Error, AttributeError, OSError, TypeError, ValueError, SyntaxError) as error:
        _fail(UsageError(_first_lines(error)), 2)
    if len(rest) > 1:
        _fail(UsageError(f"unexpected argument {rest[1]!r}: settings are given as --config.FIELD=VALUE"), 2)
    return rest


def _asks_for_help(argv: Sequence[str]) -> bool:
    return any(arg.lstrip("-").split("=")[0] in ("help", "helpshort", "helpfull", "helpxml") for arg in argv)


def _first_lines(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).strip().strip("'").replace("\\n", "\n").splitlines()[:4])


def _fail(error: Exception, code: int) -> NoReturn:
    sys.stderr.write(f"error: {error}\n")
    sys.exit(code)


def define_flags(config_file: str) -> None:
    """The flags of a training binary: ``--config``, ``--workdir`` and ``--resume``."""
    path = ROOT / "configs" / config_file
    config_flags.DEFINE_config_file("config", str(path), "Config file; its fields are flags, --config.FIELD=VALUE.")
    flags.DEFINE_string("workdir", None, "Directory of the run; created, and refused if it holds a run already.")
    flags.DEFINE_bool("resume", False, "Go on with the run in --workdir; needs no --config.")


def given_fields() -> dict[str, Any]:
    """The config fields that stand on the command line."""
    return dict(config_flags.get_override_values(flags.FLAGS["config"]))


def workdir() -> Path:
    """``--workdir``, which every run needs."""
    if not flags.FLAGS.workdir:
        raise UsageError("--workdir=DIR is needed: the directory that the run writes to")
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
        raise UsageError(f"--config.{field}: there is no such field; there are: {', '.join(_names(schema))}")
    raise UsageError(f"--config.{field}={fields.get(field)!r}: {first['msg']}")


def _names(schema: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(schema)]


def choice(field: str, value: str, names: Sequence[str]) -> None:
    """Refuses a value that is not one of `names`."""
    if value not in names:
        raise UsageError(f"--config.{field}={value!r}: should be one of {', '.join(names)}")


def launch(
    experiment: str, schema: type[Any], check: Callable[[Any], None], study: Callable[[Any], Study]
) -> list[dict[str, Any]]:
    """Starts or resumes the run that the flags ask for, and trains it to its end.

    Args:
        experiment: its name in ``config.json``.
        schema: the config's dataclass; it has `num_seeds`, `first_seed`, `learning_rate` and `precision`.
        check: raises UsageError for what the schema cannot know.
        study: builds the study from a config.

    Returns:
        The rows of ``results.json``.
    """
    path = workdir()
    fields = flags.FLAGS.config.to_dict()
    if flags.FLAGS.resume:
        record = read_config(path)
        if record.get("experiment") != experiment:
            raise RunError(f"{path}: holds a run of experiment {record.get('experiment')!r}, not {experiment!r}")
        fields = _resumed_fields(record["config"], given_fields())
    config = validate(schema, fields)
    check(config)

    use_compilation_cache()
    record = {"experiment": experiment, "config": dataclasses.asdict(config), **environment()}
    record["versions"]["jaxrnn"] = __version__
    with jax.default_matmul_precision(config.precision):
        built = study(config)
        lanes = product(range(config.first_seed, config.first_seed + config.num_seeds), config.learning_rate)
        opened = RunDirectory.resume(path) if flags.FLAGS.resume else RunDirectory.create(path, record)
        with opened as directory:
            if flags.FLAGS.resume:
                directory.write("config.json", record)
            try:
                return train(built, lanes, directory)
            except Interrupted:
                sys.stderr.write(f"saved; go on with --resume --workdir={path}\n")
                sys.exit(EXIT_INTERRUPTED)


def _resumed_fields(saved: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The saved config with what the command line may change; anything else is refused by name."""
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()}
    for name, value in given.items():
        before = fields.get(name)
        if value == before or name in _HARMLESS:
            continue
        if name not in _GROWING:
            raise UsageError(f"--config.{name}={value!r}: the run was started with {before!r}, which --resume keeps")
        if value < before:
            raise UsageError(f"--config.{name}={value!r}: the run was started with {before!r}, which may only grow")
    return {**fields, **given}


def lanes_in_a_program(seeds_per_program: int, lanes: int) -> int:
    """`seeds_per_program`, or where it is 0 what is fastest: one lane on a CPU, all on an accelerator."""
    if seeds_per_program:
        return seeds_per_program
    return 1 if jax.default_backend() == "cpu" else lanes


def use_compilation_cache() -> None:
    """Keeps compiled programs in the cache directory, so that a second start trains within seconds."""
    base = (
        os.environ.get("JAXRNN_CACHE_DIR")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxrnn"
    )
    jax.config.update("jax_compilation_cache_dir", str(Path(base) / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
