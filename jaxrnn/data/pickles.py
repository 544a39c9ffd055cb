"""What pickles of strangers hold: dictionaries, lists, numbers, arrays and CSR matrices. They cannot run any code.

Every name that a pickle may ask for is found here, and those of NumPy and SciPy only record their arguments. None of
their code runs, so a pickle can neither call a function of its choice nor read memory that is not its own.
"""

import io
import pickle
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np


class Recorded:
    """What a pickle says of a dtype, an array or a matrix: `state` is as NumPy or SciPy would be given it."""

    def __init__(self, *args: Any, state: Any = None) -> None:
        self.args, self.state = args, state

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> Recorded:
    return Recorded(state=(1, shape, dtype, order == "F", raw))


_NAMES: dict[str, Callable] = {
    "numpy.dtype": Recorded,
    "numpy.ndarray": Recorded,
    **{f"scipy.sparse.{csr}.csr_{kind}": Recorded for csr in ("csr", "_csr") for kind in ("matrix", "array")},
    "collections.defaultdict": defaultdict,
    **{f"{builtins}.list": list for builtins in ("__builtin__", "builtins")},
    # Bytes in the protocols of Python 2, as Python 3 writes them.
    "__builtin__.bytes": lambda: b"",
    "_codecs.encode": lambda text, _: text.encode("latin1"),
}
for _core in ("numpy.core", "numpy._core"):
    _NAMES[f"{_core}.multiarray._reconstruct"] = Recorded
    _NAMES[f"{_core}.multiarray.scalar"] = lambda dtype, raw: to_array(_from_buffer(raw, dtype, (), "C")).item()
    _NAMES[f"{_core}.numeric._frombuffer"] = _from_buffer  # In protocol 5.


# The unpickler in Python: damaged bytes can end the process in the one in C (a bytearray that is cut off).
class _RestrictedUnpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Callable:
        if (full_name := f"{module}.{name}") not in _NAMES:
            raise pickle.UnpicklingError(f"it asks for {full_name!r}")
        return _NAMES[full_name]


def unpickle(raw: bytes) -> Any:
    """The object in a pickle; raises any exception where it is damaged, or asks for a name that is not here."""
    return _RestrictedUnpickler(io.BytesIO(raw), encoding="latin1").load()


def to_array(found: Recorded) -> np.ndarray:
    """The numbers in an array, read-only."""
    _, shape, dtype, is_fortran, raw = found.state
    code, byte_order = dtype.args[0], dtype.state[1] if dtype.state else "="
    if code not in {f"{kind}{size}" for kind in "iuf" for size in (1, 2, 4, 8)} | {"b1"}:
        raise ValueError(f"an array of type {code!r}, not of numbers")
    buffer = raw.encode("latin1") if isinstance(raw, str) else raw  # Bytes of Python 2 are text here.
    numbers = np.frombuffer(buffer, np.dtype(code).newbyteorder(byte_order))
    return numbers.reshape(shape, order="F" if is_fortran else "C")
