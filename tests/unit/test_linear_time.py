"""Work on the host grows with its input, not with the square of it."""

import time

import numpy as np
import pytest
import scipy.sparse

from jaxrnn import graph
from jaxrnn.data import graph_files, graphs, text

FACTOR = 16
RNG = np.random.default_rng(0)


def matrix(rows, columns, shape):
    return scipy.sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)


def npz(size, folder):
    path = folder / f"{size}.npz"
    np.savez(path, edges=RNG.integers(0, size, (size, 2)), labels=np.arange(size) % 5, weights=RNG.random(size))
    return str(path)


def table(size, folder):
    path = folder / str(size)
    path.mkdir(exist_ok=True)
    np.savetxt(path / "edges.csv", RNG.integers(0, size, (size, 2)), "%d", ",")
    np.savetxt(path / "labels.csv", np.arange(size) % 5, "%d")
    return str(path)


def book(size, folder):
    (folder / f"{size}.txt").write_text("The frog and the prince.\n" * (size // 25))
    return str(folder / f"{size}.txt")


def uniform(size):
    return RNG.integers(0, size, size)


WORK = {
    "a row of features": (lambda n, _: matrix(np.zeros(n, int), np.arange(n), (1, n)), graph.sparse_rows),
    "a column of features": (lambda n, _: matrix(np.arange(n), np.zeros(n, int), (n, 1)), graph.sparse_rows),
    "a hub among the features": (
        lambda n, _: matrix(np.r_[np.zeros(n, int), uniform(n)], np.r_[np.arange(n), uniform(n)], (n, n)),
        graph.sparse_rows,
    ),
    "features of all lengths": (
        lambda n, _: scipy.sparse.csr_array(np.tri(int(n**0.5))),
        graph.sparse_rows,
    ),
    "normalised features": (lambda n, _: matrix(uniform(n), uniform(n), (n, n)), graphs.row_normalize),
    "undirected edges": (lambda n, _: (uniform(n), uniform(n), n), lambda given: graphs.undirected(*given)),
    "a star": (lambda n, _: (np.zeros(n, int), np.arange(n), n), lambda given: graph.normalize(graph.build(*given))),
    "a file of arrays": (npz, graph_files.load),
    "tables": (table, graph_files.load),
    "a text": (book, lambda path: text.load(path, "utf-8")),
}


def seconds(function, given):
    start = time.process_time()
    function(given)
    return time.process_time() - start


@pytest.mark.parametrize("name", WORK)
def test_time_grows_with_the_input(name, tmp_path):
    make, function = WORK[name]
    size = 20_000
    small, large = (make(n, tmp_path) for n in (size, FACTOR * size))
    before = min(seconds(function, small) for _ in range(3))
    after = min(seconds(function, large) for _ in range(2))
    # Quadratic work would take FACTOR times as long again.
    assert after < 5 * FACTOR * max(before, 1e-3)
