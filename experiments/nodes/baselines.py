"""Classifiers that need no training by gradients, which a graph network has to beat.

Those of digits know only the run's training nodes. Those of documents know the training and the validation documents,
as is usual.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy  # Its parts load when they are first used.

from experiments.nodes.build import features_of, host_split, load
from jaxrnn.data import documents, knn, nodes
from jaxrnn.data.files import DataError
from jaxrnn.data.graphs import NodeTask
from jaxrnn.graph import build, normalize

NAMES = {
    "nearest": "1-NN",
    "svm": "RBF SVM",
    "spreading": "label spreading",
    "sgc": "SGC",
    "logistic": "TF-IDF + logistic regression",
    "logistic_10": "TF-IDF + logistic regression, C = 10",
    "linear_svc": "TF-IDF + LinearSVC",
}
DIGITS, DOCUMENTS = tuple(NAMES)[:4], tuple(NAMES)[4:]
_ALPHA = 0.95
"""The share that neighbours have in label spreading."""


def names(dataset: str) -> tuple[str, ...]:
    """The baselines of a graph."""
    if dataset == knn.DIGITS:
        return DIGITS
    return DOCUMENTS if nodes.is_documents(dataset) else ()


def measure(config: Any, seeds: list[int]) -> dict[str, dict[str, dict[str, Any]]]:
    """Test accuracy by baseline and seed (a string, as in JSON); for documents also which of how many are wrong.

    Raises:
        DataError: scikit-learn is not installed.
    """
    task = load(config)
    is_digits = config.dataset == knn.DIGITS
    classify = classifier(config)
    found: dict[str, dict[str, Any]] = {name: {} for name in names(config.dataset)}
    for seed in seeds:
        split = host_split(config, seed)
        known = np.flatnonzero(split.train if is_digits else split.train | split.validation)
        test = np.flatnonzero(split.test)
        for name, predicted in classify(known, test).items():
            wrong = test[predicted != task.labels[test]]
            found[name][str(seed)] = {"test_accuracy": 1 - len(wrong) / len(test)}
            if not is_digits:
                found[name][str(seed)] |= {"tested": len(test), "wrong": wrong.tolist()}
    return found


Classify = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]
"""From nodes with known labels and other nodes, both as integer positions, to the others' classes by baseline."""


def classifier(config: Any) -> Classify:
    """The baselines of a config's graph; raises as `measure` does."""
    return _classify_digits(config) if config.dataset == knn.DIGITS else _classify_documents(config)


def _classify_digits(config: Any) -> Classify:
    sklearn, task = _import_sklearn(), load(config)
    num_nodes, pixels = len(task.labels), features_of(config).toarray()
    shift, walk = (_shift(task, self_loops=loops) for loops in (True, False))
    smooth = shift @ (shift @ pixels)
    # Zhou et al. 2004: scores (I - alpha D^-1/2 A D^-1/2)^-1 Y of one-hot labels Y.
    spread = scipy.sparse.linalg.splu((scipy.sparse.eye_array(num_nodes) - _ALPHA * walk).tocsc()).solve

    def classify(known: np.ndarray, others: np.ndarray) -> dict[str, np.ndarray]:
        labels = task.labels[known]
        one_hot = np.zeros((num_nodes, task.num_classes))
        one_hot[known, labels] = 1
        models = {
            "nearest": (sklearn.neighbors.KNeighborsClassifier(1), pixels),
            "svm": (sklearn.svm.SVC(C=10), pixels),
            "sgc": (sklearn.linear_model.LogisticRegression(C=10, max_iter=1000), smooth),
        }
        found = {name: model.fit(x[known], labels).predict(x[others]) for name, (model, x) in models.items()}
        return {**found, "spreading": spread(one_hot)[others].argmax(-1)}

    return classify


def _shift(task: NodeTask, *, self_loops: bool) -> "scipy.sparse.csr_array":
    """``D^-1/2 A D^-1/2``, with or without loops."""
    num_nodes = len(task.labels)
    graph = normalize(build(*task.edges, num_nodes=num_nodes, weights=task.weights, self_loops=self_loops))
    return scipy.sparse.csr_array((graph.edges, (graph.receivers, graph.senders)), (num_nodes, num_nodes))


def _classify_documents(config: Any) -> Classify:
    sklearn = _import_sklearn()
    corpus = documents.read(config.dataset)
    # Like Text GCN, it counts the documents with a word over the test documents, too.
    x = sklearn.feature_extraction.text.TfidfTransformer().fit_transform(documents.counts(corpus))

    def classify(known: np.ndarray, others: np.ndarray) -> dict[str, np.ndarray]:
        models = {
            "logistic": sklearn.linear_model.LogisticRegression(max_iter=1000),
            "logistic_10": sklearn.linear_model.LogisticRegression(C=10, max_iter=1000),
            "linear_svc": sklearn.svm.LinearSVC(),
        }
        labels = corpus.labels[known]
        return {name: model.fit(x[known], labels).predict(x[others]) for name, model in models.items()}

    return classify


def _import_sklearn() -> Any:
    try:
        import sklearn
        import sklearn.feature_extraction.text
        import sklearn.linear_model
        import sklearn.neighbors
        import sklearn.svm
    except ImportError as error:
        raise DataError("scikit-learn is not installed; pip install -e '.[baselines]' installs it") from error
    return sklearn
