"""The types that fields of all configs have."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _split(names: Any) -> Any:
    """What stands on a command line, ``a,b,c``, comes as one name."""
    return tuple(names[0].split(",")) if len(names) == 1 and isinstance(names[0], str) else names


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
