"""The oracles are published numbers and Kipf's loader, written out on dense arrays."""

import functools
import hashlib
import http.server
import os
import pickle
import socket
import threading
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse

from jaxrnn.data import planetoid
from jaxrnn.data.files import DataError

PARTS = ("x", "y", "tx", "ty", "allx", "ally", "graph", "test.index")
PICKLES = PARTS[:-1]


def one_hot(labels, num_classes):
    return np.eye(num_classes, dtype=np.int32)[labels]


def example(num_train=6, num_others=20, test_nodes=(24, 20, 26, 21, 22, 25), num_classes=3, num_features=8, seed=0):
    """The eight objects of a small data set; node 23 is missing, unless the test nodes are others."""
    rng = np.random.default_rng(seed)
    num_nodes = max(test_nodes) + 1
    values = rng.integers(1, 5, (num_nodes, num_features)) * (rng.random((num_nodes, num_features)) < 0.4)
    features = scipy.sparse.csr_matrix(values.astype(np.float64))
    labels = one_hot(rng.permutation(np.arange(num_nodes) % num_classes), num_classes)
    present = [*range(num_others), *test_nodes]
    graph = defaultdict(list)
    for node in range(num_nodes):
        graph[node] = rng.choice(present, 3).tolist() if node in present else []
    graph[0] += [0, 1, 1]
    return {
        "x": features[:num_train],
        "y": labels[:num_train],
        "tx": features[list(test_nodes)],
        "ty": labels[list(test_nodes)],
        "allx": features[:num_others],
        "ally": labels[:num_others],
        "graph": graph,
        "test.index": list(test_nodes),
    }


def write(folder, objects, protocol=2, name="small"):
    """`objects` may be bytes already."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, content in objects.items():
        raw = content
        if part == "test.index" and not isinstance(content, bytes):
            raw = "".join(f"{node}\n" for node in content).encode()
        elif not isinstance(content, bytes):
            raw = pickle.dumps(content, protocol)
        (folder / f"ind.{name}.{part}").write_bytes(raw)
    return f"planetoid:{folder}/{name}"


def load(name):
    return planetoid.load(name, None, Path("/nowhere"))


def load_error(*args):
    with pytest.raises(DataError) as caught:
        planetoid.load(*args) if len(args) > 1 else load(*args)
    message = str(caught.value)
    assert message == " ".join(message.split())  # One line.
    return message


def oracle(objects):
    """Kipf's `load_data` for Citeseer (github.com/tkipf/gcn, utils.py), on dense arrays."""
    reordered = np.array(objects["test.index"])
    test_range = np.sort(reordered)
    full_range = range(test_range[0], test_range[-1] + 1)
    tx, ty = objects["tx"].toarray(), objects["ty"]
    tx_extended = np.zeros((len(full_range), tx.shape[1]))
    ty_extended = np.zeros((len(full_range), ty.shape[1]))
    tx_extended[test_range - test_range[0]] = tx
    ty_extended[test_range - test_range[0]] = ty
    features = np.vstack([objects["allx"].toarray(), tx_extended])
    labels = np.vstack([objects["ally"], ty_extended])
    features[reordered] = features[test_range]
    labels[reordered] = labels[test_range]
    adjacency = np.zeros((len(features), len(features)), int)
    for node, neighbours in objects["graph"].items():
        for neighbour in neighbours:
            adjacency[node, neighbour] = adjacency[neighbour, node] = 1
    return SimpleNamespace(features=features, labels=labels, adjacency=adjacency, test=test_range)


# --- The data sets by name


