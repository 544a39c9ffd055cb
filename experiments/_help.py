"""What ``--help`` says about a study, and what ``--print_config`` shows of a setting."""

import dataclasses
import importlib
import importlib.util
import re
import textwrap
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from absl import flags

from jaxrnn.rundir import sweeps
from jaxrnn.rundir.fields import make_config
from jaxrnn.study.study import Study
from jaxrnn.training.definition import settings

_COLUMN = 26


def usage(study: Study) -> str:
    """What the study is, its commands, and all fields with their defaults and the names that they take."""
    command = f"python -m experiments.{study.name}"
    more = [f"{command} --config.num_seeds=10 --sweep=learning_rate=1e-3,3e-3 --workdir=runs/sweep"]
    more += [f"{command} --resume --workdir=runs/sweep"]
    if study.build is None:
        more = [f"{command} --print_config", f"{command} --resume --workdir=runs/{study.name}"]
    about = (config_module(study).__doc__ or "").strip()
    about = re.sub(r"(?<=\S) {2,}(?=--)", " \\\\\n        ", about)  # Where the source breaks a command into two lines.
    described, hints, defaults = _descriptions(study.config), get_type_hints(study.config), _defaults(study)
    lines = []
    for field in dataclasses.fields(study.config):
        names = study.choices.get(field.name) or (get_args(hints[field.name]) if _is_choice(hints[field.name]) else ())
        one_of = f" One of {', '.join(map(_text, names))}." if names else ""
        lines.append(_in_columns(f"{field.name}={_text(defaults[field.name])}", described.get(field.name, "") + one_of))
    fields = "\n".join(lines)
    examples = "\n".join(f"    {line}" for line in more)
    return f"{about}\n\nAlso:\n\n{examples}\n\nfields, each given as --config.FIELD=VALUE:\n\n{fields}\n"


def config_module(study: Study) -> ModuleType:
    """Where the study's `get_config` is: ``configs.NAME``, or the module of the study itself."""
    name = f"configs.{study.name}"
    return importlib.import_module(name if importlib.util.find_spec(name) else study.config.__module__)


def _defaults(study: Study) -> dict[str, Any]:
    """The fields of a study whose command names no config."""
    defaults: dict[str, Any] = config_module(study).get_config().to_dict()
    return defaults


def show_setting(study: Study, config: Any, sweep: Mapping[str, Sequence[Any]]) -> str:
    """All fields of a config, swept fields with all their values, and the number of runs.

    Raises:
        ConfigError: one of the settings cannot be used.
    """
    fields, defaults = dataclasses.asdict(config), _defaults(study)
    swept = sweeps.checked(study, config, sweep)
    each = [make_config(study.config, {**fields, **values}) for values in settings(swept)]
    lines = []
    for field in dataclasses.fields(study.config):
        values = list(dict.fromkeys(getattr(one, field.name) for one in each))
        default = defaults[field.name]
        usual = [] if values == [default] else [f"by default {_text(default)}"]
        notes = (["swept"] if field.name in sweep else []) + usual
        lines.append(f"  {field.name:{_COLUMN - 2}}{', '.join(map(_text, values)):{_COLUMN - 4}}  {'; '.join(notes)}")
    seeds = fields.get("num_seeds", 1)
    runs = f"{len(each)} x {seeds} seeds = {len(each) * seeds} runs" if "num_seeds" in fields else "1 run"
    return "\n".join([f"{study.name}: {runs}", *(line.rstrip() for line in lines)])


def _descriptions(schema: type[Any]) -> dict[str, str]:
    """The description of each field; pydantic keeps it in the class that defines the field."""
    return {
        name: " ".join(field.description.split())
        for base in reversed(schema.__mro__)
        for name, field in getattr(base, "__pydantic_fields__", {}).items()
        if field.description
    }


def _is_choice(hint: Any) -> bool:
    return get_origin(hint) is Literal


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value and value.isprintable() else repr(value)


def _in_columns(left: str, right: str) -> str:
    gap = " " * _COLUMN
    text = textwrap.fill(right, max(flags.get_help_width(), 2 * _COLUMN), initial_indent=gap, subsequent_indent=gap)
    return f"  {left}\n{text}" if len(left) > _COLUMN - 4 else f"  {left:{_COLUMN - 2}}{text[_COLUMN:]}"
