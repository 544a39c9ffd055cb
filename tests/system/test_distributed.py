"""Several processes that share a run, as real processes that meet on this machine."""

import json
import signal
import socket
import time

import jax
import numpy as np
import pytest
from processes import devices

import jaxrnn

SMALL = {"digits": 2, "hidden_size": 16, "batch_size": 16, "eval_every": 10, "patience": 2, "learning_rate": 0.01}
# Some runs converge, at different steps; each cell is a program.
STUDY = {**SMALL, "num_seeds": 3, "max_steps": 45, "tolerance": 0.3, "chunk_steps": 20}
SWEEP = "--sweep=cell=lstm,gru"
LONG = {**SMALL, "num_seeds": 3, "max_steps": 60_000, "tolerance": 0.0, "learning_rate": 1e-6, "chunk_steps": 500}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_job(binaries, *arguments, num_processes=2, binary="palindrome", **fields):
    coordinator = f"--coordinator=127.0.0.1:{free_port()}"
    return [
        binaries.start(
            binary,
            "--distributed",
            coordinator,
            f"--num_processes={num_processes}",
            f"--process_id={i}",
            *arguments,
            environment=devices(1),
            **fields,
        )
        for i in range(num_processes)
    ]


def end(job):
    return [process.wait() for process in job]


def contents(path):
    return [(path / name).read_bytes() for name in ("metrics.jsonl", "results.json")]


def has_saved(path, chunks):
    numbers = [int(p.name) for p in (path / "checkpoints/running").glob("[0-9]*") if p.name.isdigit()]
    return bool(numbers) and max(numbers) >= chunks


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def alone(binaries, tmp_path_factory):
    path = tmp_path_factory.mktemp("alone") / "run"
    ended = binaries.run("palindrome", f"--workdir={path}", SWEEP, **STUDY)
    assert ended.returncode == 0, ended.stderr
    return path, ended


def test_two_processes_write_the_same_bytes_as_one(binaries, alone, tmp_path):
    job = start_job(binaries, f"--workdir={tmp_path / 'run'}", SWEEP, **STUDY)
    assert end(job) == [0, 0], [process.stderr for process in job]
    assert contents(tmp_path / "run") == contents(alone[0])
    rows = json.loads(contents(alone[0])[1])["runs"]
    assert {row["stopped"] for row in rows} == {True, False}
    # Only the first one speaks.
    assert job[0].stdout.replace(str(tmp_path / "run"), str(alone[0])).endswith(alone[1].stdout)
    assert job[1].stdout == ""
    for row in rows:
        jax.tree.map(
            np.testing.assert_array_equal,
            jaxrnn.load(tmp_path / "run", row["run"])[2],
            jaxrnn.load(alone[0], row["run"])[2],
        )


@pytest.mark.parametrize(
    ("binary", "files", "fields"),
    [
        ("nodes", ["hidden.json"], {"num_seeds": 3, "max_steps": 30}),
        pytest.param(
            "text",
            ["samples.jsonl", "validation.jsonl"],
            {"hidden_size": 8, "max_steps": 4, "num_seeds": 2, "eval_every": 2, "validation_fraction": 0.001},
            marks=pytest.mark.soak,
        ),
        pytest.param(
            "gradients",
            ["gates.json"],
            {"cells": "linear_rnn,lstm", "digits": 1, "hidden_size": 5, "batch_size": 6, "train_steps": 20},
            marks=pytest.mark.soak,
        ),
    ],
)
def test_the_other_studies_write_the_same_bytes_too(binaries, tmp_path, binary, files, fields):
    job = start_job(binaries, f"--workdir={tmp_path / 'job'}", binary=binary, **fields)
    alone = binaries.run(binary, f"--workdir={tmp_path / 'alone'}", **fields)
    assert [*end(job), alone.returncode] == [0, 0, 0], [process.stderr for process in job]
    for name in ("metrics.jsonl", "results.json", *files):
        assert (tmp_path / "job" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


@pytest.mark.parametrize(("signalled", "resumed_by"), [(1, 2), pytest.param(0, 1, marks=pytest.mark.soak)])
def test_a_signal_to_one_process_saves_in_all_at_the_same_step(binaries, tmp_path, signalled, resumed_by):
    path = tmp_path / "run"
    job = start_job(binaries, f"--workdir={path}", **LONG)
    wait_until(lambda: has_saved(path, 3))
    started = time.monotonic()
    job[signalled].terminate()
    assert end(job) == [75, 75], [process.stderr for process in job]
    assert time.monotonic() - started < 30
    assert "saved; go on with python -m experiments.palindrome --resume" in job[0].stderr
    last = json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    # 10 evaluations later the training is stopped again, by whoever goes on with it.
    more = ("--resume", f"--workdir={path}")
    job = start_job(binaries, *more) if resumed_by == 2 else [binaries.start("palindrome", *more)]
    wait_until(lambda: json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])["step"] >= last + 100)
    job[0].terminate()
    assert set(end(job)) == {75}, [process.stderr for process in job]
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for seed in range(3):
        steps = [line["step"] for line in lines if line["seed"] == seed]
        assert steps == list(range(0, len(steps) * 10, 10))