@pytest.mark.parametrize(
    ("name", "shape", "num_entries", "num_edges", "sizes", "class_sizes"),
    [
        # Yang et al. 2016, Table 1, and the numbers of edges, both ways, in the documentation of DGL.
        ("cora", (2708, 1433), 49216, 10556, [140, 500, 1000], [351, 217, 418, 818, 426, 298, 180]),
        ("citeseer", (3327, 3703), 105165, 9228, [120, 500, 1000], [249, 590, 668, 701, 596, 508]),
    ],
)
def test_the_citation_graphs_are_the_published_ones(name, shape, num_entries, num_edges, sizes, class_sizes, tmp_path):
    if "JAXRNN_DATA_DIR" not in os.environ:
        pytest.skip("JAXRNN_DATA_DIR is not set")
    data_dir = Path(os.environ["JAXRNN_DATA_DIR"])
    if not (data_dir / "planetoid" / f"ind.{name}.graph").exists():
        pytest.skip(f"JAXRNN_DATA_DIR has no planetoid/ind.{name}.graph")
    task = planetoid.load(name, data_dir, tmp_path)
    assert (task.name, task.features.shape, task.features.nnz) == (name, shape, num_entries)
    assert (len(task.edges.senders), task.num_classes) == (num_edges, len(class_sizes))
    assert [mask.sum() for mask in task.split] == sizes
    labelled = task.labels >= 0
    np.testing.assert_array_equal(np.bincount(task.labels[labelled]), class_sizes)
    np.testing.assert_array_equal(np.bincount(task.labels[task.split.train]), 20)
    np.testing.assert_array_equal(np.flatnonzero(task.split.validation), sizes[0] + np.arange(500))
    # A missing node has nothing.
    missing = np.flatnonzero(~labelled)
    assert not task.features[missing].nnz
    assert not np.isin(task.edges.senders, missing).any()
    assert load(f"planetoid:{data_dir}/planetoid/{name}").sha256 == task.sha256


