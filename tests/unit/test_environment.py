"""What a process finds: cores, and the commit of the code."""

import os
import shutil
import subprocess

import jax
import pytest

from jaxrnn.rundir.provenance import commit
from jaxrnn.training import cores


@pytest.mark.parametrize(
    ("quota", "expected"),
    [(None, 6), ("max 100000\n", 6), ("250000 100000\n", 3), ("50000 100000\n", 1), ("1000000 100000\n", 6)],
)
def test_cores_are_those_that_the_process_may_use(tmp_path, monkeypatch, quota, expected):
    if quota:
        (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(6), raising=False)
    assert cores.num_cores(tmp_path / "cpu.max") == expected


def test_each_core_is_a_device_unless_the_user_says_otherwise(monkeypatch):
    asked = []
    monkeypatch.setattr(jax.config, "update", lambda name, value: asked.append((name, value)))
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    cores.use_all_cores()
    assert asked == [("jax_num_cpu_devices", cores.num_cores())]
    assert os.environ["XLA_FLAGS"] == "--xla_cpu_collective_call_terminate_timeout_seconds=86400"
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "3")
    cores.use_all_cores()
    assert len(asked) == 1


def test_a_checkout_has_a_commit(tmp_path):
    assert commit(tmp_path) is None
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x"]
    (tmp_path / "file").write_text("as committed")
    for arguments in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert commit(tmp_path) == head[:12]
    (tmp_path / "notes").write_text("of no code")
    assert commit(tmp_path) == head[:12]
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "new.py").touch()
    assert commit(tmp_path) == f"{head[:12]}.dirty"
    shutil.rmtree(tmp_path / "configs")
    (tmp_path / "file").write_text("changed")
    assert commit(tmp_path) == f"{head[:12]}.dirty"
    (tmp_path / ".git" / "HEAD").write_text("damaged")
    assert commit(tmp_path) is None
