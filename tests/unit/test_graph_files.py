"""Graphs in files of one's own, against the arrays that were written."""

import re

import jax
import numpy as np
import pytest
import scipy.sparse

from jaxrnn import graph
from jaxrnn.data import graph_files, graphs, nodes
from jaxrnn.data.files import DataError

EDGES = np.array([[0, 1], [1, 0], [1, 2], [3, 3], [1, 2]])
WEIGHTS = np.array([2.0, 0.5, 1.0, 3.0, -1.0])
FEATURES = np.array([[1, 0, 0.5], [0, 0, 0], [-1, 2, 0], [0, 0, 3]], np.float32)
LABELS = np.array([0, 2, -1, 0])
MASKS = {"train_mask": [1, 0, 0, 0], "validation_mask": [0, 1, 0, 0], "test_mask": [0, 0, 1, 1]}
MASKS = {name: np.array(mask, bool) for name, mask in MASKS.items()}
USUAL = {"edges": EDGES, "features": FEATURES, "labels": LABELS}

ADJACENCY = np.zeros((4, 4))
ADJACENCY[EDGES[:, 0], EDGES[:, 1]] = ADJACENCY[EDGES[:, 1], EDGES[:, 0]] = 1
WEIGHTED = np.array([[0, 2, 0, 0], [2, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 3]])


def parts(matrix, prefix):
    matrix = scipy.sparse.csr_array(matrix)
    return {f"{prefix}{name}": getattr(matrix, name) for name in ("data", "indices", "indptr", "shape")}


def one_way():
    matrix = np.zeros((4, 4))
    matrix[EDGES[:, 0], EDGES[:, 1]] = 1
    return matrix


def write(tmp_path, arrays):
    np.savez(tmp_path / "own.npz", **arrays)
    return str(tmp_path / "own.npz")


def write_tables(tmp_path, tables):
    for name, content in tables.items():
        (tmp_path / f"{name}.csv").write_text(content)
    return str(tmp_path)


def table(array, mark=",", header=""):
    return header + "".join(mark.join(map(str, np.atleast_1d(row).tolist())) + "\n" for row in array)


def load_error(name):
    with pytest.raises(DataError) as caught:
        graph_files.load(name)
    message = str(caught.value)
    assert message == " ".join(message.split())  # One line.
    return message


def dense(task):
    built = graph.build(*task.edges, num_nodes=len(task.labels), weights=task.weights, self_loops=False)
    matrix = np.zeros((len(task.labels),) * 2)
    matrix[built.receivers, built.senders] = built.edges
    return matrix


NPZ = {
    "usual": USUAL,
    "ends in two rows": USUAL | {"edges": EDGES.T},
    "PyTorch Geometric's": {"edge_index": EDGES.T, "x": FEATURES, "y": LABELS},
    "heterophilous": {"edges": EDGES, "node_features": FEATURES, "node_labels": LABELS},
    "of Shchur": {**parts(one_way(), "adj_"), **parts(FEATURES, "attr_"), "labels": LABELS},
    "older": {**parts(one_way(), "adj_matrix."), **parts(FEATURES, "attr_matrix."), "labels": LABELS},
    "dense attributes": {**parts(one_way(), "adj_"), "attr_matrix": FEATURES, "labels": LABELS},
    "labels in a column": USUAL | {"labels": LABELS[:, None]},
    "labels in floats": USUAL | {"labels": np.where(LABELS < 0, np.nan, LABELS)},
    "labels in words": USUAL | {"labels": np.array(["a", "c", "", "a"])},
    "other things beside": USUAL | {"names": np.array([{}], object)},
}
CSV = {
    "commas": {name: table(array) for name, array in USUAL.items()},
    "headers": {name: table(array, header="a,b\n") for name, array in USUAL.items()},
    "blanks and remarks": {name: table(array, " ", "# remark\n\n") for name, array in USUAL.items()},
    "tabs and a mark": {name: table(array, "\t", "\ufeff") for name, array in USUAL.items()},
}


@pytest.mark.parametrize("form", [*NPZ, *CSV])
def test_a_graph_is_that_of_its_arrays(form, tmp_path):
    task = graph_files.load(write(tmp_path, NPZ[form]) if form in NPZ else write_tables(tmp_path, CSV[form]))
    np.testing.assert_array_equal(dense(task), ADJACENCY)
    np.testing.assert_array_equal(task.features.toarray(), FEATURES)
    assert (task.features.dtype, task.labels.dtype) == (np.float32, np.int32)
    assert (task.labels.tolist(), task.num_classes) == ([0, 1, -1, 0], 2)
    assert task.split is task.weights is None


def test_features_need_not_be_there_and_labels_may_be_one_hot(tmp_path):
    task = graph_files.load(write(tmp_path, {"edges": EDGES, "labels": [[0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0]]}))
    np.testing.assert_array_equal(task.features.toarray(), np.eye(4))
    assert (task.labels.tolist(), task.num_classes) == ([1, -1, 0, 1], 3)


def test_a_graph_may_have_no_edge(tmp_path):
    files = [write_tables(tmp_path, {"edges": "from,to\n", "labels": "0\n1\n"})]
    files.append(write(tmp_path, {"edges": np.zeros((0, 2)), "labels": [0, 1]}))
    assert [len(graph_files.load(file).edges.senders) for file in files] == [0, 0]


