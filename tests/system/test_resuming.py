"""Kills, damage and growth: a training that goes on ends in the same bytes."""

import itertools
import json
import re
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from tiny import contents, results, rows, train

import jaxrnn
from jaxrnn.rundir import recorder as recording
from jaxrnn.rundir.checkpoint import CheckpointError, CheckpointStore
from jaxrnn.rundir.directory import RunDirectory, RunError
from jaxrnn.training.definition import Callback, product
from jaxrnn.training.seeds import Stream, stream_key
from jaxrnn.training.signals import Interrupted
from jaxrnn.training.stop import never_stop

RUNS = tiny.RUNS
SOON, SLOW, NEVER, _, FAILED = RUNS
pytestmark = pytest.mark.usefixtures("saving_after_each_call")


# --- Kills and interruptions ------------------------------------------------------------------------------------------


MOMENTS = [
    (RunDirectory, "append", 1),  # Before anything was saved.
    (CheckpointStore, "save", 1),
    (RunDirectory, "append", 5),
    (CheckpointStore, "save", 3),
    (CheckpointStore, "save", 6),
    (CheckpointStore, "wait", 4),  # After a run was saved and before the results know it.
    (RunDirectory, "write", 3),  # The results of a run that ended.
]


@pytest.mark.parametrize(
    ("target", "name", "call", "runs_per_program"),
    [
        pytest.param(*moment, each, marks=[] if (i + each // 3) % 2 else pytest.mark.soak)
        for i, moment in enumerate(MOMENTS)
        for each in (1, 3)
    ],
)
def test_a_resumed_training_ends_in_the_same_bytes(
    whole, three_at_a_time, tmp_path, crash, target, name, call, runs_per_program
):
    expected, _ = whole if runs_per_program == 1 else three_at_a_time
    path = tmp_path / "crashed"
    crash(target, name, call, path, runs_per_program=runs_per_program)
    for file in ("metrics.jsonl", "timing.jsonl"):
        if (path / file).exists():
            (path / file).write_text((path / file).read_text() + '{"run": "half a li')
    train(path, runs_per_program=runs_per_program)
    assert contents(path) == contents(expected)
    assert all(row["seconds"] > 0 for row in rows(path, "timing.jsonl"))


def test_checkpoints_that_are_not_due_are_left_out(whole, tmp_path, crash, monkeypatch):
    monkeypatch.setattr(recording, "SAVE_SECONDS", 1e9)
    crash(RunDirectory, "append", 9, tmp_path / "a")
    assert len(list((tmp_path / "a/checkpoints/running").glob("[0-9]*"))) == 1
    train(tmp_path / "a")
    assert contents(tmp_path / "a") == contents(whole[0])


@pytest.mark.parametrize("runs_per_program", [1, 3])
def test_an_interrupted_training_is_saved(whole, three_at_a_time, tmp_path, monkeypatch, runs_per_program):
    monkeypatch.setattr(recording, "SAVE_SECONDS", 1e9)
    expected, _ = whole if runs_per_program == 1 else three_at_a_time
    asked, interruptions = itertools.count(), 0
    while True:
        try:
            train(
                tmp_path / "stopped",
                runs_per_program=runs_per_program,
                interrupted=lambda: next(asked) % 3 == 2,
            )
            break
        except Interrupted:
            interruptions += 1
            assert len(rows(tmp_path / "stopped", "timing.jsonl")) == 3 * interruptions
    assert interruptions >= 2
    assert contents(tmp_path / "stopped") == contents(expected)


def test_batches_from_the_host_go_on_where_they_were(tmp_path):
    asked, buffer = [], np.empty(tiny.BATCH, np.float32)

    def batches(seed, step):
        asked.append(step)
        buffer[:] = np.random.default_rng((seed, step)).normal(size=tiny.BATCH)
        return buffer

    host = {"sample": None, "batches": batches, "runs": [NEVER, FAILED], "runs_per_program": 2}
    train(tmp_path / "whole", **host)
    first, *_ = rows(tmp_path / "whole", run=NEVER.name)
    pull = np.mean((np.float32(tiny.training().init(stream_key(NEVER.seed, Stream.INIT))["w"]) - 1) ** 2)
    assert first["loss"] == pytest.approx(pull + 0.001 * np.mean(batches(NEVER.seed, 0) ** 2), rel=1e-5)
    calls = itertools.count()
    with pytest.raises(Interrupted):
        train(tmp_path / "resumed", interrupted=lambda: next(calls) == 1, **host)
    asked.clear()
    train(tmp_path / "resumed", **host)
    assert min(asked) > 0
    assert max(asked) == 40  # The last step.
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")


def test_the_best_weights_are_kept_through_any_kill(tmp_path, crash):
    best, file = 21, "callbacks.jsonl"
    callback = Callback(
        when=lambda step: step % 7 == 0,
        record=lambda params, run, step, data: {file: [{"miss": abs(step - best), "w": float(params["w"].mean())}]},
        lowest=(file, "miss"),
        files=(file,),
    )
    setting = {"runs": [SLOW, NEVER], "runs_per_program": 2, "tolerance": 0, "callback": callback}
    train(tmp_path / "whole", **setting)
    crash(CheckpointStore, "save", 8, tmp_path / "crashed", **setting)
    train(tmp_path / "crashed", **setting)
    assert contents(tmp_path / "crashed") == contents(tmp_path / "whole")
    for path in (tmp_path / "whole", tmp_path / "crashed"):
        for run in (SLOW, NEVER):
            kept, at_best, last = (jaxrnn.load(path, run.name, step=step)[-1]["w"] for step in ("best", best, None))
            (row,) = (row for row in rows(path, file, run.name) if row["step"] == best)
            assert kept.mean() == pytest.approx(row["w"], abs=1e-7)
            np.testing.assert_array_equal(kept, at_best)
            assert abs(last.mean() - row["w"]) > 1e-4
            with pytest.raises(RunError, match="no such run"):
                jaxrnn.load(path, run.name, step=14)
        # Two have ended and two are the best; what was passed is gone, and nothing speaks of it.
        assert len(list((path / "checkpoints/finished").glob("[0-9]*"))) == 4
        with CheckpointStore(path / "checkpoints/running") as store:
            assert len(store.read(store.numbers()[-1])[1]["saved"]) == 4


def test_a_training_that_asks_the_host_goes_on_where_it_was(tmp_path):
    """Every fourth step the host answers with a pull, which follows from request, seed and step."""
    asked = []

    def host(request, seed, step):
        asked.append(step)
        pull = np.float32(np.random.default_rng((seed, step)).normal() + request["w"])
        return {"pull": pull}, {"callbacks.jsonl": [{"pull": float(pull)}]}

    def loss(params, memory, noise, key, data):
        return ((params["w"] - memory["pull"]) ** 2).mean(), ({}, memory)

    given = {
        "request": lambda params, memory, key, data: {"w": params["w"].mean() + memory["pull"]},
        "host": host,
        "loss": loss,
        "start_memory": lambda seed, data: {"pull": jnp.zeros(())},
        "test": lambda params, memory, seed, data: {"pull": memory["pull"]},
        "stop": never_stop(),
        "eval_every": 4,
        "chunk_steps": 4,
        "runs": [SLOW, NEVER, FAILED],
        "runs_per_program": 2,
    }
    ended = train(tmp_path / "whole", **given)
    assert sorted({*asked}) == list(range(0, 41, 4))
    pulls = [row["pull"] for row in rows(tmp_path / "whole", "callbacks.jsonl", NEVER.name) if "pull" in row]
    assert len(pulls) == 11
    assert ended[1]["pull"] == pulls[-1]
    losses = [row["loss"] for row in rows(tmp_path / "whole", run=NEVER.name)]
    first = np.asarray(tiny.training().init(stream_key(NEVER.seed, Stream.INIT))["w"])
    assert losses[0] == pytest.approx(np.mean((first - pulls[0]) ** 2), rel=1e-5)
    calls, once = itertools.count(), len(asked)
    with pytest.raises(Interrupted):
        train(tmp_path / "resumed", interrupted=lambda: next(calls) == 5, **given)
    train(tmp_path / "resumed", **given)
    assert len(asked) == 2 * once  # What was answered is kept.
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")


def test_results_are_there_while_others_are_in_training(tmp_path, monkeypatch):
    written, write = [], RunDirectory.write

    def noted(directory, name, content, indent=1):
        if name == "results.json":
            written.append((len(content["runs"]), content["complete"]))
        write(directory, name, content, indent)

    monkeypatch.setattr(RunDirectory, "write", noted)
    train(tmp_path / "a")
    assert written == [(1, False), (2, False), (3, False), (4, False), (5, False), (5, True)]


# --- Damage -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def crashed(tmp_path, crash):
    crash(CheckpointStore, "save", 6, tmp_path / "a")
    return tmp_path / "a"


def test_a_damaged_checkpoint_falls_back_to_the_one_before(whole, crashed, caplog):
    newest = max(int(p.name) for p in (crashed / "checkpoints/running").iterdir())
    (crashed / f"checkpoints/running/{newest}/meta/metadata").write_text("{}")
    train(crashed)
    assert f"checkpoint {newest} is damaged" in caplog.text
    assert contents(crashed) == contents(whole[0])


def test_without_a_sound_checkpoint_nothing_is_touched(crashed):
    for meta in crashed.glob("checkpoints/running/*/meta/metadata"):
        meta.write_text("{}")
    before = (crashed / "metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match="no checkpoint is sound"):
        train(crashed)
    assert (crashed / "metrics.jsonl").read_bytes() == before


def test_a_shorter_metrics_file_rejects_the_checkpoint(crashed):
    (crashed / "metrics.jsonl").write_text("")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl is missing or was cut short"):
        train(crashed)


def test_a_checkpoint_of_another_version_is_refused_in_one_line(crashed):
    with CheckpointStore(crashed / "checkpoints/running") as store:
        newest = store.numbers()[-1]
        arrays, meta = store.read(newest)
        store.delete(store.numbers())
        store.save(newest, arrays, {**meta, "new in that version": 1})
    for go_on in (lambda: train(crashed), lambda: jaxrnn.load(crashed, run=SOON.name)):
        with pytest.raises(CheckpointError, match=r"checkpoint \d was saved by another version of jaxrnn") as error:
            go_on()
        assert "\n" not in str(error.value)


def test_other_versions_or_devices_are_named_on_resume(tmp_path, crash, caplog):
    path, record = tmp_path / "a", {"versions": {"jax": "1"}}
    crash(CheckpointStore, "save", 4, path, record=record)
    crash(CheckpointStore, "save", 2, path, record=record)
    assert "versions or devices have changed" not in caplog.text
    train(path, record={"versions": {"jax": "2"}})
    assert "versions or devices have changed" in caplog.text


def test_numbers_without_a_checkpoint_are_left_alone(whole, tmp_path):
    path = shutil.copytree(whole[0], tmp_path / "run")
    shutil.rmtree(path / "checkpoints")
    before = contents(path)
    with pytest.raises(CheckpointError, match="has results, but no checkpoint"):
        train(path)
    assert contents(path) == before


@pytest.mark.parametrize("store", ["checkpoints", "checkpoints/running"])
def test_a_file_in_the_place_of_checkpoints(whole, tmp_path, store):
    path = shutil.copytree(whole[0], tmp_path / "run")
    shutil.rmtree(path / store)
    (path / store).write_text("")
    before = contents(path)
    with pytest.raises(CheckpointError, match="running: cannot be opened: "):
        train(path)
    assert contents(path) == before


# --- More steps, more seeds -------------------------------------------------------------------------------------------


def test_more_steps_let_runs_that_ran_out_go_on(tmp_path):
    before = train(tmp_path / "a", max_steps=40)
    after = train(tmp_path / "a", max_steps=200)
    assert sum(row["stopped"] for row in after) > sum(row["stopped"] for row in before)
    assert after == train(tmp_path / "b", max_steps=200)
    for run in RUNS:
        assert rows(tmp_path / "a", run=run.name) == rows(tmp_path / "b", run=run.name)


@pytest.mark.parametrize("write", [1, 2])
def test_a_training_that_is_to_grow_is_never_complete_under_its_new_config(tmp_path, crash, write):
    train(tmp_path / "a", [NEVER])
    crash(RunDirectory, "write", write, tmp_path / "a", [NEVER], max_steps=60)
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert (config["config"]["max_steps"], results(tmp_path / "a")["complete"]) == (40, write == 1)
    assert results(tmp_path / "a")["runs"] == [] or write == 1
    assert train(tmp_path / "a", [NEVER], max_steps=60)[0]["last_step"] == 60


def test_runs_that_go_on_survive_a_crash(tmp_path, crash):
    path, runs = tmp_path / "a", product(range(3), {})
    train(path, runs)
    crash(CheckpointStore, "save", 4, path, runs, max_steps=80)
    (path / "checkpoints/finished/1/meta/metadata").write_text("{}")  # Its old end is needed no more.
    train(path, runs, max_steps=80)
    for run in runs:
        assert [row["step"] for row in rows(path, run=run.name)] == list(range(0, 81, 5))


def test_nothing_is_changed_if_a_run_that_should_go_on_is_damaged(tmp_path):
    path, runs = tmp_path / "a", RUNS[2:4]  # Both run out of steps.
    train(path, runs)
    before = [(path / "config.json").read_bytes(), *contents(path)]
    (path / "checkpoints/finished/3/meta/metadata").write_text("{}")
    with pytest.raises(CheckpointError, match=rf"{re.escape(runs[1].name)} cannot get more steps"):
        train(path, runs, max_steps=60)
    assert [(path / "config.json").read_bytes(), *contents(path)] == before
    assert train(path, runs)[1]["last_step"] == 40


def test_more_seeds_join(whole, tmp_path, crash):
    train(tmp_path / "ended", RUNS[:2])
    assert train(tmp_path / "ended") == whole[1]
    runs, path = product(range(5), {}), tmp_path / "in training"
    crash(CheckpointStore, "save", 3, path, runs[:2], runs_per_program=4)
    found = train(path, runs, runs_per_program=4)
    assert max(row["runs"] for row in rows(path, "timing.jsonl")) == 4
    for row, expected in zip(found, train(tmp_path / "b", runs), strict=True):
        assert row == {**expected, "test_accuracy": pytest.approx(expected["test_accuracy"], rel=1e-5)}