# The loss of another than the first is known at once, or only when it has not been heard of for a while.
@pytest.mark.parametrize("killed", [0, pytest.param(1, marks=pytest.mark.soak)])
def test_the_others_end_when_one_is_killed_and_the_job_can_be_resumed(binaries, alone, tmp_path, killed):
    path = tmp_path / "run"
    job = start_job(binaries, f"--workdir={path}", SWEEP, **{**STUDY, "chunk_steps": 5})
    wait_until(lambda: (path / "metrics.jsonl").exists() and '"cell": "gru"' in (path / "metrics.jsonl").read_text())
    job[killed].kill()
    codes = end(job)
    assert codes[killed] == -signal.SIGKILL
    assert codes[1 - killed] in (76, -signal.SIGABRT)
    wait_until(lambda: "a process of this job has been lost" in job[1 - killed].stderr, 5)
    assert "--resume" in job[1 - killed].stderr.splitlines()[-1]
    job = start_job(binaries, "--resume", f"--workdir={path}")
    assert end(job) == [0, 0], [process.stderr for process in job]
    # Of two runs in training, shorter chunks move the lines.
    assert [sorted(content.splitlines()) for content in contents(path)] == [
        sorted(content.splitlines()) for content in contents(alone[0])
    ]


def test_what_one_process_may_not_do_ends_all_with_the_same_line(binaries, tmp_path):
    path = tmp_path / "barrier"  # Its name is no sign of a lost process.
    path.mkdir()
    (path / "metrics.jsonl").touch()
    job = start_job(binaries, f"--workdir={path}", **STUDY)
    assert end(job) == [1, 1]
    for process in job:
        assert process.stderr.splitlines()[-1].startswith(f"error: {path}: holds files of another run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--distributed"], "give --coordinator=HOST:PORT"),
        (["--process_id=0"], "--coordinator, --num_processes and --process_id go with --distributed"),
        (["--distributed", "--coordinator=x", "--process_id=0", "--num_processes=2"], "should be HOST:PORT"),
        (["--distributed", "--coordinator=x:1", "--process_id=0"], "Number of processes"),
        (["--distributed", "--coordinator=x:1", "--process_id=2", "--num_processes=2"], "process_id < num_processes"),
    ],
)
def test_flags_that_cannot_be_meant_are_refused(binaries, tmp_path, arguments, message):
    ended = binaries.run("palindrome", f"--workdir={tmp_path / 'run'}", *arguments, **STUDY)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


# --- Devices that share a run -----------------------------------------------------------------------------------------


@pytest.mark.soak
def test_a_run_whose_devices_share_each_batch(binaries, alone, tmp_path):
    path = tmp_path / "run"
    job = start_job(binaries, f"--workdir={path}", SWEEP, **STUDY, data_devices=2)
    assert end(job) == [0, 0], [process.stderr for process in job]
    (ours, single) = (json.loads(contents(p)[1])["runs"] for p in (path, alone[0]))
    assert [row["last_step"] for row in ours] == [row["last_step"] for row in single]


@pytest.mark.soak
def test_a_carried_state_that_devices_share_is_saved_whole(binaries, tmp_path):
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 40)
    small = {"hidden_size": 8, "batch_size": 4, "seq_length": 8, "num_layers": 1, "chunk_steps": 5}
    fields = {**small, "corpus": tmp_path / "text.txt", "carry_state": "true", "data_devices": 2, "sample_steps": "()"}
    path = tmp_path / "run"
    job = start_job(binaries, f"--workdir={path}", binary="text", **fields, max_steps=1_000_000)
    wait_until(lambda: has_saved(path, 3))
    job[1].terminate()
    assert end(job) == [75, 75], [process.stderr for process in job]
    before = max(int(p.name) for p in (path / "checkpoints/running").iterdir() if p.name.isdigit())
    job = start_job(binaries, "--resume", f"--workdir={path}", binary="text")
    wait_until(lambda: has_saved(path, before + 2))
    job[0].terminate()
    assert end(job) == [75, 75], [process.stderr for process in job]
    assert "damaged" not in job[0].stderr
