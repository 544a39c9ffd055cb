"""The oracles are published numbers and Kipf's loader, written out on dense arrays."""

import hashlib
import os
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.sparse
from planetoid_files import PICKLES, Call, example, oracle, write

from jaxrnn.data import graphs, nodes, planetoid
from jaxrnn.data.files import DataError


def load_error(name):
    with pytest.raises(DataError) as caught:
        planetoid.load(name)
    message = str(caught.value)
    assert message == " ".join(message.split())  # One line.
    return message


def with_value(matrix, value):
    matrix = matrix.copy()
    matrix.data[3] = value
    return matrix


def with_row(labels, row, value):
    labels = labels.copy()
    labels[row] = value
    return labels


def with_indices(matrix, indices):
    matrix = matrix.copy()
    matrix.indices = np.resize(indices, matrix.indices.shape)
    return matrix


def with_attributes(matrix, **attributes):
    for name, value in attributes.items():
        setattr(matrix, name, value)
    return matrix


EXAMPLE = example()


def lil_with(name, row):
    matrix = EXAMPLE["allx"].tolil()
    getattr(matrix, name)[3] = row
    return matrix


# --- The data sets by name


@pytest.mark.parametrize(
    ("name", "shape", "num_entries", "num_edges", "num_loops", "num_train", "class_sizes"),
    [
        # Yang et al. 2016, Table 1, and the numbers of edges, both ways, in the documentation of DGL.
        ("cora", (2708, 1433), 49216, 10556, 0, 140, [351, 217, 418, 818, 426, 298, 180]),
        ("citeseer", (3327, 3703), 105165, 9228, 124, 120, [249, 590, 668, 701, 596, 508]),
    ],
)
def test_the_citation_graphs_are_the_published_ones(
    name, shape, num_entries, num_edges, num_loops, num_train, class_sizes
):
    folder = Path(os.environ.get("JAXRNN_DATA_DIR", "/nowhere"), "planetoid")
    if not (folder / f"ind.{name}.graph").exists():
        pytest.skip(f"JAXRNN_DATA_DIR has no planetoid/ind.{name}.graph")
    task = planetoid.load(name)
    assert (task.features.shape, task.features.nnz) == (shape, num_entries)
    assert (len(task.edges.senders), task.num_classes) == (num_edges, len(class_sizes))
    assert (task.edges.senders == task.edges.receivers).sum() == num_loops
    assert [mask.sum() for mask in task.split] == [num_train, 500, 1000]
    labelled = task.labels >= 0
    np.testing.assert_array_equal(np.bincount(task.labels[labelled]), class_sizes)
    np.testing.assert_array_equal(np.bincount(task.labels[task.split.train]), 20)
    np.testing.assert_array_equal(np.flatnonzero(task.split.validation), num_train + np.arange(500))
    # The nodes that `test.index` leaves out are those without features; each has one neighbour or two.
    np.testing.assert_array_equal(~labelled, np.diff(task.features.indptr) == 0)
    degrees = np.bincount(task.edges.receivers, minlength=len(labelled))
    assert sorted(degrees[~labelled]) == ([1] * 14 + [2] if name == "citeseer" else [])
    assert planetoid.load(f"planetoid:{folder}/{name}").sha256 == task.sha256


def test_digests_are_checked_before_anything_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXRNN_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("JAXRNN_CACHE_DIR", str(tmp_path / "cache"))
    write(tmp_path / "planetoid", example(), name="cora")
    path = tmp_path / "planetoid" / "ind.cora.y"
    message = load_error("cora")
    assert str(path) in message
    assert hashlib.sha256(path.read_bytes()).hexdigest() in message


def test_an_unknown_name_lists_the_known_ones():
    message = load_error("corra")
    assert all(word in message for word in ("'corra'", "cora, citeseer", "planetoid:DIR/NAME"))