@pytest.fixture
def tiny(monkeypatch):
    """A data set of our own under the name of Cora, and no network: its address is a port that nobody listens to."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(planetoid, "_BASE_ADDRESS", f"http://127.0.0.1:{unused.getsockname()[1]}/")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def write_tiny(folder):
        write(folder, example(), name="cora")
        digests = {part: hashlib.sha256((folder / f"ind.cora.{part}").read_bytes()).hexdigest() for part in PARTS}
        monkeypatch.setitem(planetoid._SHA256, "cora", digests)
        return folder

    return write_tiny


@pytest.mark.parametrize("place", ["data", "cache"])
def test_known_files_are_found_in_both_folders(place, tmp_path, tiny):
    tiny(tmp_path / place / "planetoid")
    task = planetoid.load("cora", tmp_path / "data", tmp_path / "cache")
    assert (task.name, task.features.shape) == ("cora", (27, 8))


def test_files_are_fetched_once(tmp_path, tiny, monkeypatch):
    requested = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            requested.append(self.path)

    handler = functools.partial(Handler, directory=str(tiny(tmp_path / "served")))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(planetoid, "_BASE_ADDRESS", f"http://127.0.0.1:{server.server_port}/")
        tasks = [planetoid.load("cora", tmp_path / "data", tmp_path / "cache") for _ in range(2)]
        (tmp_path / "served" / "ind.cora.y").write_bytes(b"another")
        message = load_error("cora", None, tmp_path / "cache2")
        server.shutdown()
        thread.join()
    assert requested[:8] == [f"/ind.cora.{part}" for part in PARTS]
    assert requested[8:] == ["/ind.cora.x", "/ind.cora.y"]
    assert tasks[0].sha256 == tasks[1].sha256
    assert sorted(path.name for path in (tmp_path / "cache" / "planetoid").iterdir()) == sorted(
        f"ind.cora.{part}" for part in PARTS
    )
    assert "/ind.cora.y holds another file than the one known here" in message
    assert [path.name for path in (tmp_path / "cache2" / "planetoid").iterdir()] == ["ind.cora.x"]


def test_without_network_the_message_says_where_to_put_the_file(tmp_path, tiny):
    (tiny(tmp_path / "data" / "planetoid") / "ind.cora.tx").unlink()
    message = load_error("cora", tmp_path / "data", tmp_path / "cache")
    looked_for = [tmp_path / folder / "planetoid" / "ind.cora.tx" for folder in ("data", "cache")]
    assert f"there is no {looked_for[0]} or {looked_for[1]}, and it cannot be fetched: save http" in message
    assert "/ind.cora.tx as DIR/planetoid/ind.cora.tx and give --data_dir=DIR or JAXRNN_DATA_DIR=DIR" in message


@pytest.mark.parametrize("part", PARTS)
def test_every_digest_is_checked_before_anything_is_unpickled(part, tmp_path, tiny, monkeypatch):
    path = tiny(tmp_path / "planetoid") / f"ind.cora.{part}"
    known = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes() + b"\n")
    monkeypatch.setattr(planetoid, "_Unpickler", None)
    message = load_error("cora", tmp_path, tmp_path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert f"{path} is another file than the one known here: its sha256 is {digest} instead of {known};" in message


def test_an_unknown_name_lists_the_known_ones():
    assert load_error("corra") == "'corra' is neither a known data set (cora, citeseer) nor planetoid:DIR/NAME"


# --- The format


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("has_missing_nodes", [True, False])
def test_a_data_set_is_read_as_kipf_reads_it(has_missing_nodes, protocol, tmp_path):
    objects = example(test_nodes=(24, 20, 26, 21, 22, 25) if has_missing_nodes else (22, 20, 23, 21))
    task = load(write(tmp_path, objects, protocol))
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
    task = load(write(tmp_path, example(num_train=10, num_others=600, test_nodes=range(600, 620))))
    np.testing.assert_array_equal(np.flatnonzero(task.split.validation), np.arange(10, 510))


def test_isolated_nodes_need_no_entry_in_the_graph(tmp_path):
    for graph, pairs in (({3: [4]}, [[4, 3], [3, 4]]), ({}, [[], []])):
        task = load(write(tmp_path, example(test_nodes=(22, 20, 23, 21)) | {"graph": graph}))
        assert [ends.tolist() for ends in task.edges] == pairs
        assert task.labels.shape == (24,)


def test_a_row_without_a_one_is_a_node_without_a_label(tmp_path):
    objects = example(num_others=600, test_nodes=(600, 601))
    objects["ally"][550] = 0
    assert load(write(tmp_path, objects)).labels.tolist().index(-1) == 550


def test_numbers_of_numpy_and_other_types_are_read(tmp_path):
    objects = example()
    objects["graph"] = {np.int64(node): list(np.array(ends)) for node, ends in objects["graph"].items()}
    objects["allx"] = objects["allx"].astype(np.uint8)
    objects["ally"] = np.asfortranarray(objects["ally"], dtype=">f8")
    objects["tx"] = scipy.sparse.csr_array(objects["tx"])
    task = load(write(tmp_path / "other", objects))
    assert task._replace(name="").sha256 == load(write(tmp_path / "small", example())).sha256


def test_features_may_be_all_zero(tmp_path):
    task = load(write(tmp_path, example() | {"allx": scipy.sparse.csr_matrix((20, 8))}))
    assert not task.features[:20].nnz


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
        for part in ("x", "tx", "allx", "graph")
    }
    moved |= {part: python2_array(objects[part]) for part in ("y", "ty", "ally")}
    assert (
        load(write(tmp_path / "old", moved | {"test.index": [200, 201]})).sha256
        == load(write(tmp_path / "new", objects)).sha256
    )


# --- Files that cannot be used


def test_a_missing_file_is_named(tmp_path):
    name = write(tmp_path, example())
    path = tmp_path / "ind.small.ally"
    path.unlink()
    assert load_error(name) == (
        f"there is no {path}: planetoid:DIR/NAME is a folder DIR with files ind.NAME.x,"
        " for each of x, y, tx, ty, allx, ally, graph, test.index"
    )
    path.mkdir()
    assert load_error(name) == f"cannot read {path}: Is a directory"


@pytest.mark.parametrize("part", PICKLES)
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_file_cut_anywhere_is_named(part, protocol, tmp_path):
    name = write(tmp_path, example(), protocol)
    path = tmp_path / f"ind.small.{part}"
    raw = path.read_bytes()
    for size in {*range(0, len(raw), 31), len(raw) - 1}:
        path.write_bytes(raw[:size])
        assert load_error(name).startswith(f"{path} is truncated, damaged or not in the Planetoid format (")


def test_damage_is_an_error_or_another_task_but_nothing_else(tmp_path):
    name = write(tmp_path, example())
    rng = np.random.default_rng(0)
    num_errors = 0
    for part in PARTS:
        path = tmp_path / f"ind.small.{part}"
        raw = path.read_bytes()
        for _ in range(25):
            damaged = bytearray(raw)
            damaged[rng.integers(len(raw))] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                task = load(name)
            except DataError as error:
                num_errors += 1
                assert "ind.small." in str(error)
            else:
                assert np.isfinite(task.features.data).all()
                assert max(task.edges.senders) < len(task.labels)
        path.write_bytes(raw)
    assert num_errors > 40


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


EXAMPLE = example()
NOT_FINITE = "there are features that are not finite (NaN, infinite, or too large for float32)"


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        ("graph", EXAMPLE["graph"] | {0: [27]}, "graph has an edge or an entry of node 27, but nodes are 0 to 26"),
        ("graph", EXAMPLE["graph"] | {0: [-1]}, "graph has an edge or an entry of node -1, but nodes are 0 to 26"),
        ("graph", EXAMPLE["graph"] | {27: []}, "graph has an edge or an entry of node 27, but nodes are 0 to 26"),
        (
            "graph",
            EXAMPLE["graph"] | {0: [2**70]},
            f"graph has an edge or an entry of node {2**70}, but nodes are 0 to 26",
        ),
        ("graph", EXAMPLE["graph"] | {0: ["1"]}, "graph: a node is a number, not of type str"),
        ("graph", EXAMPLE["graph"] | {0: [1.0]}, "graph: a node is a number, not of type float"),
        ("graph", {0: 1}, "graph: neighbours are not in a list"),
        ("graph", [[1]], "graph: the pickle holds list instead of a dictionary"),
        ("graph", EXAMPLE["y"], "graph: the pickle holds an array instead of a dictionary"),
        ("allx", with_value(EXAMPLE["allx"], np.nan), f"allx: {NOT_FINITE}"),
        ("tx", with_value(EXAMPLE["tx"], -np.inf), f"tx: {NOT_FINITE}"),
        ("x", with_value(EXAMPLE["x"], 1e39), f"x: {NOT_FINITE}"),
        ("allx", EXAMPLE["ally"], "allx: the pickle holds an array instead of a CSR matrix"),
        ("allx", EXAMPLE["allx"].tocsc(), "allx: the pickle asks for 'scipy.sparse._csc.csc_matrix', which"),
        ("allx", EXAMPLE["allx"].astype(complex), "allx: there is an array of type 'c16', not of numbers"),
        ("allx", with_indices(EXAMPLE["allx"], 8), "allx is truncated, damaged or not in the Planetoid format ("),
        ("allx", with_indices(EXAMPLE["allx"], 2**40), "allx is truncated, damaged or not in the Planetoid format ("),
        ("allx", with_indices(EXAMPLE["allx"], 1.5), "allx is truncated, damaged or not in the Planetoid format ("),
        ("ally", EXAMPLE["ally"] * 2, "ally: row 0 is not a label, which is a single 1 among zeros"),
        ("ty", with_row(EXAMPLE["ty"], 2, 1), "ty: row 2 is not a label, which is a single 1 among zeros"),
        ("ty", with_row(EXAMPLE["ty"], 5, -1), "ty: row 5 is not a label, which is a single 1 among zeros"),
        ("ty", with_row(EXAMPLE["ty"], 5, 0), "ty: node 25 is for the test, but has no label"),
        ("ally", with_row(EXAMPLE["ally"], 8, 0), "ally: node 8 is for validation, but has no label"),
        ("ally", EXAMPLE["ally"][::-1], "ally does not begin with the 6 rows of ind.small.y"),
        ("y", EXAMPLE["y"].argmax(axis=1), "y: labels are a matrix of one column a class, not an array of shape (6,)"),
        ("y", EXAMPLE["y"].astype(object), "y: there is an array of type 'O8', not of numbers"),
        ("y", EXAMPLE["y"].astype(str), "y: there is an array of type 'U11', not of numbers"),
        ("y", EXAMPLE["y"][:5], "x has 6 rows, but ind.small.y has 5"),
        ("tx", EXAMPLE["tx"][:5], "tx has 5 rows, but ind.small.ty has 6"),
        ("allx", EXAMPLE["allx"][:5], "allx has 5 rows, but ind.small.ally has 20"),
        ("tx", EXAMPLE["tx"][:, :7], "tx has 7 columns, but ind.small.allx has 8"),
        ("ty", EXAMPLE["ty"][:, :2], "ty has 2 columns, but ind.small.ally has 3"),
        ("test.index", [20, 21, 22], "test.index has 3 rows, but ind.small.tx has 6"),
        ("test.index", [20, 21, 22, 24, 25, 19], "test.index has node 19, which is one of the 20 in ind.small.allx"),
        ("test.index", [20, 21, 22, 24, 25, 24], "test.index: node 24 is there twice"),
        (
            "test.index",
            [20, 21, 22, 24, 25, 10**12],
            "test.index has node 1000000000000, which ind.small.graph has not",
        ),
        ("test.index", b"20 21 22 24 2x 26", "test.index is truncated, damaged or not in the Planetoid format ("),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_file(part, content, message, tmp_path):
    assert load_error(write(tmp_path, example() | {part: content})).startswith(f"{tmp_path}/ind.small.{message}")


def test_most_nodes_are_there(tmp_path):
    graph = {**EXAMPLE["graph"], 10**15: []}
    path = write(tmp_path, example() | {"graph": graph, "test.index": [20, 21, 22, 24, 25, 10**15]})
    expected = "test.index has node 1000000000000000, but there are only 26 with features"
    assert load_error(path) == f"{tmp_path}/ind.small.{expected}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": EXAMPLE["x"][:0], "y": EXAMPLE["y"][:0]}, "y: there is no node for training"),
        ({"x": EXAMPLE["allx"], "y": EXAMPLE["ally"]}, "ally: there is no node for validation"),
        (
            {"tx": EXAMPLE["tx"][:0], "ty": EXAMPLE["ty"][:0], "test.index": []},
            "ty: there is no node for the test",
        ),
    ],
)
def test_a_mask_without_a_node_is_refused(changes, message, tmp_path):
    assert load_error(write(tmp_path, example() | changes)) == f"{tmp_path}/ind.small.{message}"


# --- Pickles that want to run something


class Call:
    """Calls a function when it is unpickled as usual."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("part", PICKLES)
