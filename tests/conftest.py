import gc
import itertools
import os
import tempfile

import jax
import pytest
import tiny
from hypothesis import HealthCheck, settings
from processes import QUICK_XLA, Binaries

from jaxrnn.rundir import recorder

# Compiling well is most of what short programs take; HLO passes, fusion among them, stay as they are.
os.environ["XLA_FLAGS"] = QUICK_XLA
jax.config.update("jax_disable_most_optimizations", True)
jax.config.update("jax_include_full_tracebacks_in_locations", False)
# With JAX 0.11 or newer, these checks would be a fifth of the tests' time; the code is the same.
jax.config.update("jax_debug_key_reuse", jax.__version_info__ < (0, 11))
jax.config.update("jax_default_matmul_precision", "highest")
# As in the binaries: runs have devices of their own.
jax.config.update("jax_num_cpu_devices", 2)
# Many tests compile the same programs.
_CACHE = tempfile.TemporaryDirectory(prefix="jaxrnn-tests-")
jax.config.update("jax_compilation_cache_dir", _CACHE.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.03)

# Tracing makes many objects, few of them garbage.
gc.set_threshold(100_000, 50, 100)

# Inputs that are made up: the same few in every test run, many new ones in `make soak`.
_SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]
settings.register_profile(
    "test", max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=_SLOW
)
settings.register_profile("soak", max_examples=1000, database=None, deadline=None, suppress_health_check=_SLOW)


@pytest.fixture(scope="session")
def binaries(tmp_path_factory):
    return Binaries(tmp_path_factory.mktemp("binaries"))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


# --- A tiny training --------------------------------------------------------------------------------------------------


@pytest.fixture
def saving_after_each_call(monkeypatch):
    monkeypatch.setattr(recorder, "SAVE_SECONDS", 0.0)


class Crash(BaseException):
    """Stands for a process that ends at once."""


@pytest.fixture
def crash(monkeypatch):
    """Trains until a method is called for the `call`-th time, and ends there as if killed."""

    def until(target, name, call, path, *args, **kwargs):
        original, calls = getattr(target, name), itertools.count(1)

        def crashing(*args, **kwargs):
            if next(calls) == call:
                raise Crash
            return original(*args, **kwargs)

        with monkeypatch.context() as patch, pytest.raises(Crash):
            patch.setattr(target, name, crashing)
            tiny.train(path, *args, **kwargs)

    return until


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "whole"
    return path, tiny.train(path)


@pytest.fixture(scope="session")
def three_at_a_time(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "three"
    return path, tiny.train(path, runs_per_program=3)
