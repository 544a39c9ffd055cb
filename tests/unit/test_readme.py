"""README and docs say what the archived results say, and name nothing that is not there."""

import importlib
import re

import pytest

from experiments import _cli, readme
from jaxrnn.rundir.directory import RunError

PAGES = [*_cli.ROOT.glob("*.md"), *(_cli.ROOT / "docs").glob("*.md"), *(_cli.ROOT / "docs/howto").glob("*.md")]
TARGETS = re.findall(r"^([\w-]+):", (_cli.ROOT / "Makefile").read_text(), re.MULTILINE)


def test_a_page_without_its_marks_is_refused():
    text = readme.README.read_text()
    with pytest.raises(RunError, match="in this order"):
        readme.replaced(text.replace("<!-- end of studies -->", ""), "studies", "")


def test_the_readme_can_be_read_at_once():
    assert len(readme.README.read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_and_targets_exist(page):
    text = page.read_text()
    for path in re.findall(r"`((?:jaxrnn|experiments|configs|tests|examples)/[\w/]+\.?\w*)`", text):
        assert (_cli.ROOT / path).exists() or "NAME" in path, path
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for path in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", prose):
        assert (page.parent / path).exists(), path
    assert set(re.findall(r"(?:`|^)make ([\w-]+)", text, re.MULTILINE)) <= {*TARGETS}
    for module in re.findall(r"-m (experiments\.[\w.]+)", text):
        assert importlib.util.find_spec(module) or (_cli.ROOT / f"examples/{module[12:]}.py").exists(), module
