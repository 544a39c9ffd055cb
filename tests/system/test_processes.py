"""The binaries as users call them: real processes, real files."""

import functools
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from events import scalars
from processes import ROOT, as_users, command_line, devices, messages

import jaxrnn

SMALL = {
    "digits": 2,
    "hidden_size": 16,
    "batch_size": 64,  # Its halves can be on two devices.
    "max_steps": 300,
    "test_samples": 64,
    "num_seeds": 3,
    "eval_every": 10,
    "chunk_steps": 20,
    "tolerance": 0.3,
}


@pytest.fixture(scope="module")
def call(binaries):
    return functools.partial(binaries.run, "palindrome")


@pytest.fixture(scope="module")
def start(binaries):
    return functools.partial(binaries.start, "palindrome")


def contents(path):
    return (path / "metrics.jsonl").read_bytes(), (path / "results.json").read_bytes()


@pytest.fixture(scope="module")
def finished(binaries, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "finished"
    done = binaries.run_anew("palindrome", f"--workdir={path}", **SMALL)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    return path


def test_a_run_leaves_what_the_interface_promises(finished):
    results = json.loads((finished / "results.json").read_text())
    assert [row["seed"] for row in results["runs"]] == [0, 1, 2]
    assert list(results["runs"][0]) == ["run", "seed", "last_step", "stopped", "failed_at", "test_accuracy"]
    assert (results["study"], results["complete"]) == ("palindrome", True)
    assert any(row["stopped"] for row in results["runs"]), "the tests below want a run that ends early"
    config = json.loads((finished / "config.json").read_text())
    assert config["config"]["hidden_size"] == 16
    assert f"--workdir={finished}" in config["command"]
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert list(lines[0]) == ["run", "seed", "step", "loss", "accuracy"]


# 2 moments each.
@pytest.mark.parametrize("attempt", [0, 1, *(pytest.param(n, marks=pytest.mark.soak) for n in range(2, 25))])
def test_kill_at_random_moments_and_resume_to_the_same_bytes(call, start, finished, tmp_path, attempt):
    path = tmp_path / "killed"
    moments = random.Random(attempt)
    kills = 0
    arguments, fields = [f"--workdir={path}"], SMALL
    for _ in range(10):
        before = size(path)
        process = start(*arguments, **fields)
        while process.poll() is None and size(path) <= before:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        arguments, fields = [f"--workdir={path}", "--resume"], {}
        if kills == 2:
            break
    done = call(*arguments)
    assert done.returncode == 0, done.stderr
    assert kills == 2
    assert contents(path) == contents(finished)


def test_events_of_a_killed_run_have_each_step_once(call, start, tmp_path):
    path = tmp_path / "run"
    fields = {**SMALL, "num_seeds": 2, "max_steps": 600, "tolerance": 0.0}
    process = start(f"--workdir={path}", "--tensorboard", **fields)
    while not (path / "tensorboard").is_dir():
        assert process.poll() is None, process.stderr
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = call("--resume", f"--workdir={path}", "--tensorboard")
    assert done.returncode == 0, done.stderr
    expected = {}
    for row in rows(path):
        for metric in ("loss", "accuracy"):
            value = pytest.approx(row[metric], rel=1e-6)
            expected.setdefault(row["run"], {}).setdefault(metric, []).append((row["step"], value))
    assert scalars(path / "tensorboard") == expected


def size(path: Path) -> int:
    try:
        return (path / "metrics.jsonl").stat().st_size
    except FileNotFoundError:
        return 0


def test_sigterm_saves_says_how_to_go_on_and_exits_75(call, start, finished, tmp_path):
    path = tmp_path / "stopped"
    process = start(f"--workdir={path}", **SMALL)
    while size(path) == 0:
        time.sleep(0.01)
    process.terminate()
    assert process.wait() == 75, process.stderr
    assert process.stderr.splitlines() == [
        "warning: SIGTERM: stopping once all is saved; repeat it to stop at once",
        f"saved; go on with python -m experiments.palindrome --resume --workdir={path}",
    ]
    assert len(rows(path)) < len(rows(finished))
    assert call("--resume", f"--workdir={path}").returncode == 0
    assert contents(path) == contents(finished)


def test_a_run_has_the_same_bytes_alone(call, finished, tmp_path):
    done = call(f"--workdir={tmp_path / 'alone'}", **{**SMALL, "num_seeds": 1, "first_seed": 1})
    assert done.returncode == 0, done.stderr
    beside = [line for line in (finished / "metrics.jsonl").read_text().splitlines() if '"seed": 1,' in line]
    assert (tmp_path / "alone/metrics.jsonl").read_text().splitlines() == beside


@pytest.mark.parametrize("cell", ["lstm", pytest.param("gru_cho", marks=pytest.mark.soak)])
def test_a_run_has_the_same_bytes_alone_with_all_optimizations(tmp_path, cell):
    """On a core of its own beside another run, and alone, with half of each batch on either core."""
    lines = []
    for seeds in (2, 1):
        fields = {**SMALL, "cell": cell, "digits": 3, "max_steps": 60, "eval_every": 1, "num_seeds": seeds}
        command = command_line("palindrome", f"--workdir={tmp_path / str(seeds)}", **fields)
        environment = {**os.environ, **as_users(2), "JAXRNN_CACHE_DIR": str(tmp_path / "cache")}
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        found = (tmp_path / str(seeds) / "metrics.jsonl").read_text().splitlines()
        lines.append([line for line in found if '"seed": 0,' in line])
    assert lines[0] == lines[1]
    assert len(lines[0]) == 61


def test_groups_of_cores_that_share_runs_end_them_at_different_steps(call, tmp_path):
    fields = {**SMALL, "num_seeds": 2}
    for name, each in (("shared", 0), ("apart", 1)):
        done = call(f"--workdir={tmp_path / name}", environment=devices(4), **fields, data_devices=each)
        assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "shared") == contents(tmp_path / "apart")
    first, second = json.loads((tmp_path / "shared/results.json").read_text())["runs"]
    assert first["last_step"] != second["last_step"]


