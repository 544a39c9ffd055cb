"""Citation graphs in the format of Planetoid (Yang, Cohen and Salakhutdinov 2016), with its public split.

A data set is eight files `ind.NAME.PART`. The features `tx` are those of the test nodes, `allx` those of all others,
and `x` those of the training nodes, with which `allx` begins; `ty`, `ally` and `y` are their labels, one-hot. `graph`
maps each node to a list of its neighbours. `test.index` has the numbers of the test nodes, in the order of `tx`; it is
text, the others are Python pickles.
"""

import io
import math
import pickle
import pickletools
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import scipy.sparse

from jaxrnn.data.files import DataError, read_if_there, read_known
from jaxrnn.data.graphs import Edges, NodeTask, Split, undirected

_T = TypeVar("_T")

_OWN = "planetoid:"
_NUM_VALIDATION = 500

_BASE_ADDRESS = "https://raw.githubusercontent.com/kimiyoung/planetoid/master/data/"

_PARTS = ("x", "y", "tx", "ty", "allx", "ally", "graph", "test.index")
_SHA256 = {
    "cora": {
        "x": "23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab",
        "y": "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
        "tx": "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a",
        "ty": "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad",
        "allx": "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543",
        "ally": "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71",
        "graph": "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d",
        "test.index": "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875",
    },
    "citeseer": {
        "x": "d20de19150741e555de0ed037195630fc194114ebc7fd72ced62810148aa22f6",
        "y": "8ba87e515d8e3ee3cf52f6d2c5b86aa73f11ecad825a808455209ec26cd54924",
        "tx": "539a8906a2da97628d212f2fdd668c109a8b3f0d36574b59e5d3fd5b5303da21",
        "ty": "55e5bd1ba1e733a04598753ad1a8d57957f4b8f89e74519f41f4f4938767e4ce",
        "allx": "2ac30345d95c9ec933a817ee0bdd6a5f077f8c184a20e696910192d534414668",
        "ally": "f704b2d986dde6c2669934de1f3ae5696a6cf9455c0f6b2646a2d135ea0a1c95",
        "graph": "d79a4ef9d3e7169aee8946145f6b7306e35bc79bffad26346cfb94e10e9912a7",
        "test.index": "2af990671580b6b2df5d158d1038f8292e30c9cd821b5453f399659b25b723d4",
    },
}


class _File(NamedTuple):
    path: Path
    raw: bytes


def load(name: str, data_dir: Path | None, cache_dir: Path) -> NodeTask:
    """Reads a data set with its public split.

    For training are the nodes of `y`, for validation the 500 that follow them in `ally` (all that do, where those are
    fewer), for the test those of `test.index`. A number that `test.index` leaves out, as it does 15 of Citeseer's, is a
    node without features and without a label. A row of zeros in `ally` is a node without a label. As in the GCN paper's
    code, edges go both ways and are merged where they are repeated, and a self-loop is kept as an edge (Citeseer has
    some, Cora none).

    Args:
        name: `cora` or `citeseer`, whose files are looked for as `planetoid/ind.NAME.PART` in `data_dir`, then in
            `cache_dir`, are else fetched into the latter, and must have the sha256 known here, which is checked before
            any of them is unpickled; or `planetoid:DIR/NAME` for any files `DIR/ind.NAME.PART`. Whatever a pickle asks
            for, no code of its choice runs.
        data_dir: where the user keeps data, if anywhere.
        cache_dir: where fetched files are kept; created when needed.

    Raises:
        DataError: there is no such data set; a file is missing, cannot be read, or is another than the name says; it
            is damaged; or the files do not fit each other. The message is one line and names the file.
    """
    if name in _SHA256:
        files = {part: _read_known(name, part, data_dir, cache_dir) for part in _PARTS}
    elif name.startswith(_OWN):
        path = Path(name.removeprefix(_OWN))
        files = {part: _read_own(path.parent / f"ind.{path.name}.{part}") for part in _PARTS}
    else:
        raise DataError(f"{name!r} is neither a known data set ({', '.join(_SHA256)}) nor {_OWN}DIR/NAME")
    return _assemble(name, files)


