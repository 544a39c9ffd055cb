"""The binary that classifies nodes: real processes and files; its numbers against the papers' rules in NumPy."""

import json
import os
import pickle
import random
import shutil
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.special
from processes import devices
from test_planetoid import Call, example, oracle, write

import jaxrnn
from configs.nodes import Config, get_config
from experiments import launch, nodes
from jaxrnn.data.files import DataError

ROOT = Path(__file__).parents[1]
# With dropout; and so few steps that no run ends before the others, for which programs would have to be compiled.
GCN = {"num_seeds": 2, "max_steps": 30, "eval_every": 1, "chunk_steps": 7}
# So many steps that both end by their stop rules.
GAT = {
    **{"num_seeds": 1, "first_seed": 2, "max_steps": 400, "eval_every": 1, "patience": 15},
    **{"num_heads": 2, "hidden_size": 3, "num_output_heads": 2, "dropout": 0, "weight_decay": 0.02},
}
PLANETOID = {
    **{"num_seeds": 1, "max_steps": 400, "eval_every": 1, "dropout": 0, "weight_decay": 0.05, "hidden_size": 5},
    **{"learning_rate": 0.05},
}
FILES = ("metrics.jsonl", "results.json", "hidden.json", "curves.png", "spread.png", "hidden.png")


def ended(path, done):
    assert (done.returncode, done.stderr) == (0, "")
    return path


@pytest.fixture(scope="module")
def finish(binaries):
    return lambda path, *arguments, **options: ended(
        path, binaries.run("nodes", f"--workdir={path}", *arguments, **options)
    )


@pytest.fixture(scope="module")
def gcn(binaries, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "gcn"
    return ended(path, binaries.run_anew("nodes", f"--workdir={path}", **GCN))


@pytest.fixture(scope="module")
def gat(finish, files, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "gat"
    return finish(path, "--config=configs/nodes.py:gat", dataset=files, **GAT)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "mine", example())


@pytest.fixture(scope="module")
def planetoid(finish, files, tmp_path_factory):
    return finish(tmp_path_factory.mktemp("runs") / "planetoid", dataset=files, **PLANETOID)


def read(path, name="results.json"):
    return json.loads((path / name).read_text())


def looks(path, seed):
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["seed"] == seed]


def masks(config, seed):
    return [np.asarray(mask) for mask in jax.jit(lambda: nodes.draw_split(config, seed))()]


def apply(config, params):
    return jax.jit(nodes.build_model(config).apply)({"params": params}, *nodes.inputs(config))


def contents(path):
    return {name: (path / name).read_bytes() for name in FILES}


# --- What a run leaves ------------------------------------------------------------------------------------------------


def test_a_run_leaves_what_the_interface_promises(gcn, gat, planetoid):
    for path, model, seeds in [(gcn, "gcn", [0, 1]), (gat, "gat", [2]), (planetoid, "gcn", [0])]:
        results, config = read(path), read(path, "config.json")
        assert (config["experiment"], config["config"]["model"], results["complete"]) == ("nodes", model, True)
        assert [row["seed"] for row in results["runs"]] == seeds
        for row in results["runs"]:
            assert {"seed", "steps", "test_accuracy", "validation_accuracy"} <= row.keys()
            assert row["steps"] == len(looks(path, row["seed"])) == row["last_step"] + 1
        (summary,) = results["summary"]
        assert (summary["runs"], summary["failed"]) == (len(seeds), 0)
    # Student's t for two runs, whose deviation is their distance over the root of 2.
    (summary,), (one, other) = read(gcn)["summary"], (row["test_accuracy"] for row in read(gcn)["runs"])
    middle, half = (one + other) / 2, 12.7062 * abs(one - other) / 2
    assert summary["test_accuracy"] == pytest.approx(
        {"value": middle, "low": max(0, middle - half), "high": min(1, middle + half)}, rel=1e-5
    )
    assert summary["test_accuracy_standard_deviation"] == pytest.approx(abs(one - other) / 2**0.5)
    assert one != other, "take other settings: two runs should differ"
    graph = read(gcn, "config.json")["data"]
    assert {name: graph[name] for name in ("nodes", "edges", "classes")} == {"nodes": 34, "edges": 156, "classes": 2}


@pytest.mark.parametrize("name", ["gcn", "gat"])
def test_accuracies_are_those_of_the_saved_weights_on_the_seeds_split(name, request):
    path = request.getfixturevalue(name)
    for row in read(path)["runs"]:
        config, params = jaxrnn.load(path, seed=row["seed"])
        logits, _ = apply(config, params)
        right = np.argmax(logits, axis=1) == nodes.load_task(config).labels
        _, validation, test = masks(config, row["seed"])
        assert row["test_accuracy"] == pytest.approx(right[test].mean())
        assert row["validation_accuracy"] == pytest.approx(right[validation].mean())


