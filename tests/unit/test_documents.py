"""Graphs where there is none: nearest neighbours, and documents with their words, against plain loops."""

from collections import Counter
from math import log

import jax
import numpy as np
import pytest

from configs.nodes import DIGITS, DOCUMENTS, Config
from experiments import nodes
from experiments.nodes.baselines import classifier, measure
from experiments.nodes.claims import SCHEME, baseline_arms, gain_on_documents
from jaxrnn import graph
from jaxrnn.data import documents, knn
from jaxrnn.data.files import DataError
from jaxrnn.data.nodes import load
from jaxrnn.rundir import session
from jaxrnn.rundir.read import Run
from jaxrnn.study.arms import Arm
from jaxrnn.study.stats import bootstrap_table
from jaxrnn.training.definition import ConfigError

TOPICS = {"grain": "wheat corn harvest tonnes crop field", "ship": "port vessel cargo crew harbour sea"}


def texts():
    """Labels and documents, some longer than the window, with words that come again in it."""
    rng = np.random.default_rng(0)
    for number in range(48):
        label = [*TOPICS][number % 2]
        words = [*TOPICS[label].split(), "said", "the", "year", "of", "mln", "dlrs"]
        yield label, " ".join(rng.choice(words, rng.integers(1, 45)))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The folder of a corpus of 48 documents, `news.txt`."""
    folder, rows = tmp_path_factory.mktemp("corpus"), [*texts()]
    lines = [f"{i}\t{'test' if i % 3 == 2 else 'train'}\t{label}" for i, (label, _) in enumerate(rows)]
    (folder / "news.txt").write_text("\n".join(lines) + "\n")
    (folder / "news.clean.txt").write_text("\n".join(text for _, text in rows) + "\n")
    return folder


def name_of(folder):
    return f"documents:{folder / 'news.txt'}"


# --- Documents --------------------------------------------------------------------------------------------------------


def pmi_by_hand(rows, window):
    """Of each pair of words, in sorted order, as the authors' code counts."""
    windows = [w[i : i + window] for w in rows for i in range(max(len(w) - window, 0) + 1)]
    having, together = Counter(), Counter()
    for words in windows:
        having.update(set(words))
        together.update(tuple(sorted((a, b))) for i, a in enumerate(words) for b in words[:i] if a != b)
    values = {(a, b): log(n * len(windows) / (having[a] * having[b])) for (a, b), n in together.items()}
    return {pair: value for pair, value in values.items() if value > 0}


@pytest.mark.parametrize("window", [2, 7, 20])
def test_pmi_is_that_of_a_plain_loop(corpus, window):
    read = documents.read(name_of(corpus))
    found = documents.pmi(read, window).tocoo()
    words = read.vocabulary
    ours = {(words[i], words[j]): x for i, j, x in zip(found.row, found.col, found.data, strict=True)}
    expected = pmi_by_hand([text.split() for _, text in texts()], window)
    assert ours == pytest.approx(expected, abs=1e-12)
    assert len(ours) > 10


@pytest.mark.parametrize(("encoding", "end"), [("utf-8-sig", "\r\n"), ("utf-16", "\n"), ("latin-1", "\r")])
def test_files_of_any_editor_are_read(tmp_path, encoding, end):
    listed, words = ["1\ttrain\tä", "2\ttrain\tb", "3\ttest\tb"], ["für", "x y", "x"]
    for name, lines in (("a.txt", listed), ("a.clean.txt", words)):
        (tmp_path / name).write_bytes((end.join(lines) + end).encode(encoding))
    found = documents.read(f"documents:{tmp_path / 'a.txt'}")
    assert (found.vocabulary, [*found.lengths], [*found.labels]) == (["für", "x", "y"], [1, 2, 1], [1, 0, 0])


