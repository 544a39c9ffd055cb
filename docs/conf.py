"""The documentation: pages in Markdown, a tutorial as a notebook, a reference from docstrings."""

import dataclasses
import importlib
import itertools
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import jaxrnn

project, author, copyright = "jaxrnn", "the authors of jaxrnn", "2026, the authors of jaxrnn"
release = version = jaxrnn.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.coverage",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
default_role = "py:obj"

html_theme = "sphinx_book_theme"
html_title = "jaxrnn"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False, "navbar_persistent": []}
html_static_path = ["_static"]
html_css_files = ["pages.css"]

# The notebook shows what it has stored; a test runs it.
nb_execution_mode = "off"
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {"Array": "Array", "Key": "Key", "PyTree": "PyTree"}
autodoc_default_options = {"members": True, "no-value": True}
napoleon_use_ivar = True  # Fields are explained once, in their class.
python_use_unqualified_type_names = True

MODULES = [name for _, name, _ in pkgutil.walk_packages(jaxrnn.__path__, "jaxrnn.") if "._" not in name]
coverage_modules = ["jaxrnn"]
coverage_show_missing_items = True
coverage_statistics_to_stdout = coverage_statistics_to_report = False


def record_fields() -> Iterator[str]:
    """The fields of records, which their class explains; some are functions, and look like methods."""
    for module in map(importlib.import_module, MODULES):
        for record in vars(module).values():
            if isinstance(record, type) and dataclasses.is_dataclass(record):
                yield from (
                    f"{record.__module__}.{record.__name__}.{field.name}$" for field in dataclasses.fields(record)
                )


coverage_ignore_pyobjects = [*record_fields()]


def write_reference(folder: Path) -> None:
    """Writes a page for each package and each module at the top of `jaxrnn`, with all that is below it."""
    folder.mkdir(exist_ok=True)
    for name, modules in itertools.groupby(MODULES, lambda name: ".".join(name.split(".")[:2])):
        blocks = [f"# {name}", *(f"{'' if one == name else f'## {one}'}\n\n{automodule(one)}" for one in modules)]
        (folder / f"{name}.md").write_text("\n\n".join(blocks) + "\n")


def automodule(name: str) -> str:
    """The directive that shows a module's docstring and its public names."""
    return f"```{{eval-rst}}\n.. automodule:: {name}\n```"


def is_field(app, what, name, obj, skip, options):
    """Passes over the fields of NamedTuples, which have no docstring of their own."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app):
    """As Sphinx asks for it."""
    app.connect("autodoc-skip-member", is_field)


write_reference(Path(__file__).parent / "api")