def at_hand(name: str, data_dir: Path | None, cache_dir: Path) -> bool:
    """Whether `load` finds all files of a data set known by `name` without fetching any."""
    folders = [folder for folder in (data_dir, cache_dir) if folder is not None]
    return all(any((folder / _place(name, part)).exists() for folder in folders) for part in _PARTS)


def _assemble(name: str, files: dict[str, _File]) -> NodeTask:
    features = {part: _parse(files[part], _features) for part in ("x", "tx", "allx")}
    labels = {part: _parse(files[part], _one_hot) for part in ("y", "ty", "ally")}
    test_nodes = _parse(files["test.index"], _test_index)
    graph = _parse(files["graph"], _neighbours)
    _check_that_they_fit(files, features, labels, test_nodes, graph)
    num_train, num_others = len(labels["y"]), len(labels["ally"])
    num_nodes = int(test_nodes.max()) + 1

    # Row i is of node i in `allx`, of node `test_nodes[i]` in `tx`; of nodes that are in neither it is the one added.
    num_classes, num_features = labels["ally"].shape[1], features["allx"].shape[1]
    rows = np.full(num_nodes, num_others + len(test_nodes))
    rows[:num_others] = np.arange(num_others)
    rows[test_nodes] = num_others + np.arange(len(test_nodes))
    no_features = scipy.sparse.csr_array((1, num_features), dtype=np.float32)
    all_features = scipy.sparse.vstack([features["allx"], features["tx"], no_features], format="csr")[rows]
    all_labels = np.concatenate([labels["ally"], labels["ty"], np.zeros((1, num_classes), bool)])[rows]

    nodes = np.arange(num_nodes)
    split = Split(
        train=nodes < num_train,
        validation=(nodes >= num_train) & (nodes < min(num_train + _NUM_VALIDATION, num_others)),
        test=np.isin(nodes, test_nodes),
    )
    has_label = all_labels.any(axis=1)
    for purpose, mask, part in zip(("training", "validation", "the test"), split, ("y", "ally", "ty"), strict=True):
        if not has_label[mask].all():
            raise DataError(
                f"{files[part].path}: node {nodes[mask & ~has_label][0]} is for {purpose}, but has no label"
            )
    return NodeTask(
        name=name,
        features=all_features,
        edges=_edges(graph, num_nodes),
        labels=np.where(has_label, all_labels.argmax(axis=1), -1).astype(np.int32),
        num_classes=num_classes,
        split=split,
    )


def _check_that_they_fit(
    files: dict[str, _File],
    features: dict[str, scipy.sparse.csr_array],
    labels: dict[str, np.ndarray],
    test_nodes: np.ndarray,
    graph: dict[int, list[int]],
) -> None:
    shapes: dict[str, tuple[int, ...]] = {"test.index": test_nodes.shape}
    shapes |= {part: matrix.shape for part, matrix in features.items()}
    shapes |= {part: matrix.shape for part, matrix in labels.items()}

    def check_same(axis: int, part: str, other: str) -> None:
        count, other_count = shapes[part][axis], shapes[other][axis]
        if count != other_count:
            what = ("rows", "columns")[axis]
            raise DataError(f"{files[part].path} has {count} {what}, but {files[other].path.name} has {other_count}")

    for part, other in (("x", "y"), ("tx", "ty"), ("allx", "ally"), ("test.index", "tx")):
        check_same(0, part, other)
    for part, other in (("x", "allx"), ("tx", "allx"), ("y", "ally"), ("ty", "ally")):
        check_same(1, part, other)
    num_train, num_others = len(labels["y"]), len(labels["ally"])
    if not np.array_equal(labels["ally"][:num_train], labels["y"]):
        raise DataError(f"{files['ally'].path} does not begin with the {num_train} rows of {files['y'].path.name}")
    num_test = len(test_nodes)
    for purpose, part, count in (
        ("training", "y", num_train),
        ("validation", "ally", num_others - num_train),
        ("the test", "ty", num_test),
    ):
        if count == 0:
            raise DataError(f"{files[part].path}: there is no node for {purpose}")
    first_node, last_node = test_nodes.min(), test_nodes.max()
    if first_node < num_others:
        raise DataError(
            f"{files['test.index'].path} has node {first_node}, which is one of the {num_others} in"
            f" {files['allx'].path.name}"
        )
    # Where nodes are missing, the graph has the others: a wrong number is not to become a billion missing nodes.
    num_found = num_others + num_test
    if last_node > max(chain([num_found - 1], _nodes(graph))):
        raise DataError(f"{files['test.index'].path} has node {last_node}, which {files['graph'].path.name} has not")
    if last_node >= 2 * num_found:
        raise DataError(
            f"{files['test.index'].path} has node {last_node}, but there are only {num_found} with features"
        )
    for node in _nodes(graph):
        if not 0 <= node <= last_node:
            raise DataError(
                f"{files['graph'].path} has an edge or an entry of node {node}, but nodes are 0 to {last_node}"
            )