def test_the_picture_shows_the_hidden_layer_of_the_first_run(gcn, planetoid):
    for path in (gcn, planetoid):
        found = read(path, "hidden.json")
        config, params = jaxrnn.load(path, run=found["run"])
        task = nodes.load_task(config)
        shown = task.labels >= 0
        _, hidden = apply(config, params)
        # Principal components by the eigenvectors of the covariance; each one's sign is free.
        values, vectors = np.linalg.eigh(np.cov(np.asarray(hidden)[shown].T))
        assert found["variance_share"] == pytest.approx(values[-2:].sum() / values.sum(), abs=1e-3)
        plane = np.asarray(hidden, float)[shown] @ vectors[:, [-1, -2]]
        plane = (plane - plane.mean(0)) / np.abs(plane - plane.mean(0)).max()
        for ours, expected in zip((found["x"], found["y"]), plane.T, strict=True):
            sign = np.sign(np.dot(ours, expected))
            np.testing.assert_allclose(ours, sign * expected, atol=2e-3)
        assert found["run"].startswith("seed=0,")
        assert found["classes"] == task.labels[shown].tolist()
        # Whom it got wrong are as many as the test accuracy says, and test nodes.
        *_, test = masks(config, 0)
        assert len(found["wrong"]) == round((1 - read(path)["runs"][0]["test_accuracy"]) * test.sum())
        assert test[shown][found["wrong"]].all()


def test_many_nodes_are_thinned_out_for_the_picture(monkeypatch, gcn):
    everyone = read(gcn, "hidden.json")
    monkeypatch.setattr(nodes, "_MOST_POINTS", 20)
    some = nodes.hidden_layer(gcn, everyone["run"], 0)
    assert len(some.x) == len(some.y) == len(some.classes) == 20
    assert max(np.abs([*some.x, *some.y])) == 1


def test_points_that_do_not_fill_a_plane_have_a_picture():
    for points, plane, share in [(np.ones((4, 3)), 0, 0), (np.array([[0.0], [4], [2]]), [[-1, 0], [1, 0], [0, 0]], 1)]:
        found = nodes.principal_plane(points)
        np.testing.assert_allclose(found[0], np.broadcast_to(plane, (len(points), 2)), atol=1e-12)
        assert found[1] == pytest.approx(share)


# --- The protocols ----------------------------------------------------------------------------------------------------


def gcn_by_hand(objects, params, config):
    """Kipf and Welling's training on dense arrays without dropout, in float64: a row of metrics for each epoch."""
    data = oracle(objects)
    n = len(data.labels)
    targets = data.labels
    x = data.features / np.maximum(data.features.sum(1, keepdims=True), 1e-30)
    a = np.maximum(data.adjacency, np.eye(n) * (np.diag(data.adjacency) == 0)) + np.diag(np.diag(data.adjacency))
    a = a / np.sqrt(a.sum(1) * a.sum(1)[:, None])
    train, validation, test = (np.zeros(n, bool) for _ in range(3))
    train[: len(objects["y"])] = validation[len(objects["y"]) : len(objects["ally"])] = test[data.test] = True

    weights = [np.float64(params["layer_0"]["w"]), np.float64(params["layer_1"]["w"])]
    first, second = ([np.zeros_like(w) for w in weights] for _ in range(2))
    rows = []

    def forward():
        hidden = np.maximum(a @ x @ weights[0], 0)
        logits = a @ hidden @ weights[1]
        penalty = config["weight_decay"] / 2 * (weights[0] ** 2).sum()
        log_p = scipy.special.log_softmax(logits, axis=1)

        def measures(mask):
            loss = -(log_p * targets)[mask].sum() / mask.sum() + penalty
            return loss, (logits[mask].argmax(1) == targets[mask].argmax(1)).mean()

        return hidden, np.exp(log_p), measures

    for epoch in range(config["max_steps"] + 1):
        hidden, p, measures = forward()
        d_logits = a.T @ ((p - targets) * train[:, None] / train.sum())
        d_hidden = d_logits @ weights[1].T * (hidden > 0)
        gradients = [x.T @ a.T @ d_hidden + config["weight_decay"] * weights[0], hidden.T @ d_logits]
        loss, _ = measures(train)
        for k, g in enumerate(gradients):
            first[k] = 0.9 * first[k] + 0.1 * g
            second[k] = 0.999 * second[k] + 0.001 * g**2
            update = first[k] / (1 - 0.9 ** (epoch + 1)) / (np.sqrt(second[k] / (1 - 0.999 ** (epoch + 1))) + 1e-8)
            weights[k] = weights[k] - config["learning_rate"] * update
        _, _, measures = forward()
        rows.append([loss, *measures(validation), measures(test)[1]])
        recent = [row[1] for row in rows[-11:-1]]
        if epoch > 10 and rows[-1][1] > np.mean(recent):
            break
    return np.array(rows)


