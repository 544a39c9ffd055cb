"""Graphs whose nodes are classified: the record, its random splits, and three graphs that need no file."""

import hashlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy  # Its parts load when they are first used.

from jaxrnn.arrays import Array, Key
from jaxrnn.data.files import DataError

TOY_NODES = "ABCDEF"
_TOY_EDGES = "AB AE AF BD CD DF"

# Zachary (1977), "An information flow model for conflict and fission in small groups", in the usual numbering from 0:
# each node with its higher-numbered neighbours, and who joined the officer's club when the first one split.
_KARATE_NEIGHBOURS = """
0 1 2 3 4 5 6 7 8 10 11 12 13 17 19 21 31, 1 2 3 7 13 17 19 21 30, 2 3 7 8 9 13 27 28 32, 3 7 12 13, 4 6 10,
5 6 10 16, 6 16, 8 30 32 33, 9 33, 13 33, 14 32 33, 15 32 33, 18 32 33, 19 33, 20 32 33, 22 32 33,
23 25 27 29 32 33, 24 25 27 31, 25 31, 26 29 33, 27 33, 28 31 33, 29 32 33, 30 32 33, 31 32 33, 32 33"""
_KARATE_OFFICER = (9, 14, 15, 18, 20, *range(22, 34))


class Edges(NamedTuple):
    """Directed edges, each once, sorted by receiver and then by sender; int32 `[E]`."""

    senders: np.ndarray
    receivers: np.ndarray


class Split(NamedTuple):
    """Nodes for training, validation and test: disjoint masks, bool `[N]`, of NumPy or JAX; some may be in none."""

    train: Any
    validation: Any
    test: Any


class SplitSizes(NamedTuple):
    """How many nodes a random split has; the defaults are those of the citation graphs' public splits."""

    train_per_class: int = 20
    num_validation: int = 500
    num_test: int = 1000


CITATION_SIZES = SplitSizes()


class NodeTask(NamedTuple):
    """A graph whose nodes are to be classified.

    Attributes:
        features: `[N, D]`, float32, without duplicates or stored zeros; as in the source, not normalised.
        edges: an undirected edge is there in both directions; self-loops are there only if the source has them.
        labels: int32 `[N]`, `0..C-1`, or -1 where a node has none.
        num_classes: C.
        split: the public split, of NumPy masks; None if there is none.
        weights: of the edges, float64 `[E]`; None if all are 1.
    """

    features: "scipy.sparse.csr_array"
    edges: Edges
    labels: np.ndarray
    num_classes: int
    split: Split | None
    weights: np.ndarray | None = None

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of all of its arrays, whatever files they came from."""
        features = (self.features.indptr, self.features.indices, self.features.data.view(np.int32))
        digest = hashlib.sha256()
        for array in (*features, *self.edges, self.labels, *(self.split or ())):
            values = np.asarray(array, "<i8")
            digest.update(f"{values.shape}".encode())
            digest.update(values.tobytes())
        if self.weights is not None:
            digest.update(np.asarray(self.weights, "<f8").tobytes())
        return digest.hexdigest()


def undirected(nodes: np.ndarray, neighbours: np.ndarray, num_nodes: int) -> Edges:
    """Both directions of the edges `nodes[i] - neighbours[i]`, integers `[n]`; duplicates are merged.

    A self-loop is kept, as one edge, as in Kipf's loader.
    """
    first, second = nodes.astype(np.int64), neighbours.astype(np.int64)
    both = np.concatenate([first * num_nodes + second, second * num_nodes + first])
    both.sort()  # Much faster than `np.unique` for millions of edges.
    receivers, senders = np.divmod(both[np.diff(both, prepend=-1) > 0], num_nodes)
    return Edges(senders.astype(np.int32), receivers.astype(np.int32))


def largest_weights(ends: np.ndarray, weights: np.ndarray, num_nodes: int) -> np.ndarray:
    """For each edge of `undirected`, the largest of its `weights [n]` between `ends [2, n]`, float64 `[E]`."""
    both = np.concatenate([ends[0] * num_nodes + ends[1], ends[1] * num_nodes + ends[0]])
    order = np.argsort(both)  # In the order of the edges; looking each of them up would take ten times as long.
    starts = np.flatnonzero(np.diff(both[order], prepend=-1))
    return np.maximum.reduceat(np.tile(weights, 2)[order], starts)


def row_normalize(features: "scipy.sparse.csr_array") -> "scipy.sparse.csr_array":
    """Divides each row of `[N, D]` by its sum, as the GCN and GAT papers' code does; a row of sum 0 becomes 0."""
    sums = features.sum(axis=1)
    scales = np.divide(1.0, sums, out=np.zeros_like(sums), where=sums != 0)
    return features.multiply(scales[:, None]).tocsr()