def test_a_malicious_pickle_does_not_run(part, protocol, tmp_path):
    touched = tmp_path / "touched"
    malicious = Call(os.system, f"touch {touched}")
    raw = pickle.dumps(malicious, protocol)
    name = write(tmp_path, example() | {part: raw})
    assert load_error(name) == (
        f"{tmp_path}/ind.small.{part}: the pickle asks for 'posix.system', which this format does not need"
    )
    assert not touched.exists()
    pickle.loads(raw)  # It would have.
    assert touched.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("__builtin__", "exec"),
        ("numpy", "load"),
        ("numpy", "ndarray.tofile"),
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("numpy.lib.npyio", "DataSource"),
        ("collections", "Counter"),
        ("functools", "partial"),
        ("scipy.sparse", "csr_matrix"),
        ("jaxrnn.data.planetoid", "_Array"),
        ("a\nb", "c"),
    ],
)
def test_other_names_are_refused(module, name, tmp_path):
    """`STACK_GLOBAL`, with which names may have dots and line ends."""
    raw = b"\x80\x04" + b"".join(b"\x8c%c%b" % (len(text), text.encode()) for text in (module, name)) + b"\x93."
    message = load_error(write(tmp_path, example() | {"graph": raw}))
    assert message == (
        f"{tmp_path}/ind.small.graph: the pickle asks for {f'{module}.{name}'!r}, which this format does not need"
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80\x02ccollections\ndefaultdict\nccollections\ndefaultdict\n\x85R}(U\x01ad}.",  # Leftovers on the stack.
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.",
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
    message = load_error(write(tmp_path, example() | {"y": raw}))
    assert message == f"{tmp_path}/ind.small.y: there is an array of shape (3, 9) with 36 bytes"