def test_the_graph_has_documents_and_words_with_their_weights(corpus):
    task, rows = load(name_of(corpus)), [text.split() for _, text in texts()]
    words = sorted({word for row in rows for word in row})
    n = len(rows)
    having = Counter(word for row in rows for word in set(row))
    expected = np.zeros((n + len(words),) * 2)
    for i, row in enumerate(rows):
        for word, count in Counter(row).items():
            expected[i, n + words.index(word)] = count * log(n / having[word])
    for (a, b), value in pmi_by_hand(rows, 20).items():
        expected[n + words.index(a), n + words.index(b)] = value
    matrix = np.zeros_like(expected)
    matrix[task.edges.receivers, task.edges.senders] = task.weights
    np.testing.assert_allclose(matrix, expected + expected.T, rtol=1e-6)
    assert (task.features.toarray() == np.eye(len(expected))).all()
    assert task.labels.tolist() == [i % 2 for i in range(n)] + [-1] * len(words)
    train, validation, test = task.split
    assert [mask.sum() for mask in task.split] == [29, 3, 16]
    assert (np.flatnonzero(test) % 3 == 2).all()
    assert not (train & validation).any()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"news.clean.txt": None}, "news.clean.txt"),
        ({"news.txt": None}, "news.txt"),
        ({"news.clean.txt": "a b\n\nc\n"}, "line 2"),
        ({"news.clean.txt": "a b\nc\n"}, "3 documents"),
        ({"news.txt": "0\ttrain\tx\n1\ttrain\ty\n2 test x\n"}, "line 3"),
        ({"news.txt": "0\ttrain\tx\n1\tdev\ty\n2\ttest\tx\n"}, "line 2"),
        ({"news.txt": "0\ttrain\tx\n1\ttrain\ty\n2\ttrain\tx\n"}, "0 documents for the test"),
        ({"news.txt": "", "news.clean.txt": ""}, "0 classes"),
        ({"news.txt": "0\ttrain\tx\n1\ttrain\tx\n2\ttest\ty\n"}, "1 classes"),
    ],
)
def test_files_that_do_not_fit_are_refused_in_a_line(tmp_path, change, word):
    for file, text in (
        {"news.txt": "0\ttrain\tx\n1\ttrain\ty\n2\ttest\tx\n", "news.clean.txt": "a b\nb\nc\n"} | change
    ).items():
        if text is not None:
            (tmp_path / file).write_text(text)
    with pytest.raises(DataError) as error:
        load(name_of(tmp_path))
    assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_validation_leaves_two_classes(tmp_path):
    (tmp_path / "news.txt").write_text("0\ttrain\tx\n1\ttrain\ty\n2\ttest\tx\n")
    (tmp_path / "news.clean.txt").write_text("a b\nb\nc\n")
    with pytest.raises(DataError, match="one class"):
        load(name_of(tmp_path))


@pytest.mark.parametrize("name", ["documents:", "documents:/"])
def test_a_name_without_a_file_is_refused(name):
    with pytest.raises(DataError, match="names no file"):
        load(name)


def test_a_corpus_of_another_encoding_or_with_other_ends_of_lines_is_read(tmp_path):
    (tmp_path / "news.txt").write_bytes(b"0\ttraining\tx\r\n1\t20news-train\ty\r\n2\ttest\tx\r\n")
    (tmp_path / "news.clean.txt").write_bytes(b"caf\xe9 b\r\nb\r\nb c\r\n\r\n")
    read = documents.read(name_of(tmp_path))
    assert read.vocabulary == ["b", "c", "caf\xe9"]
    assert read.is_train.tolist() == [True, True, False]


# --- Nearest neighbours -----------------------------------------------------------------------------------------------


def test_each_point_is_tied_to_its_nearest_ones():
    points = np.random.default_rng(0).normal(size=(1203, 3))  # More than one block of rows.
    edges = knn.neighbour_edges(points, 4)
    expected = set()
    for i, distances in enumerate(((points[:, None] - points) ** 2).sum(-1)):
        for j in sorted(range(len(points)), key=distances.__getitem__)[1:5]:
            expected |= {(i, j), (j, i)}
    assert {*zip(edges.senders.tolist(), edges.receivers.tolist(), strict=True)} == expected
    with pytest.raises(ValueError, match="3 points"):
        knn.neighbour_edges(points[:3], 3)


def test_only_digits_have_neighbours():
    with pytest.raises(ConfigError, match="neighbours"):
        nodes.check(Config(neighbours=7))


