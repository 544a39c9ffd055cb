"""Sweeps: which fields and values they may have, how they grow, and the programs that they are divided into."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrnn.rundir.fields import make_config, marked, no_such_field, plain
from jaxrnn.training.definition import ConfigError, settings, text_of

Sweep = Mapping[str, Sequence[Any]]
Part = tuple[Mapping[str, Any], Any]
"""What a program has of a sweep: its values of the fields that set programs apart, and its config."""


def checked(study: Any, config: Any, sweep: Sweep) -> dict[str, list[Any]]:
    """The sweep with values as the config has them.

    Raises:
        ConfigError: a field cannot be swept, has a value twice, or makes a setting that the study refuses.
    """
    found, names = {}, [field.name for field in dataclasses.fields(study.config)]
    for field, values in plain_sweep(sweep).items():
        if field not in names:
            raise ConfigError(field, values, no_such_field(field, names))
        if field in marked(study.config, "Bookkeeping"):
            reason = "cannot be swept: it says which seeds there are, or how runs are placed and saved"
            raise ConfigError(field, values, reason)
        found[field] = [getattr(_with_values(study, config, {field: value}), field) for value in values]
        if len({text_of(value) for value in found[field]}) < len(values):
            raise ConfigError(field, values, "has the same value twice")
    for setting in settings(found):
        study.validate(_with_values(study, config, setting))
    return found


def grown(saved: Sweep, given: Sweep) -> Sweep:
    """The sweep of saved runs with the values that are added at the end; raises a ConfigError for any other change."""
    saved, given = plain_sweep(saved), plain_sweep(given)
    for field, values in given.items():
        before = saved.get(field, [])
        if not before or values[: len(before)] != before:
            was = before or "no values"
            raise ConfigError(field, values, f"the sweep was started with {was}, and may only get more at the end")
    return {**saved, **given}


def divide(study: Any, config: Any, sweep: Sweep) -> tuple[list[Part], Sweep]:
    """The parts of a sweep that are programs, in their order, and what is swept within each of them.

    Raises:
        ConfigError: the study trains nothing, or a training would take two values for the same.
    """
    if study.build is None:
        for field in sweep:
            raise ConfigError(field, sweep[field], "cannot be swept: this study trains nothing")
    if not sweep:
        return [({}, config)], {}
    first = {field: values[0] for field, values in sweep.items()}
    hyper = study.build(_with_values(study, config, first)).hyper
    within = {field: values for field, values in sweep.items() if field in hyper}
    for field, values in within.items():
        if len({np.float32(value) for value in values}) < len(values):
            raise ConfigError(field, values, "has the same value twice")
    apart = settings({field: values for field, values in sweep.items() if field not in hyper})
    return [(values, _with_values(study, config, first | values)) for values in apart], within


def plain_sweep(sweep: Sweep) -> dict[str, list[Any]]:
    """The sweep as ``config.json`` has it, with tuples for JSON's lists."""
    return {field: [plain(value) for value in values] for field, values in sweep.items()}


def _with_values(study: Any, config: Any, values: Mapping[str, Any]) -> Any:
    return make_config(study.config, {**dataclasses.asdict(config), **values})
