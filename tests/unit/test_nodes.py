"""Node classification: trained in this process, its numbers against the papers' rules in NumPy."""

import functools
import json

import jax
import numpy as np
import pytest
import scipy.sparse
import scipy.special
from planetoid_files import example, oracle, write

import jaxrnn
from configs.nodes import Config
from experiments import nodes
from jaxrnn.data.nodes import draw_split, load
from jaxrnn.graph import project
from jaxrnn.rundir import session
from jaxrnn.rundir.fields import make_config
from jaxrnn.study.stats import principal_plane
from jaxrnn.training.definition import ConfigError
from jaxrnn.training.seeds import Stream, stream_key

OBJECTS = {
    "small": example(),
    # More nodes than the picture of a hidden layer shows.
    "large": example(num_train=30, num_others=5100, test_nodes=tuple(range(5100, 5109))),
}
PATIENCE = 15
RUNS = {
    # With dropout; both runs end together, so that no other program has to be compiled.
    "karate": {"num_seeds": 2, "max_steps": 30, "chunk_steps": 7},
    "large": {"dataset": "large", "num_seeds": 1, "max_steps": 0},
    # These end by their stop rules.
    "gcn": {
        **{"dataset": "small", "num_seeds": 1, "first_seed": 3, "max_steps": 400, "learning_rate": 0.05},
        **{"hidden_size": 5, "dropout": 0.0, "weight_decay": 0.05},
    },
    "gat": {
        **{"dataset": "small", "num_seeds": 1, "first_seed": 2, "max_steps": 400, "learning_rate": 0.005},
        **{"model": "gat", "num_heads": 2, "hidden_size": 3, "num_output_heads": 2, "patience": PATIENCE},
        **{"dropout": 0.0, "weight_decay": 0.02},
    },
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return {name: write(tmp_path_factory.mktemp(name), objects) for name, objects in OBJECTS.items()}


@pytest.fixture(scope="module")
def train(files, tmp_path_factory):
    @functools.cache
    def train(name):
        """The directory of one of `RUNS` and its results."""
        dataset = RUNS[name].get("dataset", "karate")
        config = Config(**{**RUNS[name], "dataset": files.get(dataset, dataset), "eval_every": 1})
        path = tmp_path_factory.mktemp("runs") / name
        return path, session.start(nodes.STUDY, config, path)

    return train


def evaluations(path, seed):
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["seed"] == seed]


def masks(config, seed):
    draw = jax.jit(lambda: draw_split(config.dataset, config.split, stream_key(seed, Stream.DATA)))
    return [np.asarray(mask) for mask in draw()]


def apply(config, model, params):
    """Logits and hidden layer of each node."""
    return [np.asarray(x) for x in jax.jit(model.apply)({"params": params}, *nodes.inputs(config))]


# --- Results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "seeds"), [("karate", [0, 1]), ("gcn", [3]), ("gat", [2])])
def test_accuracies_are_of_the_saved_weights_on_the_split_of_the_seed(train, name, seeds):
    path, rows = train(name)
    assert [row["seed"] for row in rows] == seeds
    for row in rows:
        config, model, params = jaxrnn.load(path, seed=row["seed"])
        logits, _ = apply(config, model, params)
        is_right = np.argmax(logits, axis=1) == load(config.dataset).labels
        _, validation, test = masks(config, row["seed"])
        assert row["test_accuracy"] == pytest.approx(is_right[test].mean())
        assert row["validation_accuracy"] == pytest.approx(is_right[validation].mean())
        assert len(evaluations(path, row["seed"])) == row["last_step"] + 1


@pytest.mark.parametrize("name", ["karate", "gcn"])
def test_the_hidden_layer_is_that_of_the_first_run(train, name):
    path, rows = train(name)
    found = json.loads((path / "hidden.json").read_text())
    assert found["run"] == rows[0]["run"]
    config, model, params = jaxrnn.load(path, run=found["run"])
    labels = load(config.dataset).labels
    shown = labels >= 0
    _, hidden = apply(config, model, params)
    # Principal components by the eigenvectors of the covariance; the sign of each is free.
    values, vectors = np.linalg.eigh(np.cov(hidden[shown].T))
    assert found["variance_share"] == pytest.approx(values[-2:].sum() / values.sum(), abs=1e-3)
    plane = np.float64(hidden)[shown] @ vectors[:, [-1, -2]]
    plane = (plane - plane.mean(0)) / np.abs(plane - plane.mean(0)).max()
    for ours, expected in zip((found["x"], found["y"]), plane.T, strict=True):
        np.testing.assert_allclose(ours, np.sign(np.dot(ours, expected)) * expected, atol=2e-3)
    assert found["classes"] == labels[shown].tolist()
    # The wrong nodes are test nodes, as many as the test accuracy says.
    *_, test = masks(config, rows[0]["seed"])
    assert len(found["wrong"]) == round((1 - rows[0]["test_accuracy"]) * test.sum())
    assert test[shown][found["wrong"]].all()