def test_each_core_trains_a_run(finished):
    timing = [json.loads(line) for line in (finished / "timing.jsonl").read_text().splitlines()]
    assert timing[0]["runs"] == timing[0]["program"] == 2


def test_runs_over_several_devices_also_after_a_start_on_one(call, start, finished, tmp_path):
    path = tmp_path / "many"
    one, four = devices(1), devices(4)
    fields = {**SMALL, "runs_per_program": 3, "chunk_steps": 10}
    process = start(f"--workdir={path}", environment=one, **fields)
    while size(path) == 0:
        time.sleep(0.01)
    process.terminate()
    assert process.wait() == 75
    started = json.loads((path / "config.json").read_text())
    assert started["device"]["count"] == 1
    done = call("--resume", f"--workdir={path}", environment=four)
    assert done.returncode == 0, done.stderr
    assert "devices have changed" in done.stderr
    resumed = json.loads((path / "config.json").read_text())
    assert resumed["device"]["count"] == 4
    assert [one["device"] for one in resumed["earlier"]] == [started["device"]]
    # A complete run has nothing left to do on another device, and does not name it.
    assert call("--resume", f"--workdir={path}", environment=one).returncode == 0
    assert json.loads((path / "config.json").read_text()) == resumed
    ours = {(row["seed"], row["step"]): row["loss"] for row in rows(path)}
    single = {(row["seed"], row["step"]): row["loss"] for row in rows(finished)}
    for seed in range(3):
        for step in range(0, 61, 10):
            assert ours[seed, step] == pytest.approx(single[seed, step], abs=1e-5)


