"""Files with damage anywhere are refused in one line, or read as something that can be used."""

import functools
import io
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from planetoid_files import PICKLES, example, write

from experiments import torch_weights
from jaxrnn.data import geometries, graph_files, molecule_sets, planetoid, safetensors, signals, text
from jaxrnn.data.files import DataError

ENCODINGS = st.sampled_from(["", " ", "utf-16", "utf-7", "idna", "rot13", "\ud800", "a" * 300])


def assert_one_line(error):
    assert len(str(error).splitlines()) == 1, str(error)


@st.composite
def damaged(draw, original):
    """The bytes of a file, cut, with bits flipped, with parts swapped, doubled or put in."""
    content = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        if not content:
            break
        position, length = draw(st.integers(0, len(content) - 1)), draw(st.integers(1, 64))
        match draw(st.sampled_from(["cut", "drop", "flip", "swap", "double", "put"])):
            case "cut":
                del content[position:]
            case "drop":
                del content[position : position + length]
            case "flip":
                content[position] ^= 1 << draw(st.integers(0, 7))
            case "swap":
                other = draw(st.integers(0, len(content) - 1))
                content[position], content[other] = content[other], content[position]
            case "double":
                content[position:position] = content[position : position + length]
            case "put":
                content[position:position] = draw(st.binary(min_size=1, max_size=8))
    return bytes(content)


@pytest.mark.parametrize("part", [*PICKLES, "test.index"])
@given(data=st.data())
def test_a_damaged_graph_file_is_refused_in_one_line_or_read(tmp_path_factory, part, data):
    protocol = data.draw(st.sampled_from([0, 2, 4, 5]))
    objects = example()
    if isinstance(objects[part], scipy.sparse.csr_matrix):
        objects[part] = objects[part].asformat(data.draw(st.sampled_from(["csr", "csc", "coo", "lil"])))
    if part == "graph":
        kind = data.draw(st.sampled_from([list, set, tuple, np.array]))
        objects[part] = OrderedDict((node, kind(ends)) for node, ends in objects[part].items())
    original = (
        pickle.dumps(objects[part], protocol) if part in PICKLES else b"".join(b"%d\n" % n for n in objects[part])
    )
    folder = tmp_path_factory.mktemp("graph")
    name = write(folder, {**objects, part: data.draw(damaged(original))}, protocol)
    try:
        task = planetoid.load(name)
    except DataError as error:
        assert_one_line(error)
        assert str(folder) in str(error)
    else:
        assert_usable(task)


def assert_usable(task):
    assert np.isfinite(task.features.data).all()
    assert task.edges.senders.max(initial=0) < max(len(task.labels), 1)
    assert task.labels.max(initial=-1) < task.num_classes


@functools.cache
def npz(is_sparse):
    matrix = scipy.sparse.csr_array(np.eye(6, k=1))
    arrays = {"labels": np.array([0, 1, 0, 1, 2, -1]), "features": np.eye(6, 3), "edges": np.argwhere(matrix.toarray())}
    if is_sparse:
        arrays |= {f"adj_{key}": getattr(matrix, key) for key in ("data", "indices", "indptr", "shape")}
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


@given(is_sparse=st.booleans(), data=st.data())
def test_a_damaged_npz_file_is_refused_in_one_line_or_read(tmp_path_factory, is_sparse, data):
    path = tmp_path_factory.mktemp("npz") / "graph.npz"
    path.write_bytes(data.draw(damaged(npz(is_sparse))))
    try:
        task = graph_files.load(str(path))
    except DataError as error:
        assert_one_line(error)
        assert str(path) in str(error)
    else:
        assert_usable(task)


ARRAYS = st.sampled_from(["i1", "<i8", ">i4", "<f8", "<f2", "?", "<U3", "S2", "<c16", "<M8[s]"]).flatmap(
    lambda dtype: st.tuples(st.just(dtype), st.lists(st.integers(0, 4), max_size=3))
)


@given(
    made_up=st.dictionaries(
        st.sampled_from(
            ["edges", "edge_index", "features", "labels", "weights", "train_mask", "validation_mask", "test_mask"]
            + [f"{name}_{part}" for name in ("adj", "attr") for part in ("data", "indices", "indptr", "shape")]
        ),
        ARRAYS,
        min_size=2,
    ),
    seed=st.integers(0, 9),
)
def test_any_arrays_are_a_graph_or_refused_in_one_line(tmp_path_factory, made_up, seed):
    path = tmp_path_factory.mktemp("npz") / "graph.npz"
    values = np.random.default_rng(seed).integers(-1, 4, 64)
    np.savez(path, **{name: np.resize(values, shape).astype(dtype) for name, (dtype, shape) in made_up.items()})
    try:
        task = graph_files.load(str(path))
    except DataError as error:
        assert_one_line(error)
    else:
        assert_usable(task)


TABLES = {
    "edges": b"from,to,weight\n0,1,2\n1,2,0.5\n2,3,1\n",
    "features": b"1,0,0.5\n0,1,0\n0,0,1\n1,1,1\n",
    "labels": b"label\n0\n1\n0\n-1\n",
    "train_mask": b"1\n0\n0\n0\n",
    "val_mask": b"0\n1\n0\n0\n",
    "test_mask": b"0\n0\n1\n1\n",
}


@given(name=st.sampled_from([*TABLES]), data=st.data())
def test_a_damaged_table_is_refused_in_one_line_or_read(tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("tables")
    for table, content in TABLES.items():
        (folder / f"{table}.csv").write_bytes(data.draw(damaged(content)) if table == name else content)
    try:
        task = graph_files.load(str(folder))
    except DataError as error:
        assert_one_line(error)
        assert str(folder) in str(error)
    else:
        assert_usable(task)


@given(content=st.binary(max_size=300) | damaged("Es war einmal ein König.\r\n".encode() * 9), encoding=ENCODINGS)
def test_any_file_is_a_text_or_refused_in_one_line(tmp_path_factory, content, encoding):
    path = tmp_path_factory.mktemp("text") / "book.txt"
    path.write_bytes(content)
    for coding in ("utf-8", "latin-1", encoding):
        try:
            corpus = text.load(str(path), coding)
        except DataError as error:
            assert_one_line(error)
        else:
            assert len(corpus.characters) >= 2
            assert corpus.tokens.max() < len(corpus.characters)


SIGNALS = {
    "signals": b"time,a,b\n2024-01-01,1,2.5\n2024-01-02T00:00:00+01:00,,NaN\n2024-01-03,3,4\n",
    "edges": b"source,target,weight\na,b,2\nb,a,0.5\n",
    "adjacency": b"0,1\n0.5,0\n",
}


@given(name=st.sampled_from([*SIGNALS]), data=st.data())
def test_damaged_signals_are_refused_in_one_line_or_read(tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("signals")
    graph = "edges" if name == "signals" else name
    for table in ("signals", graph):
        content = SIGNALS[table]
        (folder / f"{table}.csv").write_bytes(data.draw(damaged(content)) if table == name else content)
    try:
        found = signals.read_folder(folder)
    except DataError as error:
        assert_one_line(error)
        assert str(folder) in str(error)
    else:
        assert found.values.shape[1:] == (len(found.names),)
        assert not np.isinf(found.values).any()
        assert (found.adjacency >= 0).all()


MOLECULES = b'smiles,"y, measured",id\nCCO,-0.77,1\nc1ccccc1,-2.1,2\nC(=O)O,0.9,3\n'


@functools.cache
def molecule_arrays():
    content = io.BytesIO()
    arrays = {"smiles": np.array(["CCO", "C"]), "properties": np.ones((2, 1)), "property_names": np.array(["y"])}
    positions = {"atomic_numbers": np.array([[6, 6, 8], [6, 0, 0]]), "positions": np.zeros((2, 3, 3))}
    np.savez(content, **arrays, **positions)
    return content.getvalue()


@given(kind=st.sampled_from(["csv", "npz", "geometries"]), data=st.data())
def test_damaged_molecules_are_refused_in_one_line_or_read(tmp_path_factory, kind, data):
    pytest.importorskip("rdkit")
    path = tmp_path_factory.mktemp("molecules") / f"mine.{'csv' if kind == 'csv' else 'npz'}"
    path.write_bytes(data.draw(damaged(MOLECULES if kind == "csv" else molecule_arrays())))
    try:
        if kind == "geometries":
            found = geometries.load(str(path))
            assert np.isfinite(found.positions).all()
        else:
            found = molecule_sets.load(str(path), target="y, measured" if kind == "csv" else "y")
            assert np.isfinite(found.targets).all()
            assert len(found.targets) == len(found.molecules.smiles)
    except (DataError, molecule_sets.ColumnError) as error:
        assert_one_line(error)
        assert str(path) in str(error)


SHAPES = {"embed.weight": (5, 3), "lstm.weight_ih_l0": (16, 3), "lstm.weight_hh_l0": (16, 4), "out.weight": (5, 4)}
SHAPES |= {"lstm.bias_ih_l0": (16,), "lstm.bias_hh_l0": (16,), "out.bias": (5,)}


@functools.cache
def state_dict(suffix):
    if suffix == "safetensors":
        return safetensors.encode({name: np.ones(shape, np.float32) for name, shape in SHAPES.items()})
    torch = pytest.importorskip("torch")
    content = io.BytesIO()
    torch.save({name: torch.ones(shape) for name, shape in SHAPES.items()}, content)
    return content.getvalue()


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@given(data=st.data())
def test_a_damaged_state_dict_is_refused_in_one_line_or_read(tmp_path_factory, suffix, data):
    path = tmp_path_factory.mktemp("weights") / f"model.{suffix}"
    path.write_bytes(data.draw(damaged(state_dict(suffix))))
    try:
        params = torch_weights.import_weights(torch_weights.read_checkpoint(path).state)
    except torch_weights.WeightsError as error:
        assert_one_line(error)
    else:
        assert np.isfinite(params["head"]["kernel"]).all()
