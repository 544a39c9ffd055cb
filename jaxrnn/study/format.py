"""How numbers, names and texts are written."""

import re
from typing import Any

import numpy as np

from jaxrnn.study import stats

NONE = "-"
"""A table cell without content."""
NOT_RUN = "not run"
"""A table cell for runs that a study asks for and no directory has."""

_NEWLINE, _SPACE, _UNPRINTABLE = "\N{RETURN SYMBOL}", "\N{OPEN BOX}", "\N{REPLACEMENT CHARACTER}"
_UNSEEN_SPACE = re.compile("(?<![^ ]) | (?![^ ])")
SIGNS = f"{_NEWLINE} is a new line, {_SPACE} a space beside another or at an end"
"""Explains the signs that replace invisible characters in a text."""


def code(text: object) -> str:
    """Text as Markdown code; the text may be a path with any characters in it."""
    printable = str(text).encode("utf-8", "backslashreplace").decode()
    return f"`{printable.replace('`', chr(39))}`"


def format_estimate(estimate: stats.Estimate, form: str, beyond: str = NONE) -> str:
    """An estimate as `value [low, high]`; `beyond` stands for an end that is None."""
    if estimate.low is None and estimate.high is None:
        return beyond if estimate.value is None else f"{estimate.value:{form}}"
    ends = (estimate.value, estimate.low, estimate.high)
    value, low, high = (beyond if end is None else f"{end:{form}}" for end in ends)
    return f"{value} [{low}, {high}]"


def format_share(successes: int, trials: int) -> str:
    """A count with its share and the Clopper-Pearson interval."""
    share = f": {format_estimate(stats.proportion(successes, trials), '.2f')}" if trials else ""
    return f"{successes} of {trials}{share}"


def format_count(number: int, noun: str) -> str:
    """A number of things, such as ``1 run`` and ``2 runs``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def format_p(p_value: float) -> str:
    """A p-value with two digits."""
    return f"p = {p_value:.2g}"


def format_digits(number: float, digits: int) -> str:
    """A number rounded to this many significant digits, without an exponent."""
    return np.format_float_positional(number, precision=digits, fractional=False, trim="-")


def format_bytes(num_bytes: float) -> str:
    """Bytes with three digits, in kB, MB or GB (powers of ten)."""
    unit, name = next(((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB")) if num_bytes >= unit), (1e3, "kB"))
    return f"{format_digits(num_bytes / unit, 3)} {name}"


def visible(text: str) -> str:
    """A text as Markdown code on one line, with a sign for each character that cannot be seen (see `SIGNS`)."""
    shown = "".join(c if c.isprintable() else _NEWLINE if c == "\n" else _UNPRINTABLE for c in text)
    return code(_UNSEEN_SPACE.sub(_SPACE, shown)) if text else ""


def value_text(value: Any) -> str:
    """A field's value in a title; a text with line ends or other unprintable characters is given as its `repr`."""
    text = str(value)
    return text if text.isprintable() else repr(value)
