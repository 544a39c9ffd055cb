"""Writes the results and pictures of README and docs from the archived results: ``python -m experiments.readme``."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from experiments import _cli
from experiments.benchmark.speed import grid_tables, speed_table
from experiments.report import ARCHIVE, find_studies, read
from jaxrnn.rundir.directory import RunError
from jaxrnn.study.format import NONE
from jaxrnn.study.page import Block, Figure, Section, Table, leaves, table_markdown
from jaxrnn.study.report import make_sections
from jaxrnn.study.study import Study

README, DOCS = _cli.ROOT / "README.md", _cli.ROOT / "docs"
FOUND, SPEED = DOCS / "studies.md", DOCS / "speed.md"
FIGURES = {
    "survival": "survival",
    "gradients": "gradients_decay",
    "text": "text_training",
    "formal": "lengths",
    "digits": "digits_labels",
    "molecules": "errors",
}
"""Figures of the page, by their files in `docs`."""
WRITTEN, MODEL = "The paper's unfinished sentences", "grimm"
"""How the caption of the character model's texts begins, and the model whose texts are shown."""
VERDICTS = ("holds", "does not hold", "undecided")


def renewed() -> dict[Path, str]:
    """The files that hold results, by path: pages with the text between their marks renewed, and figures as SVG."""
    studies = find_studies()
    sections = make_sections(studies, read([], ARCHIVE))
    brief = {one.title.removeprefix("In brief: "): one.blocks for one in sections[0].blocks if isinstance(one, Section)}
    (written,) = [b for b in leaves(sections) if isinstance(b, Table) and b.caption.startswith(WRITTEN)]
    chosen = [row for row in written.rows if row[0] == MODEL]
    results = [part for title, blocks in brief.items() for part in (f"## {title}", *map(_plain, leaves(blocks)))]
    found = replaced(FOUND.read_text(), "results", "\n\n".join(part for part in results if part))
    grid = "\n\n".join(map(table_markdown, grid_tables(ARCHIVE)))
    pages = {
        README: replaced(README.read_text(), "studies", table_markdown(_studies(studies, brief))),
        FOUND: replaced(found, "written", _plain(Table(written.caption, written.columns, chosen))),
        SPEED: replaced(replaced(SPEED.read_text(), "speed", table_markdown(speed_table(ARCHIVE))), "grid", grid),
    }
    figures = {block.name: block.svg for block in leaves(sections) if isinstance(block, Figure)}
    return pages | {DOCS / f"{file}.svg": figures[name] for file, name in FIGURES.items()}


def replaced(text: str, name: str, content: str) -> str:
    """The text with this content between the marks of this name."""
    begin, end = f"<!-- {name}: make readme -->", f"<!-- end of {name} -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise RunError(f"there should be the lines {begin!r} and {end!r}, in this order")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def _studies(studies: Sequence[Study], brief: dict[str, Sequence[Block]]) -> Table:
    """A row for each study: its command, and how many of its claims hold."""
    rows = []
    for study in sorted(studies, key=lambda study: (study.title not in brief, -len(study.claims), study.title)):
        verdicts = Counter(re.findall(r": \*\*([a-z ]+)\*\*$", "\n".join(_texts(study.title, brief)), re.MULTILINE))
        counts = [f"{verdict}: {verdicts[verdict]}" for verdict in VERDICTS if verdicts[verdict]]
        archived = NONE if study.title in brief else "no archived runs"
        rows.append([study.title, f"`python -m experiments.{study.name} --workdir=DIR`", ", ".join(counts) or archived])
    return Table("Each study, its command, and its claims by the archived runs", ["study", "command", "claims"], rows)


def _texts(title: str, brief: dict[str, Sequence[Block]]) -> list[str]:
    return [block for block in leaves(brief.get(title, ())) if isinstance(block, str)]


def _plain(block: Block) -> str:
    """A block without links into the page or a column of sources; empty for a figure, which has a file of its own."""
    if isinstance(block, Table):
        kept = [i for i, column in enumerate(block.columns) if column != "source"]
        rows = [[row[i] for i in kept] for row in block.rows]
        return table_markdown(Table(block.caption, [block.columns[i] for i in kept], rows))
    return re.sub(r"\[([^\]]*)\]\(#[^)]*\)", r"\1", block) if isinstance(block, str) else ""


def main() -> None:
    """Rewrites the files."""
    for path, text in renewed().items():
        path.write_text(text)


if __name__ == "__main__":
    _cli.run(main)
