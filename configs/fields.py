"""The types that fields of all configs have."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _split(names: Any) -> Any:
    """What stands on a command line, ``a,b,c``, comes as one name."""
    one = isinstance(names, list | tuple) and len(names) == 1 and isinstance(names[0], str)
    return tuple(names[0].split(",")) if one else names


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]

# What is counted on the device is an int32; what is held in memory for each has a bound that nobody misses.
Positive = Annotated[int, Field(ge=1, lt=2**31)]
Width = Annotated[int, Field(ge=1, le=10_000_000)]
Layers = Annotated[int, Field(ge=1, le=1000)]
Batch = Annotated[int, Field(ge=1, le=100_000)]
Samples = Annotated[int, Field(ge=1, le=10_000_000)]
Steps = Annotated[int, Field(ge=1, le=100_000)]
"""Of a chunk, whose metrics are held until it ends."""
Seeds = Annotated[int, Field(ge=1, le=100_000)]
# Floats that a float32 on the device can tell from zero and from infinity, squared too.
Rate = Annotated[float, Field(ge=1e-12, le=100, allow_inf_nan=False)]
ClipNorm = Annotated[float, Field(ge=1e-12, le=1e12, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
