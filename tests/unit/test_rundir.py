import errno
import fcntl
import json
import os
import socket
import subprocess
import sys

import pytest
from processes import ROOT

from jaxrnn.rundir.directory import FORMAT, RunDirectory, RunError, is_complete, is_running, read_config, read_results

RECORD = {"format": FORMAT, "study": "tiny", "config": {"digits": 3}, "data": {}}


def create(path):
    return RunDirectory(path, RECORD)


def test_a_directory_with_a_run_is_refused_and_left_alone(tmp_path):
    with create(tmp_path / "a"):
        pass
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunError, match="--resume"):
        RunDirectory(tmp_path / "a", RECORD)
    assert sorted(tmp_path.rglob("*")) == before
    assert read_config(tmp_path / "a") == RECORD


@pytest.mark.parametrize("name", ["notes.jsonl", "checkpoints/running"])
def test_files_of_others_are_refused_and_left_alone(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match="files of another run"):
        RunDirectory(tmp_path, RECORD)
    assert (tmp_path / name).read_text() == "mine"
    assert not (tmp_path / "config.json").exists()


def test_two_processes_never_share_a_directory(tmp_path):
    script = f"from pathlib import Path; from jaxrnn.rundir.directory import *; RunDirectory(Path({str(tmp_path)!r}))"
    command = [sys.executable, "-W", "ignore", "-c", script]
    with create(tmp_path):
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert "another process is running in this directory" in done.stderr
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_a_file_system_without_locks_keeps_other_processes_out(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with create(tmp_path):
        assert is_running(tmp_path)
        with pytest.raises(RunError, match=f"{os.getpid()}.*remove {tmp_path}/.owner"):
            RunDirectory(tmp_path)
    assert not is_running(tmp_path)
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / ".owner").write_text(f"{ended.pid} {socket.gethostname()}")
    with RunDirectory(tmp_path):
        assert is_running(tmp_path)
    (tmp_path / ".owner").write_text(f"{ended.pid} elsewhere")
    with pytest.raises(RunError, match="elsewhere"):
        RunDirectory(tmp_path)


def test_lines_are_cut_back_to_a_checkpoint(tmp_path):
    with create(tmp_path) as directory:
        directory.append("metrics.jsonl", [{"step": 0, "loss": float("nan")}])
        lengths = directory.lengths(["metrics.jsonl", "samples.jsonl", "missing.jsonl"])
        assert lengths == {"metrics.jsonl": 26, "samples.jsonl": 0, "missing.jsonl": 0}
        directory.append("metrics.jsonl", [{"step": 1, "loss": 2.0}])
        directory.append("samples.jsonl", [{"text": "a"}])
        directory.append("timing.jsonl", [{"seconds": 1}])
        (tmp_path / "mine.jsonl").write_text("{}")
        directory.truncate(lengths)
        assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 0, "loss": null}\n'
        assert (tmp_path / "samples.jsonl").read_text() == ""
        assert (tmp_path / "timing.jsonl").read_text() != ""
        assert (tmp_path / "mine.jsonl").read_text() == "{}"


def test_nan_is_written_as_null_at_any_depth(tmp_path):
    with create(tmp_path) as directory:
        directory.write("results.json", {"runs": [{"loss": float("inf"), "steps": (1, float("nan"))}]})
    assert json.loads((tmp_path / "results.json").read_text()) == {"runs": [{"loss": None, "steps": [1, None]}]}


def test_a_full_disk_is_one_clear_line_and_the_old_file_stays(tmp_path):
    with create(tmp_path) as directory:
        (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
        with pytest.raises(RunError, match=r"metrics.jsonl: cannot be written: No space left on device"):
            directory.append("metrics.jsonl", [{"step": 0}])
        directory.write("results.json", {"a": 1})
        (tmp_path / ".results.json.tmp").symlink_to("/dev/full")
        with pytest.raises(RunError, match="No space left"):
            directory.write("results.json", {"a": 2})
    assert json.loads((tmp_path / "results.json").read_text()) == {"a": 1}


def test_nothing_to_resume(tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        RunDirectory(tmp_path)
    with pytest.raises(RunError, match="no such directory"):
        RunDirectory(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "[" * 100_000, "{}", '{"config": 1}', '{"config": {}, "data": 7}', '{"config": {}}', "\udcff"],
)
def test_a_damaged_or_older_config_is_one_line(tmp_path, content):
    (tmp_path / "config.json").write_text(content, errors="surrogateescape")
    with pytest.raises(RunError, match=str(tmp_path)) as error:
        read_config(tmp_path)
    assert "\n" not in str(error.value)


def test_results_are_complete_or_not_and_damaged_ones_are_none(tmp_path):
    assert (is_complete(tmp_path), read_results(tmp_path)) == (False, [])
    with create(tmp_path) as directory:
        for complete in (False, True):
            directory.write_results([{"run": "seed=0"}], complete=complete)
            assert (is_complete(tmp_path), read_results(tmp_path)) == (complete, [{"run": "seed=0"}])
    for content in ("", "[]", "{"):
        (tmp_path / "results.json").write_text(content)
        assert (is_complete(tmp_path), read_results(tmp_path)) == (False, [])
