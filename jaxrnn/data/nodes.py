"""Graphs for node classification, by name, and how their nodes are divided."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Key
from jaxrnn.data import documents, graph_files, graphs, knn, planetoid
from jaxrnn.data.files import DataError
from jaxrnn.data.graphs import CITATION_SIZES, NodeTask, Split, SplitSizes

EMBEDDED: dict[str, Callable[[], NodeTask]] = {
    "karate": graphs.karate,
    # Nearly as many nodes and edges as Cora has.
    "sbm": lambda: graphs.stochastic_block_model(
        0, num_nodes=2700, num_blocks=6, expected_degree=4.0, within_fraction=0.8
    ),
}
"""Graphs that need no file; their nodes have no features, and their splits are random."""
NAMES = (
    *(*EMBEDDED, *planetoid.KNOWN, "planetoid:DIR/NAME", "FILE.npz", "FOLDER"),
    *(knn.DIGITS, f"{documents.OWN}FILE.txt"),
)


def load(name: str, neighbours: int = 5) -> NodeTask:
    """The graph with a name of `NAMES`; each node of digits has edges to this many nearest `neighbours`.

    Raises:
        DataError: as in the `load` of `planetoid`, `graph_files` and `documents`, and in `knn.digits`.
    """
    return _load(name, neighbours if name == knn.DIGITS else 0)


@functools.cache
def _load(name: str, neighbours: int) -> NodeTask:
    if name in EMBEDDED:
        return EMBEDDED[name]()
    if name == knn.DIGITS:
        return knn.digits(neighbours)
    if is_documents(name):
        return documents.load(name)
    return planetoid.load(name) if is_planetoid(name) else graph_files.load(name)


def is_planetoid(name: str) -> bool:
    """Whether a name is that of files in the format of Planetoid."""
    return name in planetoid.KNOWN or name.startswith(planetoid.OWN)


def is_documents(name: str) -> bool:
    """Whether a name is that of a file that lists documents."""
    return name.startswith(documents.OWN)


def has_sizes(name: str, split: str) -> bool:
    """Whether the numbers of nodes in a graph's split can be chosen."""
    return name == knn.DIGITS or (split == "random" and name not in EMBEDDED)


def draw_split(name: str, split: str, key: Key, sizes: SplitSizes = CITATION_SIZES) -> Split:
    """Masks of the nodes for training, validation and test.

    They are a function of the key if `split` is ``random`` or there is no public split. If `has_sizes` is true, they
    have `sizes`; otherwise, without a public split, they have shares of each class.

    Raises:
        DataError: there are not enough nodes for a random split, or the public split has none for some purpose.
    """
    task = load(name)
    if has_sizes(name, split):
        return graphs.random_split(key, task.labels, task.num_classes, sizes)
    if task.split is None:
        return graphs.random_split_by_class(key, task.labels, task.num_classes)
    for purpose, mask in task.split._asdict().items():
        if not mask.any():
            raise DataError(
                f"the public split of {name} has no labelled node for {purpose}; take --config.split=random"
            )
    return jax.tree.map(jnp.asarray, task.split)
