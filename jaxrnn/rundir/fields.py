"""The fields of a config: their marks, and errors that name them."""

import dataclasses
import difflib
import functools
from collections.abc import Iterable, Mapping
from typing import Any, get_type_hints

import pydantic

from jaxrnn.training.definition import ConfigError

_hints = functools.cache(functools.partial(get_type_hints, include_extras=True))


def marked(schema: Any, mark: str) -> dict[str, Any]:
    """The fields that a config's class marks as ``Annotated[..., Mark()]``, and the marks.

    Configs and library do not import each other: a mark is recognized by the name of its class.
    """
    marks = [(name, found) for name, hint in _hints(schema).items() for found in getattr(hint, "__metadata__", ())]
    return {name: found for name, found in marks if type(found).__name__ == mark}


def saved_fields(schema: type[Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields in a ``config.json``, with tuples for JSON's lists; the mark `Absent` fills in those that it lacks."""
    absent = {name: mark.value for name, mark in marked(schema, "Absent").items()}
    return absent | {name: plain(value) for name, value in config.items()}


def plain(value: Any) -> Any:
    """A value as configs have it: a tuple for JSON's list."""
    return tuple(value) if isinstance(value, list) else value


def no_such_field(name: str, names: Iterable[str]) -> str:
    """Why a name that is not one of the fields `names` is refused, with the nearest of them or else all."""
    close = difflib.get_close_matches(name, [*names], n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
    return f"there is no such field; {hint}"


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
        raise ConfigError(field, fields[field], no_such_field(field, [one.name for one in dataclasses.fields(schema)]))
    raise ConfigError(field, fields.get(field), f"{first['msg'][0].lower()}{first['msg'][1:]}")
