"""The user's own graphs for node classification: arrays in a `.npz` file, or in a folder of `.csv` files.

`edges` has a row for each edge, with the numbers of its two ends; `features` and `labels` have a row for each node. A
row of `edges` in a `.csv` file may also have a weight. The optional arrays are `features`, `weights` of the edges, and
for a public split `train_mask`, `validation_mask` and `test_mask`.

The names of other formats are read too: those of PyTorch Geometric (`edge_index`, `x`, `y`, `val_mask`), and the sparse
matrices of Shchur et al. 2018 (`adj_data`, `adj_indices`, `adj_indptr`; `attr_data` and so on, or
`attr_matrix`).
"""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy  # Its parts load when they are first used.

from jaxrnn.data.files import DataError, expand, read_if_there
from jaxrnn.data.graphs import NodeTask, Split, identity, largest_weights, undirected

_NAMES = {
    "edges": ("edges", "edge_index"),
    "features": ("features", "x", "node_features", "attr_matrix"),
    "labels": ("labels", "y", "node_labels"),
    "weights": ("weights", "edge_weight"),
    "train": ("train_mask",),
    "validation": ("validation_mask", "val_mask"),
    "test": ("test_mask",),
}
_SPARSE = {"edges": ("adj_", "adj_matrix."), "features": ("attr_", "attr_matrix.")}
"""What the names of the parts of a sparse matrix begin with."""


def load(name: str) -> NodeTask:
    """Reads `FILE.npz`, or the `.csv` files of a folder; nothing in them can run code.

    Edges go both ways. A repeated edge has the largest of its weights, and an edge of weight 0 is left out. Labels are
    integers or texts, in one column or one-hot; the classes are the different labels in sorted order. A negative
    number, NaN or an empty text means that the node has no label; it is then in no mask. Without `features`, the
    features are the identity.

    Raises:
        DataError: there is no such file, or it cannot be used; the message is one line.
    """
    path = expand(name)
    try:
        arrays = _read_folder(path) if path.is_dir() else _read_npz(path)
        return _task(arrays)
    except DataError:
        raise
    except Exception as error:  # Damaged bytes can raise anything.
        raise DataError(f"{path}: {' '.join(str(error).split())[:300] or type(error).__name__}") from error


def _read_npz(path: Path) -> dict[str, Any]:
    if (raw := read_if_there(path)) is None:
        raise DataError(f"there is no {path.absolute()}")
    if not raw.startswith(b"PK"):
        raise ValueError(
            "is not a .npz file; write one with np.savez(FILE, edges=..., features=..., labels=...), or give a folder"
            " with edges.csv, features.csv and labels.csv"
        )
    with np.load(io.BytesIO(raw), allow_pickle=False) as file:
        found: dict[str, Any] = {
            part: file[name] for part, names in _NAMES.items() for name in names if name in file.files
        }
        for part, prefixes in _SPARSE.items():
            for prefix in prefixes:
                if f"{prefix}indptr" in file.files:
                    found[part] = _matrix({key: file[prefix + key] for key in ("data", "indices", "indptr", "shape")})
        if "edge_index" in file.files:
            found["edges"] = found["edges"].T
    return found


def _matrix(parts: Mapping[str, np.ndarray]) -> "scipy.sparse.csr_array":
    matrix = scipy.sparse.csr_array((parts["data"], parts["indices"], parts["indptr"]), shape=tuple(parts["shape"]))
    matrix.check_format(full_check=True)
    return matrix


