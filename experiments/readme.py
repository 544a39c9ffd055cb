"""Writes the README's results and pictures from the archived results: ``python -m experiments.readme``."""

import re

from experiments import _cli
from experiments.benchmark.speed import grid_tables, speed_table
from experiments.report import ARCHIVE, find_studies, read
from jaxrnn.rundir.directory import RunError
from jaxrnn.study.page import Figure, Table, leaves, table_markdown
from jaxrnn.study.report import make_sections

README, DOCS = _cli.ROOT / "README.md", _cli.ROOT / "docs"
FIGURES = {"survival": "survival", "gradients": "gradients_decay", "text": "text_training"}
"""The README's pictures by their files in `docs`, each a figure of the page."""
WRITTEN, MODEL = "The paper's unfinished sentences", "grimm"
"""How the caption of what the character model writes begins, and of which model it is shown."""


def with_results(text: str) -> tuple[str, dict[str, str]]:
    """The README's text with what stands between its marks renewed, and its pictures as SVG, by file."""
    text = _renewed(text, "speed", table_markdown(speed_table(ARCHIVE)))
    text = _renewed(text, "grid", "\n\n".join(table_markdown(table) for table in grid_tables(ARCHIVE)))
    sections = make_sections(find_studies(), read([], ARCHIVE))
    brief = [_plain(block) for block in leaves(sections[:1]) if isinstance(block, Table | str)]
    (written,) = [b for b in leaves(sections) if isinstance(b, Table) and b.caption.startswith(WRITTEN)]
    chosen = [row for row in written.rows if row[0] == MODEL]
    text = _renewed(text, "results", "\n\n".join(brief))
    text = _renewed(text, "written", _plain(Table(written.caption, written.columns, chosen)))
    figures = {block.name: block.svg for block in leaves(sections) if isinstance(block, Figure)}
    return text, {f"{file}.svg": figures[name] for file, name in FIGURES.items()}


def _plain(block: Table | str) -> str:
    """Without links into the page, and without the column of sources."""
    if isinstance(block, Table):
        kept = [i for i, column in enumerate(block.columns) if column != "source"]
        rows = [[row[i] for i in kept] for row in block.rows]
        return table_markdown(Table(block.caption, [block.columns[i] for i in kept], rows))
    return re.sub(r"\[([^\]]*)\]\(#[^)]*\)", r"\1", block)


def _renewed(text: str, name: str, content: str) -> str:
    begin, end = f"<!-- {name}: make readme -->", f"<!-- end of {name} -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise RunError(f"{README}: should have the lines {begin!r} and {end!r}, in this order")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def main() -> None:
    """Rewrites the file."""
    text, pictures = with_results(README.read_text())
    README.write_text(text)
    for name, svg in pictures.items():
        (DOCS / name).write_text(svg)


if __name__ == "__main__":
    _cli.run(main)