def test_of_many_nodes_some_are_shown(train):
    path, _ = train("large")
    found = json.loads((path / "hidden.json").read_text())
    assert len(found["x"]) == len(found["y"]) == len(found["classes"]) == 5000
    assert max(np.abs([*found["x"], *found["y"]])) == 1


def test_points_that_do_not_fill_a_plane_have_a_picture():
    for points, plane, share in [(np.ones((4, 3)), 0, 0), (np.array([[0.0], [4], [2]]), [[-1, 0], [1, 0], [0, 0]], 1)]:
        found = principal_plane(points)
        np.testing.assert_allclose(found[0], np.broadcast_to(plane, (len(points), 2)), atol=1e-12)
        assert found[1] == pytest.approx(share)


# --- The protocols ----------------------------------------------------------------------------------------------------


def gcn_by_hand(objects, params, config):
    """Kipf and Welling's training on dense arrays without dropout, in float64: a row of metrics for each epoch."""
    data = oracle(objects)
    targets, num_train, num_nodes = data.labels, len(objects["y"]), len(data.labels)
    x = data.features / np.maximum(data.features.sum(1, keepdims=True), 1e-30)
    loops = np.diag(data.adjacency)
    a = data.adjacency + np.diag(np.where(loops == 0, 1, loops))
    a = a / np.sqrt(a.sum(1) * a.sum(1)[:, None])
    train, validation = np.arange(num_train), np.arange(num_train, len(objects["ally"]))
    is_train = (np.arange(num_nodes) < num_train)[:, None]
    weights = [np.float64(params[layer]["w"]) for layer in ("layer_0", "layer_1")]
    first, second = ([np.zeros_like(w) for w in weights] for _ in range(2))

    def forward():
        hidden = np.maximum(a @ x @ weights[0], 0)
        return hidden, scipy.special.log_softmax(a @ hidden @ weights[1], axis=1)

    def measure(log_p, part):
        penalty = config.weight_decay / 2 * (weights[0] ** 2).sum()
        accuracy = (log_p[part].argmax(1) == targets[part].argmax(1)).mean()
        return penalty - (log_p * targets)[part].sum() / len(part), accuracy

    rows = []
    for epoch in range(config.max_steps + 1):
        hidden, log_p = forward()
        loss, _ = measure(log_p, train)
        d_logits = a.T @ ((np.exp(log_p) - targets) * is_train / num_train)
        d_hidden = d_logits @ weights[1].T * (hidden > 0)
        gradients = [x.T @ a.T @ d_hidden + config.weight_decay * weights[0], hidden.T @ d_logits]
        for k, g in enumerate(gradients):
            first[k] = 0.9 * first[k] + 0.1 * g
            second[k] = 0.999 * second[k] + 0.001 * g**2
            update = first[k] / (1 - 0.9 ** (epoch + 1)) / (np.sqrt(second[k] / (1 - 0.999 ** (epoch + 1))) + 1e-8)
            weights[k] = weights[k] - config.learning_rate * update
        _, log_p = forward()
        rows.append([loss, *measure(log_p, validation), measure(log_p, data.test)[1]])
        if epoch > 10 and rows[-1][1] > np.mean([row[1] for row in rows[-11:-1]]):
            break
    return np.array(rows)


def test_gcn_trains_as_its_paper_says(train):
    path, (row,) = train("gcn")
    config, *_ = jaxrnn.load(path)
    params = nodes.STUDY.build(nodes.STUDY.config(**vars(config))).init(stream_key(row["seed"], Stream.INIT))
    expected = gcn_by_hand(OBJECTS["small"], params, config)
    ours = evaluations(path, row["seed"])
    assert len(ours) == len(expected)
    for i, name in enumerate(("loss", "validation_loss", "validation_accuracy")):
        np.testing.assert_allclose([one[name] for one in ours], expected[:, i], atol=2e-4, err_msg=name)
    # The last weights are tested.
    np.testing.assert_allclose([row["validation_accuracy"], row["test_accuracy"]], expected[-1, 2:], atol=1e-6)
    assert row["stopped"], "take other settings: it should end by the stop rule"


