"""The fields of a config: their marks, and errors that name them."""

import functools
from collections.abc import Mapping
from typing import Any, get_type_hints

import pydantic

from jaxrnn.training.definition import ConfigError

_hints = functools.cache(functools.partial(get_type_hints, include_extras=True))


def marked(schema: Any, mark: str) -> dict[str, Any]:
    """The fields that a config's class marks as ``Annotated[..., Mark()]``, and the marks.

    Configs and library do not import each other: a mark is known by the name of its class.
    """
    marks = [(name, found) for name, hint in _hints(schema).items() for found in getattr(hint, "__metadata__", ())]
    return {name: found for name, found in marks if type(found).__name__ == mark}


def saved_fields(schema: type[Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields in a ``config.json``, with tuples for JSON's lists; the mark `Absent` fills in those that it lacks."""
    absent = {name: mark.value for name, mark in marked(schema, "Absent").items()}
    return absent | {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}


def make_config(schema: type[Any], fields: Mapping[str, Any]) -> Any:
    """The frozen config from plain values.

    Raises:
        ConfigError: names the first field that cannot be used.
    """
    try:
        return schema(**fields)
    except pydantic.ValidationError as error:
        # A tuple with a bad item also complains about itself: the deepest complaint says most.
        first = max(error.errors(), key=lambda e: len(e["loc"]))
    field = str(first["loc"][0])
    if first["type"] == "unexpected_keyword_argument":
        raise ConfigError(field, fields[field], f"{schema.__module__} has no such field")
    raise ConfigError(field, fields.get(field), f"{first['msg'][0].lower()}{first['msg'][1:]}")
