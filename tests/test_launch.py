"""The binaries as users call them: real processes, real files."""

import functools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from processes import ROOT, command_line, devices

import jaxrnn
from configs.palindrome import Config
from experiments import launch, palindrome

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
    assert done.stderr == ""
    return path


def test_a_run_leaves_what_the_interface_promises(finished):
    results = json.loads((finished / "results.json").read_text())
    assert [row["seed"] for row in results["runs"]] == [0, 1, 2]
    assert set(results["runs"][0]) == {
        "run",
        "seed",
        "learning_rate",
        "steps",
        "converged",
        "last_step",
        "test_accuracy",
    }
    assert results["complete"]
    assert results["summary"][0]["runs"] == 3
    assert any(row["converged"] for row in results["runs"]), "the tests below want a lane that ends early"
    config = json.loads((finished / "config.json").read_text())
    assert config["config"]["hidden_size"] == 16
    assert config["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert list(lines[0]) == ["run", "seed", "step", "loss", "accuracy"]


# 2 moments each.
@pytest.mark.parametrize("attempt", [0, 1, *(pytest.param(n, marks=pytest.mark.soak) for n in range(2, 25))])
def test_kill_at_random_moments_and_resume_to_the_same_bytes(call, start, finished, tally, tmp_path, attempt):
    path = tmp_path / "killed"
    moments = random.Random(attempt)
    kills = saving = 0
    arguments, fields = [f"--workdir={path}"], SMALL
    for _ in range(10):
        before = size(path)
        process = start(*arguments, **fields)
        while process.poll() is None and size(path) <= before:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        saving += any(path.glob("checkpoints/*/*tmp*"))
        arguments, fields = [f"--workdir={path}", "--resume"], {}
        if kills == 2:
            break
    done = call(*arguments)
    assert done.returncode == 0, done.stderr
    assert kills == 2
    assert contents(path) == contents(finished)
    tally["kill -9 at a random moment, resumed to the same bytes"] += kills
    tally["kill -9 at a random moment: of these, in the middle of saving"] += saving


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
        "warning: SIGTERM: stopping once all is saved; once more to stop at once",
        f"saved; go on with --resume --workdir={path}",
    ]
    assert len(rows(path)) < len(rows(finished))
    assert call("--resume", f"--workdir={path}").returncode == 0
    assert contents(path) == contents(finished)


def test_a_lane_has_the_same_bytes_alone(call, finished, tmp_path):
    done = call(f"--workdir={tmp_path / 'alone'}", **{**SMALL, "num_seeds": 1, "first_seed": 1})
    assert done.returncode == 0, done.stderr
    beside = [line for line in (finished / "metrics.jsonl").read_text().splitlines() if '"seed": 1,' in line]
    assert (tmp_path / "alone/metrics.jsonl").read_text().splitlines() == beside


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
    assert timing[0]["lanes"] == timing[0]["program"] == 2


def test_lanes_over_several_devices_also_after_a_start_on_one(call, start, finished, tmp_path):
    path = tmp_path / "many"
    one, four = devices(1), devices(4)
    fields = {**SMALL, "seeds_per_program": 3, "chunk_steps": 10}
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
    assert resumed["earlier"] == [{"versions": started["versions"], "device": started["device"]}]
    # A complete run has nothing left to do on another device, and does not name it.
    assert call("--resume", f"--workdir={path}", environment=one).returncode == 0
    assert json.loads((path / "config.json").read_text()) == resumed
    ours = {(row["seed"], row["step"]): row["loss"] for row in rows(path)}
    single = {(row["seed"], row["step"]): row["loss"] for row in rows(finished)}
    for seed in range(3):
        for step in range(0, 61, 10):
            assert ours[seed, step] == pytest.approx(single[seed, step], abs=1e-5)


@pytest.mark.parametrize("size", [160, *(pytest.param(n, marks=pytest.mark.soak) for n in (20, 60, 110, 200, 300))])
def test_a_full_disk_is_one_clear_line_and_nothing_is_lost(binaries, finished, tally, tmp_path, size):
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
    assert len(done.stderr.splitlines()) == 1
    assert "No space left on device" in done.stderr
    assert contents(tmp_path) == contents(finished)
    tally["a disk that fills up, and has room later"] += 1


def test_a_read_only_directory_is_one_clear_line(binaries, finished, tally, tmp_path):
    new = " ".join(command_line("palindrome", f"--workdir={tmp_path}/disk/run", **SMALL))
    again = " ".join(command_line("palindrome", f"--workdir={tmp_path}/disk/old", "--resume"))
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
    tally["a directory that cannot be written"] += 2


