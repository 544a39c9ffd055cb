"""Documents as a graph of documents and words, to classify the documents (Yao, Mao and Luo 2019, "Text GCN").

A corpus is two files in one folder. Each line of ``NAME.txt`` has the name of a document, a field with `train` or
`test` in it, and its label, separated by tabs. Each line of ``NAME.clean.txt`` has the words of a document, separated
by blanks, in the same order.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy  # Its parts load when they are first used.

from jaxrnn.data.files import DataError, decode_lines, expand, read_if_there
from jaxrnn.data.graphs import Edges, NodeTask, Split, identity

OWN = "documents:"
WINDOW = 20
"""Two words occur together if a window of this many words has both."""
_VALIDATION_SHARE = 0.1


class Corpus(NamedTuple):
    """Documents of words.

    Attributes:
        words: those of all documents, one after another, integers ``[T]``, indices into the sorted `vocabulary`.
        lengths: the number of words in each document, integers ``[D]``, all positive.
        vocabulary: the V different words.
        labels: the class of each document, int32 ``[D]``.
        num_classes: C.
        is_train: whether a document is for training or validation; otherwise it is for the test; bool ``[D]``.
    """

    words: np.ndarray
    lengths: np.ndarray
    vocabulary: Sequence[str]
    labels: np.ndarray
    num_classes: int
    is_train: np.ndarray


def read(name: str) -> Corpus:
    """The documents of ``documents:FILE``, where FILE is ``NAME.txt``.

    Raises:
        DataError: a file is missing, the files do not match, or a document has no words; the message is one line.
    """
    path = expand(name.removeprefix(OWN))
    if not path.name:
        raise DataError(f"{name} names no file; give documents:NAME.txt, with NAME.clean.txt beside it")
    text_path = path.with_suffix(f".clean{path.suffix}")
    listed, texts = (
        _lines(path, "a line for each document: NAME, train or test, and LABEL, separated by tabs"),
        _lines(text_path, f"a line with the words of each document that {path.name} lists"),
    )
    if len(listed) != len(texts):
        raise DataError(
            f"{path} lists {len(listed)} documents, but {text_path} has {len(texts)}; each needs a line in both"
        )
    parts, labels = [], []
    for number, line in enumerate(listed, start=1):
        fields = [field.strip() for field in line.split("\t")]
        # The files of 20 Newsgroups have `20news-bydate-train`, those of Ohsumed `training`.
        kinds = [kind for kind in ("train", "test") if len(fields) == 3 and kind in fields[1]]
        if len(kinds) != 1 or not fields[2]:
            raise DataError(f"{path}, line {number}: should be NAME, train or test, and LABEL, separated by tabs")
        parts.append(kinds[0] == "train")
        labels.append(fields[2])
    words = [text.split() for text in texts]
    if empty := [number for number, found in enumerate(words, start=1) if not found]:
        more = f", and {len(empty) - 1} more" if len(empty) > 1 else ""
        raise DataError(f"{text_path}, line {empty[0]}{more}: no words; leave the document out of both files")
    classes, numbers = np.unique(labels, return_inverse=True)
    is_train = np.array(parts, bool)
    known, tested = len({*numbers[is_train].tolist()}), (~is_train).sum()
    if known < 2 or not tested:
        raise DataError(
            f"{path} has {known} classes for training, and {tested} documents for the test; at least 2 and 1 are needed"
        )
    vocabulary = sorted({word for found in words for word in found})
    places = {word: place for place, word in enumerate(vocabulary)}
    return Corpus(
        words=np.array([places[word] for found in words for word in found]),
        lengths=np.array([len(found) for found in words]),
        vocabulary=vocabulary,
        labels=numbers.astype(np.int32),
        num_classes=len(classes),
        is_train=is_train,
    )


def _lines(path: Path, what: str) -> list[str]:
    if (raw := read_if_there(path)) is None:
        raise DataError(f"there is no {path.absolute()}, which should have {what}")
    # `splitlines` would also break lines at characters that do not end a line.
    lines = decode_lines(path, raw).split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def load(name: str) -> NodeTask:
    """The graph of ``documents:FILE``: its nodes are the documents, followed by the words in sorted order.

    A document and a word in it have an edge, weighted by `tf_idf`; two words have one, weighted by their `pmi`, if that
    is positive. Words have no label; the features are the identity. A tenth of the documents for training, always the
    same, is for validation.

    Raises:
        DataError: as `read` does.
    """
    corpus = read(name)
    num_documents, num_nodes = len(corpus.lengths), len(corpus.lengths) + len(corpus.vocabulary)
    words_in, together = tf_idf(corpus).tocoo(), pmi(corpus).tocoo()
    first = np.concatenate([words_in.row, num_documents + together.row])
    second = num_documents + np.concatenate([words_in.col, together.col])
    ends = np.concatenate([first, second]), np.concatenate([second, first])
    weights = np.tile(np.concatenate([words_in.data, together.data]), 2)
    matrix = scipy.sparse.coo_array((weights, ends), (num_nodes, num_nodes)).tocsr()
    matrix.sort_indices()
    receivers = np.repeat(np.arange(num_nodes, dtype=np.int32), np.diff(matrix.indptr))
    labels = np.full(num_nodes, -1, np.int32)
    labels[:num_documents] = corpus.labels
    train = np.flatnonzero(corpus.is_train)
    num_validation = max(int(_VALIDATION_SHARE * len(train)), 1)
    validation = np.random.default_rng(0).permutation(train)[:num_validation]
    if len(np.unique(labels[np.setdiff1d(train, validation)])) < 2:
        raise DataError(
            f"{name} has {len(train)} documents for training, {num_validation} of them for validation; the others are "
            "all of one class, and at least 2 are needed: add documents for training"
        )
    nodes = np.arange(num_nodes)
    is_document, is_known, is_validation = nodes < num_documents, np.isin(nodes, train), np.isin(nodes, validation)
    return NodeTask(
        features=identity(num_nodes),
        edges=Edges(matrix.indices.astype(np.int32), receivers),
        labels=labels,
        num_classes=corpus.num_classes,
        split=Split(is_known & ~is_validation, is_validation, is_document & ~is_known),
        # Logarithms differ between machines in their last bits, and the digest of the data should not.
        weights=matrix.data.astype(np.float32).astype(np.float64),
    )


def counts(corpus: Corpus) -> "scipy.sparse.csr_array":
    """How often each document has each word, float64 ``[D, V]``."""
    documents = np.repeat(np.arange(len(corpus.lengths)), corpus.lengths)
    shape = len(corpus.lengths), len(corpus.vocabulary)
    return scipy.sparse.coo_array((np.ones(len(documents)), (documents, corpus.words)), shape).tocsr()


def tf_idf(corpus: Corpus) -> "scipy.sparse.csr_array":
    """``count * log(D / D_w)``, where D_w is the number of documents that have the word, float64 ``[D, V]``."""
    found = counts(corpus)
    having = np.bincount(found.indices, minlength=found.shape[1])
    found.data *= np.log(len(corpus.lengths) / having)[found.indices]
    found.eliminate_zeros()  # Those of words that all documents have.
    return found


def pmi(corpus: Corpus, window: int = WINDOW) -> "scipy.sparse.csr_array":
    """Pointwise mutual information of pairs of words where it is positive, float64 ``[V, V]``, above the diagonal.

    It is ``log(p(i, j) / (p(i) p(j)))`` over all windows of `window` words in a document; a shorter document is one
    window. As in the authors' code, ``p(i)`` is the share of windows that have the word, while a pair counts once for
    each pair of places that it has in a window.
    """
    lengths, total = corpus.lengths, len(corpus.words)
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    places = np.arange(total) - starts
    # A window is identified by its first place, from 0 to `last`.
    last = np.maximum(np.repeat(lengths, lengths) - window, 0)
    first_with = np.maximum(places - window + 1, 0)
    last_with = np.minimum(places, last)

    # Windows with a word: for each occurrence, those without the occurrence before it.
    order = np.lexsort((places, corpus.words, starts))
    is_again = np.zeros(total, bool)
    is_again[1:] = (starts[order][1:] == starts[order][:-1]) & (corpus.words[order][1:] == corpus.words[order][:-1])
    since = np.where(is_again, np.roll(places[order], 1) + 1, 0)
    new = np.maximum(last_with[order] - np.maximum(first_with[order], since) + 1, 0)
    num_words = len(corpus.vocabulary)
    having = np.bincount(corpus.words[order], new, num_words)

    rows, columns, together = [], [], []
    for distance in range(1, window):
        a = np.flatnonzero(places[distance:] >= distance)  # Both words are in one document.
        b = a + distance
        shared = last_with[a] - first_with[b] + 1
        is_pair = corpus.words[a] != corpus.words[b]
        a, b = corpus.words[a[is_pair]], corpus.words[b[is_pair]]
        rows.append(np.minimum(a, b))
        columns.append(np.maximum(a, b))
        together.append(shared[is_pair])
    entries = np.concatenate(together).astype(float), tuple(map(np.concatenate, (rows, columns)))
    found = scipy.sparse.coo_array(entries, (num_words, num_words)).tocsr()  # Sums the entries of a pair.
    first = np.repeat(np.arange(num_words), np.diff(found.indptr))
    num_windows = (np.maximum(lengths - window, 0) + 1).sum()
    found.data = np.log(found.data * num_windows / (having[first] * having[found.indices]))
    found.data[found.data < 0] = 0
    found.eliminate_zeros()
    return found
