"""Citation graphs in the format of Planetoid (Yang, Cohen and Salakhutdinov 2016), with its public split.

A data set has files `ind.NAME.PART`. The features `tx` belong to the test nodes, `allx` to all others; `ty` and `ally`
are their labels, one-hot, and `y` those of the training nodes, with which `ally` begins. (Their features, `x`, are not
read: `allx` begins with them.) `graph` maps each node to a list of its neighbours. `test.index` has the numbers of the
test nodes, in the order of `tx`. It is text; the other files are Python pickles.
"""

from collections.abc import Callable
from itertools import chain
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
import scipy  # Its parts load when they are first used.

from jaxrnn.data.files import DataError, expand, read_if_there, read_known
from jaxrnn.data.graphs import NodeTask, Split, undirected
from jaxrnn.data.pickles import Recorded, to_array, to_matrix, unpickle

OWN = "planetoid:"
_NUM_VALIDATION = 500
KNOWN = ("cora", "citeseer")


def load(name: str) -> NodeTask:
    """Reads a data set with its public split.

    The training nodes are those of `y`; the next 500 of `ally`, or as many as there are, are for validation; those of
    `test.index` are for the test. A node without a label, a row of zeros, is in none of the masks, so a mask may be
    empty. A number that only `graph` has, or that `test.index` lacks, as Citeseer's lacks 15, is a node without
    features and without a label. As in the GCN paper's code, edges go both ways, repeated edges are merged, and
    self-loops stay (Citeseer has some, Cora none).

    Args:
        name: `cora` or `citeseer`, the known files `planetoid/ind.NAME.PART` (see `jaxrnn.data.files`), whose digests
            are checked before anything is unpickled; or `planetoid:DIR/NAME` for any files `DIR/ind.NAME.PART`. A
            pickle cannot run code of its choice.

    Raises:
        DataError: there is no such data set, a file is missing, damaged or not the known one, or the files do not fit.
    """
    y, tx, ty, allx, ally, graph, test_nodes = (_parse(part, *file) for part, file in _read(name).items())

    def require(is_right: Any, what: str) -> None:
        if not is_right:
            raise DataError(f"the files of {name} do not fit each other: {what}")

    (num_train, num_others, num_test), num_classes = map(len, (y, ally, test_nodes)), ally.shape[1]
    shapes = [array.shape for array in (allx, ally, tx, ty)]
    fitting = [(n, width) for n in (num_others, num_test) for width in (allx.shape[1], num_classes)]
    require(shapes == fitting, f"`allx`, `ally`, `tx` and `ty` have the shapes {shapes}")
    require(np.array_equal(ally[:num_train], y), "`ally` does not begin with the rows of `y`")
    is_new = (test_nodes >= num_others).all() and len(np.unique(test_nodes)) == num_test
    require(is_new, "`test.index` has a node twice, or one of `allx`")

    entries, ends = graph
    known = np.unique(np.concatenate([np.arange(num_others), test_nodes, entries]))
    num_nodes = int(known.max(initial=-1)) + 1
    # Only a few nodes are in no file: a wrong number must not create a billion of them.
    is_dense = known.min(initial=0) >= 0 and num_nodes <= 2 * len(known)
    require(is_dense, "`test.index` or `graph` has a node below 0, or one far beyond the others")
    is_node = (ends >= 0) & (ends < num_nodes)
    require(is_node.all(), f"`graph` has a neighbour that is not one of the nodes 0 to {num_nodes - 1}")

    # The row of each node in `allx` followed by `tx` and by a row of zeros, for missing nodes.
    rows = np.full(num_nodes, num_others + num_test)
    rows[:num_others] = np.arange(num_others)
    rows[test_nodes] = num_others + np.arange(num_test)
    no_features = scipy.sparse.csr_array((1, allx.shape[1]), dtype=np.float32)
    is_class = np.concatenate([ally, ty, np.zeros((1, num_classes), bool)])[rows]

    nodes, has_label = np.arange(num_nodes), is_class.any(axis=1)
    return NodeTask(
        features=scipy.sparse.vstack([allx, tx, no_features], format="csr")[rows],
        edges=undirected(ends[0], ends[1], num_nodes),
        labels=np.where(has_label, is_class.argmax(axis=1), -1).astype(np.int32),
        num_classes=num_classes,
        split=Split(
            train=has_label & (nodes < num_train),
            validation=has_label & (nodes >= num_train) & (nodes < min(num_train + _NUM_VALIDATION, num_others)),
            test=has_label & np.isin(nodes, test_nodes),
        ),
    )