def test_the_cache_needs_no_home_where_it_is_given(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: 1 / 0)
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.delenv("JAXRNN_CACHE_DIR", raising=False)
    assert launch.cache_dir() == Path("/xdg/jaxrnn")
    monkeypatch.setenv("JAXRNN_CACHE_DIR", "/given")
    assert launch.cache_dir() == Path("/given")


def rows(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


BAD = [
    ({"digist": 3}, [], "--config.digist", "did you mean digits?"),
    ({"digits": 0}, [], "--config.digits=0", "greater than or equal to 1"),
    ({"digits": "x"}, [], "--config.digits=x", "int"),
    ({"learning_rate": "nan"}, [], "--config.learning_rate=nan", "number"),
    ({"learning_rate": "1e-3,x"}, [], "--config.learning_rate=1e-3,x", "number"),
    ({"learning_rate": "1e-3,1.000000000001e-3"}, [], "--config.learning_rate=1e-3,1.000000000001e-3", "twice"),
    ({"clip_norm": "1e300"}, [], "--config.clip_norm=1e300", "less than or equal to 1000000000000"),
    ({"tolerance": "nan"}, [], "--config.tolerance=nan", "finite"),
    ({"cell": "transformer"}, [], "--config.cell=transformer", "gers_peephole"),
    ({"task": "random_combinations", "digits": 1}, [], "--config.digits=1", ">= 2"),
    ({}, ["stray"], "'stray'", "--NAME=VALUE"),
    ({}, ["--config=missing.py"], "--config", "missing.py"),
    ({}, ["--nonsense=3"], "nonsense", "flag"),
    ({}, ["--flagfile=/nowhere"], "/nowhere", "flagfile"),
]


@pytest.mark.parametrize(("fields", "arguments", "names", "hint"), BAD, ids=[str(case[2]) for case in BAD])
def test_bad_flags_are_one_clear_line_and_nothing_is_written(call, tmp_path, fields, arguments, names, hint):
    done = call(f"--workdir={tmp_path / 'run'}", *arguments, **fields)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert names in done.stderr
    assert hint in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_bad_directories_are_one_clear_line(call, finished, tmp_path):
    (tmp_path / "file").touch()
    before = contents(finished)
    cases = [
        ([f"--workdir={finished}"], {}, "holds a run already; --resume", 1),
        ([f"--workdir={tmp_path / 'file' / 'run'}"], {}, "cannot be written", 1),
        (["--resume", f"--workdir={tmp_path / 'missing'}"], {}, "no such directory", 1),
        (["--resume", f"--workdir={tmp_path}"], {}, "holds no run", 1),
        ([f"--workdir={tmp_path / ('a' * 300)}"], {}, "cannot be written: File name too long", 1),
        (["--resume", f"--workdir={tmp_path / ('a' * 300)}"], {}, "no such directory", 1),
        ([f"--workdir={tmp_path}/a\nb"], {}, "should have printable characters only", 2),
        (
            ["--resume", f"--workdir={finished}"],
            {"cell": "gru"},
            "--config.cell=gru: the run was started with 'lstm'",
            2,
        ),
        (["--resume", f"--workdir={finished}"], {"max_steps": 30}, "may only grow", 2),
        ([], {}, "--workdir=DIR is needed", 2),
    ]
    for arguments, fields, complaint, code in cases:
        done = call(*arguments, **fields)
        assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
        assert complaint in done.stderr
    assert contents(finished) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("batch_size", -3, "greater than or equal to 1"),
        ("batch_size", 2.5, "integer"),
        ("bidirectional", 1, "boolean"),
        ("learning_rate", (-1e-3,), "greater than or equal to 0.000000000001"),
        ("learning_rate", (), "at least 1"),
        ("learning_rate", (float("inf"),), "finite"),
        ("task", "parity", "baum_sweet"),
        ("precision", "double", "highest"),
        ("initializer", "zeros", "kaiming"),
        ("first_seed", 2**31, "2**31"),
        ("max_steps", 2**31, "less than"),
        ("num_layers", 2, "does not know"),
    ],
)
def test_bad_values_from_a_config_file_name_the_field(field, value, hint):
    with pytest.raises(launch.UsageError, match=field) as error:
        palindrome.check(launch.validate(Config, {field: value}))
    assert hint in str(error.value)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 7 PiB"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 bytes"),
        jax.errors.JaxRuntimeError("INTERNAL: Error dispatching computation:\nOut of memory allocating 9 bytes."),
    ],
)
def test_out_of_memory_is_one_line_and_leaves_the_directory_to_others(monkeypatch, tmp_path, error):
    monkeypatch.setattr(launch, "use_compilation_cache", lambda: None)

    def fail(_):
        raise error

    with pytest.raises(launch.OutOfMemoryError, match=r"^out of memory; take smaller sizes \([^\n]+\)$"):
        launch.trains(fail)(Config())
    experiment = palindrome.EXPERIMENT._replace(prepare=lambda config: fail)
    with pytest.raises(launch.OutOfMemoryError):
        launch.run(experiment, Config(), tmp_path, resume=False)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_data_that_changed_are_named(call, finished, tmp_path):
    path = shutil.copytree(finished, tmp_path / "run")
    record = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**record, "data": {"sha256": "ab"}}))
    done = call("--resume", f"--workdir={path}")
    assert done.returncode == 1
    assert done.stderr == f"error: {path}: the run was started on other data: sha256 was 'ab' and is None\n"


