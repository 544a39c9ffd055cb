"""The documentation: its results, and its commands and snippets, as a reader types them."""

import os
import re
import subprocess
import sys

import pytest
from processes import ROOT

from experiments import palindrome, readme
from experiments.report import find_studies
from jaxrnn.rundir import session

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "docs/howto").glob("*.md"),
]
# Whose snippets need what takes long to train, and have tests elsewhere.
ELSEWHERE = {"texts"}


def commands(text):
    """All commands of a page, those of a table or a sentence too."""
    text = text.replace("\\\n", " ")
    found = re.findall(r"python -m (experiments\.[^`#\n]+)", re.sub(r"`([^`\n]+)\n([^`\n]+)`", r"`\1 \2`", text))
    return [one for one in found if "NAME" not in one and "..." not in one]


def test_results_are_those_of_the_archive():
    for path, text in readme.renewed().items():
        assert path.read_text() == text, f"{path.name}: run `make readme`"


def test_every_command_is_one_that_its_binary_takes():
    lines = sorted({command for page in PAGES for command in commands(page.read_text())})
    assert len(lines) > 50
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    program = [sys.executable, ROOT / "tests/commands.py"]
    done = subprocess.run(program, input="\n".join(lines), capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.stdout.splitlines() == ["all read"]
    assert done.returncode == 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder in which a reader has typed the comparisons of the README and of the page about them."""
    folder = tmp_path_factory.mktemp("docs")
    config = palindrome.Config(**{**palindrome.STUDY.tiny, "num_seeds": 3})
    session.start(
        palindrome.STUDY, config, folder / "runs/cells", {"cell": ["lstm", "gru"], "learning_rate": [1e-3, 3e-3]}
    )
    session.start(palindrome.STUDY, config, folder / "runs/pair", {"cell": ["lstm", "gru"]})
    return folder


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```python" in page.read_text()], ids=lambda page: page.stem
)
def test_snippets_run(page, runs, monkeypatch):
    if page.stem in ELSEWHERE:
        pytest.skip("tests/system/test_sample_binary.py has it")
    monkeypatch.chdir(runs)
    names = {}
    for snippet in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(snippet, names)


def test_every_study_is_in_the_table_of_commands():
    listed = (ROOT / "docs/commands.md").read_text()
    for study in find_studies():
        assert f"python -m experiments.{study.name} " in listed