# --- Parsing: each function raises DataError with what is wrong, or whatever a damaged file leads to.


def _parse(file: _File, parse: Callable[[bytes], _T]) -> _T:
    try:
        return parse(file.raw)
    except DataError as error:
        raise DataError(f"{file.path}: {error}") from error
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(f"{file.path} is truncated, damaged or not in the Planetoid format ({reason})") from error


def _features(raw: bytes) -> scipy.sparse.csr_array:
    matrix = _unpickle(raw, _Matrix)
    values, indices, indptr = (_values(matrix.state[field]) for field in ("data", "indices", "indptr"))
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise DataError("there are features that are not finite (NaN, infinite, or too large for float32)")
    num_rows, num_columns = matrix.state["_shape"]
    parts = values, indices.astype(np.int64, casting="safe"), indptr.astype(np.int64, casting="safe")
    if (np.diff(parts[2], prepend=0) < 0).any():  # SciPy looks at this only where the last of them is positive.
        raise DataError("where the rows begin does not increase")
    features = scipy.sparse.csr_array(parts, shape=(num_rows, num_columns))
    features.check_format(full_check=True)
    features.indices, features.indptr = scipy.sparse.safely_cast_index_arrays(features, np.int32)
    features.sum_duplicates()
    features.eliminate_zeros()
    return features


def _one_hot(raw: bytes) -> np.ndarray:
    """Bool `[n, C]`, at most one true in a row."""
    values = _values(_unpickle(raw, _Array))
    if values.ndim != 2 or values.shape[1] == 0:
        raise DataError(f"labels are a matrix of one column a class, not an array of shape {values.shape}")
    is_class = values == 1
    wrong = (~is_class & (values != 0)).any(axis=1) | (is_class.sum(axis=1) > 1)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"row {row} is not a label, which is a single 1 among zeros")
    return is_class


def _test_index(raw: bytes) -> np.ndarray:
    nodes = np.array([int(word) for word in raw.split()], np.int64)
    distinct, counts = np.unique(nodes, return_counts=True)
    if distinct.size < nodes.size:
        raise DataError(f"node {distinct[counts > 1][0]} is there twice")
    return nodes


def _neighbours(raw: bytes) -> dict[int, list[int]]:
    graph = _unpickle(raw, dict)
    if not all(isinstance(neighbours, list) for neighbours in graph.values()):
        raise DataError("neighbours are not in a list")
    for node in _nodes(graph):
        if not isinstance(node, int):
            raise DataError(f"a node is a number, not of type {type(node).__name__}")
    return graph


def _nodes(graph: dict[int, list[int]]) -> Iterator[int]:
    return chain(graph, chain.from_iterable(graph.values()))