def random_split(key: Key, labels: np.ndarray, num_classes: int, sizes: SplitSizes = CITATION_SIZES) -> Split:
    """Draws a split: training nodes from each class, then those for validation and test from all that remain.

    Nodes without a label, -1 in the NumPy array `labels [N]`, are in no mask. The split is a function of the key, and
    works under `jax.jit` and `jax.vmap`.

    Raises:
        DataError: there are not enough nodes.
    """
    counts = np.bincount(labels[labels >= 0], minlength=num_classes)
    num_rest = sizes.num_validation + sizes.num_test
    num_train = num_classes * sizes.train_per_class
    if (counts < sizes.train_per_class).any() or counts.sum() < num_train + num_rest:
        raise DataError(
            f"this random split needs {sizes.train_per_class} training nodes per class and {num_rest} others, but the"
            f" classes have {counts.tolist()} nodes; --config.train_per_class, --config.num_validation and"
            " --config.num_test set its sizes"
        )
    train_key, rest_key = jax.random.split(key)
    is_class = jnp.asarray(labels[:, None] == np.arange(num_classes))
    train = (is_class & (_random_places(train_key, is_class) < sizes.train_per_class)).any(axis=1)
    rest = jnp.asarray(labels >= 0) & ~train
    # In a second order: which node comes next in the first one depends on its class.
    places = _random_places(rest_key, rest)
    validation = rest & (places < sizes.num_validation)
    return Split(train, validation, rest & ~validation & (places < num_rest))


def random_split_by_class(key: Key, labels: np.ndarray, num_classes: int) -> Split:
    """Draws a split of all labelled nodes: of each class a tenth for training, a fifth for validation, rounded.

    The rest is for the test. Otherwise it is as `random_split`.
    """
    counts = np.bincount(labels[labels >= 0], minlength=num_classes)
    num_train, num_validation = (np.rint(counts * share).astype(np.int32) for share in (0.1, 0.2))
    is_class = jnp.asarray(labels[:, None] == np.arange(num_classes))
    places = _random_places(key, is_class)
    train = is_class & (places < num_train)
    validation = is_class & ~train & (places < num_train + num_validation)
    test = is_class & ~train & ~validation
    return Split(train.any(axis=1), validation.any(axis=1), test.any(axis=1))


def toy() -> Edges:
    """The graph of Soons (2020), Question 3.2: node i is `TOY_NODES[i]`."""
    pairs = np.array([[TOY_NODES.index(node) for node in edge] for edge in _TOY_EDGES.split()])
    return undirected(pairs[:, 0], pairs[:, 1], len(TOY_NODES))


def karate() -> NodeTask:
    """Zachary's karate club: 34 members, 78 friendships; classes: the instructor's club (0) and the officer's (1)."""
    rows = [[int(node) for node in row.split()] for row in _KARATE_NEIGHBOURS.split(",")]
    pairs = np.array([(node, other) for node, *others in rows for other in others])
    labels = np.zeros(34, np.int32)
    labels[list(_KARATE_OFFICER)] = 1
    return _without_features(undirected(pairs[:, 0], pairs[:, 1], len(labels)), labels, 2)