# --- The format


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("has_missing_nodes", [True, False])
def test_a_data_set_is_read_as_kipf_reads_it(has_missing_nodes, protocol, tmp_path):
    objects = example(test_nodes=(24, 20, 26, 21, 22, 25) if has_missing_nodes else (22, 20, 23, 21))
    task = planetoid.load(write(tmp_path, objects, protocol))
    expected = oracle(objects)
    num_nodes = len(expected.features)
    np.testing.assert_array_equal(task.features.toarray(), expected.features)
    assert (task.features.dtype, task.features.indices.dtype) == (np.float32, np.int32)
    assert task.features.has_canonical_format

    has_label = expected.labels.any(axis=1)
    assert (~has_label).sum() == has_missing_nodes
    np.testing.assert_array_equal(task.labels, np.where(has_label, expected.labels.argmax(axis=1), -1))
    assert (task.labels.dtype, task.num_classes) == (np.int32, 3)

    adjacency = scipy.sparse.coo_array(
        (np.ones(len(task.edges.senders), int), (task.edges.receivers, task.edges.senders)), (num_nodes, num_nodes)
    ).toarray()
    np.testing.assert_array_equal(adjacency, expected.adjacency)
    assert adjacency[0, 0] == 1  # The self-loop is there, once.

    train, validation, test = map(np.flatnonzero, task.split)
    assert (train.tolist(), validation.tolist()) == (list(range(6)), list(range(6, 20)))
    np.testing.assert_array_equal(test, expected.test)


def test_the_validation_nodes_are_the_500_after_the_training_nodes(tmp_path):
    task = planetoid.load(write(tmp_path, example(num_train=10, num_others=600, test_nodes=range(600, 620))))
    np.testing.assert_array_equal(np.flatnonzero(task.split.validation), np.arange(10, 510))


def test_isolated_nodes_need_no_entry_in_the_graph(tmp_path):
    for graph, pairs in (({3: [4]}, [[4, 3], [3, 4]]), ({}, [[], []])):
        task = planetoid.load(write(tmp_path, example(test_nodes=(22, 20, 23, 21)) | {"graph": graph}))
        assert [ends.tolist() for ends in task.edges] == pairs
        assert task.labels.shape == (24,)


def test_a_row_without_a_one_is_a_node_without_a_label(tmp_path):
    objects = example(num_others=600, test_nodes=(600, 601))
    objects["ally"][550] = 0
    assert planetoid.load(write(tmp_path, objects)).labels.tolist().index(-1) == 550


def test_features_may_be_all_zero(tmp_path):
    task = planetoid.load(write(tmp_path, example() | {"allx": scipy.sparse.csr_matrix((20, 8))}))
    assert not task.features[:20].nnz


def test_numbers_of_numpy_and_other_types_are_read(tmp_path):
    objects = example()
    objects["graph"] = {np.int64(node): list(np.array(ends)) for node, ends in objects["graph"].items()}
    objects["allx"] = objects["allx"].astype(np.uint8)
    objects["ally"] = np.asfortranarray(objects["ally"], dtype=">f8")
    objects["tx"] = scipy.sparse.csr_array(objects["tx"])
    task = planetoid.load(write(tmp_path / "other", objects))
    assert task.sha256 == planetoid.load(write(tmp_path / "small", example())).sha256


FORMS = {
    **{name: ("allx", lambda o, name=name: o["allx"].asformat(name)) for name in ("csc", "coo", "lil")},
    **{
        f"{name}_array": ("tx", lambda o, name=name: scipy.sparse.csr_array(o["tx"]).asformat(name))
        for name in ("coo", "lil")
    },
    "ndarray": ("allx", lambda o: o["allx"].toarray()),
    "matrix": ("tx", lambda o: o["tx"].todense()),
    "labels in a matrix": ("ally", lambda o: scipy.sparse.csr_matrix(o["ally"]).todense()),
    "sparse labels": ("ty", lambda o: scipy.sparse.csr_matrix(o["ty"])),
    **{
        f"neighbours in a {kind.__name__}": ("graph", lambda o, kind=kind: with_neighbours(o, kind))
        for kind in (set, frozenset, tuple)
    },
    "neighbours in a dict": ("graph", lambda o: with_neighbours(o, lambda ends: {end: {} for end in ends})),
    "neighbours in an array": ("graph", lambda o: with_neighbours(o, lambda ends: np.array(ends, int))),
    "defaultdict(set)": ("graph", lambda o: defaultdict(set, with_neighbours(o, set))),
    "OrderedDict": ("graph", lambda o: OrderedDict(o["graph"])),
}


def with_neighbours(objects, kind):
    return {node: kind(ends) for node, ends in objects["graph"].items()}


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("form", FORMS)
def test_what_other_libraries_read_is_read(form, protocol, tmp_path):
    part, change = FORMS[form]
    expected = planetoid.load(write(tmp_path / "usual", EXAMPLE)).sha256
    name = write(tmp_path / "other", EXAMPLE | {part: change(example())}, protocol)
    assert planetoid.load(name).sha256 == expected


