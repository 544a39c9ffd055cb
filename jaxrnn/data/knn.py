"""Points as a graph of nearest neighbours, such as scikit-learn's 8x8 digits."""

import numpy as np
import scipy  # Its parts load when they are first used.

from jaxrnn.data.files import DataError
from jaxrnn.data.graphs import Edges, NodeTask, undirected

DIGITS = "digits"


def neighbour_edges(points: np.ndarray, neighbours: int) -> Edges:
    """Edges, both ways, between each of the ``points [N, D]`` and its nearest neighbours by Euclidean distance.

    Of equally distant points, the earlier ones count as nearer. Two points have an edge if one is a neighbour of the
    other, so a node may have more than `neighbours` edges.

    Raises:
        ValueError: there are no more than `neighbours` points.
    """
    if not neighbours < len(points):
        raise ValueError(f"{len(points)} points are too few for {neighbours} neighbours each")
    squares = (points**2).sum(1)
    nearest = []
    for rows in np.array_split(np.arange(len(points)), -(-len(points) // 1000)):
        distances = squares[rows, None] + squares - 2 * points[rows] @ points.T
        distances[np.arange(len(rows)), rows] = np.inf
        nearest.append(np.argsort(distances, axis=1, kind="stable")[:, :neighbours])
    nodes = np.repeat(np.arange(len(points)), neighbours)
    return undirected(nodes, np.concatenate(nearest).ravel(), len(points))


def digits(neighbours: int) -> NodeTask:
    """Scikit-learn's 1797 images of 8x8 pixels, each with its nearest `neighbours`; features are the pixels, 0 to 1.

    Raises:
        DataError: scikit-learn, which has the images, is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        reason = "the digits come with scikit-learn, which is not installed; pip install -e '.[baselines]' installs it"
        raise DataError(reason) from error
    pixels, labels = load_digits(return_X_y=True)
    return NodeTask(
        # The distances of whole numbers are exact, and so are the neighbours.
        features=scipy.sparse.csr_array((pixels / 16).astype(np.float32)),
        edges=neighbour_edges(pixels, neighbours),
        labels=labels.astype(np.int32),
        num_classes=10,
        split=None,
    )
