"""Files of the format safetensors, written here by the format's description."""

import json
import struct

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.torch_weights import WeightsError, read_checkpoint, write_state_dict
from jaxrnn.data import safetensors


def file_of(header, numbers=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_tensors_are_read_in_their_dtypes():
    header = {
        "__metadata__": {"format": "pt"},
        "b": entry("BF16", [2], 8, 12),
        "a": entry("I32", [1, 2], 0, 8),
        "none": entry("F64", [0, 3], 12, 12),
        "one": entry("U8", [], 12, 13),
    }
    tensors, metadata = safetensors.decode(file_of(header, struct.pack("<ii", -1, 7) + b"\x80\x3f\x00\xc0\xff"))
    assert metadata == {"format": "pt"}
    assert {name: (x.dtype, x.tolist()) for name, x in tensors.items()} == {
        "a": (np.int32, [[-1, 7]]),
        "b": (jnp.bfloat16, [1.0, -2.0]),
        "none": (np.float64, []),
        "one": (np.uint8, 255),
    }


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"PK\x03\x04" * 9,
        struct.pack("<Q", 100) + b"{}",
        file_of([1]),
        file_of(b"{" * 100_000),
        file_of({"__metadata__": {"a": 1}}),
        file_of({"a": [1]}),
        file_of({"a": entry("F4", [1], 0, 4)}, bytes(4)),
        file_of({"a": entry("F32", [-1, -1], 0, 4)}, bytes(4)),
        file_of({"a": entry("F32", [2**40, 0], 0, 0)}),
        file_of({"a": entry("F32", [2], 0, 4)}, bytes(4)),
        file_of({"a": entry("F32", [1], 4, 8)}, bytes(4)),
        file_of({"a": entry("F32", [1], -4, 0)}, bytes(4)),
        # Tensors that lie on each other, and numbers of no tensor.
        file_of({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 0, 4)}, bytes(4)),
        file_of({"a": entry("F32", [1], 0, 4)}, bytes(8)),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, raw):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        safetensors.decode(raw)
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw)
    with pytest.raises(WeightsError, match=r"model.safetensors: damaged[^\n]*$"):
        read_checkpoint(path)


def test_what_is_written_comes_back_and_floating_point_becomes_float32(tmp_path):
    state = {"x": np.float32([[1.5, -0.0], [1e-45, 3]]).T, "empty": np.zeros((0, 4), np.float32)}
    write_state_dict(tmp_path / "model.safetensors", state)
    found = read_checkpoint(tmp_path / "model.safetensors")
    assert found.characters is None
    for name, array in state.items():
        assert found.state[name].dtype == np.float32
        np.testing.assert_array_equal(found.state[name], array)
    assert np.signbit(found.state["x"][1, 0])

    path = tmp_path / "other.safetensors"
    half = np.array([np.pi, -1e-4], np.float16)
    path.write_bytes(file_of({"h": entry("F16", [2], 0, 4), "d": entry("F64", [1], 4, 12)}, half.tobytes() + bytes(8)))
    np.testing.assert_array_equal(read_checkpoint(path).state["h"], half.astype(np.float32))
    assert read_checkpoint(path).state["d"].dtype == np.float32


def test_metadata_name_tied_tensors_and_the_vocabulary(tmp_path):
    path = tmp_path / "model.safetensors"
    metadata = {"format": "pt", "head.weight": "emb.weight", "chars": '["b", "a"]'}
    path.write_bytes(file_of({"__metadata__": metadata, "emb.weight": entry("F32", [1, 1], 0, 4)}, bytes(4)))
    found = read_checkpoint(path)
    assert found.state.keys() == {"emb.weight", "head.weight"}
    assert found.characters == "ba"


def test_the_suffix_may_have_capitals(tmp_path):
    write_state_dict(tmp_path / "A.SafeTensors", {"x": np.ones(2, np.float32)})
    assert (tmp_path / "A.SafeTensors").read_bytes().startswith(b"{", 8)
    assert read_checkpoint(tmp_path / "A.SafeTensors").state["x"].tolist() == [1, 1]
