"""The host loop on a study that compiles in a second: blocks, files, interruptions, resuming, loading."""

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny
from processes import ROOT

import jaxrnn
from jaxrnn.rundir import restore
from jaxrnn.rundir.checkpoint import CheckpointError, CheckpointStore
from jaxrnn.rundir.directory import RunDirectory, RunError
from jaxrnn.training import loop
from jaxrnn.training.loop import Interrupted, train
from jaxrnn.training.seeds import Lane, Stream, product, stream_key

# Converge soon, never within the steps, and meet an infinity.
LANES = [*product(range(2), (0.3, 0.02)), Lane(0, 1e30)]


class Crash(BaseException):
    """Stands for a process that ends at once."""


def run(path, lanes=LANES, **settings):
    """Starts a run, or goes on with it."""
    record = {"experiment": "tiny", "config": {"max_steps": settings.get("max_steps", 40)}}
    resume = (path / "config.json").exists()
    with RunDirectory.resume(path) if resume else RunDirectory.create(path, record) as directory:
        directory.record = record
        return train(tiny.study(**settings), lanes, directory)


def contents(path):
    return [(path / name).read_bytes() for name in ("metrics.jsonl", "visits.jsonl", "results.json")]


def metrics(path, name=None):
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if name in (None, line["run"])]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "whole"
    return path, run(path)


