import tempfile

import jax
import pytest
from processes import Binaries

jax.config.update("jax_debug_key_reuse", True)
jax.config.update("jax_default_matmul_precision", "highest")
# As in the binaries: lanes have devices of their own.
jax.config.update("jax_num_cpu_devices", 2)
# Many tests compile the same programs.
_CACHE = tempfile.TemporaryDirectory(prefix="jaxrnn-tests-")
jax.config.update("jax_compilation_cache_dir", _CACHE.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="session")
def binaries(tmp_path_factory):
    return Binaries(tmp_path_factory.mktemp("binaries"))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield
