"""What a process finds: cores, and the commit of the code."""

import os
import shutil
import subprocess

import jax
import pytest

from jaxrnn.rundir.directory import RunError
from jaxrnn.rundir.provenance import commit, make_record
from jaxrnn.training import cores, settings


@pytest.mark.parametrize(
    ("quota", "expected"),
    [(None, 6), ("max 100000\n", 6), ("250000 100000\n", 3), ("50000 100000\n", 1), ("1000000 100000\n", 6)],
)
def test_cores_are_those_that_the_process_may_use(tmp_path, monkeypatch, quota, expected):
    if quota:
        (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(6), raising=False)
    assert cores.num_cores(tmp_path / "cpu.max") == expected


class Settings:
    """Those of JAX, which has started or not."""

    def __init__(self, has_started=False, devices=-1, cache=None):
        self.has_started, self.jax_num_cpu_devices, self.jax_compilation_cache_dir = has_started, devices, cache

    def update(self, name, value):
        if self.has_started and name == "jax_num_cpu_devices":
            raise RuntimeError
        setattr(self, name, value)


@pytest.fixture
def use_all_cores(monkeypatch):
    """Of a machine with seven: with these settings, the devices that there will be."""
    monkeypatch.setattr(cores, "num_cores", lambda: 7)

    def use(flags="", **settings):
        monkeypatch.setenv("XLA_FLAGS", flags)
        monkeypatch.setattr(jax, "config", Settings(**settings))
        cores.use_all_cores()
        return jax.config.jax_num_cpu_devices

    return use


def test_each_core_is_a_device_unless_the_user_says_otherwise(use_all_cores):
    assert use_all_cores() == 7
    assert os.environ["XLA_FLAGS"] == "--xla_cpu_collective_call_terminate_timeout_seconds=86400"
    assert use_all_cores(devices=3, has_started=True) == 3
    assert use_all_cores("--xla_force_host_platform_device_count=2") == -1
    with pytest.warns(UserWarning, match="of 7 cores"):
        use_all_cores(has_started=True)


def test_compiled_programs_are_kept_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXRNN_CACHE_DIR", str(tmp_path))
    for given, used in ((None, str(tmp_path / "xla")), ("elsewhere", "elsewhere")):
        monkeypatch.setattr(jax, "config", Settings(cache=given))
        cores.keep_programs()
        assert jax.config.jax_compilation_cache_dir == used


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


OTHERS = {
    "jax_enable_x64": True,
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 7,
    "jax_numpy_dtype_promotion": "strict",
    "jax_use_direct_linearize": False,
}
COMPILER = {"jax_optimization_level": "O1", "jax_memory_fitting_level": "O3"}
PRECISION = {"precision": "highest"}


@pytest.fixture
def usual():
    """JAX's own settings at first; at the end, those of the tests."""
    before = {name: jax.config.values[name] for name in ("jax_disable_most_optimizations", *OTHERS, *COMPILER)}
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.parametrize("name", OTHERS)
def test_a_setting_that_changes_numbers_is_recorded_and_compared(usual, name):
    jax.config.update(name, OTHERS[name])
    record = make_record(None, PRECISION, {}, {})
    assert record["settings"] == {name: OTHERS[name]}
    assert make_record(None, PRECISION, {}, {}, record)["settings"] == record["settings"]
    assert settings.pin() == record["settings"]
    assert "settings" not in make_record(None, PRECISION, {}, {})
    with pytest.raises(RunError, match=f"setting {name}"):
        make_record(None, PRECISION, {}, {}, record)


@pytest.mark.parametrize("name", COMPILER)
def test_how_well_programs_are_compiled_is_recorded_and_compared_and_stays(usual, name):
    jax.config.update(name, COMPILER[name])
    record = make_record(None, PRECISION, {}, {})
    assert record["settings"] == {name: COMPILER[name]}
    assert settings.pin() == {}
    with pytest.raises(RunError, match=f"setting {name}"):
        make_record(None, PRECISION, {}, {}, record | {"settings": {}})