@pytest.fixture(scope="module")
def whole_in_blocks(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "blocks"
    return path, run(path, seeds_per_program=3)


def test_results_say_how_each_lane_ended(whole):
    path, rows = whole
    assert [row["run"] for row in rows] == [lane.name for lane in LANES]
    soon, _, never, _, failed = rows
    assert soon["converged"]
    assert soon["steps"] == soon["last_step"] < 40
    assert (never["converged"], never["steps"], never["last_step"]) == (False, None, 40)
    assert "failed_at" not in never
    assert (failed["steps"], failed["failed_at"], failed["test_accuracy"]) == (None, 1, None)
    results = json.loads((path / "results.json").read_text())
    assert results == {
        "experiment": "tiny",
        "complete": True,
        "runs": json.loads(json.dumps(rows)),
        "summary": [
            {"learning_rate": 0.3, "runs": 2, "failed": 0, "seeds": [0, 1]},
            {"learning_rate": 0.02, "runs": 2, "failed": 0, "seeds": [0, 1]},
            {"learning_rate": 1e30, "runs": 1, "failed": 1, "seeds": [0]},
        ],
    }


def test_metrics_have_a_line_for_each_lane_and_look(whole):
    path, rows = whole
    for row in rows:
        lines = metrics(path, row["run"])
        looks = [line["step"] for line in lines]
        if "failed_at" in row:
            assert looks == [0, 1]
            assert lines[1]["loss"] is None
        else:
            assert looks == list(range(0, row["last_step"] + 1, 5))
        assert list(lines[0]) == ["run", "seed", "step", "loss", "accuracy"]


@pytest.mark.parametrize("blocks", [False, True])
def test_lanes_are_visited_right_after_the_steps_that_are_due(whole, whole_in_blocks, blocks):
    path, rows = whole_in_blocks if blocks else whole
    visits = [json.loads(line) for line in (path / "visits.jsonl").read_text().splitlines()]
    expected = {(row["run"], step) for row in rows for step in tiny.VISITS if row["last_step"] >= step}
    assert {(visit["run"], visit["step"]) for visit in visits} == expected
    assert list(visits[0]) == ["run", "seed", "step", "w"]
    _, params = jaxrnn.load(path, run=LANES[2].name, step=tiny.VISITS[0])
    kept = next(v["w"] for v in visits if (v["run"], v["step"]) == (LANES[2].name, tiny.VISITS[0]))
    assert params["w"].mean() == pytest.approx(kept, abs=1e-6)
    start = np.asarray(jax.random.normal(stream_key(LANES[2].seed, Stream.INIT), (tiny.SIZE,)))
    by_hand = 1 + (start - 1) * (1 - LANES[2].learning_rate * 2 / tiny.SIZE) ** (tiny.VISITS[0] + 1)
    np.testing.assert_allclose(params["w"], by_hand, rtol=1e-4)


def test_a_lane_has_the_same_bytes_alone_and_beside_others(whole, tmp_path):
    path, _ = whole
    run(tmp_path / "alone", lanes=[LANES[3]])
    alone = (tmp_path / "alone" / "metrics.jsonl").read_text().splitlines()
    assert alone == [line for line in (path / "metrics.jsonl").read_text().splitlines() if LANES[3].name in line]


def test_chunk_steps_does_not_change_a_byte(whole, tmp_path):
    run(tmp_path / "other", chunk_steps=11)
    assert contents(tmp_path / "other") == contents(whole[0])


@pytest.mark.parametrize("seeds_per_program", [2, 100])
def test_lanes_that_share_a_program_agree(whole, tmp_path, seeds_per_program):
    path, rows = whole
    together = run(tmp_path / "together", seeds_per_program=seeds_per_program)
    for ours, single in zip(together, rows, strict=True):
        assert (ours["run"], ours["steps"], ours.get("failed_at")) == (
            single["run"],
            single["steps"],
            single.get("failed_at"),
        )
        a, b = metrics(path, ours["run"]), metrics(tmp_path / "together", ours["run"])
        assert [line["step"] for line in a] == [line["step"] for line in b]
        np.testing.assert_allclose(
            [line["loss"] for line in a if line["loss"]], [line["loss"] for line in b if line["loss"]], rtol=1e-5
        )


def test_a_lane_takes_the_place_of_one_that_ended(tmp_path):
    run(tmp_path / "together", seeds_per_program=2)
    timing = [json.loads(line) for line in (tmp_path / "together/timing.jsonl").read_text().splitlines()]
    # Five lanes in two places: until one is left, both are taken.
    lanes = [line["lanes"] for line in timing]
    assert lanes == sorted(lanes, reverse=True)
    assert lanes.count(1) * 13 <= 40


def test_finished_lanes_are_taken_out(tmp_path):
    run(tmp_path / "together", seeds_per_program=5)
    programs = [json.loads(line)["program"] for line in (tmp_path / "together/timing.jsonl").read_text().splitlines()]
    assert (programs[0], programs[-1]) == (6, 2)  # Three, then one, on each of two devices.
    assert programs == sorted(programs, reverse=True)


def test_a_lane_that_is_left_gets_the_devices_of_those_that_ended(tmp_path, monkeypatch):
    alone, beside, crashed = (tmp_path / name for name in ("alone", "beside", "crashed"))
    lanes = LANES[1:4]
    run(alone, lanes, parts=2)
    run(beside, lanes, parts=2, seeds_per_program=2)
    assert sorted(contents(alone)[0].splitlines()) == sorted(contents(beside)[0].splitlines())
    assert contents(alone)[2] == contents(beside)[2]
    timing = [json.loads(line) for line in (beside / "timing.jsonl").read_text().splitlines()]
    assert [line["program"] for line in timing] == [line["lanes"] for line in timing]
    assert {line["program"] for line in timing} == {1, 2}
    # While one lane is left, both devices are at it; also after a crash.
    shares, original = [], loop.seeds.over_lanes

    def over_lanes(fn, num_lanes, *, data_devices=1, donate=False):
        shares.append((num_lanes, data_devices))
        return original(fn, num_lanes, data_devices=data_devices, donate=donate)

    with monkeypatch.context() as patch:
        crash_at(patch, CheckpointStore, "save", 5)
        with pytest.raises(Crash):
            run(crashed, lanes, parts=2, seeds_per_program=2)
    monkeypatch.setattr(loop.seeds, "over_lanes", over_lanes)
    run(crashed, lanes, parts=2, seeds_per_program=2)
    assert contents(crashed) == contents(beside)
    assert set(shares) == {(1, 1), (2, 1), (1, 2)}  # Lanes that ended are evaluated on one.


def crash_at(monkeypatch, target, name, call):
    """Lets the `call`-th call of a method end the process, before it does anything."""
    original, count = getattr(target, name), Counter()

    def crashing(*args, **kwargs):
        count["calls"] += 1
        if count["calls"] == call:
            raise Crash
        return original(*args, **kwargs)

    monkeypatch.setattr(target, name, crashing)


@pytest.mark.parametrize("seeds_per_program", [1, 3])
@pytest.mark.parametrize(
    ("target", "name", "call"),
    [
        (RunDirectory, "append", 1),  # Before anything was saved.
        (CheckpointStore, "save", 1),
        (RunDirectory, "append", 5),
        (CheckpointStore, "save", 3),
        (CheckpointStore, "save", 6),
        (CheckpointStore, "wait", 4),  # After a lane was saved and before the run knows it.
        (RunDirectory, "write", 3),  # The results of a lane that ended.
    ],
)
def test_a_resumed_run_ends_in_the_same_bytes(
    whole, whole_in_blocks, tally, tmp_path, monkeypatch, target, name, call, seeds_per_program
):
    expected, _ = whole if seeds_per_program == 1 else whole_in_blocks
    with monkeypatch.context() as patch:
        crash_at(patch, target, name, call)
        with pytest.raises(Crash):
            run(tmp_path / "crashed", seeds_per_program=seeds_per_program)
    metrics_file = tmp_path / "crashed" / "metrics.jsonl"
    if metrics_file.exists():
        metrics_file.write_text(metrics_file.read_text() + '{"run": "half a li')
    run(tmp_path / "crashed", seeds_per_program=seeds_per_program)
    assert contents(tmp_path / "crashed") == contents(expected)
    tally["a crash before a chosen write, with half a line of metrics behind it"] += 1


@pytest.mark.parametrize("days", [-365, 1])
def test_a_clock_that_jumps_loses_nothing(whole, tally, tmp_path, monkeypatch, days):
    append, clock, count = RunDirectory.append, time.time, Counter()

    def counting(self, name, rows):
        count[name] += 1
        return append(self, name, rows)

    monkeypatch.setattr(RunDirectory, "append", counting)
    monkeypatch.setattr(time, "time", lambda: clock() + 86_400 * days * (count["metrics.jsonl"] >= 5))
    # What Orbax is waiting for when the clock goes forward has taken too long, by its own limits.
    with contextlib.nullcontext() if days < 0 else contextlib.suppress(CheckpointError):
        run(tmp_path / "jumping")
    run(tmp_path / "jumping")
    assert contents(tmp_path / "jumping") == contents(whole[0])
    tally["a clock that jumps by a day or a year"] += 1


@pytest.fixture
def unignored():
    """SIGINT as in a terminal: a shell that starts the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("unignored")
@pytest.mark.parametrize(("number", "seeds_per_program"), [(signal.SIGINT, 1), (signal.SIGTERM, 3)])
def test_a_signal_ends_a_call_and_saves(whole, whole_in_blocks, tmp_path, monkeypatch, number, seeds_per_program):
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    expected, _ = whole if seeds_per_program == 1 else whole_in_blocks
    monkeypatch.setattr(loop, "_LONG", -1.0)  # All calls are long, and stay short.
    original, count = RunDirectory.append, Counter()

    def signalled(self, name, rows):
        count[name] += 1
        if name == "timing.jsonl" and count[name] % 3 == 2:
            os.kill(os.getpid(), number)
        return original(self, name, rows)

    monkeypatch.setattr(RunDirectory, "append", signalled)
    within_chunks = 0
    for interruptions in itertools.count(1):
        try:
            run(tmp_path / "stopped", seeds_per_program=seeds_per_program)
            break
        except Interrupted:
            assert {s: signal.getsignal(s) for s in before} == before
            assert count["timing.jsonl"] == 3 * interruptions - 1
            with CheckpointStore(tmp_path / "stopped/checkpoints/running") as store:
                newest = store.read(store.numbers()[-1]).meta
            within_chunks += bool(newest["until"])
    assert interruptions > within_chunks >= 2
    assert contents(tmp_path / "stopped") == contents(expected)


def test_calls_grow_until_they_are_long(tmp_path, monkeypatch):
    run(tmp_path / "quick", lanes=LANES[2:3])
    monkeypatch.setattr(loop, "_TOO_LONG", -1.0)
    run(tmp_path / "slow", lanes=LANES[2:3])
    for name, expected in {"quick": [5, 4, 5, 8, 5, 13, 1], "slow": [5, 3, 1, 2, 2, 1, 2]}.items():
        timing = [json.loads(line) for line in (tmp_path / name / "timing.jsonl").read_text().splitlines()]
        steps = [line["steps"] for line in timing]
        assert sum(steps) == 41
        assert steps[: len(expected)] == expected


def test_a_call_that_is_cut_short_says_nothing_new_about_the_pace(tmp_path, monkeypatch):
    clock, original = SimpleNamespace(now=0.0), loop._Loop._program

    def a_second_a_step(self, name, fn, size, *, donate=False):
        program = original(self, name, fn, size, donate=donate)

        def timed(state, *args):
            before = np.asarray(state.step)
            outcome = program(state, *args)
            clock.now += int((np.asarray(outcome[0].step) - before).max())
            return outcome

        return timed if name == "chunk" else program

    monkeypatch.setattr(loop._Loop, "_program", a_second_a_step)
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    run(tmp_path / "run", lanes=LANES[2:3])
    timing = [json.loads(line) for line in (tmp_path / "run/timing.jsonl").read_text().splitlines()]
    # Eight steps take longer than a call should grow beyond, and four, which end at a visit or a chunk's end, do not.
    assert [line["steps"] for line in timing] == [5, 4, 5, 8, 5, 9, 4, 1]


SIGNALS = """
import os, signal
from jaxrnn.training.loop import signals
signal.signal(signal.SIGINT, signal.SIG_IGN)
with signals() as interrupted:
    os.kill(os.getpid(), signal.SIGINT)
    print(interrupted())
    os.kill(os.getpid(), signal.SIGTERM)
    print(interrupted(), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("still here", flush=True)
"""


def test_an_ignored_signal_stays_ignored_and_a_second_one_ends_the_process():
    done = subprocess.run([sys.executable, "-c", SIGNALS], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "False\nTrue\n")
    assert "Traceback" not in done.stderr


def test_a_damaged_checkpoint_falls_back_to_the_one_before(whole, tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        crash_at(patch, CheckpointStore, "save", 4)
        with pytest.raises(Crash):
            run(tmp_path / "a")
    running = tmp_path / "a/checkpoints/running"
    newest = max(int(p.name) for p in running.iterdir())
    (running / str(newest) / "meta" / "metadata").write_text("{}")
    run(tmp_path / "a")
    assert f"checkpoint {newest} is damaged" in caplog.text
    assert contents(tmp_path / "a") == contents(whole[0])


def test_a_run_is_not_changed_if_a_lane_that_should_go_on_is_damaged(tmp_path):
    path, lanes = tmp_path / "a", LANES[2:4]  # Both run out of steps.
    run(path, lanes)
    before = {name: (path / name).read_bytes() for name in ("config.json", "metrics.jsonl", "results.json")}
    (path / "checkpoints/finished/3/meta/metadata").write_text("{}")
    named = rf"checkpoints/finished: checkpoint 3 is damaged.*; {re.escape(lanes[1].name)} cannot get more steps"
    with pytest.raises(CheckpointError, match=named):
        run(path, lanes, max_steps=60)
    assert {name: (path / name).read_bytes() for name in before} == before
    assert run(path, lanes)[1]["last_step"] == 40


def test_a_lane_in_training_needs_its_old_end_no_more(tmp_path, monkeypatch):
    path, lanes = tmp_path / "a", LANES[2:3]
    run(path, lanes)
    with monkeypatch.context() as patch, pytest.raises(Crash):
        crash_at(patch, CheckpointStore, "save", 2)
        run(path, lanes, max_steps=80)
    (path / "checkpoints/finished/1/meta/metadata").write_text("{}")
    assert run(path, lanes, max_steps=80)[0]["last_step"] == 80


def test_another_version_of_the_code_is_named_on_resume(tmp_path, monkeypatch, caplog):
    record = {"experiment": "tiny", "config": {}, "versions": {"jaxrnn": "1"}}
    with (
        monkeypatch.context() as patch,
        RunDirectory.create(tmp_path / "a", record) as directory,
        pytest.raises(Crash),
    ):
        crash_at(patch, CheckpointStore, "save", 4)
        train(tiny.study(), LANES, directory)
    for version, warns in (("1", False), ("2", True)):
        with RunDirectory.resume(tmp_path / "a") as directory:
            directory.record = {**record, "versions": {"jaxrnn": version}}
            with monkeypatch.context() as patch, contextlib.suppress(Crash):
                crash_at(patch, CheckpointStore, "save", 1)
                train(tiny.study(), LANES, directory)
        assert ("versions or devices have changed" in caplog.text) == warns


def test_a_checkpoint_of_another_version_is_refused_in_one_line(tmp_path, monkeypatch):
    path = tmp_path / "a"
    with monkeypatch.context() as patch:
        crash_at(patch, CheckpointStore, "save", 4)
        with pytest.raises(Crash):
            run(path)
    monkeypatch.setattr(restore, "_META", {*restore._META, "new in this version"})
    for go_on in (lambda: run(path), lambda: jaxrnn.load(path, run=LANES[0].name)):
        with pytest.raises(CheckpointError, match=r"checkpoint \d was saved by another version of jaxrnn") as error:
            go_on()
        assert "\n" not in str(error.value)


def test_without_a_sound_checkpoint_nothing_is_touched(whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        crash_at(patch, CheckpointStore, "save", 4)
        with pytest.raises(Crash):
            run(tmp_path / "a")
    for meta in (tmp_path / "a/checkpoints/running").glob("*/meta/metadata"):
        meta.write_text("{}")
    before = (tmp_path / "a/metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match="no checkpoint is sound"):
        run(tmp_path / "a")
    assert (tmp_path / "a/metrics.jsonl").read_bytes() == before


def test_a_shorter_metrics_file_rejects_the_checkpoint(tmp_path, caplog, monkeypatch):
    with monkeypatch.context() as patch:
        crash_at(patch, CheckpointStore, "save", 6)
        with pytest.raises(Crash):
            run(tmp_path / "a")
    (tmp_path / "a/metrics.jsonl").write_text("")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl is missing or was cut short"):
        run(tmp_path / "a")


@pytest.mark.parametrize("write", [1, 2])
def test_a_run_that_is_to_grow_is_never_complete_under_its_new_config(tmp_path, monkeypatch, write):
    run(tmp_path / "a", lanes=LANES[2:3])
    with monkeypatch.context() as patch:
        crash_at(patch, RunDirectory, "write", write)
        with pytest.raises(Crash):
            run(tmp_path / "a", lanes=LANES[2:3], max_steps=60)
    config, results = (json.loads((tmp_path / "a" / name).read_text()) for name in ("config.json", "results.json"))
    assert (config["config"]["max_steps"], results["complete"]) == (40, write == 1)
    assert run(tmp_path / "a", lanes=LANES[2:3], max_steps=60)[0]["last_step"] == 60


def test_half_a_line_of_timing_goes_on_resume(tmp_path):
    run(tmp_path / "a", lanes=LANES[2:3])
    timing = tmp_path / "a/timing.jsonl"
    whole_lines = timing.read_text()
    timing.write_text(whole_lines + '{"lanes": 2, "pro')
    run(tmp_path / "a", lanes=LANES[2:3], max_steps=60)
    assert timing.read_text().startswith(whole_lines)
    assert all(json.loads(line)["steps"] > 0 for line in timing.read_text().splitlines())


def test_more_steps_let_the_unconverged_go_on(tmp_path):
    before = run(tmp_path / "a", max_steps=40)
    after = run(tmp_path / "a", max_steps=200)
    straight = run(tmp_path / "b", max_steps=200)
    assert [row["steps"] for row in before].count(None) > [row["steps"] for row in after].count(None)
    assert after == straight
    for lane in LANES:
        assert metrics(tmp_path / "a", lane.name) == metrics(tmp_path / "b", lane.name)


def test_lanes_that_go_on_survive_a_crash(tmp_path, monkeypatch):
    lanes = product(range(3), [0.02])
    run(tmp_path / "a", lanes=lanes, max_steps=40)
    with monkeypatch.context() as patch:
        crash_at(patch, CheckpointStore, "save", 4)
        with pytest.raises(Crash):
            run(tmp_path / "a", lanes=lanes, max_steps=80)
    run(tmp_path / "a", lanes=lanes, max_steps=80)
    for lane in lanes:
        assert [line["step"] for line in metrics(tmp_path / "a", lane.name)] == list(range(0, 81, 5))


def test_a_crash_in_the_first_chunk_in_which_lanes_ended(tmp_path, monkeypatch):
    run(tmp_path / "whole", chunk_steps=100)
    for call in (1, 2):
        with monkeypatch.context() as patch:
            crash_at(patch, CheckpointStore, "save", call)
            with pytest.raises(Crash):
                run(tmp_path / f"crashed{call}", chunk_steps=100)
        run(tmp_path / f"crashed{call}", chunk_steps=100)
        assert contents(tmp_path / f"crashed{call}") == contents(tmp_path / "whole")


@pytest.mark.parametrize("seeds_per_program", [1, 3])
def test_results_are_there_while_others_are_in_training(tmp_path, monkeypatch, seeds_per_program):
    written, write = [], RunDirectory.write

    def noted(directory, name, content):
        if name == "results.json":
            written.append((len(content["runs"]), content["complete"]))
        write(directory, name, content)

    monkeypatch.setattr(RunDirectory, "write", noted)
    run(tmp_path / "a", seeds_per_program=seeds_per_program)
    # Once a chunk, however many end in it; the whole is complete only after the last checkpoint.
    counts = [count for count, _ in written[:-1]]
    assert counts == sorted(set(counts))
    assert (counts == [1, 2, 3, 4, 5]) == (seeds_per_program == 1)
    assert len(counts) > 2
    assert [complete for _, complete in written] == [False] * len(counts) + [True]
    assert written[-1] == (len(LANES), True)


def test_a_run_that_grows_is_not_complete_until_it_has_grown(tmp_path, monkeypatch):
    lanes = product(range(2), [0.02])
    run(tmp_path / "a", lanes=lanes, max_steps=40)
    assert json.loads((tmp_path / "a/results.json").read_text())["complete"]
    with monkeypatch.context() as patch:
        crash_at(patch, RunDirectory, "append", 1)
        with pytest.raises(Crash):
            run(tmp_path / "a", lanes=lanes, max_steps=80)
    assert json.loads((tmp_path / "a/results.json").read_text()) == {
        "experiment": "tiny",
        "complete": False,
        "runs": [],
        "summary": [],
    }


def test_more_seeds_join_a_finished_run(whole, tmp_path):
    run(tmp_path / "a", lanes=LANES[:2])
    rows = run(tmp_path / "a", lanes=LANES)
    assert rows == whole[1]


def test_more_seeds_join_a_run_in_training(tmp_path, monkeypatch):
    lanes = product(range(5), [0.02])
    with monkeypatch.context() as patch:
        crash_at(patch, CheckpointStore, "save", 3)
        with pytest.raises(Crash):
            run(tmp_path / "a", lanes=lanes[:2], seeds_per_program=4)
    rows = run(tmp_path / "a", lanes=lanes, seeds_per_program=4)
    timing = [json.loads(line) for line in (tmp_path / "a/timing.jsonl").read_text().splitlines()]
    assert max(row["lanes"] for row in timing) == 4
    for row, expected in zip(rows, run(tmp_path / "b", lanes=lanes), strict=True):
        assert row == {**expected, "test_accuracy": pytest.approx(expected["test_accuracy"], rel=1e-5)}


def test_what_cannot_be_measured_is_null(tmp_path):
    study = tiny.study()
    study = study._replace(evaluate=lambda state: {"test_accuracy": jax.numpy.nan * state.params["w"].mean()})
    with RunDirectory.create(tmp_path / "a", {"experiment": "tiny", "config": {}}) as directory:
        (row,) = train(study, LANES[:1], directory)
    assert row["converged"]
    assert row["test_accuracy"] is None


def test_numbers_without_a_checkpoint_are_left_alone(whole, tmp_path):
    path = shutil.copytree(whole[0], tmp_path / "kept")
    shutil.rmtree(path / "checkpoints")
    before = {file: file.read_bytes() for file in path.rglob("*")}
    with pytest.raises(CheckpointError, match="has results, but no checkpoint to go on from"):
        run(path)
    assert {file: file.read_bytes() for file in path.rglob("*")} == before


def test_a_users_own_files_are_left_alone(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        crash_at(patch, CheckpointStore, "save", 4)
        with pytest.raises(Crash):
            run(tmp_path / "a")
    (tmp_path / "a/notes.jsonl").write_text("{}\n")
    run(tmp_path / "a")
    assert (tmp_path / "a/notes.jsonl").read_text() == "{}\n"


@pytest.mark.parametrize("store", ["checkpoints", "checkpoints/running"])
def test_a_file_in_the_place_of_checkpoints(whole, tmp_path, store):
    path = shutil.copytree(whole[0], tmp_path / "run")
    shutil.rmtree(path / store)
    (path / store).write_text("")
    before = contents(path)
    with pytest.raises(CheckpointError, match="running: cannot be written: "):
        run(path)
    assert contents(path) == before


def test_load_names_a_lane_by_its_values(whole):
    path, rows = whole
    config, params = jaxrnn.load(path, run="seed=1,learning_rate=0.3")
    assert config.max_steps == 40
    _, by_part = jaxrnn.load(path, run="learning_rate=0.3", seed=1)
    np.testing.assert_array_equal(by_part["w"], params["w"])
    row = next(row for row in rows if row["run"] == "seed=1,learning_rate=0.3")
    np.testing.assert_allclose(params["w"].mean(), row["test_accuracy"], rtol=1e-6)


def test_load_of_an_ambiguous_or_missing_lane_lists_what_there_is(whole):
    path, _ = whole
    with pytest.raises(RunError, match=r"which run\?.*seed=1,learning_rate=0.02 at step 40"):
        jaxrnn.load(path, seed=1)
    with pytest.raises(RunError, match=r"no such run.*seed=0,learning_rate=0.3"):
        jaxrnn.load(path, seed=7)
    with pytest.raises(RunError, match="no such run"):
        jaxrnn.load(path, run="seed=1,learning_rate=0.3", step=33)


def test_load_reads_a_lane_in_training(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        crash_at(patch, CheckpointStore, "save", 5)
        with pytest.raises(Crash):
            run(tmp_path / "a", lanes=product([5], [0.02]))
    _, params = jaxrnn.load(tmp_path / "a", seed=5)
    assert params["w"].shape == (tiny.SIZE,)
    _, before = jaxrnn.load(tmp_path / "a", seed=5, step=tiny.VISITS[0])
    assert np.abs(params["w"] - before["w"]).max() > 0.01
