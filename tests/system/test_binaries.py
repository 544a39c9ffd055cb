"""The binaries of studies as processes: killed and resumed, refused in one line, without a network."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from directories import row, write_directory
from planetoid_files import example, write
from processes import ROOT, command_line, messages

NODES = {"num_seeds": 1, "max_steps": 160, "patience": 1000, "eval_every": 1, "chunk_steps": 4}
TEXT = {
    **{"hidden_size": 16, "embedding_size": 8, "dropout": 0.2, "seq_length": 8, "batch_size": 4, "carry_state": True},
    **{"max_steps": 120, "eval_every": 40, "chunk_steps": 5, "sample_steps": 7, "validation_fraction": 0.1},
}
BOOK = "".join(f"Le bon café a {n} chats.\n" for n in range(10, 90))


def contents(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def kill_soon_after(file, process):
    """Ends the process without notice a moment after it has begun to write the file."""
    while process.poll() is None and not file.exists():
        time.sleep(0.01)
    time.sleep(random.Random(0).uniform(0, 0.2))
    process.kill()
    assert process.wait() == -signal.SIGKILL


def assert_ended_well(done):
    assert (done.returncode, messages(done.stderr)) == (0, [])


def assert_refused(done, code, *words):
    """In one line that says why; the line that announces a download is another."""
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("Downloading data from ")]
    assert (done.returncode, line.startswith("error: ")) == (code, True)
    assert all(word in line for word in words), line


FILES = ("metrics.jsonl", "results.json", "hidden.json")
SETTINGS = {
    **{"JAX_ENABLE_X64": "1", "JAX_DEFAULT_PRNG_IMPL": "rbg", "JAX_THREEFRY_PARTITIONABLE": "0"},
    **{"JAX_RANDOM_SEED_OFFSET": "7", "JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_NUMPY_RANK_PROMOTION": "raise"},
    **{"JAX_DISABLE_JIT": "1", "JAX_TRANSFER_GUARD": "disallow", "JAX_DEBUG_NANS": "1", "JAX_DEBUG_INFS": "1"},
}


def test_numbers_are_the_same_under_every_setting_of_jax(tmp_path):
    fields = {**NODES, "max_steps": 3, "num_seeds": 1}
    for name, environment in {"plain": {}, "other": SETTINGS}.items():
        command = command_line("nodes", f"--workdir={tmp_path / name}", **fields)
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert all(f"{setting}=" in done.stderr for setting in environment)
    files = [[(tmp_path / name / file).read_bytes() for file in FILES] for name in ("plain", "other")]
    assert files[0] == files[1]


def test_nodes_killed_and_resumed_end_in_the_same_bytes(binaries, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert_ended_well(binaries.run("nodes", f"--workdir={whole}", **NODES))
    kill_soon_after(killed / "metrics.jsonl", binaries.start("nodes", f"--workdir={killed}", **NODES))
    assert not (killed / "hidden.json").exists()
    assert_ended_well(binaries.run("nodes", "--resume", f"--workdir={killed}"))
    for name in ("metrics.jsonl", "results.json", "hidden.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    data = json.loads((whole / "config.json").read_text())["data"]
    assert (data["nodes"], data["edges"], data["classes"]) == (34, 156, 2)


def test_a_text_run_killed_and_resumed_ends_in_the_same_bytes_but_not_with_another_text(binaries, tmp_path):
    whole, killed, corpus = tmp_path / "whole", tmp_path / "killed", tmp_path / "mine.txt"
    corpus.write_text(BOOK, encoding="utf-8")
    command = command_line("text", f"--workdir={whole}", corpus=corpus, **TEXT)
    ascii_only = binaries.environment | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=ascii_only, check=False)
    assert_ended_well(done)
    samples = [json.loads(line) for line in (whole / "samples.jsonl").read_text().splitlines()]
    shown = next(row["text"] for row in samples if (row["seed"], row["step"], row["length"]) == (0, 120, 120))
    # What the terminal cannot show is escaped.
    assert f"seed=0: {shown!a}\n" in done.stdout

    kill_soon_after(killed / "samples.jsonl", binaries.start("text", f"--workdir={killed}", corpus=corpus, **TEXT))
    left = contents(killed)
    corpus.write_text(BOOK.replace("bon", "vieux"), encoding="utf-8")
    assert_refused(binaries.run("text", "--resume", f"--workdir={killed}"), 1, str(killed), "sha256")
    assert contents(killed) == left

    corpus.write_text(BOOK, encoding="utf-8")
    moved = corpus.rename(tmp_path / "moved.txt")
    assert_ended_well(binaries.run("text", "--resume", f"--workdir={killed}", corpus=moved))
    assert json.loads((killed / "config.json").read_text())["config"]["corpus"] == str(moved)
    for name in ("metrics.jsonl", "results.json", "validation.jsonl", "samples.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(
    ("binary", "arguments", "code", "words"),
    [
        ("nodes", ["--config=configs/nodes.py:gin"], 2, ["no variant 'gin'", "gcn, gat"]),
        ("formal", ["--config.task=random_combinations", "--config.digits=1"], 2, ["--config.digits=1", "at least 2"]),
        ("nodes", ["--config.dataset=corra"], 2, ["--config.dataset=corra", "karate"]),
        ("nodes", ["--config.dataset=planetoid:{0}/no/small"], 1, ["{0}/no/ind.small."]),
        ("nodes", ["--config.dataset=planetoid:{0}/small", "--config.split=random"], 1, ["20 training nodes"]),
        ("text", ["--config.hiden_size=3"], 2, ["--config.hiden_size", "hidden_size?"]),
        ("text", ["--config.corpus=grimm"], 1, ["{0}/data/books/grimm.txt", "{0}/cache/books", "--data_dir"]),
    ],
)
def test_bad_input_ends_in_one_line_and_nothing_is_written(binaries, tmp_path, binary, arguments, code, words):
    write(tmp_path, example())
    before = contents(tmp_path)
    # A proxy that nobody listens to keeps the network out.
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9") | {"no_proxy": ""}
    offline = {**proxies, **{name.upper(): value for name, value in proxies.items()}}
    offline |= {"JAXRNN_CACHE_DIR": f"{tmp_path}/cache", "JAXRNN_DATA_DIR": f"{tmp_path}/data"}
    arguments = [argument.format(tmp_path) for argument in arguments]
    done = binaries.run(binary, f"--workdir={tmp_path}/run", *arguments, environment=offline)
    assert_refused(done, code, *(word.format(tmp_path) for word in words))
    assert contents(tmp_path) == before
    assert not (tmp_path / "run").exists()


def test_directories_are_arguments_of_runs_and_of_no_other_binary(binaries, tmp_path):
    write_directory(tmp_path / "a", "strange", {"size": 3}, [row(0)])
    done = binaries.run("runs", "--diff", tmp_path / "a", tmp_path / "a")
    assert (done.returncode, done.stderr, done.stdout.startswith("nothing differs")) == (0, "", True), done.stderr
    assert_refused(binaries.run("runs", tmp_path / "a", "--diff"), 2, "--diff", "two run directories")
    assert_refused(binaries.run("runs", "--json"), 2, "experiments.runs DIR")
    assert_refused(binaries.run("runs", tmp_path / "b"), 1, f"{tmp_path}/b: no such directory")
    assert_refused(binaries.run("report", tmp_path), 2, "unexpected argument")


def test_a_report_takes_directories_flag_by_flag_or_with_commas(binaries, tmp_path):
    paths = [write_directory(tmp_path / name, "strange", {"size": 3}, [row(0)]) for name in "abc"]
    flags = [f"--runs={paths[0]}", f"--runs={paths[1]},{paths[2]}", "--archive=none", f"--out={tmp_path}/page"]
    assert binaries.run("report", *flags).returncode == 0
    page = (tmp_path / "page/report.md").read_text()
    assert all(f"{path}` | own" in page for path in paths)


def test_outside_the_checkout_it_is_said_that_models_are_unknown(binaries, tmp_path):
    path = write_directory(tmp_path / "a", "palindrome", {}, [row(0)])
    program = f"import jaxrnn; print(jaxrnn.runs({str(path)!r}))"
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=binaries.environment, check=True)
    assert done.stderr.count("`experiments` is not on Python's path") == 1


def test_an_example_in_a_copy_of_the_code_is_a_study(binaries, tmp_path):
    for name in ("experiments", "configs", "jaxrnn"):
        (tmp_path / name).mkdir()
        for entry in (ROOT / name).iterdir():
            (tmp_path / name / entry.name).symlink_to(entry)
    shutil.copy(ROOT / "examples/adding_problem.py", tmp_path / "experiments")

    def run(*arguments):
        command = [sys.executable, "-m", "experiments.adding_problem", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=binaries.environment, check=False
        )

    shown = run("--help").stdout
    assert "The adding problem" in shown
    assert "weight_decay=0.0" in shown
    refused = run("--workdir=run", "--config.cell=no_cell")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    tiny = ("--config.length=4", "--config.hidden_size=4", "--config.max_steps=4", "--config.num_seeds=2")
    done = run("--workdir=run", "--sweep=weight_decay=0.0,0.1", *tiny)
    assert "2 settings, the best first by mean squared error" in done.stdout, done.stderr
    assert len(json.loads((tmp_path / "run/results.json").read_text())["runs"]) == 4