def _edges(graph: dict[int, list[int]], num_nodes: int) -> Edges:
    nodes = np.repeat(np.array(list(graph), np.int64), [len(neighbours) for neighbours in graph.values()])
    neighbours = np.fromiter(chain.from_iterable(graph.values()), np.int64)
    return undirected(nodes, neighbours, num_nodes)


# --- Unpickling. What a pickle calls is found here, by name, and only keeps its arguments: no code of NumPy or SciPy
# runs on them, so a pickle can neither call a function of its choice nor make an array of memory that is not its own.


class _Dtype:
    def __init__(self, code: str, *_: object) -> None:
        self.code, self.byte_order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self.byte_order = state[1]


class _Array:
    def __init__(self, *_: object) -> None:
        self.state: tuple = ()

    def __setstate__(self, state: tuple) -> None:
        self.state = state


class _Matrix:
    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


def _from_buffer(raw: object, dtype: object, shape: object, order: object, axis_order: object = None) -> _Array:
    """An array in protocol 5, which Python 3.14 writes unless told otherwise."""
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", raw))
    return array


def _scalar(dtype: object, raw: object) -> object:
    array = _Array()
    array.__setstate__((1, (), dtype, False, raw))
    return _values(array).item()


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in the protocols of Python 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes are encoded as {encoding!r} instead of latin1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


_NAMES: dict[tuple[str, str], Callable] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    **{(f"scipy.sparse.{csr}", f"csr_{kind}"): _Matrix for csr in ("csr", "_csr") for kind in ("matrix", "array")},
    ("collections", "defaultdict"): defaultdict,
    **{(builtins, "list"): list for builtins in ("__builtin__", "builtins")},
    ("__builtin__", "bytes"): _no_bytes,
    ("_codecs", "encode"): _encode,
}


# In Python, not the default one in C: damaged bytes have ended the process there (a bytearray that is cut off).
class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Callable:
        try:
            return _NAMES[module, name]
        except KeyError:
            raise DataError(f"the pickle asks for {f'{module}.{name}'!r}, which this format does not need") from None


def _unpickle(raw: bytes, expected: type[_T]) -> _T:
    for _ in pickletools.genops(raw):
        pass  # A length that is beyond the end is noticed before there is memory taken for it.
    found = _Unpickler(io.BytesIO(raw), encoding="latin1").load()
    if not isinstance(found, expected):
        what = {_Matrix: "a CSR matrix", _Array: "an array", dict: "a dictionary"}
        raise DataError(f"the pickle holds {what.get(type(found), type(found).__name__)} instead of {what[expected]}")
    return found


def _values(array: _Array) -> np.ndarray:
    """The numbers in an array; read-only."""
    _, shape, dtype, is_fortran, raw = array.state
    if dtype.code not in {f"{kind}{size}" for kind in "iuf" for size in (1, 2, 4, 8)} | {"b1"}:
        raise DataError(f"there is an array of type {dtype.code!r}, not of numbers")
    buffer = raw.encode("latin1") if isinstance(raw, str) else memoryview(raw)  # Python 2's bytes are text by now.
    numbers = np.dtype(dtype.code).newbyteorder(dtype.byte_order)
    if len(buffer) != math.prod(shape) * numbers.itemsize:
        raise DataError(f"there is an array of shape {shape} with {len(buffer)} bytes")
    return np.ndarray(shape, numbers, buffer, order="F" if is_fortran else "C")


# --- Reading.


def _read_own(path: Path) -> _File:
    raw = read_if_there(path)
    if raw is None:
        raise DataError(
            f"there is no {path.absolute()}: {_OWN}DIR/NAME is a folder DIR with files ind.NAME.x,"
            f" for each of {', '.join(_PARTS)}"
        )
    return _File(path, raw)


def _read_known(name: str, part: str, data_dir: Path | None, cache_dir: Path) -> _File:
    address = f"{_BASE_ADDRESS}ind.{name}.{part}"
    return _File(*read_known(_place(name, part), address, _SHA256[name][part], data_dir, cache_dir))


def _place(name: str, part: str) -> str:
    return f"planetoid/ind.{name}.{part}"