def _read(name: str) -> dict[str, tuple[Path, bytes]]:
    """The path and the bytes of each part."""
    if name in KNOWN:
        return {part: read_known(f"planetoid/ind.{name}.{part}") for part in _PARSERS}
    if not name.startswith(OWN):
        raise DataError(f"{name!r} is neither a known data set ({', '.join(KNOWN)}) nor {OWN}DIR/NAME")
    own, files = expand(name.removeprefix(OWN)), {}
    for part in _PARSERS:
        path = own.parent / f"ind.{own.name}.{part}"
        if (raw := read_if_there(path)) is None:
            raise DataError(f"there is no {path.absolute()}: {OWN}DIR/NAME has files DIR/ind.NAME.PART")
        files[part] = path, raw
    return files


def _parse(part: str, path: Path, raw: bytes) -> Any:
    """Arrays of a part; damaged bytes can raise any exception."""
    parse, form = _PARSERS[part]
    try:
        return parse(raw)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(
            f"{path} is damaged or not in the Planetoid format ({reason[:200]}); convert it to {form}"
        ) from error


def _features(raw: bytes) -> "scipy.sparse.csr_array":
    features = to_matrix(unpickle(raw))
    if not np.abs(features.data).max(initial=0) <= np.finfo(np.float32).max:
        raise ValueError("there are features that are not finite (NaN, infinite, or too large for float32)")
    features = features.astype(np.float32)
    features.eliminate_zeros()
    return features


def _one_hot(raw: bytes) -> np.ndarray:
    """Bool `[n, C]`, at most one true in a row."""
    values = to_matrix(unpickle(raw)).toarray()
    is_class = values == 1
    if (values != is_class).any() or (is_class.sum(axis=1) > 1).any():
        raise ValueError("labels are rows with a single 1 among zeros, or of zeros alone")
    return is_class


def _graph(raw: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The nodes that have an entry, int64 `[n]`, and each of them with each neighbour, int64 `[2, m]`."""
    neighbours = {
        index(node): to_array(others) if isinstance(others, Recorded) else others
        for node, others in unpickle(raw).items()
    }
    entries = np.fromiter(neighbours, np.int64, len(neighbours))
    degrees = np.fromiter(map(len, neighbours.values()), np.int64, len(neighbours))
    others = np.fromiter(map(index, chain.from_iterable(neighbours.values())), np.int64, degrees.sum())
    return entries, np.stack([np.repeat(entries, degrees), others])


_MATRIX = "a pickle of a scipy.sparse.csr_matrix or of a NumPy array of numbers, [nodes, features]"
_LABELS = "a pickle of a NumPy array of zeros and ones, [nodes, classes], as np.eye(classes)[labels] makes it"
_PARSERS: dict[str, tuple[Callable[[bytes], Any], str]] = {
    **{"y": (_one_hot, _LABELS), "tx": (_features, _MATRIX), "ty": (_one_hot, _LABELS)},
    **{"allx": (_features, _MATRIX), "ally": (_one_hot, _LABELS)},
    "graph": (_graph, "a pickle of a dict from the number of each node to a list of its neighbours' numbers"),
    "test.index": (lambda raw: np.array(raw.split(), np.int64), "text, with the number of a node in each line"),
}
"""How each part is read, and what it should be."""
