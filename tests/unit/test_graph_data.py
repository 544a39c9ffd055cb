"""The oracles are published numbers, brute-force enumeration, dense arithmetic and exact distributions."""

import itertools
import re

import jax
import numpy as np
import pytest
import scipy.sparse
import scipy.stats

from jaxrnn.data import graphs
from jaxrnn.data.files import DataError

# Soons (2020), Question 3.2, rows A to F; with self-loops.
TOY_ADJACENCY = ["110011", "110100", "001100", "011101", "100010", "100101"]
# Zachary's members 1 to 34; he and the officer have 16 and 17 friends.
KARATE_DEGREES = [
    16, 9, 10, 6, 3, 4, 4, 4, 5, 2, 3, 1, 2, 5, 2, 2, 2, 2, 2, 3, 2, 2, 2, 5, 3, 3, 2, 4, 3, 4, 4, 6, 12, 17
]  # fmt: skip
LABELS = np.repeat(np.array([0, -1, 1], np.int32), [1560, 4, 30])
CLASS_LABELS = np.repeat(np.array([0, 1, -1, 2], np.int32), [40, 17, 5, 10])
NUM_KEYS = 2000


def dense(edges, num_nodes):
    adjacency = np.zeros((num_nodes, num_nodes), int)
    np.add.at(adjacency, (edges.receivers, edges.senders), 1)
    return adjacency


def assert_edges_are_in_order(edges):
    assert edges.senders.dtype == edges.receivers.dtype == np.int32
    pairs = list(zip(edges.receivers.tolist(), edges.senders.tolist(), strict=True))
    assert pairs == sorted(set(pairs))


# --- Edges and features


def test_an_edge_goes_both_ways_once():
    nodes, neighbours = np.array([3, 0, 1, 0, 2, 3]), np.array([1, 1, 0, 1, 2, 1])
    edges = graphs.undirected(nodes, neighbours, 5)
    expected = np.zeros((5, 5), int)
    expected[nodes, neighbours] = expected[neighbours, nodes] = 1
    np.testing.assert_array_equal(dense(edges, 5), expected)
    assert expected[2, 2] == 1
    assert_edges_are_in_order(edges)


def test_a_graph_may_have_no_edge():
    nothing = np.zeros(0, np.int64)
    edges = graphs.undirected(nothing, nothing, 3)
    assert edges.senders.shape == edges.receivers.shape == (0,)


