import json
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.rundir.checkpoint import CheckpointError, CheckpointStore, flatten, unflatten

TREE = {"params": {"head": {"kernel": jnp.arange(600.0).reshape(20, 30)}}, "step": (jnp.array([3]), jnp.array([True]))}


def save(directory, *numbers, keep=None):
    with CheckpointStore(directory, keep=keep) as store:
        for number in numbers:
            store.save(number, TREE, {"number": number})


def read(directory, number):
    with CheckpointStore(directory) as store:
        return store.read(number)


def data_files(directory: Path, number: int) -> list[Path]:
    files = [p for p in (directory / str(number) / "state").rglob("*") if p.is_file() and p.parent.name == "d"]
    return sorted(files, key=lambda p: p.stat().st_size)


def test_round_trip_and_the_newest_stay(tmp_path):
    save(tmp_path / "c", 0, 1, 2, keep=2)
    with CheckpointStore(tmp_path / "c") as store:
        assert store.numbers() == [1, 2]
        arrays, meta = store.read(2)
    assert meta == {"number": 2}
    restored = unflatten(TREE, arrays)
    np.testing.assert_array_equal(restored["params"]["head"]["kernel"], TREE["params"]["head"]["kernel"])
    assert restored["step"][1].dtype == bool


def test_without_arrays(tmp_path):
    with CheckpointStore(tmp_path / "c") as store:
        store.save(0, {}, {"finished": ["a"]})
        store.wait()
        assert store.read(0) == ({}, {"finished": ["a"]})


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(bytes(content))


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    path.write_bytes(b"")


def drop_a_leaf(path):
    tree = json.loads((path.parents[2] / "_METADATA").read_text())
    del tree["tree_metadata"][next(name for name in tree["tree_metadata"] if "step" in name)]
    (path.parents[2] / "_METADATA").write_text(json.dumps(tree))


@pytest.mark.parametrize(
    ("where", "damage"),
    [
        *((where, damage) for where in ("array", "meta") for damage in (flip, cut, empty, os.unlink)),
        ("array", drop_a_leaf),
    ],
)
def test_damage_is_noticed_and_the_one_before_is_sound(tmp_path, where, damage):
    save(tmp_path / "c", 0, 1)
    path = data_files(tmp_path / "c", 1)[-1] if where == "array" else tmp_path / "c/1/meta/metadata"
    damage(path)
    with pytest.raises(CheckpointError, match="checkpoint 1 is") as error:
        read(tmp_path / "c", 1)
    assert "\n" not in str(error.value)
    assert read(tmp_path / "c", 0)[1] == {"number": 0}


def test_an_empty_checkpoint_directory_is_noticed(tmp_path):
    save(tmp_path / "c", 0)
    (tmp_path / "c/1").mkdir()
    with pytest.raises(CheckpointError, match="checkpoint 1 is"):
        read(tmp_path / "c", 1)


def test_a_digit_changed_in_the_meta_data_is_noticed(tmp_path):
    save(tmp_path / "c", 0)
    meta = tmp_path / "c/0/meta/metadata"
    meta.write_text(meta.read_text().replace('"number": 0', '"number": 1'))
    with pytest.raises(CheckpointError, match="SHA-256"):
        read(tmp_path / "c", 0)


def test_another_shape_names_the_leaf():
    arrays = flatten(TREE)
    other = {"params": {"head": {"kernel": jnp.zeros((20, 31))}}, "step": TREE["step"]}
    with pytest.raises(CheckpointError, match=r"params/head/kernel is float32\[20, 30\], not float32\[20, 31\]"):
        unflatten(other, arrays)
    with pytest.raises(CheckpointError, match=r"params/head/bias is missing, not float32\[3\]"):
        unflatten({**TREE, "params": {"head": {**TREE["params"]["head"], "bias": jnp.zeros(3)}}}, arrays)
    with pytest.raises(CheckpointError, match=r"step/1 is bool\[1\], not part of this model"):
        unflatten({**TREE, "step": (TREE["step"][0],)}, arrays)


def test_flatten_copies():
    array = np.zeros(3)
    flat = flatten({"a": array})
    array[0] = 1
    assert flat["a"][0] == 0