# --- Baselines and runs -----------------------------------------------------------------------------------------------


def test_digits_and_their_baselines_are_those_that_were_measured():
    pytest.importorskip("sklearn")
    task = load("digits")
    same = task.labels[task.edges.senders] == task.labels[task.edges.receivers]
    assert (len(task.edges.senders), same.mean()) == (12618, pytest.approx(0.973, abs=1e-3))
    # Means over these 20 splits with 5 labels a class, all others tested, measured by another program.
    expected = {"nearest": 0.872, "svm": 0.883, "sgc": 0.926, "spreading": 0.957}
    classify, found = classifier(DIGITS), {name: [] for name in expected}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        known = np.concatenate([rng.choice(np.flatnonzero(task.labels == c), 5, replace=False) for c in range(10)])
        others = np.setdiff1d(np.arange(len(task.labels)), known)
        for name, predicted in classify(known, others).items():
            found[name].append((predicted == task.labels[others]).mean())
    assert {name: np.mean(values) for name, values in found.items()} == pytest.approx(expected, abs=0.002)


def test_baselines_of_digits_share_the_splits_of_the_runs():
    pytest.importorskip("sklearn")
    first, again = (measure(DIGITS, seeds) for seeds in ([0, 1], [1]))
    assert first["spreading"]["1"] == again["spreading"]["1"] != first["spreading"]["0"]


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A directory of two runs on the corpus."""
    fields = {"num_seeds": 2, "max_steps": 20, "hidden_size": 6, "chunk_steps": 21}
    config = Config(**{**vars(DOCUMENTS), **fields, "dataset": name_of(corpus)})
    path = tmp_path_factory.mktemp("runs") / "documents"
    return path, config, session.start(nodes.STUDY, config, path)


def test_documents_are_told_apart_and_the_wrong_ones_are_kept(run):
    path, _, rows = run
    wrong = nodes.results.read(path / nodes.results.WRONG)
    for row in rows:
        assert row["test_accuracy"] > 0.8
        assert len(wrong[row["run"]]) == round(16 * (1 - row["test_accuracy"]))


def test_baselines_stand_beside_the_runs(run):
    pytest.importorskip("sklearn")
    path, config, rows = run
    setting = SCHEME.setting(vars(config))
    runs = [Run(row["run"], row["seed"], {}, path, row) for row in rows]
    arm = Arm("", setting, "own", runs)
    found = {one.setting["model"]: one for one in baseline_arms([arm])}
    assert [*found] == ["logistic", "logistic_10", "linear_svc"]
    assert found["linear_svc"].runs[0].result["test_accuracy"] > 0.9
    gain = gain_on_documents(arm, found["linear_svc"])
    expected = np.mean([row["test_accuracy"] for row in rows]) - found["linear_svc"].runs[0].result["test_accuracy"]
    assert gain.value == pytest.approx(100 * expected)


def test_rows_and_columns_of_a_table_are_resampled():
    rng = np.random.default_rng(0)
    rows, columns = rng.normal(size=(30, 1)), rng.normal(size=40)
    estimate = bootstrap_table(rows + columns)
    # The two variances of a mean add up.
    deviation = np.sqrt(rows.var() / 30 + columns.var() / 40)
    assert estimate.value == pytest.approx((rows + columns).mean())
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * deviation, rel=0.1)


def test_the_matrix_of_a_graph_multiplies_as_its_edges_do(corpus):
    task = load(name_of(corpus))
    shift = graph.normalize(graph.build(*task.edges, num_nodes=len(task.labels), weights=task.weights))
    by_rows, dense = graph.by_rows(shift), np.zeros((len(task.labels),) * 2)
    dense[shift.receivers, shift.senders] = shift.edges
    x = np.random.default_rng(0).normal(size=(len(dense), 3)).astype(np.float32)
    np.testing.assert_allclose(graph.propagate(by_rows, x), dense @ x, atol=1e-5)
    gradient = jax.grad(lambda x: (graph.propagate(by_rows, x) ** 2).sum())(x)
    np.testing.assert_allclose(gradient, 2 * dense.T @ (dense @ x), atol=1e-5)
