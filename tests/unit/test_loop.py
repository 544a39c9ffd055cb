"""What the loop records, on a training that compiles in a second."""

import json

import jax
import numpy as np
import pytest
import tiny
from tiny import contents, results, rows, train

import jaxrnn
from jaxrnn.rundir.checkpoint import CheckpointStore
from jaxrnn.training import loop
from jaxrnn.training.ledger import Program
from jaxrnn.training.placement import Plan
from jaxrnn.training.recording import Recorder
from jaxrnn.training.seeds import Stream, stream_key

RUNS = tiny.RUNS
SOON, SLOW, NEVER, _, FAILED = RUNS
pytestmark = pytest.mark.usefixtures("saving_after_each_call")


# --- What is recorded -------------------------------------------------------------------------------------------------


def test_results_say_how_each_run_ended(whole):
    path, found = whole
    assert [row["run"] for row in found] == [run.name for run in RUNS]
    soon, _, never, _, failed = found
    assert list(soon) == ["run", "seed", "learning_rate", "last_step", "stopped", "failed_at", "test_accuracy"]
    assert (soon["stopped"], soon["last_step"] < 40, soon["failed_at"]) == (True, True, None)
    assert (never["stopped"], never["last_step"], never["failed_at"]) == (False, 40, None)
    assert (failed["stopped"], failed["failed_at"], failed["test_accuracy"]) == (False, 1, None)
    assert results(path) == {"study": "tiny", "complete": True, "runs": found}


def test_metrics_have_a_line_for_each_run_and_evaluation(whole):
    path, found = whole
    for result in found:
        lines = rows(path, run=result["run"])
        steps = [line["step"] for line in lines]
        if result["failed_at"] is None:
            assert steps == list(range(0, result["last_step"] + 1, 5))
        else:
            assert (steps, lines[1]["loss"]) == ([0, 1], None)
        assert list(lines[0]) == ["run", "seed", "learning_rate", "step", "loss", "accuracy"]
    assert list(rows(path, "timing.jsonl")[0]) == ["runs", "program", "steps", "first", "seconds"]


@pytest.mark.parametrize("together", [False, True])
def test_callbacks_come_right_after_their_steps(whole, three_at_a_time, together):
    path, found = three_at_a_time if together else whole
    called = rows(path, "callbacks.jsonl")
    expected = {(row["run"], step) for row in found for step in tiny.CALLBACKS if row["last_step"] >= step}
    assert {(row["run"], row["step"]) for row in called} == expected
    assert list(called[0]) == ["run", "seed", "learning_rate", "step", "w"]
    step, rate = tiny.CALLBACKS[0], NEVER.values["learning_rate"]
    *_, params = jaxrnn.load(path, run=NEVER.name, step=step)
    recorded = next(row["w"] for row in called if (row["run"], row["step"]) == (NEVER.name, step))
    assert params["w"].mean() == pytest.approx(recorded, abs=1e-6)
    start = np.asarray(jax.random.normal(stream_key(NEVER.seed, Stream.INIT), (tiny.SIZE,)))
    by_hand = 1 + (start - 1) * (1 - rate * 2 / tiny.SIZE) ** (step + 1)
    np.testing.assert_allclose(params["w"], by_hand, rtol=1e-4)


def test_what_cannot_be_measured_is_null(tmp_path):
    def test(params, memory, seed, data):
        return {"test_accuracy": jax.numpy.nan * params["w"].mean()}

    (row,) = train(tmp_path / "a", RUNS[:1], test=test)
    assert (row["stopped"], row["test_accuracy"]) == (True, None)


def test_in_memory_a_training_gives_what_it_writes_into_a_directory(whole):
    path, found = whole
    memory, seen = Recorder(), []
    assert loop.train([Program(tiny.training(), RUNS, Plan())], memory, progress=seen.append) == found
    as_written = json.loads(
        json.dumps(memory.files["metrics.jsonl"]).replace("NaN", "null").replace("Infinity", "null")
    )
    assert as_written == rows(path)
    np.testing.assert_array_equal(memory.params[SOON.name]["w"][0], jaxrnn.load(path, run=SOON.name)[2]["w"])
    steps = [one.steps for one in seen]
    assert steps == sorted(steps)
    assert steps[-1] == seen[-1].max_steps == 41 * len(RUNS)
    assert (seen[1].running, seen[1].ended, seen[-1].ended) == ([SOON.name], 0, len(RUNS))
    assert list(seen[2].metrics) == ["loss", "accuracy"]


# --- Runs beside others -----------------------------------------------------------------------------------------------


def test_a_run_has_the_same_bytes_alone_and_beside_others(whole, tmp_path):
    train(tmp_path / "alone", [RUNS[3]])
    lines = (whole[0] / "metrics.jsonl").read_text().splitlines()
    assert (tmp_path / "alone/metrics.jsonl").read_text().splitlines() == [
        line for line in lines if RUNS[3].name in line
    ]


def test_chunk_steps_does_not_change_a_byte(whole, tmp_path):
    train(tmp_path / "other", chunk_steps=11)
    assert contents(tmp_path / "other") == contents(whole[0])


@pytest.mark.parametrize("runs_per_program", [2, 100])
def test_runs_that_share_a_program_agree(whole, tmp_path, runs_per_program):
    path, found = whole
    together = train(tmp_path / "together", runs_per_program=runs_per_program)
    for ours, alone in zip(together, found, strict=True):
        for name in ("run", "last_step", "stopped", "failed_at"):
            assert ours[name] == alone[name]
        a, b = rows(path, run=ours["run"]), rows(tmp_path / "together", run=ours["run"])
        assert [line["step"] for line in a] == [line["step"] for line in b]
        losses = ([line["loss"] for line in lines if line["loss"]] for lines in (a, b))
        np.testing.assert_allclose(*losses, rtol=1e-5)


def test_runs_that_wait_take_free_places_and_programs_shrink(tmp_path):
    train(tmp_path / "two", runs_per_program=2)
    numbers = [row["runs"] for row in rows(tmp_path / "two", "timing.jsonl")]
    assert numbers == sorted(numbers, reverse=True)  # Until one is left, both places are taken.
    assert numbers.count(1) * 13 <= 40
    train(tmp_path / "five", runs_per_program=5)
    programs = [row["program"] for row in rows(tmp_path / "five", "timing.jsonl")]
    assert (programs[0], programs[-1]) == (6, 2)  # Three, then one, on each of two devices.
    assert programs == sorted(programs, reverse=True)


def test_a_run_that_is_left_gets_all_devices_also_after_a_crash(tmp_path, crash):
    alone, beside, crashed = (tmp_path / name for name in ("alone", "beside", "crashed"))
    train(alone, RUNS[1:4], parts=2)
    train(beside, RUNS[1:4], parts=2, runs_per_program=2)
    assert sorted(contents(alone)[0].splitlines()) == sorted(contents(beside)[0].splitlines())
    assert contents(alone)[2] == contents(beside)[2]
    timing = rows(beside, "timing.jsonl")
    assert [(row["program"], row["runs"]) for row in timing] == [(row["runs"],) * 2 for row in timing]
    assert {row["program"] for row in timing} == {1, 2}
    crash(CheckpointStore, "save", 5, crashed, RUNS[1:4], parts=2, runs_per_program=2)
    train(crashed, RUNS[1:4], parts=2, runs_per_program=2)
    assert contents(crashed) == contents(beside)