def test_gcn_trains_as_its_paper_says(planetoid):
    for row in read(planetoid)["runs"]:
        config, _ = jaxrnn.load(planetoid, seed=row["seed"])
        key = nodes.stream_key(row["seed"], nodes.Stream.INIT)
        params = nodes.build_model(config).init(key, *nodes.inputs(config))["params"]
        expected = gcn_by_hand(example(), params, PLANETOID)
        ours = looks(planetoid, row["seed"])
        assert len(ours) == len(expected)
        for i, name in enumerate(("loss", "validation_loss", "validation_accuracy")):
            np.testing.assert_allclose([one[name] for one in ours], expected[:, i], atol=2e-4, err_msg=name)
        assert row["steps"] == len(expected)
        # The last weights are tested.
        np.testing.assert_allclose([row["validation_accuracy"], row["test_accuracy"]], expected[-1, 2:], atol=1e-6)
        assert row["converged"], "take other settings: it should end by the stop rule"


def test_gat_is_judged_by_its_best_weights_and_decays_all_of_them(gat):
    for row in read(gat)["runs"]:
        rows = looks(gat, row["seed"])
        accuracy, loss, without, kept = 0.0, np.inf, 0, None
        for epoch, one in enumerate(rows):
            better = one["validation_accuracy"] >= accuracy, one["validation_loss"] <= loss
            without = 0 if any(better) else without + 1
            kept = epoch if all(better) else kept
            accuracy, loss = max(accuracy, one["validation_accuracy"]), min(loss, one["validation_loss"])
            assert (without >= GAT["patience"]) == (epoch == len(rows) - 1 and row["converged"])
        assert row["validation_accuracy"] == rows[kept]["validation_accuracy"]

        config, params = jaxrnn.load(gat, seed=row["seed"])
        logits, _ = apply(config, params)
        labels = nodes.load_task(config).labels
        nats = -scipy.special.log_softmax(np.float64(logits), axis=1)[np.arange(len(labels)), labels]
        train, validation, _ = masks(config, row["seed"])
        assert nats[validation].mean() == pytest.approx(rows[kept]["validation_loss"], abs=1e-5)
        # The loss of these weights is that of the next epoch, before its update.
        assert np.abs(params["layer_0"]["b"]).min() > 0
        squares = sum((np.float64(w) ** 2).sum() for layer in params.values() for w in layer.values())
        expected = nats[train].mean() + GAT["weight_decay"] / 2 * squares
        assert rows[kept + 1]["loss"] == pytest.approx(expected, abs=1e-5)
        assert (row["converged"], kept < len(rows) - 1) == (True, True)


def test_variants_are_the_papers():
    assert get_config("gcn").to_dict() == get_config().to_dict()
    gcn, gat = get_config("gcn"), get_config("gat")
    shown = ("model", "hidden_size", "num_heads", "dropout", "weight_decay", "learning_rate", "patience")
    assert [gcn[name] for name in shown] == ["gcn", 16, 1, 0.5, 5e-4, (0.01,), 10]
    assert [gat[name] for name in shown] == ["gat", 8, 8, 0.6, 5e-4, (0.005,), 100]
    assert gcn.max_steps == 199


# --- Splits -----------------------------------------------------------------------------------------------------------


def test_random_splits_are_functions_of_the_seed(tmp_path):
    others = 1700
    objects = example(num_train=30, num_others=others, test_nodes=(*range(others, others + 9),))
    dataset = write(tmp_path, objects)
    for config, sizes in [
        (Config(), [4, 6, 24]),
        (Config(dataset=dataset, split="random"), [60, 500, 1000]),
    ]:
        drawn = [masks(config, seed) for seed in (0, 1, 0)]
        assert [[mask.sum() for mask in split] for split in drawn] == [sizes] * 3
        assert all((first == again).all() for first, again in zip(drawn[0], drawn[2], strict=True))
        assert all((first != other).any() for first, other in zip(drawn[0], drawn[1], strict=True))
    public = Config(dataset=dataset)
    for mask, other in zip(masks(public, 0), masks(public, 1), strict=True):
        np.testing.assert_array_equal(mask, other)
    assert masks(public, 0)[0].nonzero()[0].tolist() == list(range(30))