def _read_folder(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part, names in _NAMES.items():
        for name in names:
            if (raw := read_if_there(path / f"{name}.csv")) is not None:
                try:
                    found[part] = _read_table(raw)
                except ValueError as error:
                    raise ValueError(f"{name}.csv: {error}{_HINTS.get(part, '')}") from error
    if (edges := found.get("edges")) is not None and edges.shape[1] == 3:
        found["edges"], found["weights"] = edges[:, :2], edges[:, 2]
    return found


_HINTS = {
    "edges": "; nodes are integers, 0 for the first row of features.csv and labels.csv",
    "labels": "; classes are integers, -1 for none",
}


def _read_table(raw: bytes) -> np.ndarray:
    """The numbers `[rows, columns]`, separated by commas, semicolons, tabs or blanks; a header line is skipped."""
    text = raw.decode("utf-8-sig")
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    delimiter = next((mark for mark in ",;\t" if mark in first), None)
    try:
        np.array(first.split(delimiter), float)
    except ValueError:
        text = text[text.index(first) + len(first) :]
    try:
        with warnings.catch_warnings(action="ignore"):  # Given for a file without numbers.
            table = np.loadtxt(io.StringIO(text), delimiter=delimiter, ndmin=2)
    except ValueError as error:
        raise ValueError(_first_bad_line(raw, first, delimiter) or str(error)) from error
    return table if table.size else np.zeros((0, 2))


def _first_bad_line(raw: bytes, first: str, delimiter: str | None) -> str:
    """What is wrong in the first line, from the first one with content, that is not as the others."""
    width = len(first.split(delimiter))
    for number, line in enumerate(raw.decode("utf-8-sig").splitlines(), start=1):
        fields = line.partition("#")[0].split(delimiter)
        if line == first or not line.partition("#")[0].strip():
            continue
        if len(fields) != width:
            return f"line {number}: has {len(fields)} fields, and the first line has {width}"
        for text in fields:
            try:
                float(text)
            except ValueError:
                return f"line {number}: {text.strip()[:60]!r} is not a number"
    return ""


def _task(arrays: Mapping[str, Any]) -> NodeTask:
    if missing := [part for part in ("edges", "labels") if part not in arrays]:
        raise ValueError(f"has no {' and no '.join(missing)}; edges and labels are needed, usually with features")
    labels, num_classes = _labels(arrays["labels"])
    if num_classes < 2:
        raise ValueError("labels are of one class, or there are none: there is nothing to learn")
    num_nodes = len(labels)
    features = _features(arrays["features"]) if "features" in arrays else identity(num_nodes)
    if features.shape[0] != num_nodes:
        raise ValueError(f"there are features of {features.shape[0]} nodes, but labels of {num_nodes}")
    ends, weights = _edges(arrays, num_nodes)
    edges = undirected(ends[0], ends[1], num_nodes)
    return NodeTask(
        features=features,
        edges=edges,
        labels=labels,
        num_classes=num_classes,
        split=_split(arrays, labels),
        weights=None if (weights == 1).all() else largest_weights(ends, weights, num_nodes),
    )


def _edges(arrays: Mapping[str, Any], num_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of each edge, int64 `[2, n]`, and its weight `[n]`."""
    found = arrays["edges"]
    if hasattr(found, "tocoo"):
        matrix = found.tocoo()
        ends, weights = np.stack([matrix.row, matrix.col]), matrix.data
    else:
        if found.ndim != 2 or 2 not in found.shape:
            raise ValueError(f"edges should have two numbers in each row, but have the shape {found.shape}")
        ends = found.T if found.shape[1] == 2 else found
        weights = arrays.get("weights", np.ones(ends.shape[1])).reshape(-1)
    if len(weights) != ends.shape[1] or not np.isfinite(weights.astype(float)).all():
        raise ValueError(f"weights should be {ends.shape[1]} finite numbers, one for each edge")
    if ends.dtype.kind not in "iuf" or (is_odd := (ends < 0) | (ends >= num_nodes) | (ends != np.floor(ends))).any():
        odd = ends.ravel()[0] if ends.dtype.kind not in "iuf" else ends[is_odd][0]
        hint = " (are they counted from 1?)" if odd == num_nodes and ends.min() == 1 else ""
        raise ValueError(
            f"the ends of edges should be integers from 0 to {num_nodes - 1}, the rows of the nodes in labels and"
            f" features, but one is {odd.item()!r}{hint}"
        )
    is_edge = weights != 0
    return ends[:, is_edge].astype(np.int64), weights[is_edge].astype(np.float64)


def _features(found: Any) -> "scipy.sparse.csr_array":
    if found.ndim != 2 or found.dtype.kind not in "biuf":
        raise ValueError(f"features should be numbers [nodes, features], but are {found.dtype} {found.shape}")
    features = scipy.sparse.csr_array(found)
    if not (is_right := np.abs(features.data) <= np.finfo(np.float32).max).all():
        row = np.searchsorted(features.indptr, np.flatnonzero(~is_right)[0], side="right") - 1
        raise ValueError(f"features of node {row} are not finite (NaN, infinite, or too large for float32)")
    features = features.astype(np.float32)
    features.sum_duplicates()
    features.eliminate_zeros()
    return features


def _labels(found: np.ndarray) -> tuple[np.ndarray, int]:
    """The labels, int32 `[N]`, -1 where there is none, and the number of classes."""
    if found.ndim == 2 and found.shape[1] > 1:
        if not np.isin(found, (0, 1)).all() or (found.sum(axis=1) > 1).any():
            raise ValueError(f"labels should be one for each node, or one-hot, but have the shape {found.shape}")
        return np.where(found.any(axis=1), found.argmax(axis=1), -1).astype(np.int32), found.shape[1]
    values = found.reshape(-1)
    if values.dtype.kind in "US":
        has_label = values != values.dtype.type()
    elif values.dtype.kind in "biuf":
        has_label = values >= 0
        if (odd := values[has_label][values[has_label] % 1 != 0]).size:
            raise ValueError(f"labels are classes, integers from 0, but one is {odd[0]}")
    else:
        raise ValueError(f"labels are classes, integers from 0, not {values.dtype}")
    classes, numbers = np.unique(values[has_label], return_inverse=True)
    labels = np.full(len(values), -1, np.int32)
    labels[has_label] = numbers
    return labels, len(classes)


def _split(arrays: Mapping[str, Any], labels: np.ndarray) -> Split | None:
    given = [part for part in Split._fields if part in arrays]
    if not given:
        return None
    if len(given) < 3:
        raise ValueError(f"has a mask for {' and '.join(given)} alone; give all of train, validation and test, or none")
    masks = [arrays[part].reshape(-1) for part in Split._fields]
    if any(mask.shape != labels.shape or not np.isin(mask, (0, 1)).all() for mask in masks):
        shapes = [arrays[part].shape for part in Split._fields]
        raise ValueError(f"a mask should have {len(labels)} values 0 or 1, one for each node; the shapes are {shapes}")
    if (np.sum(masks, axis=0) > 1).any():
        raise ValueError("a node is in two of the masks for train, validation and test")
    return Split(*((mask == 1) & (labels >= 0) for mask in masks))