def test_a_reader_that_has_seen_enough_gets_no_traceback(binaries, tmp_path):
    command = command_line("toy_graph", f"--workdir={tmp_path / 'run'}")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as unread:
        done = subprocess.run(
            command, stdout=unread, stderr=subprocess.PIPE, cwd=ROOT, env=binaries.environment, check=False
        )
    assert (done.returncode, done.stderr) == (1, b"")
    assert (tmp_path / "run" / "report.html").exists()


def test_help_lists_the_fields(call, binaries):
    done = call("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "hidden_size=256" in done.stdout
    for flag in ("--workdir", "--[no]resume", "--[no]tensorboard", "--[no]distributed", "--coordinator"):
        assert flag in done.stdout
    done = binaries.run("text_claims", "-h")
    assert (done.returncode, done.stderr) == (0, "")
    for flag in ("--run_seed", "--data_dir", "--prompts"):
        assert flag in done.stdout


def test_a_notebook_can_load_and_apply_a_lane(finished):
    from experiments.palindrome import TASKS, build_model
    from jaxrnn.nn import losses
    from jaxrnn.training.seeds import Stream, stream_key

    config, params = jaxrnn.load(finished, seed=1)
    tokens, labels = TASKS[config.task](config.digits).sample(stream_key(1, Stream.EVAL), config.test_samples)
    logits = build_model(config).apply({"params": params}, tokens)
    row = json.loads((finished / "results.json").read_text())["runs"][1]
    assert float(losses.accuracy(logits, labels)) == pytest.approx(row["test_accuracy"])


def test_the_notebook_in_the_readme_runs(finished):
    first, text, cells = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names = {}
    exec(first.replace("runs/peephole20", str(finished)), names)
    assert names["logits"].shape == (64, 2)
    exec("\n".join(line for line in text.splitlines() if "import" in line) + "\n" + cells, names)
    assert names["hidden"].shape == (41, 32, 256)
    np.testing.assert_array_equal(names["hidden"][-1], names["last"].h)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 6),
        ({"cpu.max": "max 100000\n"}, 6),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "1000000 100000\n"}, 6),
        ({"quota": "-1\n", "period": "100000\n"}, 6),
        ({"quota": "200000\n", "period": "100000\n"}, 2),
    ],
)
def test_devices_are_the_cores_that_the_process_may_use(tmp_path, monkeypatch, files, cores):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(launch, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(launch, "_OLD_QUOTA", (tmp_path / "quota", tmp_path / "period"))
    monkeypatch.setattr(launch.os, "sched_getaffinity", lambda process: range(6), raising=False)
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    asked = []
    monkeypatch.setattr(jax.config, "update", lambda name, value: asked.append((name, value)))

    launch.use_all_cores()

    assert asked == [("jax_num_cpu_devices", cores)]
    assert os.environ["XLA_FLAGS"] == "--xla_cpu_collective_call_terminate_timeout_seconds=86400"


def test_the_version_names_the_commit_of_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "ROOT", tmp_path)
    assert launch.version() == jaxrnn.__version__
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x"]
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    (tmp_path / "file").write_text("as committed")
    for arguments in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout

    monkeypatch.setenv("GIT_DIR", str(launch.ROOT / "nowhere"))
    assert launch.version() == f"{jaxrnn.__version__}+g{commit[:12]}"
    (tmp_path / "file").write_text("changed")
    assert launch.version() == f"{jaxrnn.__version__}+g{commit[:12]}.dirty"
    (tmp_path / ".git" / "HEAD").write_text("damaged")
    assert launch.version() == jaxrnn.__version__
