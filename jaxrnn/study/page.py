"""A page of sections, tables and figures, as Markdown with separate figures and as one self-contained HTML file."""

import base64
import html
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import markdown
from markdown.blockprocessors import ParagraphProcessor
from markdown.util import Registry

from jaxrnn.rundir.directory import replace_file
from jaxrnn.study.style import PAGE


@dataclass(frozen=True)
class Table:
    """A table; caption, headings and cells are Markdown, and the first column names the row."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Figure:
    """A figure: the name and text of its SVG file, a caption in Markdown, and a text for readers who cannot see it."""

    name: str
    svg: str
    caption: str
    alt: str


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading.

    Attributes:
        blocks: its content, which is Markdown, tables, figures and further sections.
        is_folded: closed on the HTML page until the reader opens it.
        name: what its anchor is made from; the title by default.
    """

    title: str
    blocks: Sequence["Block"]
    is_folded: bool = False
    name: str = ""

    @property
    def anchor(self) -> str:
        """Its id on the HTML page."""
        return re.sub(r"[^a-z0-9]+", "-", (self.name or self.title).lower()).strip("-")


Block = str | Table | Figure | Section
"""A string is Markdown: one or more paragraphs, or a list."""


def write_page(title: str, sections: Sequence[Section], out_dir: Path, refresh: int = 0) -> tuple[Path, Path]:
    """Writes ``report.md``, the figures that it shows, and ``report.html``, which needs no other file.

    The first section stands above the table of contents. A browser reloads the page every `refresh` seconds, or
    never if that is 0.

    Returns:
        The paths of ``report.md`` and ``report.html``.

    Raises:
        OSError: if a file cannot be written.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    for figure in leaves(sections):
        if isinstance(figure, Figure):
            path = out_dir / "figures" / f"{figure.name}.svg"
            path.parent.mkdir(exist_ok=True)
            path.write_text(figure.svg, encoding="utf-8")
    text = "\n\n".join([f"# {title}", *(part for section in sections for part in markdown_parts(section, 2))])
    first, *others = sections
    page = PAGE.substitute(
        title=html.escape(title),
        refresh=f'<meta http-equiv="refresh" content="{refresh}">' if refresh else "",
        summary=_html(first, 2, can_fold=False),
        contents=_contents(others),
        sections="\n".join(_html(section, 2) for section in others),
    )
    paths = out_dir / "report.md", out_dir / "report.html"
    paths[0].write_text(text + "\n", encoding="utf-8")
    replace_file(paths[1], page.encode())  # In one move, since a browser may be about to reload it.
    return paths


def leaves(blocks: Iterable[Block]) -> Iterator[str | Table | Figure]:
    """All blocks that are not sections, in the order of the page."""
    for block in blocks:
        if isinstance(block, Section):
            yield from leaves(block.blocks)
        else:
            yield block


# --- Markdown ---------------------------------------------------------------------------------------------------------


def table_markdown(table: Table) -> str:
    """The table with its caption, as Markdown."""
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    lines = ["| " + " | ".join(" ".join(cell.replace("|", r"\|").split()) for cell in row) + " |" for row in rows]
    return "\n".join([f"*{table.caption}*", "", *lines])


def markdown_parts(block: Block, level: int) -> Iterator[str]:
    """The Markdown of a block, part by part; the title of a section is a heading of this level."""
    match block:
        case Table():
            yield table_markdown(block)
        case Figure():
            yield f"![{block.alt}](figures/{block.name}.svg)\n\n*{block.caption}*"
        case Section():
            yield f"{'#' * level} {block.title}"
            for part in block.blocks:
                yield from markdown_parts(part, level + 1)
        case _:
            yield block


# --- HTML -------------------------------------------------------------------------------------------------------------

_BADGES = {"holds": "good", "does not hold": "bad", "undecided": ""}
_BADGE = re.compile(rf"(?:: |^|(?=<strong>))(?:<strong>)?({'|'.join(_BADGES)})(?:</strong>|$)")
_ESTIMATE = re.compile(r"((&[lg]t;|[≤≥]) )?\S+ \[[^\[\]<]{3,40}\]")
_NUMBER = re.compile(r"([<>≤≥] ?)?[-+]?[\d.,]+( ?%)?$|-?$")

# Reads text as one paragraph, so that a cell such as "> 3000" is no quotation and "1." is no list.
_INLINE = markdown.Markdown()
_INLINE.parser.blockprocessors = Registry()
_INLINE.parser.blockprocessors.register(ParagraphProcessor(_INLINE.parser), "paragraph", 0)


def _html(block: Block, level: int, *, can_fold: bool = True) -> str:
    match block:
        case Table():
            return _table(block)
        case Figure():
            return _figure(block)
        case Section():
            heading = f"<h{level}>{_inline(html.escape(block.title, quote=False))}</h{level}>"
            content = "\n".join(_html(part, level + 1, can_fold=can_fold) for part in block.blocks)
            # The anchor is inside the part that folds, so that a browser opens it for a link.
            content = f'<div id="{block.anchor}">{content}</div>'
            if not can_fold:
                return f"<section>{heading}{content}</section>"
            return f"<details{'' if block.is_folded else ' open'}><summary>{heading}</summary>{content}</details>"
        case _:
            return _badges(markdown.markdown(block, extensions=["sane_lists"]))


def _figure(figure: Figure) -> str:
    """The figure, at the size that its SVG file states where there is room."""
    sizes = re.findall(r"""(?:width|height)=["']([\d.]+)(pt|px)["']""", figure.svg)[:2]
    width, height = (round(float(size) * (4 / 3 if unit == "pt" else 1)) for size, unit in sizes)
    source = f"data:image/svg+xml;base64,{base64.b64encode(figure.svg.encode()).decode()}"
    picture = f'<img src="{source}" width="{width}" height="{height}" alt="{html.escape(figure.alt)}">'
    caption = f"<figcaption>{_inline(figure.caption)}</figcaption>"
    return f'<figure style="--width: {width}px"><div class="wide">{picture}</div>{caption}</figure>'


def _table(table: Table) -> str:
    columns = zip(table.columns, *table.rows, strict=True)
    kinds = [' class="number"' if all(map(_NUMBER.match, cells)) else "" for _, *cells in columns]
    heads = [f'<th scope="col"{kind}>{_inline(name)}</th>' for name, kind in zip(table.columns, kinds, strict=True)]
    rows = []
    for first, *others in table.rows:
        shown = [_inline(cell) for cell in others]
        # So that a text does not become a column of single words.
        lengths = [len(re.sub("<[^>]*>", "", cell)) for cell in shown]
        cells = [
            f'<td{kind}><div style="--length: {length}">{cell}</div></td>'
            for kind, length, cell in zip(kinds[1:], lengths, shown, strict=True)
        ]
        rows.append(f'<tr><th scope="row"{kinds[0]}>{_inline(first)}</th>{"".join(cells)}</tr>')
    head = f"<caption>{_inline(table.caption)}</caption><thead><tr>{''.join(heads)}</tr></thead>"
    return "\n".join(['<div class="wide"><table>', head, "<tbody>", *rows, "</tbody></table></div>"])


def _inline(text: str) -> str:
    """A cell, caption or heading: Markdown of one paragraph. An estimate stays on one line with its interval."""
    found = _INLINE.reset().convert(text).removeprefix("<p>").removesuffix("</p>")
    return _badges(_ESTIMATE.sub(lambda estimate: estimate[0].replace(" ", "\u00a0"), found))


def _badges(text: str) -> str:
    """Turns verdicts that fill a cell, end a title or are emphasized into badges."""
    return _BADGE.sub(lambda found: f' <strong class="badge {_BADGES[found[1]]}">{found[1]}</strong>', text)


def _contents(sections: Iterable[Block], levels: int = 2) -> str:
    """Links to sections and their parts; claims have their links beside the verdicts."""
    links = [
        f'<li><a href="#{one.anchor}">{html.escape(one.title)}</a>{_contents(one.blocks, levels - 1)}</li>'
        for one in sections
        if isinstance(one, Section)
    ]
    return f"<ul>{''.join(links)}</ul>" if links and levels else ""
