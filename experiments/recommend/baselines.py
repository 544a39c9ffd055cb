"""Recommendations that need no training, which a model has to beat.

They are fitted to the whole training part, including the validation part.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy  # Its parts load when they are first used.

from experiments.recommend.build import Problem, arrays, rank_users, summary
from jaxrnn.data.ratings import Pairs

_SHRINKAGE, _ROUNDS = 5.0, 30
"""The shrinkage and the rounds of the biases."""


def measure(config: Any, problem: Problem) -> dict[str, dict[str, Any]]:
    """By baseline, what ``results.json`` has for a run of the config's task."""
    users = np.unique(problem.test.users)
    if config.task == "rating":
        found = {
            name: summary(problem.test.users, {"squares": (rated - problem.test.ratings) ** 2}, users)
            for name, rated in ratings(problem).items()
        }
    else:
        data = {name: one for name, one in arrays(config, problem).items() if name.startswith("test")}
        found = {name: _ranked(table, data) for name, table in tables(problem).items()}
    return {
        name: {key: np.asarray(value, np.float64).tolist() for key, value in of_name.items()}
        for name, of_name in found.items()
    }


def _ranked(table: np.ndarray, data: dict[str, Any]) -> dict[str, Any]:
    scores = jnp.asarray(table, jnp.float32)
    recall, ndcg = jax.jit(lambda scores, data: rank_users(lambda users: scores[users], data, "test"))(scores, data)
    return summary(data["test_users"], {"recall": recall, "ndcg": ndcg}, data["test_users"])


def ratings(problem: Problem) -> dict[str, np.ndarray]:
    """By baseline, ratings of the test pairs: the mean, and the mean with the biases of the user and of the item."""
    known, test = problem.known, problem.test
    mean = known.ratings.mean(dtype=np.float64)
    of_user, of_item = biases(known, len(problem.data.users), len(problem.data.items))
    return {
        "mean": np.full(len(test.users), mean),
        "biases": mean + of_user[test.users] + of_item[test.items],
    }


def biases(pairs: Pairs, num_users: int, num_items: int) -> tuple[np.ndarray, np.ndarray]:
    """What users and items add to the mean rating: alternating shrunk means ``sum(r - mu - b_u) / (n_i + 5)``."""
    rest = pairs.ratings - pairs.ratings.mean(dtype=np.float64)
    of_user, of_item = np.zeros(num_users), np.zeros(num_items)

    def mean(values: np.ndarray, places: np.ndarray, size: int) -> np.ndarray:
        return np.bincount(places, values, size) / (np.bincount(places, minlength=size) + _SHRINKAGE)

    for _ in range(_ROUNDS):
        of_item = mean(rest - of_user[pairs.users], pairs.items, num_items)
        of_user = mean(rest - of_item[pairs.items], pairs.users, num_users)
    return of_user, of_item


def tables(problem: Problem) -> dict[str, np.ndarray]:
    """By baseline, the scores of all items for all users, ``[users, items]``.

    ``popularity`` is the number of users who took an item. ``friends`` is the number of a user's linked users who took
    it; among equal numbers, popularity decides. ``filter`` is the closed form ``R S^T S`` with
    ``S = D_u^-1/2 R D_i^-1/2`` (Shen et al. 2021, its linear part).
    """
    known, sizes = problem.known, (len(problem.data.users), len(problem.data.items))
    taken = scipy.sparse.csr_array((np.ones(len(known.users)), (known.users, known.items)), shape=sizes)
    counts = [np.maximum(taken.sum(axis), 1) for axis in (1, 0)]
    scaled = scipy.sparse.diags_array(counts[0] ** -0.5) @ taken @ scipy.sparse.diags_array(counts[1] ** -0.5)
    found = {"popularity": np.broadcast_to(counts[1], sizes)}
    if problem.data.links.size:
        ends = problem.data.links
        links = scipy.sparse.csr_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(sizes[0], sizes[0]))
        found["friends"] = (links @ taken).toarray() + counts[1] / (counts[1].max() + 1)
    return {**found, "filter": (taken @ (scaled.T @ scaled)).toarray()}