def stochastic_block_model(
    seed: int, num_nodes: int, num_blocks: int, expected_degree: float, within_fraction: float
) -> NodeTask:
    """Draws a graph in which the probability of an edge depends on whether both ends are in the same block.

    Every pair is drawn independently, by the gaps between edges (Batagelj and Brandes 2005), so time and memory grow
    with the numbers of nodes and edges.

    Args:
        seed: determines the graph.
        num_nodes: N.
        num_blocks: C; blocks have equal sizes, up to one node, and the nodes of a block are consecutive.
        expected_degree: mean over the nodes of the expected number of neighbours.
        within_fraction: expected share of the edges that stay within a block.

    Raises:
        ValueError: more edges are expected than there are pairs of nodes.
    """
    labels = np.arange(num_nodes) * num_blocks // num_nodes
    sizes = np.bincount(labels)
    block_pairs = sizes * (sizes - 1) // 2
    block_starts, pair_starts = np.cumsum(sizes) - sizes, np.cumsum(block_pairs) - block_pairs
    num_pairs, num_within = num_nodes * (num_nodes - 1) // 2, int(block_pairs.sum())
    num_between, num_edges = num_pairs - num_within, num_nodes * expected_degree / 2

    rng = np.random.default_rng(seed)
    within = _successes(rng, num_within, num_edges * within_fraction / max(num_within, 1))
    block = np.searchsorted(pair_starts, within, side="right") - 1
    within_ends = np.stack(nth_pair(within - pair_starts[block])) + block_starts[block]
    # Draw from all pairs and drop the few within blocks: numbering the pairs between blocks would cost more.
    probability = num_edges * (1 - within_fraction) / max(num_between, 1)
    ends = np.stack(nth_pair(_successes(rng, num_pairs, probability)))
    between_ends = ends[:, labels[ends[0]] != labels[ends[1]]]

    nodes, neighbours = np.concatenate([within_ends, between_ends], axis=1)
    edges = undirected(nodes, neighbours, num_nodes)
    return _without_features(edges, labels.astype(np.int32), num_blocks)


def _without_features(edges: Edges, labels: np.ndarray, num_classes: int) -> NodeTask:
    return NodeTask(identity(len(labels)), edges, labels, num_classes, split=None)


def identity(num_nodes: int) -> "scipy.sparse.csr_array":
    """Features that tell the nodes apart and say nothing else, as in the GCN paper."""
    return scipy.sparse.eye_array(num_nodes, dtype=np.float32, format="csr")


def _random_places(key: Key, members: Array) -> Array:
    """The place, from 0, of each member in a uniformly random order of the members; bool to int32 `[N]` or `[N, C]`."""
    order = jax.random.permutation(key, len(members))
    places = jnp.cumsum(members[order], axis=0, dtype=jnp.int32) - 1
    return jnp.zeros_like(places).at[order].set(places, unique_indices=True)


def _successes(rng: np.random.Generator, num_trials: int, probability: float) -> np.ndarray:
    """The numbers, from 0, of the trials that succeed, sorted; int64."""
    if probability == 0:
        return np.zeros(0, np.int64)
    expected = num_trials * probability
    chunk = int(expected + 4 * expected**0.5) + 16
    trials, last = [np.zeros(0, np.int64)], -1
    while last < num_trials:
        trials.append(last + np.cumsum(np.minimum(rng.geometric(probability, chunk), num_trials + 1)))
        last = int(trials[-1][-1])
    found = np.concatenate(trials)
    return found[found < num_trials]


def nth_pair(number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pair of nodes by number: 0 is (0, 1), then (0, 2), (1, 2), (0, 3), ...; exact for fewer than 2^26 nodes."""
    second = (0.5 + np.sqrt(0.25 + 2.0 * number)).astype(np.int64)
    return number - second * (second - 1) // 2, second