@pytest.mark.parametrize("size", [160, *(pytest.param(n, marks=pytest.mark.soak) for n in (20, 60, 110, 200, 300))])
def test_a_full_disk_is_one_clear_line_and_nothing_is_lost(binaries, finished, tmp_path, size):
    first = " ".join(command_line("palindrome", f"--workdir={tmp_path}/disk/run", **SMALL))
    again = " ".join(command_line("palindrome", f"--workdir={tmp_path}/disk/run", "--resume"))
    script = f"""
    mkdir {tmp_path}/disk
    mount -t tmpfs -o size={size}k tmpfs {tmp_path}/disk || exit 77
    {first}; echo first ended with $?
    mount -o remount,size=50m {tmp_path}/disk
    {again}; echo then ended with $?
    cp {tmp_path}/disk/run/*.json* {tmp_path}
    """
    mounting = ["unshare", "-rm", "sh", "-c", script]
    done = subprocess.run(mounting, capture_output=True, text=True, cwd=ROOT, env=binaries.environment, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    assert "first ended with 1" in done.stdout, done.stderr
    assert "then ended with 0" in done.stdout, done.stderr
    assert len(messages(done.stderr)) == 1
    assert "No space left on device" in done.stderr
    assert contents(tmp_path) == contents(finished)


def test_a_read_only_directory_is_one_clear_line(binaries, finished, tmp_path):
    new = " ".join(command_line("palindrome", f"--workdir={tmp_path}/disk/run", **SMALL))
    again = " ".join(command_line("palindrome", f"--workdir={tmp_path}/disk/old", "--resume", num_seeds=4))
    script = f"""
    mkdir {tmp_path}/disk
    mount -t tmpfs tmpfs {tmp_path}/disk || exit 77
    cp -r {finished} {tmp_path}/disk/old
    mount -o remount,ro {tmp_path}/disk
    {new}; echo new ended with $?
    {again}; echo again ended with $?
    """
    mounting = ["unshare", "-rm", "sh", "-c", script]
    done = subprocess.run(mounting, capture_output=True, text=True, cwd=ROOT, env=binaries.environment, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert done.stdout.splitlines() == ["new ended with 1", "again ended with 1"], done.stderr
    assert [line.rpartition(": ")[2] for line in done.stderr.splitlines()] == ["Read-only file system"] * 2


def rows(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


BAD = [
    ({"digist": 3}, [], "--config.digist", "did you mean digits?"),
    ({"digits": 0}, [], "--config.digits=0", "greater than or equal to 1"),
    ({"digits": "x"}, [], "--config.digits=x", "int"),
    ({"learning_rate": "nan"}, [], "--config.learning_rate=nan", "number"),
    ({"cell": "transformer"}, [], "--config.cell=transformer", "gers_peephole"),
    ({"task": "baum_sweet"}, [], "--config.task=baum_sweet", "python -m experiments.formal"),
    ({"data_devices": 3}, [], "--config.data_devices=3", "number of devices"),
    ({}, ["--sweep=learning_rat=1"], "--sweep=learning_rat=1", "did you mean learning_rate?"),
    ({}, ["--sweep=learning_rate"], "--sweep=learning_rate", "FIELD=A,B,C"),
    ({}, ["--sweep=cell="], "--sweep=cell=", "FIELD=A,B,C"),
    ({}, ["--sweep=num_seeds=2,3"], "--sweep=num_seeds=2,3", "cannot be swept"),
    ({}, ["--sweep=cell=lstm,grru"], "--sweep=cell=lstm,grru: grru: ", "gers_peephole"),
    ({}, ["--sweep=test_lengths=[2,4],[0]"], "--sweep=test_lengths=[2,4],[0]", "greater than or equal to 1"),
    ({"dropout": 0.1}, ["--sweep=num_layers=2,1"], "--config.dropout=0.1", "num_layers should be 2"),
    ({}, ["--sweep=learning_rate=.1,x"], "--sweep=learning_rate=.1,x: x: ", "number"),
    ({}, ["stray"], "'stray'", "--NAME=VALUE"),
    ({}, ["--config=missing.py:one"], "--config=missing.py:one: there is no file", "missing.py"),
    ({}, ["--config="], "--config=: there is no file", "''"),
    ({}, ["--config.cell", "--config.digits=2"], "--config.cell: needs a value", "--config.cell=VALUE"),
    ({}, ["--flagfile=missing.txt"], "missing.txt", "No such file"),
    ({}, ["--nonsense=3"], "nonsense", "flag"),
]


@pytest.mark.parametrize(("fields", "arguments", "names", "hint"), BAD, ids=[str(case[2]) for case in BAD])
def test_bad_flags_are_one_clear_line_and_nothing_is_written(call, tmp_path, fields, arguments, names, hint):
    done = call(f"--workdir={tmp_path / 'run'}", *arguments, **fields)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert names in done.stderr
    assert hint in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_flag_file_goes_with_a_config(call, tmp_path):
    (tmp_path / "flags").write_text("--config=missing.py\n--config.digits=0\n")
    done = call(f"--flagfile={tmp_path}/flags", "--config=configs/palindrome.py", f"--workdir={tmp_path}/run")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "--config.digits=0: " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "fields", "complaint", "code"),
    [
        (["--workdir={finished}"], {}, "holds a run already; --resume", 1),
        (["--workdir={tmp}/file/run"], {}, "cannot be written", 1),
        (["--resume", "--workdir={tmp}/missing"], {}, "no such directory", 1),
        (["--resume", "--workdir={tmp}"], {}, "holds no run", 1),
        (["--resume", "--workdir={finished}"], {"cell": "gru"}, "--config.cell=gru", 2),
        (["--resume", "--workdir={finished}"], {"max_steps": 30}, "may only grow", 2),
        ([], {}, "--workdir=DIR is needed", 2),
    ],
    ids=str,
)
def test_bad_directories_are_one_clear_line(call, finished, tmp_path, arguments, fields, complaint, code):
    (tmp_path / "file").touch()
    before = contents(finished)
    done = call(*(argument.format(finished=finished, tmp=tmp_path) for argument in arguments), **fields)
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
    assert complaint in done.stderr
    assert contents(finished) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_a_sweep_is_killed_resumed_and_ranked(call, start, tmp_path):
    whole, path = tmp_path / "whole", tmp_path / "killed"
    sweep = ("--sweep=cell=lstm,gru", "--sweep=learning_rate=0.03,1e-3")
    fields = {**SMALL, "num_seeds": 1, "max_steps": 60, "batch_size": 16}
    done = call(f"--workdir={whole}", *sweep, **fields)
    assert done.returncode == 0, done.stderr
    process = start(f"--workdir={path}", *sweep, **fields)
    while process.poll() is None and not (size(path) and rows(path)[-1]["cell"] == "gru"):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    resumed = call(f"--workdir={path}", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert contents(path) == contents(whole)
    settings = [(cell, rate) for cell in ("lstm", "gru") for rate in (0.03, 0.001)]
    found = json.loads(contents(path)[1])["runs"]
    assert [(row["cell"], row["learning_rate"]) for row in found] == settings
    title, head, *ranking = done.stdout.splitlines()[:6]
    assert "the best first by steps until convergence" in title
    assert head.split()[:2] == ["cell", "learning_rate"]
    assert {tuple(row.split()[1:3]) for row in ranking} == {(cell, str(rate)) for cell, rate in settings}
    assert resumed.stdout.splitlines()[:6] == [title, head, *ranking]
    assert f"python -m experiments.report --runs={whole}" in done.stdout
    assert jaxrnn.load(path, run="cell=gru,learning_rate=0.03")[0].cell == "gru"


def test_out_of_memory_is_one_clear_line(call, tmp_path):
    done = call(f"--workdir={tmp_path / 'run'}", **{**SMALL, "hidden_size": 3_000_000})
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "out of memory" in done.stderr
    assert not (tmp_path / "run/config.json").exists()


def test_data_that_changed_are_named(call, finished, tmp_path):
    path = shutil.copytree(finished, tmp_path / "run")
    record = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**record, "data": {"sha256": "ab"}}))
    done = call("--resume", f"--workdir={path}", num_seeds=4)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "other data: sha256 was 'ab'" in done.stderr


