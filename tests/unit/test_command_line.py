"""What errors say of flags."""

import sys

import pytest

from experiments import _cli
from jaxrnn.training.definition import ConfigError


@pytest.mark.parametrize("typed", [["--config.batch_size=8", "--config.batch_size=0x0"], ["--config.batch_size=0x0"]])
def test_an_error_names_the_last_of_the_same_flags(monkeypatch, typed):
    monkeypatch.setattr(sys, "argv", ["study", *typed, "--config.batch_size_of=3"])
    line = _cli._config_line(ConfigError("batch_size", 0, "is too small"))
    assert line == f"{typed[-1]}: is too small"