@pytest.mark.parametrize("is_table", [False, True])
def test_the_largest_weight_of_an_edge_counts(is_table, tmp_path):
    if is_table:
        rows = np.concatenate([EDGES, WEIGHTS[:, None]], axis=1)
        name = write_tables(tmp_path, {"edges": table(rows), "labels": table(LABELS)})
    else:
        name = write(tmp_path, USUAL | {"weights": WEIGHTS})
    task = graph_files.load(name)
    np.testing.assert_array_equal(dense(task), WEIGHTED)
    unweighted = write(tmp_path, USUAL if not is_table else {"edges": EDGES, "labels": LABELS})
    assert task.sha256 != graph_files.load(unweighted).sha256


def test_an_edge_of_weight_zero_is_none(tmp_path):
    task = graph_files.load(write(tmp_path, USUAL | {"weights": [1, 1, 0, 1, 0]}))
    assert sorted(zip(*(ends.tolist() for ends in task.edges), strict=True)) == [(0, 1), (1, 0), (3, 3)]


def test_masks_are_the_public_split_of_nodes_with_a_label(tmp_path):
    name = write(tmp_path, USUAL | MASKS)
    split = nodes.draw_split(name, "public", jax.random.key(0))
    assert [np.flatnonzero(mask).tolist() for mask in split] == [[0], [1], [3]]


def test_a_graph_without_masks_takes_shares_of_each_class_or_given_numbers(tmp_path):
    name = write(tmp_path, {"edges": EDGES, "labels": np.arange(60) % 3})
    sizes = graphs.SplitSizes(train_per_class=2, num_validation=7, num_test=9)
    drawn = [nodes.draw_split(name, split, jax.random.key(0), sizes) for split in ("public", "random")]
    assert [[int(mask.sum()) for mask in split] for split in drawn] == [[6, 12, 42], [6, 7, 9]]


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"edges": EDGES + 1}, "0 to 3.*one is 4.*counted from 1"),
        ({"edges": -EDGES}, "0 to 3.*one is -1"),
        ({"edges": EDGES + 0.5}, "integers.*one is 0.5"),
        ({"edges": EDGES.astype(str)}, "integers.*one is '0'"),
        ({"edges": EDGES[:, 0]}, r"two numbers.*\(5,\)"),
        ({"features": FEATURES[:3]}, "features of 3 nodes, but labels of 4"),
        ({"features": np.where(FEATURES == 3, np.nan, FEATURES)}, "node 3 are not finite"),
        ({"features": FEATURES.astype(str)}, "features should be numbers"),
        ({"labels": LABELS + 0.5}, "one is 0.5"),
        ({"labels": LABELS * 0}, "of one class"),
        ({"labels": LABELS * 0 - 1}, "of one class, or there are none"),
        ({"labels": FEATURES}, r"one-hot.*\(4, 3\)"),
        ({"labels": LABELS.astype(object)}, "allow_pickle"),
        ({"weights": WEIGHTS[:3]}, "5 finite numbers"),
        ({"weights": np.where(WEIGHTS == 3, np.inf, WEIGHTS)}, "5 finite numbers"),
        ({"train_mask": MASKS["train_mask"]}, "train alone"),
        (MASKS | {"val_mask": np.ones((4, 10))}, r"\(4, 10\)"),
        (MASKS | {"test_mask": [0, 1, 0, 1]}, "two of the masks"),
    ],
)
def test_arrays_that_do_not_fit_are_named(changes, words, tmp_path):
    name = write(
        tmp_path, USUAL | {k: v for k, v in changes.items() if k != "validation_mask" or "val_mask" not in changes}
    )
    message = load_error(name)
    assert message.startswith(name)
    assert re.search(words, message)


def test_what_is_wrong_in_a_table_is_named_by_file_and_line(tmp_path):
    message = load_error(write_tables(tmp_path, {"edges": "a,b\n\nb,c\n", "labels": "0\n1\n"}))
    assert all(word in message for word in ("edges.csv", "line 3: 'b'", "nodes are integers"))
    message = load_error(write_tables(tmp_path, {"edges": "0,1\n", "labels": "0\nneural\n"}))
    assert all(word in message for word in ("labels.csv", "line 2: 'neural'", "classes are integers"))
    message = load_error(write_tables(tmp_path, {"edges": "from,to\n0,1\n1,0,1\n", "labels": "0\n1\n"}))
    assert "edges.csv: line 3: has 3 fields, and the first line has 2" in message


def test_what_is_no_graph_says_how_to_write_one(tmp_path):
    assert "no edges and no labels" in load_error(write(tmp_path, {"a": [1]}))
    assert "no edges and no labels" in load_error(write_tables(tmp_path, {}))
    (tmp_path / "graph.txt").write_text("0 1\n")
    assert "np.savez" in load_error(f"{tmp_path}/graph.txt")
    assert f"no {tmp_path}/none.npz" in load_error(f"{tmp_path}/none.npz")


def test_nothing_in_a_file_runs(tmp_path):
    touched = tmp_path / "touched"

    class Call:
        def __reduce__(self):
            return touched.touch, ()

    assert "allow_pickle" in load_error(write(tmp_path, USUAL | {"features": np.array([[Call()]], object)}))
    assert not touched.exists()
