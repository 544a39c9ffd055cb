"""Recall and NDCG of scores: how well they rank a user's items at the top, with ties."""

import jax.numpy as jnp
import numpy as np

from jaxrnn.arrays import Array


def at_top(scores_i: Array, relevant_m: Array, top: int) -> tuple[Array, Array]:
    """Recall and NDCG of one user among the `top` items with the highest scores.

    Items of the same score may come in any order, so both are means over all orders, as in scikit-learn's `ndcg_score`.
    Items that must not be recommended have a score of -inf and are not relevant.

    Args:
        scores_i: of all items, ``[I]``.
        relevant_m: items that the user took, one at least, each once, ``[M]``; I stands for none.
        top: how many items count.
    """
    num_items = len(scores_i)
    counts = relevant_m < num_items
    own = scores_i[jnp.minimum(relevant_m, num_items - 1)]
    above = (scores_i > own[:, None]).sum(-1)
    alike = (scores_i == own[:, None]).sum(-1)
    first, behind = jnp.minimum(above, top), jnp.minimum(above + alike, top)
    # What the first n places are worth together, by n.
    worth = jnp.asarray(np.concatenate([[0], np.cumsum(1 / np.log2(np.arange(2, top + 2)))]), jnp.float32)
    share = counts / alike
    number = counts.sum()
    recall = (share * (behind - first)).sum() / number
    return recall, (share * (worth[behind] - worth[first])).sum() / worth[jnp.minimum(number, top)]


def padded(users: np.ndarray, items: np.ndarray, chosen: np.ndarray, num_items: int) -> np.ndarray:
    """The items of each `chosen` user, int32 ``[U, M]``; the number of items stands for none.

    Args:
        users: of each pair, ``[n]``.
        items: of each pair, ``[n]``.
        chosen: different users, sorted, ``[U]``.
        num_items: how many there are.
    """
    is_chosen = np.isin(users, chosen)
    rows, items = np.searchsorted(chosen, users[is_chosen]), items[is_chosen]
    order = np.argsort(rows, kind="stable")
    counts = np.bincount(rows, minlength=len(chosen))
    found = np.full((len(chosen), counts.max(initial=1)), num_items, np.int32)
    places = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    found[rows[order], places] = items[order]
    return found
