"""Tensors in the safetensors format: a header in JSON, then raw numbers. Nothing in such a file can run."""

import json
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

_LENGTH = 8
"""The number of bytes at the beginning that give the length of the header."""
_DTYPES: dict[str, Any] = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": jnp.bfloat16, "BOOL": "?"},
    **{f"{sign}{8 * size}": f"<{sign.lower()}{size}" for sign in "IU" for size in (1, 2, 4, 8)},
}
_METADATA = "__metadata__"


def decode(raw: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors by name and the metadata in the bytes of a file; the arrays are views of the bytes.

    Raises:
        ValueError: the bytes are not such a file, or are damaged.
    """
    start = _LENGTH + int.from_bytes(raw[:_LENGTH], "little")
    if not raw.startswith(b"{", _LENGTH) or start > len(raw):
        raise ValueError("there is no header")
    try:
        header = json.loads(raw[_LENGTH:start])
    except RecursionError as error:
        raise ValueError("the header is not a plain object") from error
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError(f"{_METADATA} is not an object of strings")
    tensors = {name: _tensor(raw, start, name, entry) for name, entry in header.items()}
    if sum(tensor.nbytes for tensor in tensors.values()) != len(raw) - start:
        raise ValueError("the tensors do not cover all of the numbers")
    return tensors, metadata


def _tensor(raw: bytes, start: int, name: str, entry: Any) -> np.ndarray:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)]} if dtype in _DTYPES:
            pass
        case _:
            raise ValueError(f"{name!r} is not a tensor of a known dtype: {', '.join(_DTYPES)}")
    if not all(type(size) is int and 0 <= size < 2**31 for size in shape):
        raise ValueError(f"{name!r} has the shape {shape}")
    kind = np.dtype(_DTYPES[dtype])
    if not 0 <= begin <= end <= len(raw) - start or end - begin != math.prod(shape) * kind.itemsize:
        raise ValueError(f"{name!r} of {dtype} {shape} does not lie at bytes {begin} to {end}")
    return np.frombuffer(raw, kind, math.prod(shape), start + begin).reshape(shape)


def encode(tensors: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a file with these float32 tensors."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _LENGTH)  # The numbers begin at a multiple of eight.
    return b"".join([len(text).to_bytes(_LENGTH, "little"), text, *(tensor.tobytes() for tensor in tensors.values())])
