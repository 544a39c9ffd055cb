"""Graphs for node classification, by name, and how their nodes are divided."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrnn.arrays import Key
from jaxrnn.data import graph_files, graphs, planetoid
from jaxrnn.data.files import DataError
from jaxrnn.data.graphs import CITATION_SIZES, NodeTask, Split, SplitSizes

EMBEDDED: dict[str, Callable[[], NodeTask]] = {
    "karate": graphs.karate,
    # As many nodes and edges as Cora has, or nearly.
    "sbm": lambda: graphs.stochastic_block_model(
        0, num_nodes=2700, num_blocks=6, expected_degree=4.0, within_fraction=0.8
    ),
}
"""Graphs that need no file; their nodes have no features, and their splits are random."""
NAMES = (*EMBEDDED, *planetoid.KNOWN, "planetoid:DIR/NAME", "FILE.npz", "FOLDER/")


@functools.cache
def load(name: str) -> NodeTask:
    """The graph with a name of `NAMES`.

    Raises:
        DataError: as in `jaxrnn.data.planetoid.load` and `jaxrnn.data.graph_files.load`.
    """
    if name in EMBEDDED:
        return EMBEDDED[name]()
    return planetoid.load(name) if is_planetoid(name) else graph_files.load(name)


def is_planetoid(name: str) -> bool:
    """Whether a name is that of files in the format of Planetoid."""
    return name in planetoid.KNOWN or name.startswith(planetoid.OWN)


def draw_split(name: str, split: str, key: Key, sizes: SplitSizes = CITATION_SIZES) -> Split:
    """Masks of the nodes for training, validation and test.

    They are a function of the key where `split` is ``random``, or there is no public one. In the latter case, and for
    all of `EMBEDDED`, they have shares of each class.

    Raises:
        DataError: there are not enough nodes for a random split, or the public one has none for some purpose.
    """
    task = load(name)
    if name in EMBEDDED or (split == "public" and task.split is None):
        return graphs.random_split_by_class(key, task.labels, task.num_classes)
    if split == "random":
        return graphs.random_split(key, task.labels, task.num_classes, sizes)
    assert task.split
    for purpose, mask in task.split._asdict().items():
        if not mask.any():
            raise DataError(
                f"the public split of {name} has no labelled node for {purpose}; take --config.split=random"
            )
    return jax.tree.map(jnp.asarray, task.split)