# --- Lanes and kills --------------------------------------------------------------------------------------------------


def test_killed_and_resumed_it_ends_in_the_same_bytes(binaries, finish, gcn, tmp_path):
    path = tmp_path / "killed"
    process = binaries.start("nodes", f"--workdir={path}", **GCN)
    while process.poll() is None and not (path / "metrics.jsonl").exists():
        time.sleep(0.01)
    time.sleep(random.Random(0).uniform(0, 0.2))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (path / "hidden.json").exists()
    finish(path, "--resume")
    assert contents(path) == contents(gcn)


def test_pictures_of_a_complete_run_are_drawn_again(gcn, tmp_path):
    again = shutil.copytree(gcn, tmp_path / "again")
    for name in FILES[2:]:
        (again / name).unlink()
    nodes.write_pictures(again, read(gcn)["runs"])
    assert [(again / name).read_bytes() for name in FILES[3:5]] == [(gcn / name).read_bytes() for name in FILES[3:5]]
    # Compiled here with all optimizations, it may differ in the last digit.
    np.testing.assert_allclose(read(again, "hidden.json")["x"], read(gcn, "hidden.json")["x"], atol=1.1e-3)


def test_runs_in_one_program_agree_with_runs_alone(finish, gcn, tmp_path):
    together = finish(tmp_path / "together", environment=devices(1), **GCN, seeds_per_program=2)
    timing = [json.loads(line) for line in (together / "timing.jsonl").read_text().splitlines()]
    assert (timing[0]["lanes"], timing[0]["program"]) == (2, 2)
    for seed in range(2):
        for ours, alone in zip(looks(together, seed), looks(gcn, seed), strict=True):
            assert ours == pytest.approx(alone, abs=1e-5)
    for ours, alone in zip(read(together)["runs"], read(gcn)["runs"], strict=True):
        assert ours == pytest.approx(alone, abs=1e-5)


# --- Bad input --------------------------------------------------------------------------------------------------------


def test_bad_input_ends_a_process_in_one_line_and_nothing_is_written(binaries, tmp_path):
    malicious = {"graph": pickle.dumps(Call(os.system, f"touch {tmp_path}/touched"), 2)}
    cut = {"allx": pickle.dumps(example()["allx"], 2)[:-50]}
    truncated, evil = (write(tmp_path / name, example() | part) for name, part in [("cut", cut), ("evil", malicious)])
    cases = [
        (2, "--config.dataset=corra: should be one of karate, sbm, cora,", {"dataset": "corra"}),
        (1, f"there is no {tmp_path}/no/ind.small.x: ", {"dataset": f"planetoid:{tmp_path}/no/small"}),
        (1, f"{tmp_path}/cut/ind.small.allx is truncated, damaged or", {"dataset": truncated}),
        (1, f"{tmp_path}/evil/ind.small.graph: the pickle asks for 'posix.system', which", {"dataset": evil}),
        (2, "--config.split=other: should be one of public, random", {"split": "other"}),
        (2, "--config.num_heads=0: input should be greater than or equal to 1", {"num_heads": 0}),
    ]
    before = sorted(tmp_path.rglob("*"))
    for code, hint, fields in cases:
        done = binaries.run("nodes", f"--workdir={tmp_path}/run", **fields)
        assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
        assert done.stderr.startswith(f"error: {hint}")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unknown_variant_is_one_line(binaries, tmp_path):
    done = binaries.run("nodes", f"--workdir={tmp_path}/run", "--config=configs/nodes.py:gin")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "there is no variant 'gin'; there are gcn, gat" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"model": "gin"}, "--config.model=gin: should be one of gcn, gat"),
        ({"dropout": 1.0}, "--config.dropout=1.0: input should be less than 1"),
        ({"weight_decay": float("nan")}, "--config.weight_decay=nan: input should be"),
        ({"max_steps": -1}, "--config.max_steps=-1: input should be greater than or equal to 0"),
        ({"dataset": "planetoid:"}, "planetoid:DIR/NAME"),
        ({"dataset": "SMALL", "split": "random"}, "a random split needs 20 training nodes a class, but class 2 has"),
    ],
)
def test_values_that_do_not_fit_are_one_line(fields, hint, files):
    fields = {name: files if value == "SMALL" else value for name, value in fields.items()}
    with pytest.raises((launch.UsageError, DataError)) as error:
        nodes.check(launch.validate(Config, fields))
    assert hint in str(error.value)
    assert "\n" not in str(error.value)