def test_gat_is_judged_by_its_best_weights_and_decays_all_of_them(train):
    path, (row,) = train("gat")
    rows = evaluations(path, row["seed"])
    accuracy, loss, without, best = 0.0, np.inf, 0, None
    for epoch, one in enumerate(rows):
        better = one["validation_accuracy"] >= accuracy, one["validation_loss"] <= loss
        without = 0 if any(better) else without + 1
        best = epoch if all(better) else best
        accuracy, loss = max(accuracy, one["validation_accuracy"]), min(loss, one["validation_loss"])
        assert (without >= PATIENCE) == (epoch == len(rows) - 1)
    assert (row["stopped"], best < len(rows) - 1) == (True, True), "take other settings: it should end by the stop rule"
    assert row["validation_accuracy"] == rows[best]["validation_accuracy"]

    config, model, params = jaxrnn.load(path)
    logits, _ = apply(config, model, params)
    labels = load(config.dataset).labels
    nats = -scipy.special.log_softmax(np.float64(logits), axis=1)[np.arange(len(labels)), labels]
    train, validation, _ = masks(config, row["seed"])
    assert nats[validation].mean() == pytest.approx(rows[best]["validation_loss"], abs=1e-5)
    # The loss of these weights is that of the next epoch, before its update.
    assert np.abs(params["layer_0"]["b"]).min() > 0
    squares = sum((np.float64(w) ** 2).sum() for layer in params.values() for w in layer.values())
    expected = nats[train].mean() + config.weight_decay / 2 * squares
    assert rows[best + 1]["loss"] == pytest.approx(expected, abs=1e-5)


def test_random_splits_are_functions_of_the_seed(files):
    large = Config(dataset=files["large"], split="random")
    for config, sizes in [(Config(), [4, 6, 24]), (large, [60, 500, 1000])]:
        drawn = [masks(config, seed) for seed in (0, 1, 0)]
        assert [[mask.sum() for mask in split] for split in drawn] == [sizes] * 3
        assert all((first == again).all() for first, again in zip(drawn[0], drawn[2], strict=True))
        assert all((first != other).any() for first, other in zip(drawn[0], drawn[1], strict=True))


def test_files_are_known_by_their_name():
    arms = nodes.STUDY.arms
    fields = {"model": "gat", "num_output_heads": 8, "learning_rate": 0.01, "weight_decay": 1e-3}
    own = arms.of_fields({"dataset": "planetoid:data/pubmed", **fields})
    assert own in [arms.of_fields(setting) for setting in arms.paper]
    assert arms.name(own) == "GAT on pubmed"
    assert arms.of_fields({"dataset": "data/own/", **fields})["dataset"] == "own"


# --- What does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("dataset", "corra", "citeseer"),
        ("train_per_class", 5, "--config.split=random"),
        ("num_heads", 2, "gcn"),
        ("dropout", 1.0, "less than 1"),
        ("weight_decay", float("nan"), "finite"),
    ],
)
def test_a_value_that_does_not_fit_is_named(field, value, word):
    with pytest.raises(ConfigError) as error:
        nodes.STUDY.validate(make_config(Config, {field: value}))
    assert error.value.field == field
    assert word in error.value.reason


def test_features_with_a_sign_are_not_divided_by_their_sums(tmp_path):
    objects = example()
    for part in ("tx", "allx"):
        objects[part] = objects[part] - 2 * scipy.sparse.eye_array(*objects[part].shape, format="csr")
        objects[part] = scipy.sparse.csr_matrix(objects[part])
    dataset = write(tmp_path, objects)
    with pytest.raises(ConfigError, match="negative") as error:
        nodes.check(Config(dataset=dataset))
    assert error.value.field == "normalize_features"
    config = Config(dataset=dataset, normalize_features=False)
    nodes.check(config)
    _, features = nodes.inputs(config)
    given = load(dataset).features.toarray()
    np.testing.assert_array_equal(project(features, np.eye(given.shape[1], dtype=np.float32)), given)