def test_a_reader_that_has_seen_enough_gets_no_traceback(binaries, finished):
    command = command_line("palindrome", f"--workdir={finished}", "--resume")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as unread:
        done = subprocess.run(
            command, stdout=unread, stderr=subprocess.PIPE, cwd=ROOT, env=binaries.environment, check=False
        )
    assert (done.returncode, done.stderr) == (1, b"")


def test_help_lists_the_fields(call, binaries):
    done = call("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "hidden_size=256" in done.stdout
    assert "Steps in one call of the compiled program" in done.stdout  # Of a field that all configs share.
    for flag in ("--workdir", "--[no]resume", "--sweep", "--[no]tensorboard", "--[no]distributed", "--coordinator"):
        assert flag in done.stdout
    assert "--prompt" in binaries.run("sample", "--help").stdout


def test_a_notebook_can_load_and_apply_a_run(finished):
    from jaxrnn.data.formal import TASKS
    from jaxrnn.nn import losses
    from jaxrnn.training.seeds import Stream, stream_key

    config, model, params = jaxrnn.load(finished, seed=1)
    tokens, labels = TASKS[config.task].sample(stream_key(1, Stream.EVAL), config.test_samples, config.digits)
    logits = model.apply({"params": params}, tokens)
    row = json.loads((finished / "results.json").read_text())["runs"][1]
    assert float(losses.accuracy(logits, labels)) == pytest.approx(row["test_accuracy"])