def test_rows_are_divided_by_their_sum():
    features = np.array([[1, 0, 1, 2], [0, 0, 0, 0], [0, 0.5, 0, 0], [1, -1, 0, 0]], np.float32)
    given = scipy.sparse.csr_array(features)
    normalized = graphs.row_normalize(given)
    expected = [[0.25, 0, 0.25, 0.5], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(normalized.toarray(), expected)
    assert normalized.dtype == np.float32
    np.testing.assert_array_equal(given.toarray(), features)


# --- The graphs by name


def test_the_toy_graph_has_the_papers_matrix():
    expected = np.array([[int(entry) for entry in row] for row in TOY_ADJACENCY])
    np.testing.assert_array_equal(dense(graphs.toy(), 6) + np.eye(6, dtype=int), expected)


def test_the_karate_club_is_zacharys():
    task = graphs.karate()
    adjacency = dense(task.edges, 34)
    assert adjacency.sum() == 2 * 78
    np.testing.assert_array_equal(adjacency.sum(axis=0), KARATE_DEGREES)
    np.testing.assert_array_equal(adjacency, adjacency.T)
    assert np.trace(np.linalg.matrix_power(adjacency, 3)) == 6 * 45  # Triangles.
    np.testing.assert_array_equal(np.bincount(task.labels), [17, 17])
    assert (task.labels[0], task.labels[33], task.labels.dtype) == (0, 1, np.int32)
    # Friendships between the clubs.
    assert np.count_nonzero(task.labels[task.edges.senders] != task.labels[task.edges.receivers]) == 2 * 11
    np.testing.assert_array_equal(task.features.toarray(), np.eye(34))
    assert (task.num_classes, task.split, task.features.dtype) == (2, None, np.float32)
    assert_edges_are_in_order(task.edges)


def test_the_digest_depends_on_every_array():
    task = graphs.karate()
    others = [
        task._replace(labels=1 - task.labels),
        task._replace(features=task.features * np.float32(1 + 2**-20)),
        task._replace(features=task.features[::-1]),
        task._replace(edges=graphs.Edges(task.edges.receivers, task.edges.senders)),
        task._replace(split=graphs.Split(task.labels == 0, task.labels == 1, task.labels == 2)),
        task._replace(split=graphs.Split(task.labels == 1, task.labels == 0, task.labels == 2)),
    ]
    assert len({other.sha256 for other in [task, *others]}) == 7
    assert graphs.karate().sha256 == task.sha256


# --- Stochastic block models


def test_pairs_are_numbered_in_order():
    first, second = graphs.nth_pair(np.arange(28))
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [(i, j) for j in range(8) for i in range(j)]


@pytest.mark.parametrize("second", [1_000_000, 2**26 - 1])
def test_pairs_of_large_numbers_are_exact(second):
    start = second * (second - 1) // 2
    numbers = np.array([start - 1, start, start + 1, start + second - 1, start + second])
    first, found = graphs.nth_pair(numbers)
    assert first.tolist() == [second - 2, 0, 1, second - 1, 0]
    assert found.tolist() == [second - 1, second, second, second, second + 1]


def test_densities_are_binomial():
    num_nodes, degree, within_fraction = 1001, 12.0, 0.75
    task = graphs.stochastic_block_model(5, num_nodes, 4, degree, within_fraction)
    sizes = np.bincount(task.labels)
    assert sorted(sizes) == [250, 250, 250, 251]
    adjacency = dense(task.edges, num_nodes)
    np.testing.assert_array_equal(adjacency, adjacency.T)
    assert not adjacency.diagonal().any()
    same = task.labels[:, None] == task.labels
    upper = np.triu(np.ones_like(adjacency), 1) == 1
    for where, share in ((same, within_fraction), (~same, 1 - within_fraction)):
        pairs = int((where & upper).sum())
        edges = int(adjacency[where & upper].sum())
        assert scipy.stats.binomtest(edges, pairs, num_nodes * degree / 2 * share / pairs).pvalue > 1e-3
    assert (task.num_classes, task.split, task.labels.dtype) == (4, None, np.int32)
    assert_edges_are_in_order(task.edges)


def test_every_pair_is_as_likely_as_it_should_be():
    num_seeds, labels = 1000, [0, 0, 0, 1, 1, 1, 2, 2]
    counts = sum(dense(graphs.stochastic_block_model(seed, 8, 3, 2.5, 0.4).edges, 8) for seed in range(num_seeds))
    # 10 edges are expected, 4 of them among the 7 pairs within a block, 6 among the other 21.
    for i, j in itertools.combinations(range(8), 2):
        probability = 4 / 7 if labels[i] == labels[j] else 6 / 21
        assert scipy.stats.binomtest(int(counts[i, j]), num_seeds, probability).pvalue > 1e-5


@pytest.mark.parametrize(("degree", "within_fraction", "expected_same"), [(2, 1, True), (3, 0, False)])
def test_a_probability_of_one_gives_every_edge(degree, within_fraction, expected_same):
    task = graphs.stochastic_block_model(0, 6, 2, degree, within_fraction)
    same = (task.labels[:, None] == task.labels) & ~np.eye(6, dtype=bool)
    np.testing.assert_array_equal(
        dense(task.edges, 6) == 1, same if expected_same else task.labels[:, None] != task.labels
    )


def test_no_array_of_all_pairs_is_built():
    task = graphs.stochastic_block_model(0, 200_000, 10, 4, 0.9)  # All pairs would be 20 GB of bits.
    assert 4 * 200_000 * 0.99 < len(task.edges.senders) < 4 * 200_000 * 1.01
    assert task.features.shape == (200_000, 200_000)


def test_a_graph_is_a_function_of_its_seed():
    digests = [graphs.stochastic_block_model(seed, 50, 2, 4, 0.8).sha256 for seed in (0, 1, 0)]
    assert digests[0] == digests[2] != digests[1]


def test_degenerate_block_models():
    assert len(graphs.stochastic_block_model(0, 5, 5, 0, 0.5).edges.senders) == 0
    assert len(graphs.stochastic_block_model(0, 1, 1, 0, 1).edges.senders) == 0


@pytest.mark.parametrize("arguments", [(9, 3, 4, 1), (9, 1, 9, 0.5), (9, 9, 9, 0)])
def test_more_edges_than_pairs_are_refused(arguments):
    with pytest.raises(ValueError, match="p "):
        graphs.stochastic_block_model(0, *arguments)


# --- Random splits


def draw_both(key):
    key, by_class_key = jax.random.split(key)
    return (
        graphs.random_split(key, LABELS, 2),
        graphs.random_split_by_class(by_class_key, CLASS_LABELS, 3),
    )


@pytest.fixture(scope="module")
def splits():
    """Of `NUM_KEYS` keys, in one program: masks `[NUM_KEYS, N]`, as NumPy arrays."""
    keys = jax.vmap(jax.random.key)(np.arange(NUM_KEYS))
    return jax.device_get(jax.jit(jax.vmap(draw_both))(keys))


def assert_masks_are_disjoint_and_labelled(split, labels):
    masks = np.stack(split)
    assert masks.dtype == bool
    assert masks.sum(axis=0).max() == 1
    assert not masks[..., labels < 0].any()


def numbers(mask, labels, num_classes):
    """How many of each class, `[NUM_KEYS, C]`."""
    return np.stack([mask[:, labels == c].sum(axis=1) for c in range(num_classes)], axis=1)


def test_a_random_split_has_the_numbers_of_the_citation_graphs(splits):
    split, _ = splits
    assert_masks_are_disjoint_and_labelled(split, LABELS)
    assert (numbers(split.train, LABELS, 2) == 20).all()
    assert (split.validation.sum(axis=1) == 500).all()
    assert (split.test.sum(axis=1) == 1000).all()


def test_a_random_split_is_uniform(splits):
    split, _ = splits
    # After 20 of 1560 and 20 of 30 nodes, 1550 remain. Whichever they are, each is as likely to be for validation.
    for label, size in ((0, 1560), (1, 30)):
        is_rest = 1 - 20 / size
        for mask, p in zip(split, (20 / size, is_rest * 500 / 1550, is_rest * 1000 / 1550), strict=True):
            counts = mask[:, label == LABELS].sum(axis=0)
            assert np.abs(counts - NUM_KEYS * p).max() < 5 * (NUM_KEYS * p * (1 - p)) ** 0.5


def test_a_split_by_class_has_the_same_fractions_in_each(splits):
    _, split = splits
    assert_masks_are_disjoint_and_labelled(split, CLASS_LABELS)
    # Of 40, 17 and 10 nodes.
    for mask, expected in zip(split, ([4, 2, 1], [8, 3, 2], [28, 12, 7]), strict=True):
        assert (numbers(mask, CLASS_LABELS, 3) == expected).all()


def test_a_split_by_class_is_uniform(splits):
    _, split = splits
    for label, shares in enumerate(((4 / 40, 8 / 40, 28 / 40), (2 / 17, 3 / 17, 12 / 17), (0.1, 0.2, 0.7))):
        for mask, probability in zip(split, shares, strict=True):
            for count in mask[:, label == CLASS_LABELS].sum(axis=0).tolist():
                assert scipy.stats.binomtest(count, NUM_KEYS, probability).pvalue > 1e-5


def test_splits_under_vmap_equal_separate_calls(splits):
    draw = jax.jit(draw_both)
    for seed in range(3):
        separate = draw(jax.random.key(seed))
        jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda mask, at=seed: mask[at], splits), separate)


@pytest.mark.parametrize(
    ("labels", "num_classes", "counts"),
    [(LABELS[:1580], 2, "[1560, 16]"), (LABELS, 3, "[1560, 30, 0]"), (LABELS[51:], 2, "[1509, 30]")],
)
def test_a_random_split_of_too_few_nodes_is_refused(labels, num_classes, counts):
    with pytest.raises(DataError, match=re.escape(counts)):
        graphs.random_split(jax.random.key(0), labels, num_classes)
