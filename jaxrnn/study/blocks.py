"""Comparisons of two arms, one of which may have no seeds, by resampling seeds and blocks of the test part."""

import numpy as np
from numpy.typing import NDArray

from jaxrnn.study.stats import Comparison

_RESAMPLES = 9999


def compare_on_blocks(a: tuple[NDArray, NDArray], b: tuple[NDArray, NDArray], is_root: bool) -> Comparison | str:
    """The mean over seeds of one arm's errors minus that of another, from ``[S, blocks]`` sums and counts.

    An error is the sum divided by the count, or with `is_root` the square root of that. Both arms have the same
    resampled blocks.
    """
    if not (a[0].size and b[0].size) or a[0].shape[1] != b[0].shape[1]:
        return "one of them has no values, or their blocks differ"
    rng, num_blocks = np.random.default_rng(0), a[0].shape[1]
    blocks = np.stack(
        [np.ones(num_blocks), *rng.multinomial(num_blocks, np.full(num_blocks, 1 / num_blocks), _RESAMPLES)]
    )

    def means(sums: NDArray, counts: NDArray) -> NDArray:
        """The mean of the arm as it is, and of each resample."""
        errors = blocks @ sums.T / np.maximum(blocks @ counts.T, 1)
        errors = np.sqrt(errors) if is_root else errors
        seeds = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), _RESAMPLES)
        seeds = np.stack([np.ones(len(sums)), *seeds])
        return (errors * seeds).sum(1) / len(sums)

    found = means(*a) - means(*b)
    difference, resampled = float(found[0]), found[1:]
    low, high = np.quantile(resampled, [0.025, 0.975])
    smaller = min(np.count_nonzero(resampled <= 0), np.count_nonzero(resampled >= 0))
    p_value, smallest = min(1.0, 2 * (smaller + 1) / (_RESAMPLES + 1)), 2 / (_RESAMPLES + 1)
    note = f"seeds and {num_blocks} blocks of the test part are resampled"
    return Comparison(difference, float(low), float(high), p_value, smallest, note)
