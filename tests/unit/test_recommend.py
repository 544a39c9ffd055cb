"""Recommenders, their measures and baselines against NumPy, and what a user does with a trained directory."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.recommend import Config
from experiments.recommend import STUDY, baselines, build, lists
from jaxrnn.graph import project
from jaxrnn.nn.ranking import at_top, padded
from jaxrnn.nn.recommenders import GCMC, LightGCN, bipartite, relations
from jaxrnn.rundir import session
from jaxrnn.rundir.directory import RunError, read_results
from jaxrnn.rundir.read import read_directory
from jaxrnn.rundir.restore import load_all
from jaxrnn.study.study import read_evidence
from jaxrnn.training.definition import ConfigError
from jaxrnn.training.stop import average_weights

USERS, ITEMS = 9, 12


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Ratings from 1 to 3 of a few users and items, with a user who rated once, and links."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "mine.csv"
    lines = [
        f"u{u},i{i},{rng.integers(1, 4)}" for u in range(USERS) for i in rng.permutation(ITEMS)[: 1 if u == 0 else 7]
    ]
    path.write_text("\n".join(lines))
    path.with_name("mine.trust.csv").write_text("u0,u1\nu2,u1\nu3,u4\n")
    return path


@pytest.fixture(scope="module")
def config(file):
    sizes = {"hidden_size": 3, "num_layers": 2, "batch_size": 8, "split": "last"}
    return Config(dataset=f"ratings:{file}", **sizes, max_steps=4, eval_every=2, chunk_steps=3, num_seeds=2)


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    session.start(STUDY, config, path, {"trust": [0.0, 2.0]})
    return path


@pytest.fixture(scope="module")
def rating_run(file, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "rating"
    sizes = {"hidden_size": 3, "message_size": 6, "batch_size": 0, "max_steps": 2, "eval_every": 2, "num_seeds": 1}
    fields = {"dataset": f"ratings:{file}", "task": "rating", "model": "gcmc", "validation": 0.0, "averaging": 0.9}
    session.start(STUDY, Config(**fields, **sizes, trust=1.0), path)
    return path


# --- Models -----------------------------------------------------------------------------------------------------------


def graph():
    rng = np.random.default_rng(1)
    users, items = np.nonzero(rng.random((USERS, ITEMS)) < 0.4)
    links = np.array([[0, 1, 2, 1], [1, 0, 1, 2]])
    return users, items + USERS, links, rng


def dense(shift):
    return np.asarray(jax.jit(lambda: project(shift, jnp.eye(shift.shape[1])))(), np.float64)


@pytest.mark.parametrize("trust", [0.0, 0.5])
def test_lightgcn_is_its_equation(trust, x64):
    users, items, links, rng = graph()
    adjacency = np.zeros((USERS + ITEMS, USERS + ITEMS))
    adjacency[users, items] = adjacency[items, users] = 1
    adjacency[tuple(links)] = trust
    degrees = adjacency.sum(1)
    scale = np.where(degrees > 0, np.maximum(degrees, 1e-9) ** -0.5, 0)
    shift = bipartite(users, items, USERS + ITEMS, links, trust)
    s = scale[:, None] * adjacency * scale
    np.testing.assert_allclose(dense(shift), s, atol=1e-7)
    s, e = dense(shift), rng.normal(size=(USERS + ITEMS, 4))
    start, final = LightGCN(USERS + ITEMS, 4, 3).apply({"params": {"embeddings": jnp.asarray(e)}}, shift)
    np.testing.assert_array_equal(start, e)
    np.testing.assert_allclose(final, (e + s @ e + s @ s @ e + s @ s @ s @ e) / 4, atol=1e-10)


@pytest.mark.parametrize("with_links", [False, True])
def test_gcmc_is_its_equation(with_links, x64):
    """Against a loop over nodes, kinds and neighbours."""
    users, items, links, rng = graph()
    links = links if with_links else links[:, :0]
    levels, num_levels = rng.integers(0, 3, len(users)), 3
    kinds, num_nodes = num_levels + with_links, USERS + ITEMS
    shift = relations(users, items, levels, kinds, num_nodes, links)
    model = GCMC(num_nodes, kinds, num_levels, message_size=2 * kinds, hidden_size=3)
    ends = jnp.asarray(users), jnp.asarray(items)
    params = model.init(jax.random.key(0), shift, *ends)["params"]
    params = {name: jnp.asarray(rng.normal(size=x.shape)) for name, x in params.items()}
    found = model.apply({"params": params}, shift, *ends)

    p = {name: np.asarray(x) for name, x in params.items()}
    weights, edges = p["messages"].reshape(num_nodes, kinds, 2), [*zip(users, items, levels, strict=True)]
    edges += [(b, a, r) for a, b, r in edges] + [(a, b, kinds - 1) for a, b in links.T]
    heard = np.zeros((num_nodes, kinds, 2))
    for node in range(num_nodes):
        into = [(a, r) for a, b, r in edges if b == node]
        for a, r in into:
            heard[node, r] += weights[a, r] * np.float64(np.float32(1 / len(into)))
    z = np.maximum(heard.reshape(num_nodes, -1), 0) @ p["dense"]
    bases = [np.array([z[u] @ p[f"basis_{s}"] @ z[i] for u, i in zip(users, items, strict=True)]) for s in range(2)]
    np.testing.assert_allclose(found, np.stack(bases, 1) @ p["mixture"], atol=1e-10)


def test_the_mean_of_weights_is_a_loop():
    rule, rng = average_weights(0.8), np.random.default_rng(0)
    values = rng.normal(size=30)
    state, mean = rule.start(jnp.zeros(())), 0.0
    for t, value in enumerate(values):
        state, stop = rule.update(state, {}, jnp.asarray(value))
        d = min(0.8, (1 + t) / (10 + t))
        mean = d * mean + (1 - d) * value
        assert not stop
    np.testing.assert_allclose(rule.choose(state, jnp.zeros(())), mean, atol=1e-5)


# --- Measures ---------------------------------------------------------------------------------------------------------


def by_every_order(scores, relevant, top):
    """Recall and NDCG by a plain loop, the mean over all orders of the items that agrees with the scores."""
    orders = [
        order
        for order in itertools.permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    found = []
    for order in orders:
        hits = [item in relevant for item in order[:top]]
        gain = sum(hit / np.log2(place + 2) for place, hit in enumerate(hits))
        best = sum(1 / np.log2(place + 2) for place in range(min(top, len(relevant))))
        found.append((sum(hits) / len(relevant), gain / best))
    return np.mean(found, axis=0)


def test_recall_and_ndcg_are_means_over_all_orders():
    rng, measure = np.random.default_rng(0), jax.jit(at_top, static_argnums=2)
    for _ in range(30):
        scores, relevant = rng.integers(0, 3, 6), np.sort(rng.permutation(6)[: rng.integers(1, 4)])
        given = jnp.asarray([*relevant, *[6] * (3 - len(relevant))])
        found = measure(jnp.asarray(scores, jnp.float32), given, 3)
        np.testing.assert_allclose(found, by_every_order(scores, relevant.tolist(), 3), atol=1e-6)


def test_ndcg_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng, measure = np.random.default_rng(0), jax.jit(at_top, static_argnums=2)
    for _ in range(20):
        scores, is_relevant = rng.integers(0, 8, 30), rng.random(30) < 0.2
        given = jnp.asarray(np.append(np.flatnonzero(is_relevant), [30] * (30 - is_relevant.sum())))
        _, ndcg = measure(jnp.asarray(scores, jnp.float32), given, 10)
        np.testing.assert_allclose(ndcg, metrics.ndcg_score([is_relevant], [scores], k=10), atol=1e-6)


def test_lists_are_padded():
    found = padded(np.array([4, 1, 4, 2]), np.array([7, 8, 9, 6]), np.array([1, 4]), 10)
    np.testing.assert_array_equal(found, [[8, 10], [7, 9]])


# --- Baselines --------------------------------------------------------------------------------------------------------


def test_baselines_are_their_formulas(config):
    problem = build.pose(config)
    known, mean = problem.known, problem.known.ratings.mean(dtype=float)
    taken = np.zeros((USERS, ITEMS))
    taken[known.users, known.items] = 1
    rated = np.zeros((USERS, ITEMS))
    rated[known.users, known.items] = known.ratings - mean
    of_user, of_item = baselines.biases(known, USERS, ITEMS)
    np.testing.assert_allclose(of_user, (rated - taken * of_item).sum(1) / (taken.sum(1) + 5), atol=1e-7)
    found = baselines.tables(problem)
    np.testing.assert_array_equal(found["popularity"][3], np.maximum(taken.sum(0), 1))
    scaled = taken / np.sqrt(np.maximum(taken.sum(1), 1))[:, None] / np.sqrt(np.maximum(taken.sum(0), 1))
    np.testing.assert_allclose(found["filter"], taken @ scaled.T @ scaled)
    popular = np.maximum(taken.sum(0), 1)
    np.testing.assert_allclose(found["friends"][1], taken[0] + taken[2] + popular / (popular.max() + 1))


# --- Runs -------------------------------------------------------------------------------------------------------------


def test_results_are_those_of_the_lists(config, run):
    """Recall and NDCG of a run by a loop over the lists that it recommends."""
    problem = build.pose(config)
    data = problem.data
    rows = read_results(run)
    assert len(rows) == 4
    for row in rows:
        found = lists.recommend(run, row["run"], data.users, 20)
        assert [one["runs"] for one in found] == [1] * USERS
        recalls, gains = [], []
        for number, one in enumerate(found):
            had = {data.items[i] for i in problem.known.items[problem.known.users == number]}
            assert not had & {*one["items"]}
            assert len(one["items"]) == ITEMS - len(had)
            assert one["scores"] == sorted(one["scores"], reverse=True)
            took = {data.items[i] for i in problem.test.items[problem.test.users == number]}
            if took:
                hits = [item in took for item in one["items"]]
                recalls.append(sum(hits) / len(took))
                gains.append(sum(h / np.log2(p + 2) for p, h in enumerate(hits)))
        np.testing.assert_allclose(row["test_recall"], np.mean(recalls), rtol=1e-5)
        np.testing.assert_allclose(row["test_ndcg"], np.mean(gains), rtol=1e-5)
        assert sum(row["test_counts_by_block"]) == len(recalls) == USERS - 1
        np.testing.assert_allclose(np.sum(row["test_ndcg_by_block"]), np.sum(gains), rtol=1e-5)


def test_friends_change_what_is_learned(run):
    rows = read_results(run)
    assert {row["trust"] for row in rows} == {0.0, 2.0}
    params = load_all(run)
    alone, together = (params[f"seed=0,trust={trust}"]["embeddings"] for trust in ("0.0", "2.0"))
    assert not np.allclose(alone, together)


def test_errors_of_ratings_are_those_of_the_predictions(rating_run):
    config = Config(**json.loads((rating_run / "config.json").read_text())["config"])
    problem = build.pose(config)
    (row,) = read_results(rating_run)
    found = lists.recommend(rating_run, None, problem.data.users, ITEMS)
    rated = [dict(zip(one["items"], one["scores"], strict=True)) for one in found]
    errors = [
        rated[u][problem.data.items[i]] - r
        for u, i, r in zip(*problem.test, strict=True)
        if problem.data.items[i] in rated[u]
    ]
    assert len(errors) == len(problem.test.users)
    np.testing.assert_allclose(row["test_rmse"], np.sqrt(np.mean(np.square(errors))), rtol=1e-3)
    np.testing.assert_allclose(np.sum(row["test_squares_by_block"]), np.sum(np.square(errors)), rtol=1e-3)


def test_baselines_stand_beside_what_was_trained(run, rating_run):
    for path, models, quantity in (
        (run, ["popularity", "friends", "filter"], STUDY.quantities[0]),
        (rating_run, ["mean", "biases"], STUDY.quantities[2]),
    ):
        evidence = read_evidence(STUDY, [(read_directory(path), "own")], cite=lambda paths: "")
        trained, *others = [
            arm for arm in evidence.found.arms if not arm.is_trained or not arm.setting["trust"] or path is rating_run
        ]
        assert [arm.setting["model"] for arm in others] == models
        test = quantity.compare(others[0], trained)
        assert test.low <= test.difference <= test.high
        assert quantity.compare(others[0], others[0]).difference == 0


def test_an_unknown_user_is_said(run):
    with pytest.raises(RunError, match=r"--user=nobody.*9, such as u0, u1"):
        lists.recommend(run, "trust=2.0", ["nobody"], 3)
    with pytest.raises(RunError, match="which setting"):
        lists.recommend(run, None, ["u0"], 3)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model": "gcn"}, "model"),
        ({"dataset": "netflix"}, "dataset"),
        ({"model": "gcmc"}, "model"),
        ({"task": "rating"}, "model"),
        ({"model": "mf", "trust": 1.0}, "trust"),
        ({"batch_size": 0}, "batch_size"),
        ({"test_fraction": 1e-6}, "test_fraction"),
        ({"validation": 1e-6}, "validation"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused(fields, field):
    with pytest.raises(ConfigError) as error:
        STUDY.validate(Config(**fields))
    assert error.value.field == field


def test_a_file_that_lacks_what_is_asked_for_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\n".join(f"{u},{i}" for u in range(5) for i in range(u)))
    for fields, field in (({"task": "rating", "model": "mf"}, "task"), ({"trust": 1.0}, "trust")):
        with pytest.raises(ConfigError) as error:
            STUDY.validate(Config(dataset=f"ratings:{path}", **fields))
        assert error.value.field == field
    path.with_name("b.csv").write_text("\n".join(f"{n % 9},{n // 9},{n}" for n in range(81)))
    with pytest.raises(ConfigError, match="different ratings"):
        STUDY.validate(Config(dataset=f"ratings:{path.with_name('b.csv')}", task="rating", model="gcmc"))
