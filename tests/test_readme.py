"""The README says what the kept results say, and names nothing that is not there."""

import importlib
import re

import pytest

from experiments import launch, readme
from jaxrnn.rundir.directory import RunError

TEXT = readme.README.read_text()


def test_results_are_those_that_are_kept():
    assert readme.with_results(TEXT)[0] == TEXT, "run `make readme`"


def test_a_mark_that_is_missing_costs_nothing():
    for mark in ("<!-- speed: make readme -->", "<!-- end of speed -->"):
        with pytest.raises(RunError, match="in this order"):
            readme.with_results(TEXT.replace(mark, ""))


def test_files_and_targets_exist():
    for path in re.findall(r"`((?:jaxrnn|experiments|configs|tests)/[\w/]+\.?\w*)`", TEXT):
        assert (launch.ROOT / path).exists(), path
    prose = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    for path in re.findall(r"\]\((?!http)([^)]+)\)", prose):
        assert (launch.ROOT / path).exists(), path
    targets = re.findall(r"^(\w+):", (launch.ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:`|^)make (\w+)", TEXT, re.MULTILINE)) <= set(targets)
    for module in re.findall(r"-m (experiments\.\w+)", TEXT):
        assert (launch.ROOT / f"{module.replace('.', '/')}.py").exists(), module


def test_fields_on_command_lines_exist():
    for name, flags in re.findall(r"-m experiments\.(\w+)(.*--config\..*)$", TEXT, re.MULTILINE):
        config = importlib.import_module(f"configs.{name}").Config
        assert set(re.findall(r"--config\.(\w+)", flags)) <= set(config.__dataclass_fields__), flags