def test_nodes_of_the_graph_alone_have_neither_features_nor_a_label(tmp_path):
    """As the relations in NELL, of which there are more than entities."""
    graph = {**EXAMPLE["graph"], **{node: [node - 27] for node in range(27, 77)}}
    task = planetoid.load(write(tmp_path, EXAMPLE | {"graph": graph}))
    assert task.features.shape == (77, 8)
    assert (task.features[27:].nnz, task.labels[27:].max()) == (0, -1)
    assert len(task.edges.senders) == len(planetoid.load(write(tmp_path / "less", EXAMPLE)).edges.senders) + 100
    assert [mask[27:].sum() for mask in task.split] == [0, 0, 0]


@pytest.mark.parametrize(
    ("purpose", "changes"),
    [
        ("train", {"y": EXAMPLE["y"][:0]}),
        (
            "validation",
            {"ally": EXAMPLE["ally"][:6], "allx": EXAMPLE["allx"][:6], "test.index": range(6, 12), "graph": {}},
        ),
        ("test", {"ty": EXAMPLE["ty"][:0], "tx": EXAMPLE["tx"][:0], "test.index": []}),
        ("test", {"ty": EXAMPLE["ty"] * 0}),
    ],
)
def test_a_random_split_needs_no_public_one(purpose, changes, tmp_path):
    objects = {**EXAMPLE, "graph": {0: [1]}, **changes}
    name = write(tmp_path, objects)
    with pytest.raises(DataError, match=f"no labelled node for {purpose}"):
        nodes.draw_split(name, "public", jax.random.key(0))
    sizes = graphs.SplitSizes(train_per_class=1, num_validation=2, num_test=3)
    assert [mask.sum() for mask in nodes.draw_split(name, "random", jax.random.key(0), sizes)] == [3, 2, 3]


def test_a_node_without_a_label_is_for_nothing(tmp_path):
    objects = EXAMPLE | {"ty": with_row(EXAMPLE["ty"], 5, 0), "ally": with_row(EXAMPLE["ally"], 8, 0)}
    task = planetoid.load(write(tmp_path, objects))
    assert [mask[[8, 25]].any() for mask in task.split] == [False] * 3
    assert task.labels[[8, 25]].tolist() == [-1, -1]


def test_a_pointer_of_git_lfs_is_told_from_damage(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n"
    assert "git lfs pull" in load_error(write(tmp_path, EXAMPLE | {"allx": pointer}))


@pytest.mark.parametrize(
    ("part", "content", "word"),
    [
        ("allx", Call(os.getcwd), "csr_matrix"),
        ("ally", EXAMPLE["ally"].argmax(axis=1), "np.eye(classes)[labels]"),
        ("ally", EXAMPLE["ally"].argmax(axis=1)[:, None], "np.eye(classes)[labels]"),
        ("graph", {"a": ["b"]}, "dict from the number"),
        ("test.index", pickle.dumps(EXAMPLE["test.index"]), "text"),
    ],
)
def test_a_message_says_what_to_convert_to(part, content, word, tmp_path):
    message = load_error(write(tmp_path, EXAMPLE | {part: content}))
    assert word in message.partition("; convert it to ")[2]


def python2_array(array):
    """An int32 matrix as Python 2 wrote it in protocol 2: bytes are a string, and NumPy's module has moved since."""
    raw = array.astype("<i4").tobytes()
    rows, columns = array.shape
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        + b"(K\x01K%cK%c\x86cnumpy\ndtype\nU\x02i4K\x00K\x01\x87R" % (rows, columns)
        + b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + b"T%btb." % (len(raw).to_bytes(4, "little") + raw)
    )


def test_the_pickles_of_python_2_are_read(tmp_path):
    objects = example(num_others=200, test_nodes=(200, 201))
    # Protocol 2 names modules in lines of their own.
    moved = {
        part: pickle.dumps(objects[part], 2).replace(b"._csr", b".csr").replace(b"numpy._core", b"numpy.core")
        for part in ("tx", "allx", "graph")
    }
    moved |= {part: python2_array(objects[part]) for part in ("y", "ty", "ally")}
    assert (
        planetoid.load(write(tmp_path / "old", moved | {"test.index": [200, 201]})).sha256
        == planetoid.load(write(tmp_path / "new", objects)).sha256
    )


# --- Files that cannot be used


def test_a_missing_file_is_named(tmp_path):
    name = write(tmp_path, example())
    path = tmp_path / "ind.small.ally"
    path.unlink()
    assert f"there is no {path}: planetoid:DIR/NAME" in load_error(name)


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("graph", EXAMPLE["graph"] | {0: [2**70]}),
        ("graph", EXAMPLE["graph"] | {0: ["1"]}),
        ("graph", EXAMPLE["graph"] | {0: [1.5]}),
        ("graph", {0: 1}),
        ("graph", EXAMPLE["y"]),
        ("allx", with_value(EXAMPLE["allx"], np.nan)),
        ("tx", with_value(EXAMPLE["tx"], 1e39)),
        ("allx", EXAMPLE["allx"].todok()),
        ("allx", EXAMPLE["allx"].toarray()[0]),
        ("allx", EXAMPLE["allx"].toarray().astype(object)),
        ("allx", lil_with("rows", [8])),
        ("allx", lil_with("rows", [1.5])),
        ("allx", lil_with("data", [1, 2, 3, 4, 5, 6, 7, 8, 9])),
        ("allx", with_attributes(EXAMPLE["allx"].tocoo(), row=np.full(EXAMPLE["allx"].nnz, 20))),
        ("allx", with_attributes(EXAMPLE["allx"].tocsc(), indptr=np.arange(9)[::-1])),
        ("allx", EXAMPLE["allx"].astype(complex)),
        ("allx", with_indices(EXAMPLE["allx"], 8)),
        ("allx", with_indices(EXAMPLE["allx"], 1.5)),
        ("ally", EXAMPLE["ally"] * 2),
        ("ty", with_row(EXAMPLE["ty"], 2, 1)),
        ("y", EXAMPLE["y"].argmax(axis=1)),
        ("y", EXAMPLE["y"].astype(object)),
        ("test.index", b"20 21 22 24 2x 26"),
    ],
)
def test_a_file_that_is_damaged_or_in_another_format_is_named(part, content, tmp_path):
    message = load_error(write(tmp_path, example() | {part: content}))
    assert message.startswith(f"{tmp_path}/ind.small.{part} is damaged or not in the Planetoid format")


@pytest.mark.parametrize(
    "changes",
    [
        {"graph": EXAMPLE["graph"] | {0: [27]}},
        {"graph": EXAMPLE["graph"] | {-1: [0]}},
        {"ally": EXAMPLE["ally"][::-1]},
        {"allx": EXAMPLE["allx"][:5]},
        {"tx": EXAMPLE["tx"][:, :7]},
        {"test.index": [20, 21, 22]},
        {"test.index": [20, 21, 22, 24, 25, 19]},
        {"test.index": [20, 21, 22, 24, 25, 24]},
        {"graph": {10**15: [0]}},
        {"test.index": [20, 21, 22, 24, 25, 10**15]},
    ],
)
def test_files_that_do_not_fit_each_other_are_refused(changes, tmp_path):
    assert f"{tmp_path}/small do not fit each other" in load_error(write(tmp_path, example() | changes))


# --- Pickles that want to run something


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("part", PICKLES)
def test_a_malicious_pickle_does_not_run(part, protocol, tmp_path):
    touched = tmp_path / "touched"
    raw = pickle.dumps(Call(os.system, f"touch {touched}"), protocol)
    assert "it asks for 'posix.system'" in load_error(write(tmp_path, example() | {part: raw}))
    assert not touched.exists()
    pickle.loads(raw)  # It would have.
    assert touched.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("__builtin__", "exec"),
        ("numpy", "ndarray.tofile"),
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("collections", "Counter"),
        ("jaxrnn.data.pickles", "Recorded"),
        ("a\nb", "c"),
    ],
)
def test_other_names_are_refused(module, name, tmp_path):
    """`STACK_GLOBAL`, with which names may have dots and line ends."""
    raw = b"\x80\x04" + b"".join(b"\x8c%c%b" % (len(text), text.encode()) for text in (module, name)) + b"\x93."
    assert f"asks for {f'{module}.{name}'!r}" in load_error(write(tmp_path, example() | {"graph": raw}))


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80\x02ccollections\ndefaultdict\ncollections\ndefaultdict\n\x85R}(U\x01ad}.",  # Leftovers on the stack.
        b"\x80\x02cnumpy\ndtype\nU\x01O\x85R.",
        b"\x80\x02ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R}U\x0b__class__.d\x00sb.",
        b"\x80\x02Q.",
        b"\x80\x04\x82\x01.",
    ],
)
def test_odd_uses_of_the_names_are_refused(raw, tmp_path):
    assert load_error(write(tmp_path, example() | {"graph": raw})).startswith(f"{tmp_path}/ind.small.graph")


def test_an_array_has_the_bytes_of_its_shape(tmp_path):
    raw = python2_array(np.eye(3, dtype=int)).replace(b"K\x03K\x03\x86", b"K\x03K\x09\x86")
    assert "ind.small.y is damaged" in load_error(write(tmp_path, example() | {"y": raw}))
