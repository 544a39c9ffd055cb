import json
import tempfile
from collections import Counter
from pathlib import Path

import jax
import pytest
from hypothesis import HealthCheck, settings
from processes import Binaries

from experiments import launch

jax.config.update("jax_debug_key_reuse", True)
jax.config.update("jax_default_matmul_precision", "highest")
# As in the binaries: lanes have devices of their own.
jax.config.update("jax_num_cpu_devices", 2)
# Compiling well is most of what short programs take; HLO passes, fusion among them, stay as they are.
jax.config.update("jax_disable_most_optimizations", True)
# Many tests compile the same programs.
_CACHE = tempfile.TemporaryDirectory(prefix="jaxrnn-tests-")
jax.config.update("jax_compilation_cache_dir", _CACHE.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

# Inputs that are made up: the same few in every test run, many new ones in `make soak`.
_SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]
settings.register_profile(
    "test", max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=_SLOW
)
settings.register_profile("soak", max_examples=1000, database=None, deadline=None, suppress_health_check=_SLOW)


def pytest_addoption(parser):
    parser.addoption("--tally", help="directory for a record of the faults and inputs that were tried")


_TRIED: Counter[str] = Counter()


@pytest.fixture(scope="session")
def tally():
    """How often what was tried; each test counts what it has survived."""
    return _TRIED


def pytest_sessionfinish(session, exitstatus):
    """Writes the tally; not where a test failed or the session was ended."""
    if session.config.getoption("tally") and exitstatus == pytest.ExitCode.OK:
        path = Path(session.config.getoption("tally"))
        path.mkdir(parents=True, exist_ok=True)
        rows = [{"run": what, "seed": 0, "times": times} for what, times in sorted(_TRIED.items())]
        results = {"experiment": "soak", "complete": True, "runs": rows, "summary": {"times": _TRIED.total()}}
        record = launch.record("soak", {"command": "make soak"})
        for name, content in (("config.json", record), ("results.json", results)):
            (path / name).write_text(json.dumps(content, indent=1) + "\n")
        lines = [json.dumps({**row, "step": row["times"]}) + "\n" for row in rows]
        (path / "metrics.jsonl").write_text("".join(lines))


@pytest.fixture(scope="session")
def binaries(tmp_path_factory):
    return Binaries(tmp_path_factory.mktemp("binaries"))


@pytest.fixture(scope="module")
def all_optimizations():
    """As users have them: for speed, and for bytes that are to be the same."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield
