"""The README says what the archived results say, and names nothing that is not there."""

import importlib
import re

import pytest

from experiments import _cli, readme
from jaxrnn.rundir.directory import RunError

TEXT = readme.README.read_text()


def test_results_are_those_of_the_archive():
    text, pictures = readme.with_results(TEXT)
    assert text == TEXT, "run `make readme`"
    assert {name: (readme.DOCS / name).read_text() for name in pictures} == pictures
    with pytest.raises(RunError, match="in this order"):
        readme.with_results(TEXT.replace("<!-- end of speed -->", ""))


def test_files_and_targets_exist():
    for path in re.findall(r"`((?:jaxrnn|experiments|configs|tests)/[\w/]+\.?\w*)`", TEXT):
        assert (_cli.ROOT / path).exists() or "NAME" in path, path
    prose = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    for path in re.findall(r"\]\((?!http)([^)]+)\)", prose):
        assert (_cli.ROOT / path).exists(), path
    targets = re.findall(r"^([\w-]+):", (_cli.ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:`|^)make ([\w-]+)", TEXT, re.MULTILINE)) <= set(targets)
    for module in re.findall(r"-m (experiments\.[\w.]+)", TEXT):
        assert importlib.util.find_spec(module), module


def test_fields_on_command_lines_exist():
    for name, flags in re.findall(r"-m experiments\.(\w+)(.*--config\..*)$", TEXT, re.MULTILINE):
        config = importlib.import_module(f"configs.{name}").Config
        assert set(re.findall(r"--config\.(\w+)", flags)) <= set(config.__dataclass_fields__), flags
