"""Reads untrusted pickles of dictionaries, sets, lists, numbers, arrays and matrices. They cannot run any code.

Every name that a pickle may ask for is listed here, and those of NumPy and SciPy only record their arguments. None of
their code runs, so a pickle can neither call a function of its choice nor read memory that is not its own.
"""

import io
import itertools
import pickle
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy  # Its parts load when they are first used.


class Recorded:
    """What a pickle says about a dtype, an array or a matrix: `state` is what NumPy or SciPy would be given.

    Attributes:
        layout: how a matrix of SciPy is stored; None for anything else.
    """

    layout: str | None = None

    def __init__(self, *args: Any, state: Any = None) -> None:
        self.args, self.state = args, state

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> Recorded:
    return Recorded(state=(1, shape, dtype, order == "F", raw))


_NAMES: dict[str, Callable] = {
    **dict.fromkeys(("numpy.dtype", "numpy.ndarray", "numpy.matrix", "numpy.matrixlib.defmatrix.matrix"), Recorded),
    "collections.defaultdict": defaultdict,
    "collections.OrderedDict": dict,  # The class itself would have attributes that a pickle can set.
    # Bytes in the protocols of Python 2, as Python 3 writes them.
    "__builtin__.bytes": lambda: b"",
    "_codecs.encode": lambda text, _: text.encode("latin1"),
}
for _builtins in ("__builtin__", "builtins"):
    _NAMES |= {f"{_builtins}.{kind.__name__}": kind for kind in (list, dict, set, frozenset, object)}
for _copyreg in ("copy_reg", "copyreg"):  # In protocols 0 and 1: a new object without its state.
    _NAMES[f"{_copyreg}._reconstructor"] = lambda kind, *_: kind()
for _core in ("numpy.core", "numpy._core"):
    _NAMES[f"{_core}.multiarray._reconstruct"] = Recorded
    _NAMES[f"{_core}.multiarray.scalar"] = lambda dtype, raw: to_array(_from_buffer(raw, dtype, (), "C")).item()
    _NAMES[f"{_core}.numeric._frombuffer"] = _from_buffer  # In protocol 5.
for _layout in ("csr", "csc", "coo", "lil"):
    _kind = type(_layout, (Recorded,), {"layout": _layout})
    for _module, _type in itertools.product((_layout, f"_{_layout}"), ("matrix", "array")):
        _NAMES[f"scipy.sparse.{_module}.{_layout}_{_type}"] = _kind


# The unpickler in Python: with the one in C, damaged bytes can end the process (a bytearray that is cut off).
class _RestrictedUnpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Callable:
        if (full_name := f"{module}.{name}") not in _NAMES:
            raise pickle.UnpicklingError(f"it asks for {full_name!r}")
        return _NAMES[full_name]


def unpickle(raw: bytes) -> Any:
    """The object in a pickle; may raise any exception if it is damaged or asks for a name not listed here."""
    return _RestrictedUnpickler(io.BytesIO(raw), encoding="latin1").load()


def to_array(found: Recorded) -> np.ndarray:
    """The numbers in an array, in the byte order of this machine."""
    _, shape, dtype, is_fortran, raw = found.state
    code, byte_order = dtype.args[0], dtype.state[1] if dtype.state else "="
    if code not in {f"{kind}{size}" for kind in "iuf" for size in (1, 2, 4, 8)} | {"b1"}:
        raise ValueError(f"an array of type {code!r}, not of numbers")
    buffer = raw.encode("latin1") if isinstance(raw, str) else raw  # Bytes of Python 2 are text here.
    numbers = np.frombuffer(buffer, np.dtype(code).newbyteorder(byte_order))
    return numbers.astype(code).reshape(shape, order="F" if is_fortran else "C")


def to_matrix(found: Recorded) -> "scipy.sparse.csr_array":
    """The numbers in a matrix, whether it is one of SciPy or an array ``[n, m]``; checked, and without duplicates."""
    if found.layout is None:
        if (array := to_array(found)).ndim != 2:
            raise ValueError(f"an array of shape {array.shape}, not of rows and columns")
        return scipy.sparse.csr_array(array)
    matrix: Any
    state = found.state
    shape, places = state["_shape"], [state.get(name) for name in ("row", "col")]
    match found.layout:
        case "lil":  # Arrays of lists: the columns and the values of each row.
            listed, numbers = (list(itertools.chain.from_iterable(state[name].state[-1])) for name in ("rows", "data"))
            ends = np.cumsum([0, *(len(row) for row in state["rows"].state[-1])])
            matrix = scipy.sparse.csr_array((np.array(numbers), _indices(np.array(listed, int)), ends), shape=shape)
        case "coo":
            rows, columns = (_indices(to_array(place)) for place in state.get("coords", places))
            matrix = scipy.sparse.coo_array((to_array(state["data"]), (rows, columns)), shape=shape)
        case layout:
            values, columns, starts = (to_array(state[name]) for name in ("data", "indices", "indptr"))
            if (np.diff(starts.astype(np.int64), prepend=0) < 0).any():  # SciPy does not check this if they end in 0.
                raise ValueError("the starts of the rows do not increase")
            make = scipy.sparse.csr_array if layout == "csr" else scipy.sparse.csc_array
            matrix = make((values, _indices(columns), _indices(starts)), shape=shape)
            matrix.check_format(full_check=True)
    matrix = matrix.tocsr()
    matrix.sum_duplicates()
    return matrix


def _indices(found: np.ndarray) -> np.ndarray:
    return found.astype(np.int32, casting="same_kind")
